"""Replaying a foreign recording: the items of an XDF file, with the stamps of the file, at any speed.

``ReplaySource`` merges the streams that ``replay_streams`` has chosen; ``VideoSchedule`` adds the faces of a video
beside them. ``Pace`` waits between the items, for this source and for that of recorded sessions.
"""

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
from clmer_streaming.lsl.markers import MarkerRow, parse_marker_rows
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.sources.replay_streams import (
    LONGEST_SILENCE_S,
    ChunkSchedule,
    EegChoice,
    FaceSchedule,
    MarkerSchedule,
    MergedSchedule,
    Schedule,
    TickSchedule,
    UsedStream,
    UsedStreams,
    choose_streams,
    running_maximum,
    select_cuts,
)
from clmer_streaming.sources.video import FaceTrack, NumberedClock, OffsetClock, VideoClock, frame_number_clock
from clmer_streaming.types import FaceSample, FloatArray, Gap, Item
from clmer_streaming.xdf.reader import Progress, XdfFile, read_xdf

_POLL_S = 0.05  # s between two looks whether it was paused or its speed changed
_STEP_BACK_S = 1.0  # s; the stamps of buffered senders step back by less


class ReplaySource:
    """Source: the EEG, face, markers and series of an XDF recording, merged by stamp.

    At full speed the EEG comes in fewer chunks, up to 0.25 s ahead of a face that runs steadily; see ``select_cuts``.

    Example::

        source = ReplaySource("session.xdf", speed=math.inf)
        windows = [window for item in source.items() for window in preprocessor.push(item)]

    Args:
        path: An XDF file.
        eeg: Which stream is the EEG, and how to read it.
        speed: Seconds of the recording per second; ``math.inf``: as fast as ``put`` allows.
        loop: Start again at the end, without end, with later stamps.
        extractor: Face extractor that the model was trained with; the numbers of another one are not used.
        signal: Signal settings of the model.
        video: Faces of a video beside the recording, which replace a face stream in it.
        video_offset_s: Beginning of the video in seconds after the first EEG sample; ignored if the recording has a
            stream of frame numbers, or has recorded the video itself.
        physio: Series of the model -> name or type of the stream that gives it.
        progress: Called with the share of the file that was read, 0 to 1, while this object is made.

    Attributes:
        pace: Pauses the replay and changes its speed.
        infos: Announcements of the streams that are delivered.
        warnings: Sentences for the user on what is damaged or not used.
        duration_s: Seconds from the first to the last sample of the streams that are delivered.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or without usable samples.
        StreamError: Its EEG cannot feed the model, is not the only one or not there, or the map does not fit it.
        SettingsError: The speed is not above 0, or the choice of the EEG cannot be parsed.
    """

    def __init__(  # noqa: PLR0913 - each is an option of the user, given by name
        self,
        path: str | Path,
        *,
        eeg: EegChoice = EegChoice(),  # noqa: B008 - frozen
        speed: float = 1.0,
        loop: bool = False,
        extractor: str = EXTRACTOR_ID,
        signal: SignalConfig | None = None,
        video: FaceTrack | None = None,
        video_offset_s: float = 0.0,
        physio: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not speed > 0:
            raise SettingsError("a replay speed above 0", f"{speed:g}", "use 1 for real time, max for full speed")
        file = read_xdf(path, progress)
        series = () if video is None else video.frame_series
        used = choose_streams(file, eeg, signal or SignalConfig(), extractor, physio, frame_series=series)
        self._video = None if video is None else schedule_video(file, used, video, video_offset_s)
        if self._video is not None:
            used = dataclasses.replace(used, face=None, foreign_face=None, physio=self._video.timed(used.physio))
        self.pace = Pace(speed)
        self._loop = loop
        self._spans = _spans(used)
        self._schedule = MergedSchedule(_schedules(used, timely=math.isfinite(speed)))
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
        """Deliver each item when its newest sample is due, until the end of the recording or until ``stop`` is set."""
        self.pace.begin()
        for due, item in self._scheduled():
            if self.pace.wait_until(due, stop):
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
        """Yield when each item of one repetition is due, and the item; at equal times the recording's come first."""
        recorded = self._schedule.items(shift_s, lap)
        if self._video is None:
            return recorded
        end = shift_s + max(last for _, last in self._spans.values()) if self._loop else math.inf
        return heapq.merge(recorded, self._video.items(shift_s, end), key=operator.itemgetter(0))


def _schedules(used: UsedStreams, *, timely: bool) -> list[Schedule]:
    """Return the schedules, EEG first: a chunk comes before an item that is due when its last sample is.

    Args:
        used: The streams.
        timely: Cut the EEG so that no sample comes before an item of another stream that is due sooner.
    """
    running: list[Schedule] = []
    if used.face is not None:
        running.append(FaceSchedule(used.face.info.source, used.face.xdf.t_synced, used.face.xdf.samples))
    running.extend(
        ChunkSchedule(series.info.source, series.xdf.t_synced, series.xdf.samples, series.info.sfreq, np.empty(0))
        for series in used.physio
    )
    others: list[Schedule] = []
    if used.markers:
        others.append(MarkerSchedule(used.markers[0].info.source, *_markers(used.markers)))
    inputs = [(s.info.source, running_maximum(s.xdf.t_synced)) for s in (used.eeg, used.face) if s is not None]
    begin, end = min(float(due[0]) for _, due in inputs), max(float(due[-1]) for _, due in inputs)
    others.extend(TickSchedule(source, due, begin, end) for source, due in inputs)
    if used.eeg is None:
        return [*running, *others]
    info, t = used.eeg.info, used.eeg.xdf.t_synced
    cuts = [one.due if timely else select_cuts(one.due, t) for one in running] + [one.due for one in others]
    eeg = ChunkSchedule(info.source, t, used.eeg.xdf.samples, info.sfreq, np.concatenate(cuts), ahead=not timely)
    return [eeg, *running, *others]


def _markers(streams: tuple[UsedStream, ...]) -> tuple[FloatArray, list[MarkerRow]]:
    """Return the stamps (n,) and parsed rows of all marker streams, in one order."""
    due = np.concatenate([running_maximum(stream.xdf.t_synced) for stream in streams])
    t = np.concatenate([stream.xdf.t_synced for stream in streams])
    rows = [row for stream in streams for row in parse_marker_rows(stream.xdf)]
    order = [i for i in np.argsort(due, kind="stable").tolist() if rows[i] is not None]
    return t[order], [row for i in order if (row := rows[i]) is not None]


def _spans(used: UsedStreams) -> dict[str, tuple[float, float]]:
    """Return the first and last stamp of each source, in seconds."""
    stamps = {s.info.source: s.xdf.t_synced for s in (used.eeg, used.face, *used.physio) if s is not None}
    if used.markers:
        stamps[used.markers[0].info.source] = _markers(used.markers)[0]
    return {source: (float(t[0]), float(np.max(t))) for source, t in stamps.items()}


def _period(used: UsedStreams) -> float:
    """Return the seconds between two samples, of EEG where there is EEG: the distance of two laps."""
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


class Pace:
    """Waits for stream time to pass, at a speed that may change; skips silences beyond ``LONGEST_SILENCE_S``.

    Thread-safe: any thread may pause, resume or set the speed while another waits.

    Args:
        speed: Seconds of the recording per second; ``math.inf``: no waiting.
    """

    def __init__(self, speed: float) -> None:
        self._lock = threading.Lock()  # guards all below
        self._speed = speed
        self._left_paused_s: float | None = None  # s of stream time to the next item, while paused
        self._last_due = math.nan  # s of stream time
        self._next_at = time.monotonic()

    @property
    def speed(self) -> float:
        """Seconds of the recording per second."""
        return self._speed

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return self._left_paused_s is not None

    def begin(self) -> None:
        """Start to count now."""
        with self._lock:
            self._last_due, self._next_at = math.nan, time.monotonic()

    def pause(self) -> None:
        """Pause, until ``resume``."""
        with self._lock:
            if self._left_paused_s is None:
                self._left_paused_s = self._left_s()

    def resume(self) -> None:
        """Continue after ``pause``."""
        with self._lock:
            if self._left_paused_s is not None:
                self._next_at = time.monotonic() + self._left_paused_s / self._speed
                self._left_paused_s = None

    def set_speed(self, speed: float) -> None:
        """Continue at another speed; a paused replay stays paused."""
        with self._lock:
            left_s = self._left_s()
            self._speed = speed
            self._next_at = time.monotonic() + left_s / speed

    def wait_until(self, due: float, stop: threading.Event) -> bool:
        """Wait until ``due`` seconds of stream time; return True as soon as ``stop`` is set."""
        self._schedule_next(due)
        while (left_s := self._until_next_s()) > 0:
            if stop.wait(min(left_s, _POLL_S)):
                return True
        return stop.is_set()

    def _schedule_next(self, due: float) -> None:
        with self._lock:
            ahead_s, self._last_due = due - self._last_due, due
            ahead_s = ahead_s if 0 < ahead_s <= LONGEST_SILENCE_S else 0.0
            if self._left_paused_s is not None:
                self._left_paused_s += ahead_s
            elif math.isinf(self._speed):
                self._next_at = time.monotonic()
            else:
                self._next_at += ahead_s / self._speed

    def _until_next_s(self) -> float:
        """Return the seconds to wait; infinity while paused."""
        with self._lock:
            return math.inf if self._left_paused_s is not None else self._next_at - time.monotonic()

    def _left_s(self) -> float:
        """Return the stream time to the next item."""
        if math.isinf(self._speed):
            return 0.0
        return max(0.0, self._next_at - time.monotonic()) * self._speed


class VideoSchedule:
    """The faces of a video beside a recording, each due when its frame was taken.

    Args:
        track: The faces.
        clock: When the frames were taken.
        delay_s: Seconds from the exposure to the stamp.
        warnings: Sentences for the user on how the video was placed.

    Attributes:
        info: Announcement of the faces.
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
        """Yield when each face is due, in non-decreasing seconds of stream time, and the face.

        Args:
            shift_s: Seconds by which all stamps are moved.
            end: Last time that is yielded, in seconds of stream time after the shift.
        """
        due = -math.inf
        for number, sample in enumerate(self._track.samples()):
            t = self._clock.time(number, sample.t) + shift_s
            if t > end:
                return
            due = max(due, t)
            yield due, dataclasses.replace(sample, t=t)

    def timed(self, streams: Iterable[UsedStream]) -> tuple[UsedStream, ...]:
        """Return streams of a replay, with the stamps of their frames where they are series of this video."""
        return tuple(self._timed(stream) if stream.xdf in self._track.frame_series else stream for stream in streams)

    def _timed(self, stream: UsedStream) -> UsedStream:
        positions = enumerate(stream.xdf.t_synced.tolist())
        t = np.array([self._clock.time(number, position_s) for number, position_s in positions])
        return dataclasses.replace(stream, xdf=dataclasses.replace(stream.xdf, t_synced=t))


def schedule_video(file: XdfFile, used: UsedStreams, track: FaceTrack, offset_s: float) -> VideoSchedule:
    """Return the schedule of a video beside a recording.

    Its clock is the stamps of the session that recorded the video, else the recording's stream of frame numbers, else
    the offset.

    Args:
        file: The recording.
        used: Its streams that are replayed.
        track: The video.
        offset_s: Seconds from the first EEG sample to the video's first frame.

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
    if (recorded := _recorded_clock(file, track, begin, end)) is not None:
        return VideoSchedule(track, recorded, 0.0 if used.face is None else used.face.info.delay_s)
    if (numbered := frame_number_clock(file)) is not None:
        return VideoSchedule(track, numbered)
    warning = (
        f"{track.info.name} has no stamps, and is placed {offset_s:g} s behind the first EEG sample. "
        "Of a session's own video, name the video itself."
    )
    warnings = (warning,) if is_session_recording(file.path) else ()
    return VideoSchedule(track, OffsetClock(begin + offset_s), warnings=warnings)


def _recorded_clock(file: XdfFile, track: FaceTrack, begin: float, end: float) -> NumberedClock | None:
    """Return the clock of a video that this session has recorded; None for any other video."""
    t = track.stamps
    if t is None or t[-1] < begin or t[0] > end or not is_session_recording(file.path):
        return None
    return NumberedClock(track.info.name, np.arange(t.size, dtype=np.float64), t)
