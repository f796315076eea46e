"""The faces of a video file: every frame, in order, as fast as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.layout import FACE_CH_NAMES, row_to_face
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.process import FaceProcess
from clmer_streaming.face.process_capture import CaptureSpec, probe
from clmer_streaming.face.process_messages import Ended, FaceProcessConfig, FaceRow
from clmer_streaming.sources.video_clock import kept_stamps
from clmer_streaming.types import FaceSample, FloatArray, StreamInfo
from clmer_streaming.xdf.reader import XdfStream

_SOURCE = "face"
_STARTS = 3  # of the face process, should it die
_ANSWER_S = 60.0  # s that the process has for its next frame


class FaceTrack(Protocol):
    """Faces on the own clock of a video, which begins near 0."""

    info: StreamInfo
    """How the stream is announced."""

    @property
    def stamps(self) -> FloatArray | None:
        """When each frame was taken (n,), seconds of the LSL clock; None where nothing beside the video says so."""

    @property
    def beside(self) -> tuple[XdfStream, ...]:
        """Other numbers that are known of the frames, one sample for each, on the video's own time."""

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame, from the first one; ``t`` is the video's own time in seconds.

        Raises:
            RecordingError: The file cannot be read.
        """


class VideoFaces:
    """The faces in a video file, read by a face process of its own; the same file gives the same bits.

    Args:
        path: A video file.
        neutral: The participant's neutral face, where it was measured.
        extractor: What finds the points of the face.

    Attributes:
        info: How the stream is announced.
        stamps: When each frame was taken (n,), seconds of the LSL clock, of a video that a session has kept.
        beside: No other streams.

    Raises:
        RecordingError: There is no such file, or it cannot be read.
    """

    def __init__(
        self, path: str | Path, *, neutral: NeutralFace | None = None, extractor: Extractor = FACE_MESH
    ) -> None:
        if not Path(path).is_file():
            raise RecordingError("a video file", f"nothing at {path}", "check the path")
        spec = CaptureSpec("file", str(path))
        rate_hz = probe(spec)
        self.stamps = kept_stamps(Path(path))
        self.beside = ()
        self._config = FaceProcessConfig(spec, lossless=True, neutral=neutral, extractor=extractor)
        self.info = StreamInfo(
            source=_SOURCE,
            kind="face",
            name=Path(path).name,
            ch_names=FACE_CH_NAMES,
            sfreq=rate_hz,
            source_id=f"video {Path(path).name}",
            extractor=self._config.extractor.id,
        )

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame; ``t`` is the container's time in seconds.

        A process that dies is started again and reads the file anew up to where it was.

        Raises:
            RecordingError: The file cannot be read, or the process dies again and again.
        """
        n_done = 0
        for _ in range(_STARTS):
            try:
                for row in self._rows(n_done):
                    n_done += 1
                    yield row_to_face(row.t, np.frombuffer(row.values, np.float32), _SOURCE)
                return
            except EOFError:
                continue
        raise RecordingError(
            expected=f"frames of {self._config.capture.text}",
            found=f"a face process that ended {_STARTS} times, last behind frame {n_done}",
            mend="convert the video, for example with ffmpeg, and see the messages above",
        )

    def _rows(self, skip: int) -> Iterator[FaceRow]:
        """Yield what a new process says of the frames behind the first ``skip``."""
        n = 0
        with FaceProcess(self._config) as process:
            while True:
                message = process.receive(_ANSWER_S)
                if isinstance(message, FaceRow):
                    n += 1
                    if n > skip:
                        yield message
                elif isinstance(message, Ended):
                    if message.error is not None:
                        raise RecordingError(*message.error)
                    return
                else:
                    raise EOFError  # it hangs
