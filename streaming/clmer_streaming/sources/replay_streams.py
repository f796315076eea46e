"""Which streams of a recording a replay uses, and how it announces them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import RecordingError, StreamError
from clmer_streaming.face.layout import is_clmer_face, row_to_face
from clmer_streaming.lsl.markers import MarkerWords, marker_words
from clmer_streaming.pipeline.channels import apply_eeg_map, resolve_channels
from clmer_streaming.pipeline.extra import physio_source
from clmer_streaming.pipeline.rate import LONGEST_HOLD_S
from clmer_streaming.types import BoolArray, Chunk, FaceSample, FloatArray, IndexArray, Item, Marker, StreamInfo, Tick
from clmer_streaming.xdf.header import announcement
from clmer_streaming.xdf.reader import XdfFile, XdfStream

_FACE_LABEL = re.compile(r"(LM|AU)_?\d", re.IGNORECASE)  # LM00_X, AU12_r, AU_12; not AUX
_FACE_TYPES = ("mocap", "landmark", "landmarks")


@dataclass(frozen=True, eq=False)
class UsedStream:
    """A stream of the recording and its announcement."""

    info: StreamInfo
    xdf: XdfStream


@dataclass(frozen=True, eq=False)
class UsedStreams:
    """What a replay delivers."""

    eeg: UsedStream | None
    face: UsedStream | None
    foreign_face: StreamInfo | None  # announced only: another extractor's numbers are not what the model learnt
    markers: tuple[UsedStream, ...]
    physio: tuple[UsedStream, ...]  # further series of the model
    warnings: tuple[str, ...]  # sentences for people

    @property
    def infos(self) -> tuple[StreamInfo, ...]:
        """Announcements, in the order in which they are made; several marker streams share one."""
        used = [stream.info for stream in (self.eeg, self.face, *self.physio, *self.markers[:1]) if stream is not None]
        return tuple(used) if self.foreign_face is None else (*used, self.foreign_face)


def choose_streams(  # noqa: PLR0913 - a recording, and each choice of the user's
    file: XdfFile,
    eeg_map: str | None,
    signal: SignalConfig,
    extractor: str,
    physio: Mapping[str, str] | None = None,
    *,
    beside: Sequence[XdfStream] = (),
) -> UsedStreams:
    """Choose by type, labels and extractor, further series by name or type; streams without samples do not count.

    Args:
        file: The recording.
        eeg_map: Names for channels without labels.
        signal: What the EEG must give.
        extractor: Whose faces are wanted.
        physio: By further series: name or type of the stream that gives it.
        beside: Streams of a video beside the recording, which may give further series, too.

    Raises:
        RecordingError: There are neither EEG nor usable face samples.
        StreamError: There is EEG, but none that can feed the model.
    """
    warnings: list[str] = []
    filled = [stream for stream in file.streams if stream.t.size]
    eeg = _choose_eeg(filled, eeg_map, signal, warnings)
    face, foreign = _choose_face(filled, extractor, warnings)
    if eeg is None and face is None:
        raise _nothing_usable(file)
    markers = tuple(
        UsedStream(announcement(stream, "markers"), stream)
        for stream in filled
        if "marker" in stream.type.lower() and any(words is not None for words in marker_words(stream))
    )
    others = [stream for stream in filled if eeg is None or stream is not eeg.xdf]
    series = _choose_physio([*others, *beside], physio, warnings)
    return UsedStreams(eeg, face, foreign, markers, series, tuple(warnings))


def _choose_physio(
    streams: Sequence[XdfStream], physio: Mapping[str, str] | None, warnings: list[str]
) -> tuple[UsedStream, ...]:
    chosen = []
    for series, wanted in (physio or {}).items():
        named = [
            s for s in streams if s.channel_format != "string" and wanted.lower() in (s.name.lower(), s.type.lower())
        ]
        if not named:
            there = ", ".join(repr(stream.name) for stream in streams) or "nothing else"
            warnings.append(f"No stream {wanted!r} for the series {series!r}; the recording has {there}.")
            continue
        if len(named) > 1:
            warnings.append(
                f"{len(named)} streams are called {wanted!r}; the series {series!r} is taken from the first."
            )
        info = dataclasses.replace(announcement(named[0], "physio"), source=physio_source(series))
        chosen.append(UsedStream(info, named[0]))
    return tuple(chosen)


def _choose_eeg(
    streams: Sequence[XdfStream], eeg_map: str | None, signal: SignalConfig, warnings: list[str]
) -> UsedStream | None:
    candidates = [s for s in streams if s.type.lower() == "eeg" and s.channel_format != "string"]
    candidates.sort(key=lambda stream: "eeg" not in stream.name.lower())
    usable: list[UsedStream] = []
    refusals: list[StreamError] = []
    for stream in candidates:
        try:
            info = announcement(stream, "eeg")
            info = info if eeg_map is None else apply_eeg_map(info, eeg_map)
            resolve_channels(info, signal)
            usable.append(UsedStream(info, stream))
        except StreamError as error:
            refusals.append(error)
    if refusals and not usable:
        raise refusals[0]
    warnings.extend(
        f"The EEG stream {other.info.name!r} (id {other.xdf.stream_id}) is not used; "
        f"{usable[0].info.name!r} (id {usable[0].xdf.stream_id}) is."
        for other in usable[1:]
    )
    return usable[0] if usable else None


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
    said = faces[0].desc_text("extractor")
    warnings.append(
        f"The face stream {faces[0].name!r} is not used: it comes from another extractor "
        f"({said or 'which it does not name'}), and the model wants {extractor!r}."
    )
    return None, announcement(faces[0], "face", said if said != extractor else "")


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
        mend="check that the headset's stream was selected and running when the recording was made",
    )


LONGEST_CHUNK_S = 0.25
"""Seconds of the longest chunk of EEG."""

_SILENT_S = 0.5  # s between two items of another stream; with a chunk of EEG still less than the second of a stall
_ODD_STEP_S = 0.25  # s between two samples of EEG
_BEHIND_S = 2.0  # s behind such a step in which a stall, or the end of a segment, may show


def chunk_edges(due: FloatArray, n_longest: int, forced: FloatArray) -> IndexArray:
    """Return where the chunks begin, and the last one ends: as long as they may be, but cut where it is forced.

    Args:
        due: (n,) seconds, when the samples are delivered; never steps back.
        n_longest: Samples of a chunk at most.
        forced: (m,) seconds at which to cut, behind samples of equal time.
    """
    stops = np.unique(np.concatenate([np.searchsorted(due, forced, side="right"), [due.size]]))
    too_late = np.searchsorted(due, due + LONGEST_CHUNK_S, side="right").tolist()
    edges = [0]
    for stop in stops.tolist():
        while edges[-1] < stop:
            edges.append(min(stop, edges[-1] + n_longest, too_late[edges[-1]]))
    return np.array(edges, dtype=np.intp)


def that_matter(due: FloatArray, t: FloatArray) -> FloatArray:
    """Return those of another stream's items, due at (m,) seconds, that a replay at full speed cuts the EEG at.

    Args:
        due: (m,) seconds, when they are delivered; never steps back.
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
"""Seconds of one silence in which ticks are given; what is longer is passed over."""


