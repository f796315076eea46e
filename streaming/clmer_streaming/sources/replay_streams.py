"""The streams of a foreign recording that a replay delivers, and the order and times of their items.

``choose_streams`` selects the streams and announces them. A ``Schedule`` cuts one stream into items and says when each
is due; ``MergedSchedule`` joins several. ``chunk_edges`` and ``select_cuts`` decide where the EEG is cut into chunks,
so that at any speed the signal path sees the other items at the same places between the samples.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clmer_streaming.config import SignalConfig, physio_source
from clmer_streaming.errors import RecordingError, SettingsError, StreamError
from clmer_streaming.face.layout import is_clmer_face, row_to_face
from clmer_streaming.lsl.markers import MarkerRow, parse_marker_rows
from clmer_streaming.lsl.resolve import AUTO, PROPERTIES, STREAM_ID, StreamQuery, announce_eeg
from clmer_streaming.pipeline.rate import LONGEST_HOLD_S
from clmer_streaming.types import BoolArray, Chunk, FaceSample, FloatArray, IndexArray, Item, Marker, StreamInfo, Tick
from clmer_streaming.xdf.header import announcement
from clmer_streaming.xdf.reader import XdfFile, XdfStream
from clmer_streaming.xdf.samples import JoinedSamples, RecordedSamples

_FACE_LABEL = re.compile(r"(LM|AU)_?\d", re.IGNORECASE)  # LM00_X, AU12_r, AU_12; not AUX
_FACE_TYPES = ("mocap", "landmark", "landmarks")


@dataclass(frozen=True, eq=False)
class UsedStream:
    """A stream of a recording and its announcement."""

    info: StreamInfo
    xdf: XdfStream


@dataclass(frozen=True, eq=False)
class UsedStreams:
    """The streams that a replay delivers."""

    eeg: UsedStream | None
    face: UsedStream | None
    foreign_face: StreamInfo | None  # announced only: the model was trained on another extractor
    markers: tuple[UsedStream, ...]
    physio: tuple[UsedStream, ...]  # series of the model beside EEG and face
    warnings: tuple[str, ...]  # sentences for the user

    @property
    def infos(self) -> tuple[StreamInfo, ...]:
        """The announcements in the order of delivery; several marker streams share one."""
        used = [stream.info for stream in (self.eeg, self.face, *self.physio, *self.markers[:1]) if stream is not None]
        return tuple(used) if self.foreign_face is None else (*used, self.foreign_face)


def choose_streams(  # noqa: PLR0913 - a recording, and each option of the user
    file: XdfFile,
    choice: EegChoice,
    signal: SignalConfig,
    extractor: str,
    physio: Mapping[str, str] | None = None,
    *,
    frame_series: Sequence[XdfStream] = (),
) -> UsedStreams:
    """Choose the streams of a recording by type, labels and extractor; ignore streams without samples.

    Args:
        file: The recording.
        choice: Which stream is the EEG.
        signal: Signal settings of the model.
        extractor: Face extractor that the model was trained with.
        physio: Series of the model -> name or type of the stream that gives it.
        frame_series: Series of a video beside the recording, which ``physio`` may name too.

    Raises:
        RecordingError: There are neither EEG nor usable face samples.
        StreamError: There is EEG, but none that can feed the model; several can and none is chosen; or the chosen
            stream is not there.
        SettingsError: The choice cannot be parsed.
    """
    warnings: list[str] = []
    filled = [stream for stream in file.streams if stream.t.size]
    eeg = _choose_eeg(filled, choice, signal, warnings)
    face, foreign = _choose_face(filled, extractor, warnings)
    if eeg is None and face is None:
        raise _nothing_usable(file)
    markers = tuple(
        UsedStream(announcement(stream, "markers"), stream)
        for stream in filled
        if "marker" in stream.type.lower() and any(row is not None for row in parse_marker_rows(stream))
    )
    others = [stream for stream in filled if eeg is None or stream is not eeg.xdf]
    series = _choose_physio([*others, *frame_series], physio, warnings)
    return UsedStreams(eeg, face, foreign, markers, series, tuple(warnings))


def _choose_physio(
    streams: Sequence[XdfStream], physio: Mapping[str, str] | None, warnings: list[str]
) -> tuple[UsedStream, ...]:
    chosen = []
    for series, requested in (physio or {}).items():
        named = [
            s for s in streams if s.channel_format != "string" and requested.lower() in (s.name.lower(), s.type.lower())
        ]
        if not named:
            there = ", ".join(repr(stream.name) for stream in streams) or "nothing else"
            warnings.append(f"No stream {requested!r} for the series {series!r}; the recording has {there}.")
            continue
        if len(named) > 1:
            warnings.append(
                f"{len(named)} streams are called {requested!r}; the series {series!r} is taken from the first."
            )
        info = dataclasses.replace(announcement(named[0], "physio"), source=physio_source(series))
        chosen.append(UsedStream(info, named[0]))
    return tuple(chosen)


@dataclass(frozen=True)
class EegChoice:
    """Which stream of a recording is the EEG, and how to read it; as ``--eeg`` and its companions."""

    query: str = AUTO  # a name, or properties; see ``StreamQuery.parse``
    eeg_map: str | None = None  # names for channels; see ``apply_eeg_map``
    force_map: bool = False  # whether the map may contradict the labels
    sfreq: float | None = None  # Hz, in place of the declared rate

    def parsed(self) -> StreamQuery:
        """Return the query.

        Raises:
            SettingsError: It cannot be parsed, or is a predicate, which only the network answers.
        """
        query = StreamQuery.parse(self.query)
        if query.is_predicate:
            raise SettingsError(
                expected=f"for a recording a stream's name, or properties: {', '.join((*PROPERTIES, STREAM_ID))}",
                found=f"the XPath predicate {query.text!r}",
                mend="name the stream; clmer inspect lists what the recording has",
            )
        return query


def _choose_eeg(
    streams: Sequence[XdfStream], choice: EegChoice, signal: SignalConfig, warnings: list[str]
) -> UsedStream | None:
    query = choice.parsed()
    candidates = [
        stream
        for stream in streams
        if query.matches(stream, usual_type="EEG") and (stream.channel_format != "string" or query.names_stream)
    ]
    if not candidates and query.text != AUTO:
        raise StreamError(
            expected=f"an EEG stream {query.text!r} with samples in the recording",
            found=_listed(streams) or "no stream with samples",
            mend="say which of these is the EEG: --eeg NAME",
        )
    usable: list[UsedStream] = []
    refusals: list[StreamError] = []
    for stream in candidates:
        try:
            info = announce_eeg(stream, signal, choice.eeg_map, force_map=choice.force_map, sfreq=choice.sfreq)
            usable.append(UsedStream(info, stream))
        except StreamError as error:
            refusals.append(error)
    if refusals and not usable:
        raise refusals[0]
    others = [s for s in streams if _is_eeg(s) and all(s is not used.xdf for used in usable)]
    usable = _join_restarted(usable, warnings)
    if len(usable) > 1:
        raise StreamError(
            expected="one EEG stream, or a choice among several",
            found=f"{len(usable)}: {_listed([one.xdf for one in usable])}",
            mend=_how_to_choose([one.xdf for one in usable]),
        )
    if usable and others:
        chosen = "" if query.text == AUTO else ", as chosen"
        warnings.append(f"EEG is {_listed([usable[0].xdf])}{chosen}; not used: {_listed(others)}.")
    return usable[0] if usable else None


def _is_eeg(stream: XdfStream) -> bool:
    return stream.type.casefold() == "eeg" and stream.channel_format != "string"


def _join_restarted(streams: list[UsedStream], warnings: list[str]) -> list[UsedStream]:
    """Return the one stream that all parts make, where its program was started again; else the streams as they are.

    LabRecorder keeps an outlet that returns without a source_id as another stream. Parts are announced alike, and lie
    one behind the other.
    """
    parts = sorted(streams, key=lambda part: float(np.min(part.xdf.t_synced)))
    gaps_s = [float(np.min(b.xdf.t_synced) - np.max(a.xdf.t_synced)) for a, b in itertools.pairwise(parts)]
    if not gaps_s or min(gaps_s) <= 0 or any(part.info != parts[0].info for part in parts):
        return streams
    whole = dataclasses.replace(
        parts[0].xdf,
        t=np.concatenate([part.xdf.t for part in parts]),
        t_synced=np.concatenate([part.xdf.t_synced for part in parts]),
        samples=JoinedSamples([part.xdf.samples for part in parts if isinstance(part.xdf.samples, RecordedSamples)]),
    )
    ids = ", ".join(str(part.xdf.stream_id) for part in parts)
    gaps = ", ".join(f"{gap_s:.1f}" for gap_s in gaps_s)
    warnings.append(
        f"EEG is {whole.name!r}, which was started again: {len(parts)} streams ({STREAM_ID} {ids}) are joined, with "
        f"{gaps} s between them."
    )
    return [UsedStream(parts[0].info, whole)]


def _listed(streams: Sequence[XdfStream]) -> str:
    """Return what tells streams apart, for a sentence."""
    return "; ".join(
        f"{s.name} (stream_id {s.stream_id}, type {s.type or 'none'}, source_id {s.source_id or 'none'}, "
        f"{s.n_channels} channels)"
        for s in streams
    )


def _how_to_choose(streams: Sequence[XdfStream]) -> str:
    """Return which property tells the streams apart, as an instruction for the user."""
    if len({stream.name for stream in streams}) == len(streams):
        return "say which by its name: " + " or ".join(f"--eeg {shlex.quote(stream.name)}" for stream in streams)
    return "say which: " + " or ".join(f"--eeg {STREAM_ID}={stream.stream_id}" for stream in streams)


def _choose_face(
    streams: Sequence[XdfStream], extractor: str, warnings: list[str]
) -> tuple[UsedStream | None, StreamInfo | None]:
    """Return the face stream to use, or the announcement of one that another extractor made."""
    faces = [stream for stream in streams if stream.channel_format != "string" and _is_face(stream)]
    for stream in faces:
        if is_clmer_face(stream.ch_names) and stream.desc_text("extractor") == extractor:
            return UsedStream(announcement(stream, "face", extractor), stream), None
    if not faces:
        return None, None
    declared = faces[0].desc_text("extractor")
    warnings.append(
        f"The face stream {faces[0].name!r} is not used: it comes from another extractor "
        f"({declared or 'which it does not name'}), and the model wants {extractor!r}."
    )
    return None, announcement(faces[0], "face", declared if declared != extractor else "")


def _is_face(stream: XdfStream) -> bool:
    kind = stream.type.lower()
    if kind == "eeg":
        return False
    named = kind in _FACE_TYPES and "face" in stream.name.lower()
    return named or any(_FACE_LABEL.match(label) for label in stream.ch_names)


def _nothing_usable(file: XdfFile) -> RecordingError:
    found = ", ".join(
        f"{s.name!r} ({s.type or 'no type'}, {s.n_channels} channels, {s.t.size} samples)" for s in file.streams
    )
    return RecordingError(
        expected="a recording with samples of an EEG stream (type EEG) or of a CLMER-Face stream",
        found=f"{file.path} with {found}",
        mend="say which of these is the EEG: --eeg NAME; or check that the headset's stream ran while recording",
    )


LONGEST_CHUNK_S = 0.25
"""Longest chunk of EEG in seconds."""

_SILENT_S = 0.5  # s between two items of another stream; with a chunk of EEG still less than the second of a stall
_ODD_STEP_S = 0.25  # s between two samples of EEG
_BEHIND_S = 2.0  # s behind such a step in which a stall, or the end of a segment, may show


def chunk_edges(due: FloatArray, n_longest: int, forced: FloatArray) -> IndexArray:
    """Return the edges of chunks that are as long as allowed but are cut where it is forced.

    Args:
        due: (n,) seconds, when the samples are delivered; non-decreasing.
        n_longest: Most samples of a chunk.
        forced: (m,) seconds at which to cut, behind samples of equal time.

    Returns:
        (k + 1,) indices: chunk i holds samples edges[i] to edges[i + 1].
    """
    stops = np.unique(np.concatenate([np.searchsorted(due, forced, side="right"), [due.size]]))
    edges = [0]
    for stop in stops.tolist():
        while (first := edges[-1]) < stop:
            candidates = due[first : min(stop, first + n_longest)]
            edges.append(first + int(np.searchsorted(candidates, due[first] + LONGEST_CHUNK_S, side="right")))
    return np.array(edges, dtype=np.intp)


def select_cuts(due: FloatArray, t: FloatArray) -> FloatArray:
    """Return the times of another stream's items at which a replay at full speed has to cut the EEG.

    These are items behind a silence, and items near an odd step of the EEG's stamps, where a stall or the end of a
    segment may show.

    Args:
        due: (m,) seconds, when the items are delivered; non-decreasing.
        t: (n,) stamps of the EEG in seconds.
    """
    matter: BoolArray = np.diff(due, prepend=-np.inf) > _SILENT_S
    reached, steps = np.maximum.accumulate(t), np.abs(np.diff(t))
    odd = np.flatnonzero(steps > _ODD_STEP_S)
    begins = np.concatenate([reached[:1], reached[odd]])
    ends = np.concatenate([reached[:1] + LONGEST_HOLD_S, reached[odd + 1] + steps[odd]]) + _BEHIND_S
    for first, last in np.searchsorted(due, (begins, ends)).T.tolist():
        matter[first:last] = True
    return due[matter]


_TICK_S = 0.5  # s of silence after which, and then at which pace, ticks are given
LONGEST_SILENCE_S = 600.0
"""Longest silence in seconds that is filled with ticks; the rest of a longer one is skipped."""


class Schedule(Protocol):
    """The items of one stream, in order, and when each is due."""

    due: FloatArray
    """(n,) s, stream time at which each item is delivered; non-decreasing."""

    def item(self, i: int, shift_s: float, lap: int) -> Item:
        """Return item ``i`` of repetition ``lap`` of the recording, with its stamps moved by ``shift_s`` seconds."""


class FaceSchedule:
    """One FaceSample for each sample of a ``CLMER-Face`` stream: t (n,) seconds, samples (249, n)."""

    def __init__(self, source: str, t: FloatArray, samples: RecordedSamples | JoinedSamples) -> None:
        self.due = running_maximum(t)
        self._source, self._t, self._samples = source, t, samples

    def item(self, i: int, shift_s: float, lap: int) -> FaceSample:
        """Return the face of frame ``i``; NaN is a frame without a face."""
        return row_to_face(float(self._t[i]) + shift_s, self._samples.read(i, i + 1)[:, 0], self._source)


class MarkerSchedule:
    """Markers with running numbers as ids: t (n,) seconds, and the n parsed rows."""

    def __init__(self, source: str, t: FloatArray, rows: Sequence[MarkerRow]) -> None:
        self.due = running_maximum(t)
        self._source, self._t, self._rows = source, t, rows

    def item(self, i: int, shift_s: float, lap: int) -> Marker:
        """Return marker ``i``; its number continues from lap to lap."""
        number, row = lap * len(self._rows) + i + 1, self._rows[i]
        t = float(self._t[i]) - row.age_s + shift_s
        return Marker(t, str(number), row.label, row.value, self._source, row.fields)


class TickSchedule:
    """A tick every 0.5 s while a stream has no sample between ``begin`` and ``end``.

    Args:
        source: Source key of the stream.
        sample_due: (n,) seconds, when its samples are delivered.
        begin: Seconds, when the first sample of EEG or face is due.
        end: Seconds, when the last one is due.
    """

    def __init__(self, source: str, sample_due: FloatArray, begin: float, end: float) -> None:
        silent = np.flatnonzero(np.diff(sample_due) > _TICK_S)
        begins = np.concatenate([[begin], sample_due[silent], sample_due[-1:]])
        ends = np.concatenate([sample_due[:1], sample_due[silent + 1], [end]])
        spans = np.minimum(ends - begins, LONGEST_SILENCE_S)
        counts = np.maximum(np.ceil(spans / _TICK_S) - 1, 0).astype(np.intp)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        self.due: FloatArray = np.repeat(begins, counts) + _TICK_S * nth
        self._source = source

    def item(self, i: int, shift_s: float, lap: int) -> Tick:
        """Return tick ``i``."""
        return Tick(float(self.due[i]) + shift_s, self._source)


class ChunkSchedule:
    """Chunks of at most 0.25 s, cut wherever another item comes between that needs all samples before it.

    Args:
        source: Source key of the chunks.
        t: (n,) stamps in seconds.
        samples: (C, n) in the stream's own unit.
        sfreq: Nominal rate in Hz; 0 if none is declared.
        between: (m,) seconds, when such items are delivered; they come behind samples of equal time.
        ahead: A chunk is due with its first sample rather than its last.
    """

    def __init__(  # noqa: PLR0913 - a stream, and how it is to be cut
        self,
        source: str,
        t: FloatArray,
        samples: RecordedSamples | JoinedSamples,
        sfreq: float,
        between: FloatArray,
        *,
        ahead: bool = False,
    ) -> None:
        sample_due = running_maximum(t)
        n_longest = max(1, int(LONGEST_CHUNK_S * sfreq) if sfreq else t.size)
        self._cuts = chunk_edges(sample_due, n_longest, between)
        self.due = sample_due[self._cuts[:-1] if ahead else self._cuts[1:] - 1]
        self._source, self._t, self._samples = source, t, samples

    def item(self, i: int, shift_s: float, lap: int) -> Chunk:
        """Return chunk ``i``."""
        start, stop = self._cuts[i], self._cuts[i + 1]
        return Chunk(self._source, self._t[start:stop] + shift_s, self._samples.read(start, stop))


class MergedSchedule:
    """The items of several schedules by the time they are due; at equal times in the order of the schedules."""

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        sizes = [schedule.due.size for schedule in schedules]
        due = np.concatenate([schedule.due for schedule in schedules])
        which = np.repeat(np.arange(len(schedules)), sizes)
        index = np.concatenate([np.arange(size) for size in sizes])
        order = np.lexsort((index, which, due))
        self._schedules = tuple(schedules)
        self._due, self._which, self._index = due[order], which[order], index[order]

    def items(self, shift_s: float, lap: int) -> Iterator[tuple[float, Item]]:
        """Yield when each item is due, in seconds of stream time, and the item; see ``Schedule.item``."""
        for due, which, i in zip(self._due.tolist(), self._which.tolist(), self._index.tolist(), strict=True):
            yield due + shift_s, self._schedules[which].item(i, shift_s, lap)


def running_maximum(t: npt.NDArray[np.float64]) -> FloatArray:
    """Return for each stamp (n,) the largest one up to it, so that stamps that step back keep the order of the file."""
    largest: FloatArray = np.maximum.accumulate(t)
    return largest
