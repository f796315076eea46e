"""EEG and events of a session for BIDS.

In reading order: ``RegularSignal``, the samples of a stream on an even grid; events; the EDF file, written by MNE;
channels and metadata.
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
"""Longest gap in seconds within one signal; at a longer one, or where the clock jumped, another signal begins."""

_MEASURE_S = 6.0  # s of stamps from which rate and jitter are measured
_RATE_TOLERANCE = 0.01  # relative; a measured rate within it is taken for the nominal rate with drift
_COUNTERS = ("COUNTER", "PACKET_COUNTER", "SAMPLE_COUNTER")
_INTERPOLATED = ("INTERPOLATE", "INTERPOLATED")


@dataclass(frozen=True)
class UnfilledGap:
    """A range of samples that were never received."""

    first: int  # index of the first missing sample
    n: int
    reason: str


@dataclass(frozen=True, eq=False)
class RegularSignal:
    """Channels of one stream on an even grid."""

    info: StreamInfo
    rows: tuple[int, ...]  # indices of the channels in the stream
    sfreq: float  # Hz
    t: FloatArray  # (n,) s, LSL clock, device delay subtracted; NaN in gaps
    x: FloatArray  # (C, n) in the stream's own units; NaN in gaps
    gaps: tuple[UnfilledGap, ...]
    n_bridged: int  # samples interpolated over losses of at most 0.1 s

    @property
    def t0(self) -> float:
        """Time of the first sample in seconds of the LSL clock."""
        return float(self.t[0])

    @cached_property
    def _received(self) -> tuple[FloatArray, FloatArray]:
        """Index and time of every sample that was received, both float64."""
        received = np.flatnonzero(np.isfinite(self.t))
        return received.astype(np.float64), self.t[received]

    def seconds_of(self, t: float) -> float:
        """Return the position of ``t`` seconds of the LSL clock in the signal, in sample numbers over ``sfreq``.

        The clock of a headset drifts against the LSL clock; so an event stays at the sample at which it happened.
        """
        indices, times = self._received
        if t <= times[0] or t >= times[-1]:
            edge = 0 if t <= times[0] else -1
            return float(indices[edge] / self.sfreq + t - times[edge])
        return float(np.interp(t, times, indices) / self.sfreq)


@dataclass
class _SignalBuilder:
    """Collects the chunks of one signal."""

    t: list[FloatArray] = field(default_factory=list)
    x: list[FloatArray] = field(default_factory=list)
    gaps: list[UnfilledGap] = field(default_factory=list)
    n: int = 0
    n_bridged: int = 0

    def append(self, chunk: Chunk) -> None:
        self.t.append(chunk.t)
        self.x.append(chunk.x)
        self.n += chunk.t.size
        self.n_bridged += 0 if chunk.filled is None else int(chunk.filled.all(axis=0).sum())

    def append_gap(self, n: int, reason: str) -> None:
        self.gaps.append(UnfilledGap(self.n, n, reason))
        self.t.append(np.full(n, np.nan))
        self.x.append(np.full((self.x[-1].shape[0], n), np.nan))
        self.n += n

    def n_missing(self, t_next: float, sfreq: float) -> int | None:
        """Return how many samples are missing before one at ``t_next`` seconds; None where another signal begins."""
        if not self.n:
            return 0
        pause_s = t_next - float(self.t[-1][-1])
        return round(pause_s * sfreq) - 1 if 0 < pause_s <= LONGEST_FILL_S else None

    def build(self, info: StreamInfo, rows: tuple[int, ...], sfreq: float) -> RegularSignal:
        t, x = np.concatenate(self.t), np.concatenate(self.x, axis=1)
        return RegularSignal(info, rows, sfreq, t, x, tuple(self.gaps), self.n_bridged)


def regular_signals(items: Iterable[Item], source: str, picks: Sequence[int] | None = None) -> list[RegularSignal]:
    """Return the signals of one stream: several where it changed, its clock jumped or a gap was too long.

    Args:
        items: Items of the session.
        source: Source key of the stream.
        picks: Indices of the channels to keep; None: all.

    Returns:
        The signals in order of time; none where the stream has no rate.
    """
    signals: list[RegularSignal] = []
    for info, part in _split_by_announcement(items, source):
        rows = tuple(range(len(info.ch_names))) if picks is None else tuple(picks)
        signals.extend(_signals_of(info, part, rows))
    return signals


def _split_by_announcement(items: Iterable[Item], source: str) -> list[tuple[StreamInfo, list[Chunk | Gap]]]:
    """Return the chunks and gaps of a stream by announcement; one of the same format continues the one before."""
    parts: list[tuple[StreamInfo, list[Chunk | Gap]]] = []
    for item in items:
        if isinstance(item, StreamInfo) and item.source == source:
            if parts and _same_format(parts[-1][0], item):
                parts[-1][1].append(Gap(np.nan, np.nan, source, "stream_restarted"))
            else:
                parts.append((item, []))
        elif isinstance(item, Chunk | Gap) and item.source == source and parts:
            parts[-1][1].append(item)
    return parts


def _same_format(one: StreamInfo, other: StreamInfo) -> bool:
    return (one.ch_names, one.sfreq, one.unit, one.units) == (other.ch_names, other.sfreq, other.unit, other.units)


def _signals_of(info: StreamInfo, part: Sequence[Chunk | Gap], rows: tuple[int, ...]) -> list[RegularSignal]:
    """Return the signals of the chunks of one announcement, with their times from a ``Timeline``."""
    names = [normalise_label(name) for name in info.ch_names]
    counter = next((names.index(name) for name in _COUNTERS if name in names), None)
    interpolated = next((names.index(name) for name in _INTERPOLATED if name in names), None)
    measured = _measure_rate(info, part, counter)
    sfreq = _rate(info, measured)
    if not sfreq:
        return []
    timeline = Timeline(sfreq, rows, counter, interpolated)
    timeline.use_measured(measured)
    builder, signals, reason = _SignalBuilder(), list[RegularSignal](), "lost_samples"
    for item in part:
        shifted: Chunk | Gap = item
        if isinstance(item, Chunk):
            shifted = dataclasses.replace(item, t=item.t - info.delay_s, x=item.x.astype(np.float64))
        for timed in timeline.push(shifted):
            if isinstance(timed, Chunk) and timed.t.size:
                n_missing = builder.n_missing(float(timed.t[0]), sfreq)
                if n_missing is None:
                    signals.append(builder.build(info, rows, sfreq))
                    builder = _SignalBuilder()
                elif n_missing > 0:
                    builder.append_gap(n_missing, reason)
                builder.append(dataclasses.replace(timed, x=timed.x[list(rows)]))
            elif isinstance(timed, Gap):
                reason = timed.reason
    return [*signals, builder.build(info, rows, sfreq)] if builder.n else signals


def _measure_rate(info: StreamInfo, part: Sequence[Chunk | Gap], counter: int | None) -> MeasuredRate:
    """Return the rate of the stream's first ``_MEASURE_S`` seconds."""
    t, counts, n = list[FloatArray](), list[FloatArray](), 0
    for item in part:
        if isinstance(item, Chunk) and n < max(2.0, _MEASURE_S * info.sfreq):
            good = np.abs(item.t) <= MAX_STAMP_S
            t.append(item.t[good])
            counts.append(item.x[counter, good] if counter is not None else np.empty(0))
            n += int(good.sum())
    if n < 2:
        return MeasuredRate(0.0, 0.0)
    return measure_rate(np.concatenate(t), np.concatenate(counts) if counter is not None else None, info.sfreq)