class Lane(Protocol):
    """Items of one kind, in order."""

    due: FloatArray
    """(n,) s, stream time at which each item is delivered; never steps back."""

    def item(self, i: int, shift_s: float, lap: int) -> Item:
        """Return item ``i`` with its stamps moved by ``shift_s``, in the ``lap``-th round through the recording."""


class FaceLane:
    """One FaceSample per row of a ``CLMER-Face`` stream: t (n,) seconds, x (249, n)."""

    def __init__(self, source: str, t: FloatArray, x: FloatArray) -> None:
        self.due = running_maximum(t)
        self._source, self._t = source, t
        self._rows = np.ascontiguousarray(x.T)

    def item(self, i: int, shift_s: float, lap: int) -> FaceSample:
        """Return frame ``i``; a row of NaN is a frame without a face."""
        return row_to_face(float(self._t[i]) + shift_s, self._rows[i], self._source)


class MarkerLane:
    """Markers with running numbers as ids: t (n,) seconds, and what each of the n says."""

    def __init__(self, source: str, t: FloatArray, words: Sequence[MarkerWords]) -> None:
        self.due = running_maximum(t)
        self._source, self._t, self._words = source, t, words

    def item(self, i: int, shift_s: float, lap: int) -> Marker:
        """Return marker ``i``; its number goes on from lap to lap."""
        number, words = lap * len(self._words) + i + 1, self._words[i]
        t = float(self._t[i]) - words.age_s + shift_s
        return Marker(t, str(number), words.label, words.value, self._source, words.fields)


