"""Cameras and video files: opening, reading, grabbing the newest frames, and recording them.

``Capture`` is one opened camera or file. ``FrameGrabber`` reads it in a thread and keeps the newest frames.
``VideoRecorder`` writes frames into a video, with their stamps beside it.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections import deque
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError, SettingsError


@dataclass(frozen=True)
class CaptureState:
    """Whether frames come from a camera or file."""

    is_open: bool
    reason: str = ""  # why not, as a sentence; "" while all is well
    rate_hz: float = 0.0  # as the device announces it


CaptureKind: TypeAlias = Literal["index", "device", "url", "file"]
"""How a camera or file is named."""

_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 10_000, 2_000  # of network cameras
_RATES_HZ = (1.0, 1000.0)  # plausible frame rates
_POSITIONS_S = (-1.0, 1e7)  # plausible times in a file; OpenCV makes -3.7e17 s of a missing stamp


@dataclass(frozen=True)
class CaptureSpec:
    """The name of a camera or video file."""

    kind: CaptureKind
    text: str  # the index, path or URL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the name of a camera on the command line: an index, a device, a URL or a video file.

        Raises:
            SettingsError: It is none of these.
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
        """Name of the camera or file in messages."""
        if self.kind == "index":
            return f"camera {self.text}"
        return Path(self.text).name if self.kind == "file" else self.text


class Capture:
    """An opened camera or video file.

    Example::

        capture = Capture(CaptureSpec.parse("face.mp4"))
        while capture.grab() is not None:
            bgr = capture.picture()

    Args:
        spec: What to open.

    Attributes:
        rate_hz: Frame rate that it announces; 0 if that is not plausible.
        n_frames: Frames that a file announces; 0 if it does not.

    Raises:
        RecordingError: It cannot be opened.
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
        """Grab the next frame; return its time in seconds of the LSL clock, or None at the end."""
        if not self._video.grab():
            return None
        t = local_clock()
        self._n_grabbed += 1
        return t

    def position(self) -> float:
        """Return the time of the grabbed frame in the container, in seconds. Call this once for each frame.

        Raises:
            RecordingError: The file has neither stamps nor a frame rate.
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
        """Return the grabbed frame, (H, W, 3) BGR; None if it cannot be decoded."""
        decoded, picture = self._video.retrieve()
        return np.asarray(picture) if decoded and picture is not None else None

    def close(self) -> None:
        """Release the device or file."""
        self._video.release()


def probe(spec: CaptureSpec) -> float:
    """Return the frame rate in Hz that a video file announces, without reading its frames; 0 if it announces none.

    Raises:
        RecordingError: It cannot be read.
    """
    capture = Capture(spec)
    capture.close()
    return capture.rate_hz


def _cv2() -> Any:
    """Import OpenCV without its messages on stderr; failures are reported by this module."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")  # s; 10 by default
    import cv2

    cv2.setLogLevel(0)  # if it was imported before
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


REOPEN_S = 0.5
"""Seconds between two attempts to open a camera."""

WAITING_FRAMES = 8
"""Most frames that wait: 0.27 s at 30 fps. Usually none does, so this costs no latency."""

_OPEN_S = 15.0  # s that a camera has to open
_FIRST_FRAME_S = 10.0  # s that it has to give its first frame
_FRAME_S = 1.5  # s that it has to give the next one


@dataclass(frozen=True, eq=False)
class GrabbedFrame:
    """One frame of a camera or file."""

    t: float  # s, LSL clock
    picture: npt.NDArray[np.generic]  # BGR


class FrameGrabber:
    """Reads a camera, or a video file in real time, in a thread of its own, and keeps the newest frames.

    A camera that gives no frame is closed and opened again, without end; a file ends.

    Args:
        spec: What to read.

    Attributes:
        state: Whether frames come.
        deadline: When the camera must have answered, in seconds of the LSL clock; past it, the camera hangs.
        ended: Whether the file has been read to its end.
        failure: Why the file cannot be read; None if it can.
        n_grabbed: Frames that came.
        n_dropped: Frames that newer ones have replaced, since the first ``pop``.
    """

    def __init__(self, spec: CaptureSpec) -> None:
        self.state = CaptureState(False, f"{spec.name} has not been opened yet")
        self.deadline = math.inf
        self.ended = False
        self.failure: RecordingError | None = None
        self.n_grabbed = 0
        self.n_dropped = 0
        self._spec = spec
        self._waiting: deque[GrabbedFrame] = deque(maxlen=WAITING_FRAMES)
        self._started = False  # whether ``pop`` was called
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="clmer-grabber", daemon=True).start()

    def pop(self, timeout_s: float) -> GrabbedFrame | None:
        """Return the next frame; None if none came in time or the state has changed."""
        with self._changed:
            self._started = True
            if not self._waiting and not self.ended:
                self._changed.wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def _run(self) -> None:
        pause = threading.Event()
        while not self.ended:
            self.deadline = local_clock() + _OPEN_S
            try:
                capture = Capture(self._spec)
                self._read(capture)
                capture.close()
                self._stop(CaptureState(False, f"{self._spec.name} gives no pictures any more"))
            except RecordingError as error:
                self._stop(CaptureState(False, f"{self._spec.name} gives no pictures: {error.mend}"), error)
            self.deadline = math.inf
            pause.wait(REOPEN_S)

    def _read(self, capture: Capture) -> None:
        """Queue frames until none comes."""
        paced = _RealTime(capture) if self._spec.kind == "file" else None
        self.deadline = local_clock() + _FIRST_FRAME_S
        while (t := capture.grab()) is not None:
            self.deadline = math.inf
            if paced is not None:
                t = paced.wait()
            picture = capture.picture()
            if picture is not None:
                self._put(GrabbedFrame(t, picture), capture.rate_hz)
            self.deadline = local_clock() + _FRAME_S

    def _put(self, grabbed: GrabbedFrame, rate_hz: float) -> None:
        with self._changed:
            self.n_grabbed += 1
            self.n_dropped += self._started and len(self._waiting) == WAITING_FRAMES
            self._waiting.append(grabbed)
            self.state = CaptureState(True, rate_hz=rate_hz)
            self._changed.notify()

    def _stop(self, state: CaptureState, failure: RecordingError | None = None) -> None:
        """Set that no more frames come; a file ends, a camera may come back."""
        with self._changed:
            self.state = state
            if self._spec.kind == "file":
                self.failure, self.ended = failure, True
            self._changed.notify()


