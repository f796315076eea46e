"""Verification of recorded sessions: every window and prediction is recomputed and compared with the recorded one.

In reading order: ``Verdict`` and ``Verifier``, which compares; opening a session and finding its model;
``verify_recording``; the verdict that is saved beside the recording.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from clmer_model.artifact import ArtifactFile, Manifest, find_artifact, shipped_folder
from clmer_model.prediction import Prediction
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.parts import VOLATILE_FIELDS, ModelInfo
from clmer_server.session.events import EventContext, EventTimes, emotion_event
from clmer_server.session.inference import model_info
from clmer_server.session.recorder import PREDICTIONS_FILE, SESSION_FILE
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError, RecordingError, StreamError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import RecordedPrediction, SessionReader, is_session_recording
from clmer_streaming.recording.records import Lost
from clmer_streaming.types import Reason, Window

if TYPE_CHECKING:
    from clmer_model.predictor import Predictor

CPU_LIMIT, CUDA_LIMIT = 1e-6, 1e-4
"""Largest difference of two probabilities of one window computed in different batches or on different machines."""

_MODEL_OUTPUTS = ("probs", "valence", "arousal", "confidence", "entropy")
"""Fields with the model's numbers, which are compared within the limit; all others by equality."""

_DERIVED = ("label", "prediction_set")  # from the probabilities, which may decide otherwise within the limit
_NOT_COMPARED = frozenset({*VOLATILE_FIELDS, *_MODEL_OUTPUTS, *_DERIVED, "runner", "crc"})

_NO_TIMES = EventTimes(ready=0.0, answered=0.0, out=0.0, unix=0.0)


@dataclass(frozen=True)
class Difference:
    """A field of a window's prediction that differs."""

    t_end: float  # s, end of the window
    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        """Return the difference as one sentence."""
        return f"window ending at {self.t_end} s, {self.field}: {self.recorded!r} recorded, {self.recomputed!r} now"


@dataclass
class Verdict:
    """Result of a comparison."""

    n_windows: int = 0  # recorded predictions that were compared
    n_equal: int = 0  # with the same CRC
    n_shared: int = 0  # predicted in one batch with others, here alone
    largest: float = 0.0  # largest difference of two probabilities
    n_unanswered: int = 0  # windows at the end that have no recorded prediction
    n_missing_items: int = 0  # lost to a slow disk or damage; nothing after them is compared
    first: Difference | None = None  # the first difference

    @property
    def passed(self) -> bool:
        """Whether everything is equal."""
        return self.first is None and self.n_missing_items == 0

    def add(self, difference: Difference) -> None:
        """Add a difference; only the first one is kept."""
        self.first = self.first or difference


class Verifier:
    """Compares recorded predictions with recomputed ones, window by window.

    Args:
        model: Description of the model, as predictions carry it.
        preprocess: Settings of the preprocessor.
        predict: Returns the model's predictions for windows.
        limit: Largest allowed difference of two probabilities.
    """

    def __init__(
        self,
        model: ModelInfo,
        preprocess: PreprocessConfig,
        predict: Callable[[list[Window]], Sequence[Prediction]],
        limit: float,
    ) -> None:
        self._model = model
        self._preprocess = preprocess
        self._predict = predict
        self._limit = limit

    def verify(self, reader: SessionReader, progress: Callable[[float], None] | None = None) -> Verdict:
        """Return the verdict for a session.

        Args:
            reader: Of the session.
            progress: Called with the share of the file that was read, 0 to 1.
        """
        context = EventContext(
            reader.header["session"], self._model, reader.header["source"], reader.header.get("participant")
        )
        preprocessor, verdict = Preprocessor(self._preprocess), Verdict()
        windows: dict[float, tuple[int, Window]] = {}  # by t_end: number within the session, and the window
        seq = int(reader.header.get("first_seq", 0))
        for entry in reader.entries(progress):
            if isinstance(entry, Lost):
                verdict.n_missing_items += entry.n_items
                break
            if isinstance(entry, RecordedPrediction):
                recorded = json.loads(entry.text)
                self._compare(recorded, windows.pop(recorded["t_end"], None), context, verdict)
                continue
            with contextlib.suppress(StreamError):  # which ended the recorded session, too
                for window in preprocessor.push(entry):
                    windows[window.t_end] = seq, window
                    seq += 1
        verdict.n_unanswered = len(windows)
        return verdict

    def _compare(
        self, recorded: dict[str, Any], computed: tuple[int, Window] | None, context: EventContext, verdict: Verdict
    ) -> None:
        t_end = recorded["t_end"]
        verdict.n_windows += 1
        if computed is None:
            verdict.add(Difference(t_end, "window", "a prediction", "no such window"))
            return
        seq, window = computed
        equal = recorded["crc"] == window.crc
        verdict.n_equal += equal
        verdict.n_shared += recorded["batch"] > 1
        skipped = Reason.OVERLOAD_SKIPPED in recorded["reasons"]
        prediction = None if skipped else self._predict([window])[0]
        recomputed = json.loads(encode(emotion_event(seq, window, prediction, context, _NO_TIMES)))
        if not equal:
            verdict.add(Difference(t_end, "crc", recorded["crc"], window.crc))
        for field, old, new in _differences(recorded, recomputed):
            verdict.add(Difference(t_end, field, old, new))
        self._compare_numbers(recorded, recomputed, verdict)

    def _compare_numbers(self, recorded: dict[str, Any], recomputed: dict[str, Any], verdict: Verdict) -> None:
        """Compare the model's numbers; what is derived from them may differ where they do, within the limit."""
        largest = 0.0
        for field in _MODEL_OUTPUTS:
            old, new = _numbers(recorded[field]), _numbers(recomputed[field])
            if old.keys() != new.keys():
                verdict.add(Difference(recorded["t_end"], field, recorded[field], recomputed[field]))
                return
            difference = max((abs(old[name] - new[name]) for name in old), default=0.0)
            largest = max(largest, difference)
            if not difference <= self._limit:
                verdict.add(Difference(recorded["t_end"], field, recorded[field], recomputed[field]))
        verdict.largest = max(verdict.largest, largest)
        for field in _DERIVED if largest == 0 else ():
            if recorded.get(field) != recomputed[field]:
                verdict.add(Difference(recorded["t_end"], field, recorded.get(field), recomputed[field]))