def _rate(info: StreamInfo, measured: MeasuredRate) -> float:
    """Return the rate in Hz of the even grid; 0 where the stream has none."""
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
"""Content of ``events.json``: what the columns of ``events.tsv`` mean."""


@dataclass(frozen=True)
class BidsEvent:
    """One row of ``events.tsv``."""

    onset_s: float  # from the first sample, see RegularSignal.seconds_of
    duration_s: float  # 0 for a marker
    trial_type: str  # marker, gap or padding
    value: str  # label of a marker, reason of a gap
    lsl_time: float | None  # s
    stream: str | None = None

    @property
    def annotation(self) -> str:
        """Text of the event as an EDF annotation; MNE excludes data under annotations that begin with BAD."""
        if self.trial_type != "marker":
            return f"BAD_{self.trial_type}"
        plain = "".join(char if char.isprintable() else " " for char in self.value)
        return plain.replace("@@", "@ @")  # MNE takes what follows @@ for a channel


def bids_events(signal: RegularSignal, n_padded: int, markers: Sequence[Marker]) -> list[BidsEvent]:
    """Return the events of one run of EEG, in order of onset: markers, gaps, and the padding at the end.

    Args:
        signal: EEG of the run.
        n_padded: Samples that the file holds after the last one of the signal.
        markers: Markers of the run.
    """
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


