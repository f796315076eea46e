"""The video that a session keeps where it was asked to: the pictures that faces were read from, and their stamps."""

from __future__ import annotations

import os
import shutil
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import RecordingError

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
