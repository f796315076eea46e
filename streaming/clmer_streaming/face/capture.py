"""Cameras and video files, opened and read the same way."""

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
    """Whether pictures come; said at every change, and again and again where nothing else is said."""

    is_open: bool
    reason: str = ""  # a sentence for people; "" when nothing is wrong
    rate_hz: float = 0.0  # that the device announces


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


REOPEN_S = 0.5
"""Seconds between two attempts to open a camera."""

WAITING_FRAMES = 8
"""Frames that may wait: 0.27 s at 30 fps. In the usual case none does, so this costs no latency."""

_OPEN_S = 15.0  # s that a camera has to open
_FIRST_FRAME_S = 10.0  # s that it has to give its first frame
_FRAME_S = 1.5  # s that it has to give the next one


@dataclass(frozen=True, eq=False)
class Grabbed:
    """One picture."""

    t: float  # s, LSL clock
    picture: npt.NDArray[np.generic]  # BGR


class Grabber:
    """Reads a camera, or a video file at its own pace, in a thread of its own; the newest frames win.

    A camera that gives no frame is closed and opened again, for ever; a file ends.

    Args:
        spec: What to read.

    Attributes:
        state: Whether pictures come.
        deadline: When the camera must have answered; past it, it hangs. Seconds of the LSL clock.
        ended: The file has been read to its end.
        failure: Why the file cannot be read.
        n_grabbed: Frames that came.
        n_dropped: Frames that gave way to newer ones; those before the first ``take`` do not count.
    """

    def __init__(self, spec: CaptureSpec) -> None:
        self.state = CaptureState(False, f"{spec.name} has not been opened yet")
        self.deadline = math.inf
        self.ended = False
        self.failure: RecordingError | None = None
        self.n_grabbed = 0
        self.n_dropped = 0
        self._spec = spec
        self._waiting: deque[Grabbed] = deque(maxlen=WAITING_FRAMES)
        self._begun = False  # somebody takes
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="clmer-grabber", daemon=True).start()

    def take(self, timeout_s: float) -> Grabbed | None:
        """Return the next frame; None when none came in time or the state has changed."""
        with self._changed:
            self._begun = True
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
        """Hand out frames until none comes."""
        paced = _Pace(capture) if self._spec.kind == "file" else None
        self.deadline = local_clock() + _FIRST_FRAME_S
        while (t := capture.grab()) is not None:
            self.deadline = math.inf
            if paced is not None:
                t = paced.wait()
            picture = capture.picture()
            if picture is not None:
                self._put(Grabbed(t, picture), capture.rate_hz)
            self.deadline = local_clock() + _FRAME_S

    def _put(self, grabbed: Grabbed, rate_hz: float) -> None:
        with self._changed:
            self.n_grabbed += 1
            self.n_dropped += self._begun and len(self._waiting) == WAITING_FRAMES
            self._waiting.append(grabbed)
            self.state = CaptureState(True, rate_hz=rate_hz)
            self._changed.notify()

    def _stop(self, state: CaptureState, failure: RecordingError | None = None) -> None:
        """Say that no more pictures come; a file stays so, a camera may come back."""
        with self._changed:
            self.state = state
            if self._spec.kind == "file":
                self.failure, self.ended = failure, True
            self._changed.notify()


class _Pace:
    """Holds the frames of a file back until they are due, as if a camera gave them."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._begin: float | None = None
        self._waiter = threading.Event()

    def wait(self) -> float:
        """Wait until the frame that was grabbed is due; return now, seconds of the LSL clock."""
        position_s, now = self._capture.position(), local_clock()
        self._begin = now - position_s if self._begin is None else self._begin
        self._waiter.wait(max(0.0, self._begin + position_s - now))
        return local_clock()


KEPT_FREE = 200_000_000
"""Bytes of the disk that a video leaves free: the numbers of the recording need them more."""

STAMPS_HEADER = "frame,t"
"""First line of the stamps beside a video."""

_USUAL_RATE_HZ = 30.0  # of a camera that names none; the true stamps lie beside the video
_LOOK_FRAMES = 1000  # after so many the file must have grown; what waits to be written is 256 KiB at most


def stamps_file(video: Path) -> Path:
    """Return where the stamps of a video's frames lie: beside it."""
    return video.with_name(f"{video.stem}_frames.csv")


class VideoKeeper:
    """Writes pictures as motion JPEG, and beside it when each was taken: ``face.avi`` and ``face_frames.csv``.

    One video has frames of one size, and is never written into again: what comes after a change of size, or after the
    face process was started anew, goes into ``face-2.avi`` with ``face-2_frames.csv``, and so on.

    Args:
        path: Of the first video, ending in .avi.
        kept_free: Bytes of the disk that stay free.
    """

    def __init__(self, path: Path, *, kept_free: int = KEPT_FREE) -> None:
        self._path = path
        self._kept_free = kept_free
        self._part: _Part | None = None

    def write(self, t: float, picture: npt.NDArray[np.generic], rate_hz: float) -> None:
        """Append one frame.

        Args:
            t: When it was taken, seconds of the LSL clock.
            picture: (H, W, 3) uint8 BGR.
            rate_hz: That the camera announces; 0 where it announces none.

        Raises:
            RecordingError: The disk is full, or the video cannot be written; nothing more may be written then.
        """
        import cv2

        try:
            self._check_room()
            size = (picture.shape[1], picture.shape[0])
            if self._part is None or self._part.size != size:
                self.close()
                self._part = _Part(*_new_files(self._path), size, rate_hz or _USUAL_RATE_HZ)
            self._part.write(t, picture)
        except (OSError, cv2.error) as error:
            found = (error.strerror if isinstance(error, OSError) else None) or str(error).strip()
            raise _cannot_write(self._path, found) from error

    def close(self) -> None:
        """Finish what was written."""
        if self._part is not None:
            self._part.close()

    def _check_room(self) -> None:
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
        self._n_bytes = -1  # of the file, when it was looked at last
        self._video: Any = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, size)
        if not self._video.isOpened():
            raise _cannot_write(path, "a video writer that does not open")
        stamps.write(f"{STAMPS_HEADER}\n".encode())

    def write(self, t: float, picture: npt.NDArray[np.generic]) -> None:
        """Append a frame, then its stamp; OpenCV does not say whether it could write, but the file's size does."""
        self._video.write(picture)
        self._stamps.write(f"{self._n_frames},{float(t)!r}\n".encode())
        self._n_frames += 1
        if self._n_frames % _LOOK_FRAMES == 0:
            before, self._n_bytes = self._n_bytes, self._path.stat().st_size
            if self._n_bytes == before:
                raise _cannot_write(self._path, f"a file that does not grow beyond {before} bytes")

    def close(self) -> None:
        self._video.release()
        self._stamps.close()


def _new_files(path: Path) -> tuple[Path, FileIO]:
    """Create the files of the next video, for their owner alone; return its path and its stamps, unbuffered."""
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