_BAD_SHARE = 0.5  # share of windows in which a channel was masked, above which its status is bad


def check_mne() -> None:
    """Check that EDF can be written.

    Raises:
        SettingsError: MNE or edfio is not installed.
    """
    try:
        import edfio  # noqa: F401
        import mne  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "MNE and edfio, which write EDF", str(error), 'pip install -c constraints.txt -e ".[bids]"'
        ) from error


def eeg_channels(info: StreamInfo) -> dict[int, str]:
    """Return the channels of a stream that are electrodes of the 10-05 system.

    Returns:
        Name of the electrode, in MNE's spelling, by index of the channel in the stream.

    Raises:
        RecordingError: No channel is.
    """
    import mne

    electrodes = {name.upper(): name for name in mne.channels.make_standard_montage("standard_1005").ch_names}
    found: dict[int, str] = {}
    for row, label in enumerate(info.ch_names):
        name = electrodes.get(normalise_label(label))
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
    x_uv: FloatArray  # (C, n) microvolts, whole seconds, no value missing
    filled: BoolArray  # (C, n) values that were not measured
    n_padded: int  # samples after the last one: EDF holds whole seconds
    unit_note: str  # a sentence where the unit was guessed, else empty


def edf_content(signal: RegularSignal, names: Mapping[int, str]) -> EdfContent:
    """Return a signal as EDF can hold it: gaps are interpolated linearly, the last value is repeated to a whole second.

    Args:
        signal: The signal.
        names: Name of the electrode by index of the channel in the stream.
    """
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
    """Write an EDF file with events as annotations; the resolution of a channel is its range over 65534.

    Args:
        content: Samples of the file.
        events: Events of the run; those outside the file are left out.
        unix_start: Unix time in seconds of the first sample; None where it is not known.
        path: The file.
    """
    import mne

    info = mne.create_info(list(content.names), content.sfreq, "eeg", verbose="ERROR")
    raw = mne.io.RawArray(content.x_uv * 1e-6, info, verbose="ERROR")
    start = None
    if unix_start is not None:
        start = datetime.datetime.fromtimestamp(unix_start, datetime.UTC).replace(microsecond=0)
    raw.set_meas_date(start)
    inside = [event for event in events if 0 <= event.onset_s < content.x_uv.shape[1] / content.sfreq]
    raw.set_annotations(
        mne.Annotations(
            [event.onset_s for event in inside],
            [event.duration_s for event in inside],
            [event.annotation for event in inside],
            orig_time=start,
        ),
        verbose="ERROR",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rates that are not integers; the sidecar has the rate
        mne.export.export_raw(path, raw, fmt="edf", physical_range="channelwise", overwrite=True, verbose="ERROR")


def channel_table(content: EdfContent, facts: SessionFacts) -> Table:
    """Return ``channels.tsv`` of the EEG; a channel is bad if it was masked in more than half of the windows."""
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
        notes = [f"masked in {100 * share:.0f} % of the windows"] if share else []
        notes += [f"{n_filled} samples filled"] if n_filled else []
        rows.append(
            {
                "name": name,
                "type": "EEG",
                "units": "uV",
                "low_cutoff": None,
                "high_cutoff": None,
                "sampling_frequency": content.sfreq,
                "status": "bad" if share > _BAD_SHARE else "good",
                "status_description": "; ".join(notes) or None,
            }
        )
    return Table.from_rows(rows)


def eeg_sidecar(content: EdfContent, signal: RegularSignal, facts: SessionFacts, task: str) -> dict[str, Any]:
    """Return the content of ``eeg.json``; what was not declared is ``n/a``.

    Args:
        content: Samples of the EDF file.
        signal: The signal that they come from.
        facts: The session.
        task: Name of the task.
    """
    received = np.flatnonzero(np.isfinite(signal.t))
    span_s = float(signal.t[received[-1]] - signal.t[received[0]])
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
        "MeasuredSamplingFrequency": float(received[-1] - received[0]) / span_s if span_s > 0 else signal.sfreq,
        "DeviceDelay": signal.info.delay_s,
        "BridgedSamples": signal.n_bridged,
        "UnitNote": content.unit_note or "n/a",
    }


def declared_reference(info: StreamInfo) -> str:
    """Return the reference electrode that a stream's header declares; ``""`` where it declares none."""
    from clmer_streaming.xdf.header import parse_stream_header

    try:
        header = parse_stream_header(0, info.xml.encode())
    except ValueError:
        return ""
    return header.desc_text("reference/label") or header.desc_text("reference")
