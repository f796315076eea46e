"""A video beside a recording: its faces on the recording's clock, read while the replay goes on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from clmer_streaming.errors import RecordingError
from clmer_streaming.sources.replay_streams import UsedStreams
from clmer_streaming.sources.video import FaceTrack
from clmer_streaming.sources.video_clock import OffsetClock, VideoClock, frame_number_clock
from clmer_streaming.types import FaceSample
from clmer_streaming.xdf.reader import XdfFile


class VideoLane:
    """The faces of a video, each due when it was taken.

    Args:
        track: The faces.
        clock: When the frames were taken.
    """

    def __init__(self, track: FaceTrack, clock: VideoClock) -> None:
        self._track = track
        self._clock = clock

    def items(self, shift_s: float, end: float) -> Iterator[tuple[float, FaceSample]]:
        """Yield when each sample is due, which never steps back, and the sample.

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


def video_clock(file: XdfFile, used: UsedStreams, offset_s: float) -> VideoClock:
    """Return the clock of a video beside a recording.

    Raises:
        RecordingError: The recording has no EEG that the video could be set beside.
    """
    if used.eeg is None:
        raise RecordingError(
            expected=f"a recording with EEG, to set the video beside: {file.path}",
            found="one without",
            mend="replay it without --video, or give the video as --camera FILE",
        )
    return frame_number_clock(file) or OffsetClock(float(used.eeg.xdf.t_synced[0]) + offset_s)
