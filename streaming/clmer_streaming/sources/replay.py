"""Replaying a recording: the items of an XDF session, with the stamps of the file, at any speed."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import operator
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.face.layout import EXTRACTOR_ID
from clmer_streaming.lsl.markers import MarkerWords, marker_words
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.sources.replay_streams import (
    LONGEST_SILENCE_S,
    EegLane,
    FaceLane,
    Lane,
    MarkerLane,
    Merge,
    TickLane,
    UsedStream,
    UsedStreams,
    choose_streams,
    running_maximum,
    that_matter,
)
from clmer_streaming.sources.video import FaceTrack, NumberedClock, OffsetClock, VideoClock, frame_number_clock
from clmer_streaming.types import FaceSample, FloatArray, Gap, Item
from clmer_streaming.xdf.reader import XdfFile, read_xdf

_LOOK_S = 0.05  # s between two looks whether it was held or its speed changed


class Pace:
    """Waits until stream time comes round; silences beyond ``LONGEST_SILENCE_S`` are passed over at once.

    Args:
        speed: Seconds of the recording per second; ``math.inf``: no waiting.
    """

    def __init__(self, speed: float) -> None:
        self._lock = threading.Lock()  # guards all below
        self._speed = speed
        self._held_s: float | None = None  # s of stream time to the next item, while it is held
        self._last_due = math.nan  # s of stream time
        self._next_at = time.monotonic()

    @property
    def speed(self) -> float:
        """Seconds of the recording per second."""
        return self._speed

    @property
    def held(self) -> bool:
        """Whether it stands still."""
        return self._held_s is not None

    def begin(self) -> None:
        """Count from now on."""
        with self._lock:
            self._last_due, self._next_at = math.nan, time.monotonic()

    def hold(self) -> None:
        """Stand still from now on."""
        with self._lock:
            if self._held_s is None:
                self._held_s = self._left_s()

    def go_on(self) -> None:
        """Go on from where it stands."""
        with self._lock:
            if self._held_s is not None:
                self._next_at = time.monotonic() + self._held_s / self._speed
                self._held_s = None

    def set_speed(self, speed: float) -> None:
        """Go on at another speed; what stands still does so later."""
        with self._lock:
            left_s = self._left_s()
            self._speed = speed
            self._next_at = time.monotonic() + left_s / speed

    def stopped_before(self, due: float, stop: threading.Event) -> bool:
        """Wait until ``due`` seconds of stream time; return True, at once, when told to stop."""
        self._plan(due)
        while (left_s := self._until_next_s()) > 0:
            if stop.wait(min(left_s, _LOOK_S)):
                return True
        return stop.is_set()

    def _plan(self, due: float) -> None:
        with self._lock:
            ahead_s, self._last_due = due - self._last_due, due
            ahead_s = ahead_s if 0 < ahead_s <= LONGEST_SILENCE_S else 0.0
            if self._held_s is not None:
                self._held_s += ahead_s
            elif math.isinf(self._speed):
                self._next_at = time.monotonic()
            else:
                self._next_at += ahead_s / self._speed

    def _until_next_s(self) -> float:
        """Return the seconds to wait; infinity where it is held."""
        with self._lock:
            return math.inf if self._held_s is not None else self._next_at - time.monotonic()

    def _left_s(self) -> float:
        """Return the stream time to the next item."""
        if math.isinf(self._speed):
            return 0.0
        return max(0.0, self._next_at - time.monotonic()) * self._speed


class VideoLane:
    """The faces of a video, each due when it was taken.

    Args:
        track: The faces.
        clock: When the frames were taken.
        delay_s: From what the camera saw to the stamp, seconds.
        warnings: Sentences for people on how it was placed.

    Attributes:
        info: How the stream is announced.
        warnings: As given.
    """

    def __init__(
        self, track: FaceTrack, clock: VideoClock, delay_s: float = 0.0, warnings: tuple[str, ...] = ()
    ) -> None:
        self.warnings = warnings
        self.info = dataclasses.replace(track.info, delay_s=delay_s)
        self._track = track
        self._clock = clock

    def items(self, shift_s: float, end: float) -> Iterator[tuple[float, FaceSample]]:
        """Yield when each sample of a face is due, which never steps back, and the sample.

        Args:
            shift_s: Seconds by which all stamps are moved.
            end: Where to end, in seconds of stream time behind the shift.
        """
        due = -math.inf
        for number, sample in enumerate(self._track.samples()):
            t = self._clock.time(number, sample.t) + shift_s
            if t > end:
                return
            due = max(due, t)
            yield due, dataclasses.replace(sample, t=t)

    def timed(self, streams: Iterable[UsedStream]) -> tuple[UsedStream, ...]:
        """Return streams of a replay, those that lie beside the faces with the stamps of their frames."""
        return tuple(self._timed(stream) if stream.xdf in self._track.beside else stream for stream in streams)

    def _timed(self, stream: UsedStream) -> UsedStream:
        positions = enumerate(stream.xdf.t_synced.tolist())
        t = np.array([self._clock.time(number, position_s) for number, position_s in positions])
        return dataclasses.replace(stream, xdf=dataclasses.replace(stream.xdf, t_synced=t))


def video_lane(file: XdfFile, used: UsedStreams, track: FaceTrack, offset_s: float) -> VideoLane:
    """Return the lane of a video beside a recording.

    Args:
        file: The recording.
        used: Its streams that are replayed.
        track: The video.
        offset_s: From the first EEG sample to the video's first frame, where nothing tells better.

    Raises:
        RecordingError: The recording has no EEG that the video could be set beside.
    """
    if used.eeg is None:
        raise RecordingError(
            expected=f"a recording with EEG, to set the video beside: {file.path}",
            found="one without",
            mend="replay it without --video, or give the video as --camera FILE",
        )
    begin, end = (float(used.eeg.xdf.t_synced[i]) for i in (0, -1))
    if (kept := _kept_clock(file, track, begin, end)) is not None:
        return VideoLane(track, kept, 0.0 if used.face is None else used.face.info.delay_s)
    if (numbered := frame_number_clock(file)) is not None:
        return VideoLane(track, numbered)
    doubt = (
        f"{track.info.name} has no stamps, and is placed {offset_s:g} s behind the first EEG sample. "
        "Of a session's own video, name the video itself."
    )
    warnings = (doubt,) if is_session_recording(file.path) else ()
    return VideoLane(track, OffsetClock(begin + offset_s), warnings=warnings)


def _kept_clock(file: XdfFile, track: FaceTrack, begin: float, end: float) -> NumberedClock | None:
    """Return the clock of a video that this very session has kept; None of any other."""
    t = track.stamps
    if t is None or t[-1] < begin or t[0] > end or not is_session_recording(file.path):
        return None
    return NumberedClock(track.info.name, np.arange(t.size, dtype=np.float64), t)


_STEP_BACK_S = 1.0  # s; stamps of buffered senders step back by less


class ReplaySource:
    """Delivers the EEG, face and markers of a recording, merged by stamp.

    At full speed EEG comes in fewer chunks and up to 0.25 s ahead of a face that runs steadily (``replay_cuts.py``).

    Args:
        path: An XDF file.
        eeg_map: Names for EEG channels without labels, ``"AF3=1,F7=2,..."``; see ``apply_eeg_map``.
        speed: Seconds of the recording per second; ``math.inf``: as fast as the items are taken.
        loop: Go on from the beginning at the end, for ever, with later stamps.
        extractor: The face extractor that the model was trained with; another one's numbers are not used.
        signal: What the model needs of the EEG.
        video: Faces of a video beside the recording; they take the place of a face stream within it.
        video_offset_s: Where the video begins, in seconds behind the first EEG sample; a stream of frame numbers
            in the recording says it better and goes before.
        physio: By further series of the model: name or type of the stream that gives it.

    Attributes:
        pace: Holds it and changes its speed.
        infos: Announcements of the streams that are delivered.
        warnings: Sentences for people on what is damaged or not used.
        duration_s: Seconds from the first to the last sample of the streams that are delivered.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or without usable samples.
        StreamError: Its EEG cannot feed the model, or the map does not fit it.
        SettingsError: The speed is not above 0.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the user's, given by name
        self,
        path: str | Path,
        *,
        eeg_map: str | None = None,
        speed: float = 1.0,
        loop: bool = False,
        extractor: str = EXTRACTOR_ID,
        signal: SignalConfig | None = None,
        video: FaceTrack | None = None,
        video_offset_s: float = 0.0,
        physio: Mapping[str, str] | None = None,
    ) -> None:
        if not speed > 0:
            raise SettingsError("a replay speed above 0", f"{speed:g}", "use 1 for real time, max for full speed")
        file = read_xdf(path)
        beside = () if video is None else video.beside
        used = choose_streams(file, eeg_map, signal or SignalConfig(), extractor, physio, beside=beside)
        self._video = None if video is None else video_lane(file, used, video, video_offset_s)
        if self._video is not None:
            used = dataclasses.replace(used, face=None, foreign_face=None, physio=self._video.timed(used.physio))
        self.pace = Pace(speed)
        self._loop = loop
        self._spans = _spans(used)
        self._merge = Merge(_lanes(used, timely=math.isfinite(speed)))
        begin, end = min(first for first, _ in self._spans.values()), max(last for _, last in self._spans.values())
        self._lap_s = end - begin + _period(used)
        self.infos = used.infos if self._video is None else (*used.infos, self._video.info)
        placed = () if self._video is None else self._video.warnings
        self.warnings = (*file.warnings, *used.warnings, *placed, *_steps_back(used))
        self.duration_s = end - begin

    def items(self) -> Iterator[Item]:
        """Yield what ``run`` delivers, without waiting; endless when looping."""
        return (item for _, item in self._scheduled())

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the recording, each item when its newest sample is due, until its end or until stopped."""
        self.pace.begin()
        for due, item in self._scheduled():
            if self.pace.stopped_before(due, stop):
                return
            put(item)

    def _scheduled(self) -> Iterator[tuple[float, Item]]:
        begin = min(first for first, _ in self._spans.values())
        yield from ((begin, info) for info in self.infos)
        yield from self._lap(0.0, 0)
        for lap in itertools.count(1) if self._loop else ():
            shift_s = lap * self._lap_s
            for source, (first, last) in self._spans.items():
                yield begin + shift_s, Gap(last + shift_s - self._lap_s, first + shift_s, source, "replay_loop")
            yield from self._lap(shift_s, lap)

    def _lap(self, shift_s: float, lap: int) -> Iterator[tuple[float, Item]]:
        """Yield when each item of one round is due, and the item; at equal times the recording's go first."""
        recorded = self._merge.items(shift_s, lap)
        if self._video is None:
            return recorded
        end = shift_s + max(last for _, last in self._spans.values()) if self._loop else math.inf
        return heapq.merge(recorded, self._video.items(shift_s, end), key=operator.itemgetter(0))