def _differences(recorded: dict[str, Any], recomputed: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, recorded and recomputed value of the fields that must be equal and are not."""
    for field in sorted((recorded.keys() | recomputed.keys()) - _NOT_COMPARED):
        old, new = recorded.get(field), recomputed.get(field)
        if old != new:
            yield field, old, new


def _numbers(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, dict) else {"": float(value)}


_HEADER_FIELDS = {"session", "source", "model", "preprocess"}
"""Fields that the first record must have."""


def open_verifiable(path: Path) -> SessionReader:
    """Open a recorded session for verification.

    Args:
        path: The XDF file.

    Raises:
        RecordingError: The file cannot be read, or is not a session that ``clmer-serve`` recorded.
    """
    if path.is_file() and not is_session_recording(path):
        raise RecordingError("a session that clmer recorded", f"{path}, another program's", "see clmer-serve --record")
    reader = SessionReader(path)
    if lacking := _HEADER_FIELDS - reader.header.keys():
        raise RecordingError(
            "a session of clmer-serve", f"{path} without {sorted(lacking)}", "see clmer-serve --record"
        )
    return reader


def recorded_model(reader: SessionReader, model: str | None = None, sha256: str | None = None) -> ArtifactFile:
    """Return the model of a recorded session, found by its hash among the shipped ones, or by name.

    Args:
        reader: The session, as ``open_verifiable`` returns it.
        model: Name or path of the model; None: a shipped one.
        sha256: Hash that the model's file must have.

    Raises:
        ArtifactError: The model is not found, or the named one is not that of the session.
    """
    wanted = str(reader.header["model"]["sha256"])
    shipped = {digest: name for name, digest in Manifest.read(shipped_folder()).sha256.items()}
    if model is None and wanted not in shipped:
        raise ArtifactError(
            expected=f"the model {reader.header['model']['id']!r} with SHA-256 {wanted}",
            found="no shipped model with this hash",
            mend="name its file: --model PATH",
        )
    artifact = find_artifact(shipped[wanted] if model is None else model, sha256)
    check_model(reader, artifact)
    return artifact


def check_model(reader: SessionReader, artifact: ArtifactFile) -> None:
    """Check that a model is the one of a recorded session.

    Raises:
        ArtifactError: The hashes differ.
    """
    wanted = str(reader.header["model"]["sha256"])
    if artifact.sha256 != wanted:
        raise ArtifactError(
            expected=f"the model that answered in {reader.path}, with SHA-256 {wanted}",
            found=f"{artifact.path} with SHA-256 {artifact.sha256}",
            mend="name the file of that model: --model PATH",
        )


def verify_recording(
    reader: SessionReader,
    artifact: ArtifactFile,
    predictor: Predictor,
    progress: Callable[[float], None] | None = None,
) -> tuple[Verdict, float]:
    """Recompute a recorded session and compare every window and probability with the recorded ones.

    Args:
        reader: The session, as ``open_verifiable`` returns it.
        artifact: The model of the session.
        predictor: The same model, loaded.
        progress: Called with the share of the file that was read, 0 to 1.

    Returns:
        The verdict, and the largest allowed difference of two probabilities.
    """
    on_cuda = "cuda" in (reader.header["model"]["device"] + str(predictor.device))
    limit = CUDA_LIMIT if on_cuda else CPU_LIMIT
    preprocess = PreprocessConfig.from_dict(reader.header["preprocess"])  # an option may have changed the model's
    model = model_info(artifact, predictor, preprocess)
    return Verifier(model, preprocess, predictor.predict, limit).verify(reader, progress), limit


VERDICT_FILE = "verdict.json"

VerificationStatus: TypeAlias = Literal["yes", "differs", "no"]
"""``yes``: the last verification passed; ``differs``: it did not; ``no``: none since the recording last changed."""


def save_verdict(recording: Path, verdict: Verdict) -> None:
    """Save the verdict in the session's folder; do nothing where the folder cannot be written to.

    Args:
        recording: The XDF file; one outside a session's folder gets no verdict.
        verdict: Result of its verification.
    """
    if recording.name != SESSION_FILE or not (recording.parent / PREDICTIONS_FILE).is_file():
        return
    saved = {
        "passed": verdict.passed,
        "windows": verdict.n_windows,
        "equal": verdict.n_equal,
        "largest_difference": verdict.largest,
        "clmer": version("clmer"),
        "unix_time": time.time(),
        "recording": recording_state(recording),
    }
    with contextlib.suppress(OSError):
        (recording.parent / VERDICT_FILE).write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


def verification_status(recording: Path) -> VerificationStatus:
    """Return the result of the last verification of a recording."""
    try:
        saved = json.loads((recording.parent / VERDICT_FILE).read_text(encoding="utf-8"))
        current = saved["recording"] == recording_state(recording)
        return ("yes" if saved["passed"] else "differs") if current else "no"
    except (OSError, ValueError, KeyError, TypeError):
        return "no"


def recording_state(recording: Path) -> list[int]:
    """Return size in bytes and time of the last change in ns of a recording, by which a change is recognized."""
    stat = recording.stat()
    return [stat.st_size, stat.st_mtime_ns]
