"""Cameras and video files, opened and read the same way."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError, SettingsError

CaptureKind: TypeAlias = Literal["index", "device", "url", "file"]
"""How a picture source is named."""

_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 10_000, 2_000  # of network cameras
_RATES_HZ = (1.0, 1000.0)  # frame rates that are believed
_POSITIONS_S = (-1.0, 1e7)  # places in a file that are believed; of a missing stamp OpenCV makes -3.7e17 s


@dataclass(frozen=True)
class CaptureSpec:
    """Which camera or video file."""

    kind: CaptureKind
    text: str  # the index, path or URL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a word on the command line names: an index, a device, a URL or a video file.

        Raises:
            SettingsError: It names nothing that could be opened.
        """
        if text.isdecimal():
            return cls("index", text)
        if "://" in text:
            return cls("url", text)
        path = Path(text)
        if path.is_file():
            return cls("file", text)
        if text.startswith("/dev/"):  # may be plugged in later
            return cls("device", text)
        raise SettingsError(
            expected="a camera: its index (0, 1, ...), its device, a URL, or a video file",
            found=f"{text!r}, which is no file" if not path.exists() else f"{text!r}, which is no video file",
            mend="check the spelling; --camera none goes without a camera",
        )

    @property
    def name(self) -> str:
        """How people call it."""
        if self.kind == "index":
            return f"camera {self.text}"
        return Path(self.text).name if self.kind == "file" else self.text


class Capture:
    """An opened camera or video file.

    Args:
        spec: What to open.

    Attributes:
        rate_hz: Frame rate that it announces; 0 where it announces none that can be true.
        n_frames: Frames that a file claims to have; 0 where it does not say.

    Raises:
        RecordingError: It cannot be opened; ``found`` says it in one line.
    """

    def __init__(self, spec: CaptureSpec) -> None:
        self._spec = spec
        self._video = _open(spec)
        rate_hz = float(self._video.get(_cv2().CAP_PROP_FPS))
        self.rate_hz = rate_hz if _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1] else 0.0
        self.n_frames = max(0, int(self._video.get(_cv2().CAP_PROP_FRAME_COUNT)))
        self._n_grabbed = 0
        self._position_s = -math.inf  # of the frame that was grabbed last

    def grab(self) -> float | None:
        """Take the next frame and return when, in seconds of the LSL clock; None where there is none any more."""
        if not self._video.grab():
            return None
        t = local_clock()
        self._n_grabbed += 1
        return t

    def position(self) -> float:
        """Return where in the file the grabbed frame lies, in seconds of the container's time; asked once a frame.

        Raises:
            RecordingError: The file says neither when its frames were taken nor how many a second.
        """
        stamp_s = float(self._video.get(_cv2().CAP_PROP_POS_MSEC)) / 1000
        if _POSITIONS_S[0] <= stamp_s <= _POSITIONS_S[1] and stamp_s > self._position_s:
            self._position_s = stamp_s
        elif self.rate_hz:
            self._position_s = self._position_s + 1 / self.rate_hz if self._n_grabbed > 1 else 0.0
        else:
            raise RecordingError(
                expected="a video whose frames have time stamps, or that names its frame rate",
                found=f"{self._spec.text}, whose frame {self._n_grabbed} has neither",
                mend="convert it, for example: ffmpeg -r RATE -i FILE converted.mp4",
            )
        return self._position_s

    def picture(self) -> npt.NDArray[np.generic] | None:
        """Return the grabbed frame as (H, W, 3) BGR; None where it cannot be decoded."""
        decoded, picture = self._video.retrieve()
        return np.asarray(picture) if decoded and picture is not None else None

    def close(self) -> None:
        """Give the device back."""
        self._video.release()


def probe(spec: CaptureSpec) -> float:
    """Return the frame rate in Hz that a video file names, 0 where it names none, without reading it.

    Raises:
        RecordingError: It cannot be read.
    """
    capture = Capture(spec)
    capture.close()
    return capture.rate_hz


def _cv2() -> Any:
    """Import OpenCV, told to be silent: what fails is said in our own words."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")  # s; 10 by default
    import cv2

    cv2.setLogLevel(0)  # where somebody has imported it before
    return cv2


def _open(spec: CaptureSpec) -> Any:
    cv2 = _cv2()
    if spec.kind == "index":
        video = cv2.VideoCapture(int(spec.text))
    elif spec.kind == "device":
        video = cv2.VideoCapture(spec.text, cv2.CAP_V4L2)
    elif spec.kind == "url":
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS
        ]  # fmt: skip
        video = cv2.VideoCapture(spec.text, cv2.CAP_FFMPEG, limits)
    else:
        video = cv2.VideoCapture(spec.text)
    if video.isOpened():
        return video
    raise RecordingError(
        expected=f"a video that can be read at {spec.text}" if spec.kind == "file" else f"a camera at {spec.text}",
        found="one that cannot be opened" if spec.kind == "file" else "none that can be opened",
        mend="convert the file, for example with ffmpeg"
        if spec.kind == "file"
        else "plug it in, end other programs that use it, or name another one with --camera",
    )