def _lanes(used: UsedStreams, *, timely: bool) -> list[Lane]:
    """Return the lanes, EEG first: a chunk goes before an item that is due when its last sample is.

    Args:
        used: The streams.
        timely: No EEG goes before an item of another lane that is due sooner.
    """
    running: list[Lane] = []
    if used.face is not None:
        running.append(FaceLane(used.face.info.source, used.face.xdf.t_synced, used.face.xdf.x))
    running.extend(
        EegLane(series.info.source, series.xdf.t_synced, series.xdf.x, series.info.sfreq, np.empty(0))
        for series in used.physio
    )
    others: list[Lane] = []
    if used.markers:
        others.append(MarkerLane(used.markers[0].info.source, *_markers(used.markers)))
    heard = [(s.info.source, running_maximum(s.xdf.t_synced)) for s in (used.eeg, used.face) if s is not None]
    begin, end = min(float(due[0]) for _, due in heard), max(float(due[-1]) for _, due in heard)
    others.extend(TickLane(source, due, begin, end) for source, due in heard)
    if used.eeg is None:
        return [*running, *others]
    info, t = used.eeg.info, used.eeg.xdf.t_synced
    cutting = [lane.due if timely else that_matter(lane.due, t) for lane in running] + [lane.due for lane in others]
    eeg = EegLane(info.source, t, used.eeg.xdf.x, info.sfreq, np.concatenate(cutting), ahead=not timely)
    return [eeg, *running, *others]


