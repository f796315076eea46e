"""The EEG of a session for BIDS: EDF written by MNE, channels with unit and status, and what is known of it."""

from __future__ import annotations

import datetime
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clmer_server.archive.bids_events import BidsEvent
from clmer_server.archive.facts import SessionFacts
from clmer_server.archive.regular_signals import RegularSignal
from clmer_server.archive.tables import Table
from clmer_streaming.channels import normalise_label
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.types import BoolArray, Chunk, FloatArray, StreamInfo
from clmer_streaming.units import UnitGuess, channel_scales

_BAD_SHARE = 0.5  # of the windows in which a channel was masked, above which its status is bad


def check_mne() -> None:
    """Find out whether EDF can be written.

    Raises:
        SettingsError: A library for it is not there.
    """
    try:
        import edfio  # noqa: F401
        import mne  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "MNE and edfio, which write EDF", str(error), 'pip install -c constraints.txt -e ".[bids]"'
        ) from error


def eeg_channels(info: StreamInfo) -> dict[int, str]:
    """Return the channels of a stream that are electrodes of the 10-05 system, with their usual names.

    Raises:
        RecordingError: None is.
    """
    import mne

    usual = {name.upper(): name for name in mne.channels.make_standard_montage("standard_1005").ch_names}
    found: dict[int, str] = {}
    for row, label in enumerate(info.ch_names):
        name = usual.get(normalise_label(label))
        if name is not None and name not in found.values():
            found[row] = name
    if not found:
        labels = ", ".join(name for name in info.ch_names if name) or "no labels"
        raise RecordingError(
            "EEG channels named after electrodes of the 10-05 system",
            f"stream {info.name!r} with {labels}",
            "record with --eeg-map, which names them",
        )
    return found


@dataclass(frozen=True, eq=False)
class EdfContent:
    """What goes into one EDF file."""

    names: tuple[str, ...]
    sfreq: float  # Hz
    x_uv: FloatArray  # (C, n) whole seconds, nothing missing
    filled: BoolArray  # (C, n) values that were not measured
    n_padded: int  # samples behind the last one: EDF holds whole seconds
    unit_note: str  # a sentence where the unit was guessed


def edf_content(signal: RegularSignal, names: Mapping[int, str]) -> EdfContent:
    """Return a signal in microvolts as EDF can hold it: gaps are bridged by straight lines, its end is held."""
    x, note = _microvolts(signal)
    missing = ~np.isfinite(x)
    for row, bad in zip(x, missing, strict=True):
        good = np.flatnonzero(~bad)
        if bad.any():
            row[bad] = np.interp(np.flatnonzero(bad), good, row[good]) if good.size else 0.0
    block = round(signal.sfreq) if float(signal.sfreq).is_integer() else 1
    n_padded = -x.shape[1] % block
    return EdfContent(
        names=tuple(names[row] for row in signal.rows),
        sfreq=signal.sfreq,
        x_uv=np.pad(x, ((0, 0), (0, n_padded)), "edge"),
        filled=np.pad(missing, ((0, 0), (0, n_padded)), constant_values=True),
        n_padded=n_padded,
        unit_note=note,
    )


def _microvolts(signal: RegularSignal) -> tuple[FloatArray, str]:
    scales = channel_scales(signal.info, signal.rows)
    x = signal.x * np.where(np.isnan(scales), 1.0, scales)[:, np.newaxis]
    guess = UnitGuess(np.flatnonzero(np.isnan(scales)).tolist(), signal.sfreq, signal.info.unit)
    for item in guess.push(Chunk(signal.info.source, signal.t, x)):
        if isinstance(item, Chunk) and item.x.shape == x.shape:
            x = item.x
    return x.copy(), guess.note


def write_edf(content: EdfContent, events: Sequence[BidsEvent], unix_start: float | None, path: Path) -> None:
    """Write EDF with each channel's own range, so that a step is that range over 65534; events are annotations."""
    import mne

    info = mne.create_info(list(content.names), content.sfreq, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(content.x_uv * 1e-6, info, verbose="ERROR")
    start = None
    if unix_start is not None:
        start = datetime.datetime.fromtimestamp(unix_start, datetime.UTC).replace(microsecond=0)
    raw.set_meas_date(start)
    shown = [event for event in events if 0 <= event.onset_s < content.x_uv.shape[1] / content.sfreq]
    raw.set_annotations(
        mne.Annotations(
            [event.onset_s for event in shown],
            [event.duration_s for event in shown],
            [event.annotation for event in shown],
            orig_time=start,
        ),
        verbose="ERROR",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rates that are no whole number; the sidecar says the rate
        mne.export.export_raw(path, raw, fmt="edf", physical_range="channelwise", overwrite=True, verbose="ERROR")


def channel_table(content: EdfContent, facts: SessionFacts) -> Table:
    """Return the channels with unit and status: bad where more than half of the windows went without it."""
    n_windows = len(facts.contents.predictions)
    masked = Counter(
        normalise_label(name)
        for prediction in facts.contents.predictions
        for name in prediction["modalities"]["eeg"].get("channels_bad", ())
    )
    rows = []
    for name, filled in zip(content.names, content.filled, strict=True):
        share = masked[normalise_label(name)] / n_windows if n_windows else 0.0
        n_filled = int(filled.sum()) - content.n_padded
        words = [f"masked in {100 * share:.0f} % of the windows"] if share else []
        words += [f"{n_filled} samples filled"] if n_filled else []
        rows.append(
            {
                "name": name,
                "type": "EEG",
                "units": "uV",
                "low_cutoff": None,
                "high_cutoff": None,
                "sampling_frequency": content.sfreq,
                "status": "bad" if share > _BAD_SHARE else "good",
                "status_description": "; ".join(words) or None,
            }
        )
    return Table.of(rows)


def eeg_sidecar(content: EdfContent, signal: RegularSignal, facts: SessionFacts, task: str) -> dict[str, Any]:
    """Return what is known of the recording; what nobody declared is ``n/a``."""
    known = np.flatnonzero(np.isfinite(signal.t))
    span_s = float(signal.t[known[-1]] - signal.t[known[0]])
    notch = facts.contents.header.get("preprocess", {}).get("signal", {}).get("notch_hz")
    return {
        "TaskName": task,
        "Manufacturer": signal.info.manufacturer or "n/a",
        "EEGReference": declared_reference(signal.info) or "n/a",
        "SamplingFrequency": signal.sfreq,
        "PowerLineFrequency": notch or "n/a",
        "SoftwareFilters": "n/a",
        "HardwareFilters": "n/a",
        "EEGChannelCount": len(content.names),
        "RecordingDuration": content.x_uv.shape[1] / content.sfreq,
        "RecordingType": "discontinuous" if signal.gaps else "continuous",
        "MeasuredSamplingFrequency": float(known[-1] - known[0]) / span_s if span_s > 0 else signal.sfreq,
        "DeviceDelay": signal.info.delay_s,
        "BridgedSamples": signal.n_bridged,
        "UnitNote": content.unit_note or "n/a",
    }


def declared_reference(info: StreamInfo) -> str:
    """Return the reference electrode that the stream's header names; ``""`` where it names none."""
    from clmer_streaming.xdf.description import parse_stream_header

    try:
        header = parse_stream_header(0, info.xml.encode())
    except ValueError:
        return ""
    return header.desc_text("reference/label") or header.desc_text("reference")