class TickLane:
    """Ticks every 0.5 s wherever a stream has no sample for that long between ``begin`` and ``end``.

    Args:
        source: The stream that is silent.
        sample_due: (n,) seconds, when its samples are delivered.
        begin: Seconds, the first sample of any stream that should be heard throughout.
        end: Seconds, the last one.
    """

    def __init__(self, source: str, sample_due: FloatArray, begin: float, end: float) -> None:
        edges = np.concatenate([[begin], sample_due, [end]])
        spans = np.minimum(np.diff(edges), LONGEST_SILENCE_S)
        counts = np.maximum(np.ceil(spans / _TICK_S) - 1, 0).astype(np.intp)
        nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        self.due: FloatArray = np.repeat(edges[:-1], counts) + _TICK_S * nth
        self._source = source

    def item(self, i: int, shift_s: float, lap: int) -> Tick:
        """Return tick ``i``."""
        return Tick(float(self.due[i]) + shift_s, self._source)


class EegLane:
    """Chunks of EEG of at most 0.25 s, cut wherever an item comes between that must find all EEG before it.

    Args:
        source: Name that the chunks carry.
        t: (n,) stamps in seconds.
        x: (C, n) in the stream's own unit.
        sfreq: Nominal rate in Hz; 0 where none is declared.
        between: (m,) seconds, when such items are delivered; they come behind samples of equal time.
        ahead: A chunk is due when its first sample is, rather than its last.
    """

    def __init__(  # noqa: PLR0913 - a stream, and how it is to be cut
        self, source: str, t: FloatArray, x: FloatArray, sfreq: float, between: FloatArray, *, ahead: bool = False
    ) -> None:
        sample_due = running_maximum(t)
        n_longest = max(1, int(LONGEST_CHUNK_S * sfreq) if sfreq else t.size)
        self._cuts = chunk_edges(sample_due, n_longest, between)
        self.due = sample_due[self._cuts[:-1] if ahead else self._cuts[1:] - 1]
        self._source, self._t, self._x = source, t, x

    def item(self, i: int, shift_s: float, lap: int) -> Chunk:
        """Return chunk ``i``."""
        start, stop = self._cuts[i], self._cuts[i + 1]
        return Chunk(self._source, self._t[start:stop] + shift_s, self._x[:, start:stop].copy())


class Merge:
    """The items of all lanes by the time they are due; where that is equal, in the order of the lanes."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        sizes = [lane.due.size for lane in lanes]
        due = np.concatenate([lane.due for lane in lanes])
        lane_of = np.repeat(np.arange(len(lanes)), sizes)
        index = np.concatenate([np.arange(size) for size in sizes])
        order = np.lexsort((index, lane_of, due))
        self._lanes = tuple(lanes)
        self._due, self._lane_of, self._index = due[order], lane_of[order], index[order]

    def items(self, shift_s: float, lap: int) -> Iterator[tuple[float, Item]]:
        """Yield when each item is due, in seconds of stream time, and the item."""
        for due, lane, i in zip(self._due.tolist(), self._lane_of.tolist(), self._index.tolist(), strict=True):
            yield due + shift_s, self._lanes[lane].item(i, shift_s, lap)


def running_maximum(t: npt.NDArray[np.float64]) -> FloatArray:
    """Return for each stamp (n,) the largest up to it: stamps may step back, the order of the file is kept."""
    largest: FloatArray = np.maximum.accumulate(t)
    return largest