def _markers(streams: tuple[UsedStream, ...]) -> tuple[FloatArray, list[MarkerWords]]:
    """Return stamps (n,) and words of all marker streams, in one order."""
    due = np.concatenate([running_maximum(stream.xdf.t_synced) for stream in streams])
    t = np.concatenate([stream.xdf.t_synced for stream in streams])
    said = [words for stream in streams for words in marker_words(stream.xdf)]
    order = [i for i in np.argsort(due, kind="stable").tolist() if said[i] is not None]
    return t[order], [words for i in order if (words := said[i]) is not None]


def _spans(used: UsedStreams) -> dict[str, tuple[float, float]]:
    """Return the first and last stamp of each source, in seconds."""
    stamps = {s.info.source: s.xdf.t_synced for s in (used.eeg, used.face, *used.physio) if s is not None}
    if used.markers:
        stamps[used.markers[0].info.source] = _markers(used.markers)[0]
    return {source: (float(t[0]), float(np.max(t))) for source, t in stamps.items()}


def _period(used: UsedStreams) -> float:
    """Return the seconds between two samples, of EEG where there is EEG: what lies between two laps."""
    sfreq = next((s.info.sfreq for s in (used.eeg, used.face) if s is not None and s.info.sfreq), 0.0)
    return 1.0 / sfreq if sfreq else 1.0


def _steps_back(used: UsedStreams) -> list[str]:
    """Return a sentence for each stream whose stamps step back further than buffering explains."""
    sentences = []
    for stream in (used.eeg, used.face, *used.physio, *used.markers):
        if stream is None:
            continue
        step_s = float(np.max(running_maximum(stream.xdf.t_synced) - stream.xdf.t_synced))
        if step_s > _STEP_BACK_S:
            sentences.append(f"The stamps of {stream.info.name!r} step back by {step_s:.1f} s.")
    return sentences
