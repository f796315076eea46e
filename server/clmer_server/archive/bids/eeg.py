"""The EEG of a session for BIDS: signals on an even grid, events, EDF written by MNE, channels and metadata.

To be read in this order: signals, events, the EDF file, channels and metadata.
"""

from __future__ import annotations

import dataclasses
import datetime
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clmer_server.archive.sessions import SessionFacts
from clmer_server.archive.tables import Table
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.pipeline.channels import UnitGuess, channel_scales, normalise_label
from clmer_streaming.pipeline.rate import MeasuredRate, measure_rate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item, Marker, StreamInfo
from clmer_streaming.xdf.format import MAX_STAMP_S

LONGEST_FILL_S = 600.0
"""Seconds; where a gap is longer, or the clock jumped, a signal ends and another one begins."""

_MEASURE_S = 6.0  # s of stamps by which rate and jitter are judged
_RATE_TOLERANCE = 0.01  # a rate within 1 % of the nominal one is that, with drift
_COUNTERS = ("COUNTER", "PACKET_COUNTER", "SAMPLE_COUNTER")
_INVENTED = ("INTERPOLATE", "INTERPOLATED")


@dataclass(frozen=True)
class OpenGap:
    """A range of samples that were never measured."""

    first: int  # index of the first one
    n: int
    reason: str


@dataclass(frozen=True, eq=False)
class RegularSignal:
    """Channels of one stream on an even grid."""

    info: StreamInfo
    rows: tuple[int, ...]  # which channels of the stream
    sfreq: float  # Hz
    t: FloatArray  # (n,) s, LSL clock, device delay taken off; NaN in gaps
    x: FloatArray  # (C, n) in the stream's own units; NaN in gaps
    gaps: tuple[OpenGap, ...]
    n_bridged: int  # samples invented over losses of at most 0.1 s

    @property
    def t0(self) -> float:
        """Stamp of the first sample in seconds."""
        return float(self.t[0])

    @cached_property
    def _known(self) -> tuple[FloatArray, FloatArray]:
        """Index and time of every sample that was measured; both as numbers that need not be converted each time."""
        known = np.flatnonzero(np.isfinite(self.t))
        return known.astype(np.float64), self.t[known]

    def seconds_of(self, t: float) -> float:
        """Return where a time of the LSL clock lies in the signal, in seconds of its own rate from its first sample.

        The clock of a headset drifts against the LSL clock; by this way an event stays at the sample that it met.
        """
        known, times = self._known
        if t <= times[0] or t >= times[-1]:
            edge = 0 if t <= times[0] else -1
            return float(known[edge] / self.sfreq + t - times[edge])
        return float(np.interp(t, times, known) / self.sfreq)


@dataclass
class _Growing:
    """A signal while it is read."""

    t: list[FloatArray] = field(default_factory=list)
    x: list[FloatArray] = field(default_factory=list)
    gaps: list[OpenGap] = field(default_factory=list)
    n: int = 0
    n_bridged: int = 0

    def take(self, chunk: Chunk) -> None:
        self.t.append(chunk.t)
        self.x.append(chunk.x)
        self.n += chunk.t.size
        self.n_bridged += 0 if chunk.filled is None else int(chunk.filled.all(axis=0).sum())

    def leave_open(self, n: int, reason: str) -> None:
        self.gaps.append(OpenGap(self.n, n, reason))
        self.t.append(np.full(n, np.nan))
        self.x.append(np.full((self.x[-1].shape[0], n), np.nan))
        self.n += n


def regular_signals(items: Iterable[Item], source: str, picks: Sequence[int] | None = None) -> list[RegularSignal]:
    """Return the signals of one stream: one, or several where it changed, its clock jumped or it was long away.

    Args:
        items: What the session was fed.
        source: The stream within the session.
        picks: Channels to keep; None: all.
    """
    signals: list[RegularSignal] = []
    for info, part in _announced(items, source):
        rows = tuple(range(len(info.ch_names))) if picks is None else tuple(picks)
        signals.extend(_place(info, part, rows))
    return signals


def _announced(items: Iterable[Item], source: str) -> list[tuple[StreamInfo, list[Chunk | Gap]]]:
    """Return what came of a stream under each announcement; one that repeats the last goes on where it was."""
    parts: list[tuple[StreamInfo, list[Chunk | Gap]]] = []
    for item in items:
        if isinstance(item, StreamInfo) and item.source == source:
            if parts and _alike(parts[-1][0], item):
                parts[-1][1].append(Gap(np.nan, np.nan, source, "stream_restarted"))
            else:
                parts.append((item, []))
        elif isinstance(item, Chunk | Gap) and item.source == source and parts:
            parts[-1][1].append(item)
    return parts


def _alike(one: StreamInfo, other: StreamInfo) -> bool:
    return (one.ch_names, one.sfreq, one.unit, one.units) == (other.ch_names, other.sfreq, other.unit, other.units)


