"""A video beside a recording: its faces on the recording's clock, read while the replay goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator

import numpy as np

from clmer_streaming.errors import RecordingError
from clmer_streaming.recording.survey import is_session_recording
from clmer_streaming.sources.replay_streams import UsedStream, UsedStreams
from clmer_streaming.sources.video import FaceTrack
from clmer_streaming.sources.video_clock import NumberedClock, OffsetClock, VideoClock, frame_number_clock
from clmer_streaming.types import FaceSample
from clmer_streaming.xdf.reader import XdfFile


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