class _RealTime:
    """Holds the frames of a file back until they are due, as if they came from a camera."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._begin: float | None = None
        self._waiter = threading.Event()

    def wait(self) -> float:
        """Wait until the grabbed frame is due; return the present time in seconds of the LSL clock."""
        position_s, now = self._capture.position(), local_clock()
        self._begin = now - position_s if self._begin is None else self._begin
        self._waiter.wait(max(0.0, self._begin + position_s - now))
        return local_clock()


KEPT_FREE = 200_000_000
"""Bytes of the disk that a video leaves free for the recording of the numbers."""

STAMPS_HEADER = "frame,t"
"""First line of the file of stamps beside a video."""

_DEFAULT_RATE_HZ = 30.0  # of a camera that announces none; the true stamps lie beside the video
_CHECK_FRAMES = 1000  # after each of which the file must have grown; at most 256 KiB are buffered


def stamps_file(video: Path) -> Path:
    """Return the path of the stamps of a video's frames."""
    return video.with_name(f"{video.stem}_frames.csv")


class VideoRecorder:
    """Writes frames as motion JPEG and their stamps as CSV: ``face.avi`` and ``face_frames.csv``.

    The frames of one video have one size, and an existing video is never appended to: after a change of size, or a
    restart of the face process, a new one is begun, ``face-2.avi`` with ``face-2_frames.csv``, and so on.

    Example::

        recorder = VideoRecorder(Path("face.avi"))
        recorder.write(t, bgr, rate_hz=30.0)
        recorder.close()

    Args:
        path: Path of the first video, ending in .avi.
        kept_free: Bytes of the disk that stay free.
    """

    def __init__(self, path: Path, *, kept_free: int = KEPT_FREE) -> None:
        self._path = path
        self._kept_free = kept_free
        self._part: _Part | None = None

    def write(self, t: float, picture: npt.NDArray[np.generic], rate_hz: float) -> None:
        """Append one frame.

        Args:
            t: When it was taken, in seconds of the LSL clock.
            picture: (H, W, 3) uint8 BGR.
            rate_hz: Frame rate that the camera announces; 0 if it announces none.

        Raises:
            RecordingError: The disk is full, or the video cannot be written; do not write again.
        """
        import cv2

        try:
            self._check_disk()
            size = (picture.shape[1], picture.shape[0])
            if self._part is None or self._part.size != size:
                self.close()
                self._part = _Part(*_new_files(self._path), size, rate_hz or _DEFAULT_RATE_HZ)
            self._part.write(t, picture)
        except (OSError, cv2.error) as error:
            found = (error.strerror if isinstance(error, OSError) else None) or str(error).strip()
            raise _cannot_write(self._path, found) from error

    def close(self) -> None:
        """Finish the video."""
        if self._part is not None:
            self._part.close()

    def _check_disk(self) -> None:
        if shutil.disk_usage(self._path.parent).free < self._kept_free:
            raise _cannot_write(self._path, "a disk that is full")


class _Part:
    """One video file and its stamps."""

    def __init__(self, path: Path, stamps: FileIO, size: tuple[int, int], rate_hz: float) -> None:
        import cv2

        self.size = size  # (width, height) pixels
        self._path = path
        self._stamps = stamps
        self._n_frames = 0
        self._n_bytes = -1  # size of the file at the last check
        self._video: Any = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, size)
        if not self._video.isOpened():
            raise _cannot_write(path, "a video writer that does not open")
        stamps.write(f"{STAMPS_HEADER}\n".encode())

    def write(self, t: float, picture: npt.NDArray[np.generic]) -> None:
        """Append a frame, then its stamp; OpenCV reports no failure to write, so the file's size is checked."""
        self._video.write(picture)
        self._stamps.write(f"{self._n_frames},{float(t)!r}\n".encode())
        self._n_frames += 1
        if self._n_frames % _CHECK_FRAMES == 0:
            before, self._n_bytes = self._n_bytes, self._path.stat().st_size
            if self._n_bytes == before:
                raise _cannot_write(self._path, f"a file that does not grow beyond {before} bytes")

    def close(self) -> None:
        self._video.release()
        self._stamps.close()


def _new_files(path: Path) -> tuple[Path, FileIO]:
    """Create the files of the next video, readable by their owner only; return its path and the file of its stamps."""
    number = 1
    while True:
        video = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.close(_create(video))
        except FileExistsError:
            number += 1
        else:
            return video, os.fdopen(_create(stamps_file(video)), "wb", buffering=0)


def _create(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)


def _cannot_write(path: Path, found: str) -> RecordingError:
    return RecordingError(f"a video that can be written at {path}", found, "make room on the disk and check --record")