def _place(info: StreamInfo, part: Sequence[Chunk | Gap], rows: tuple[int, ...]) -> list[RegularSignal]:
    """Give the samples of a stream their times, and cut where they cannot be one signal."""
    names = [normalise_label(name) for name in info.ch_names]
    counter = next((names.index(name) for name in _COUNTERS if name in names), None)
    invented = next((names.index(name) for name in _INVENTED if name in names), None)
    measured = _measure(info, part, counter)
    sfreq = _rate(info, measured)
    if not sfreq:
        return []
    timeline = Timeline(sfreq, rows, counter, invented)
    timeline.use_measured(measured)
    growing, signals, reason = _Growing(), list[RegularSignal](), "lost_samples"
    for item in part:
        given = dataclasses.replace(item, t=item.t - info.delay_s) if isinstance(item, Chunk) else item
        for placed in timeline.push(given):
            if isinstance(placed, Chunk) and placed.t.size:
                n_open = _n_open(growing, float(placed.t[0]), sfreq)
                if n_open is None:
                    signals.append(_finish(growing, info, rows, sfreq))
                    growing = _Growing()
                elif n_open > 0:
                    growing.leave_open(n_open, reason)
                growing.take(dataclasses.replace(placed, x=placed.x[list(rows)]))
            elif isinstance(placed, Gap):
                reason = placed.reason
    return [*signals, _finish(growing, info, rows, sfreq)] if growing.n else signals


def _n_open(growing: _Growing, t_next: float, sfreq: float) -> int | None:
    """Return how many samples are missing before the next one; None where no filling makes sense."""
    if not growing.n:
        return 0
    away_s = t_next - float(growing.t[-1][-1])
    return round(away_s * sfreq) - 1 if 0 < away_s <= LONGEST_FILL_S else None


def _finish(growing: _Growing, info: StreamInfo, rows: tuple[int, ...], sfreq: float) -> RegularSignal:
    x = np.concatenate(growing.x, axis=1)
    t = np.concatenate(growing.t)
    return RegularSignal(info, rows, sfreq, t, x, tuple(growing.gaps), growing.n_bridged)


def _measure(info: StreamInfo, part: Sequence[Chunk | Gap], counter: int | None) -> MeasuredRate:
    """Return the rate of the stream's first seconds."""
    t, counted, n = list[FloatArray](), list[FloatArray](), 0
    for item in part:
        if isinstance(item, Chunk) and n < max(2.0, _MEASURE_S * info.sfreq):
            good = np.abs(item.t) <= MAX_STAMP_S
            t.append(item.t[good])
            counted.append(item.x[counter, good] if counter is not None else np.empty(0))
            n += int(good.sum())
    if n < 2:
        return MeasuredRate(0.0, 0.0)
    return measure_rate(np.concatenate(t), np.concatenate(counted) if counter is not None else None, info.sfreq)


def _rate(info: StreamInfo, measured: MeasuredRate) -> float:
    """Return the rate in Hz by which samples are counted; 0 where the stream has none."""
    nominal = info.sfreq
    if nominal and (not measured.steady or abs(measured.rate_hz / nominal - 1) <= _RATE_TOLERANCE):
        return nominal
    return measured.snapped_hz if measured.steady else 0.0


EVENT_COLUMNS: dict[str, Any] = {
    "onset": {"Description": "Start of the event", "Units": "s"},
    "duration": {"Description": "Its length; n/a: not known", "Units": "s"},
    "trial_type": {
        "Description": "marker: of the experiment. gap: EEG samples were never received and the file holds straight "
        "lines. padding: the file holds the last value, because EDF holds whole seconds",
        "Levels": {"marker": "an event of the experiment", "gap": "no EEG", "padding": "behind the end of the EEG"},
    },
    "value": {"Description": "Label of a marker, or why there is a gap"},
    "sample": {"Description": "Sample of the EEG at the onset, from 0"},
    "lsl_time": {"Description": "The onset on the LSL clock of the recording computer", "Units": "s"},
    "stream": {"Description": "Stream that the marker came from"},
}
"""What the columns of ``events.tsv`` mean."""


@dataclass(frozen=True)
class BidsEvent:
    """One event."""

    onset_s: float
    duration_s: float  # 0: a moment
    trial_type: str
    value: str
    lsl_time: float | None
    stream: str | None = None

    @property
    def annotation(self) -> str:
        """What it is called within EDF; MNE leaves out what begins with BAD."""
        if self.trial_type != "marker":
            return f"BAD_{self.trial_type}"
        plain = "".join(char if char.isprintable() else " " for char in self.value)
        return plain.replace("@@", "@ @")  # MNE takes what follows @@ for a channel


def bids_events(signal: RegularSignal, n_padded: int, markers: Sequence[Marker]) -> list[BidsEvent]:
    """Return the events of one run of EEG, in order of their onset."""
    found = [
        BidsEvent(signal.seconds_of(marker.t), 0.0, "marker", marker.label or "n/a", marker.t, marker.source)
        for marker in markers
    ]
    found += [BidsEvent(gap.first / signal.sfreq, gap.n / signal.sfreq, "gap", gap.reason, None) for gap in signal.gaps]
    if n_padded:
        found.append(BidsEvent(signal.t.size / signal.sfreq, n_padded / signal.sfreq, "padding", "n/a", None))
    return sorted(found, key=lambda event: event.onset_s)


def event_table(events: Sequence[BidsEvent], sfreq: float) -> Table:
    """Return the events as rows of ``events.tsv``."""
    rows = tuple(
        (
            event.onset_s,
            event.duration_s,
            event.trial_type,
            event.value,
            round(event.onset_s * sfreq),
            event.lsl_time,
            event.stream,
        )
        for event in events
    )
    return Table(tuple(EVENT_COLUMNS), rows)


_BAD_SHARE = 0.5  # of the windows in which a channel was masked, above which its status is bad


def check_mne() -> None:
    """Check whether EDF can be written.

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
    """Contents of one EDF file."""

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
    from clmer_streaming.xdf.header import parse_stream_header

    try:
        header = parse_stream_header(0, info.xml.encode())
    except ValueError:
        return ""
    return header.desc_text("reference/label") or header.desc_text("reference")
