"""One row for each window of a session: what was answered, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clmer_server.archive.facts import SessionFacts
from clmer_server.archive.tables import Cell, Table
from clmer_streaming.errors import RecordingError

_EEG = ("used", "quality", "channels_ok", "interpolated_frac")
_FACE = ("used", "present", "confidence", "yaw_deg", "fps")
_SERIES = ("used", "quality")


def window_table(facts: SessionFacts) -> Table:
    """Return the windows of a session, in their order.

    Times are seconds of the LSL clock, ``unix_time`` is the wall clock at the end of the window (none in a replay,
    whose stamps are of another day), ``unix_time_sent`` that of the answer, ``session_s`` the end of the window in
    seconds from the session's first sample.

    Raises:
        RecordingError: The session has no window, or was not recorded by ``clmer-serve``.
    """
    labels = model_labels(facts)
    predictions = facts.contents.predictions
    if not predictions:
        raise RecordingError("a session with windows", f"none in {facts.stored.recording}", "it ended before its first")
    series = sorted({name for prediction in predictions for name in prediction["modalities"].get("series", {})})
    rows = [_row(prediction, facts, labels, series) for prediction in predictions]
    return Table.of(rows)


def model_labels(facts: SessionFacts) -> tuple[str, ...]:
    """Return the classes of the model that answered.

    Raises:
        RecordingError: The session names none.
    """
    try:
        return tuple(facts.contents.header["model"]["labels"])
    except (KeyError, TypeError) as error:
        raise RecordingError(
            "a session of clmer-serve", f"{facts.stored.recording} without a model", "see clmer-serve --record"
        ) from error


def _row(
    prediction: Mapping[str, Any], facts: SessionFacts, labels: Sequence[str], series: Sequence[str]
) -> dict[str, Cell]:
    probs = prediction["probs"] or {}
    return {
        "session": facts.stored.name,
        "participant": prediction.get("participant") or facts.participant,
        "seq": prediction["seq"],
        "t_start": prediction["t_start"],
        "t_end": prediction["t_end"],
        "session_s": prediction["t_end"] - facts.contents.t0,
        "unix_time": facts.unix_of(prediction["t_end"]),
        "unix_time_sent": prediction["unix_time"],
        "valid": prediction["valid"],
        "reasons": " ".join(prediction["reasons"]),
        "label": prediction["label"],
        **{f"p_{label}": probs.get(label) for label in labels},
        **{name: prediction[name] for name in ("valence", "arousal", "confidence", "entropy")},
        **_inputs(prediction["modalities"], series),
        "calibration_face": prediction["calibration"]["face"],
        "calibration_eeg": prediction["calibration"]["eeg"],
        "model": prediction["model"]["id"],
        "artefact_sha256": prediction["model"]["sha256"],
        "trained_on": prediction["trained_on"],
        "crc": prediction["crc"],
        "source": prediction["source"],
    }


def _inputs(modalities: Mapping[str, Any], series: Sequence[str]) -> dict[str, Cell]:
    """Return what the window was answered from, input by input."""
    further = modalities.get("series", {})
    return {
        **_part("eeg", modalities["eeg"], _EEG),
        "eeg_channels_bad": " ".join(modalities["eeg"].get("channels_bad", ())),
        **_part("face", modalities["face"], _FACE),
        **{name: cell for key in series for name, cell in _part(key, further.get(key, {}), _SERIES).items()},
    }


def _part(prefix: str, part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Cell]:
    return {f"{prefix}_{name}": part.get(name) for name in names}
