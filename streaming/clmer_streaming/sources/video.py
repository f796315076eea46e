"""The faces of a video beside a recording: every frame in order, and when each was taken.

``face_track`` returns the faces of a video, of its own pixels or of a file that was made of them. ``FaceTrack`` has the
video's own time; a ``VideoClock`` converts it to the clock of the recording.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.capture import STAMPS_HEADER, CaptureSpec, probe, stamps_file
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.layout import FACE_CH_NAMES, FACE_SOURCE, is_clmer_face, row_to_face
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.process import Ended, FaceProcess, FaceProcessConfig, FaceRow
from clmer_streaming.types import FaceSample, FloatArray, StreamInfo
from clmer_streaming.xdf.reader import XdfFile, XdfStream, read_xdf

_NUMBER_LABEL = re.compile(r"frame[ _-]?(number|index|idx|no|count)?", re.IGNORECASE)
_STAMP_LINE = re.compile(r"(\d{1,9}),(\d{1,15}(?:\.\d{1,20})?(?:e[+-]?\d{1,2})?)", re.ASCII)
_FRAME_STREAM = re.compile(r"video|frame", re.IGNORECASE)
_STARTS = 3  # of the face process, should it die
_FRAME_TIMEOUT_S = 60.0  # s that the process has for its next frame


def face_track(path: Path, *, neutral: NeutralFace | None = None, extractor: Extractor = FACE_MESH) -> FaceTrack:
    """Return the faces of a video file, or of a file that OpenFace (.csv) or ``clmer serialize`` (.xdf) made of it.

    Example::

        track = face_track(Path("face.mp4"))
        source = ReplaySource("session.xdf", video=track)

    Args:
        path: The video, or the .csv or .xdf file.
        neutral: The participant's measured neutral face, for a video file.
        extractor: What finds the vertices of the face, for a video file.

    Raises:
        RecordingError: The file is missing, or cannot be read.
    """
    from clmer_streaming.face.openface import OpenFaceTrack

    match path.suffix.lower():
        case ".csv":
            return OpenFaceTrack(path)
        case ".xdf":
            return SerializedFaces(path)
    return VideoFaces(path, neutral=neutral, extractor=extractor)


class FaceTrack(Protocol):
    """The faces of a video, on the video's own time, which begins near 0."""

    info: StreamInfo
    """Announcement of the faces."""

    @property
    def stamps(self) -> FloatArray | None:
        """When each frame was taken, (n,) in seconds of the LSL clock; None if that is not known."""

    @property
    def frame_series(self) -> tuple[XdfStream, ...]:
        """Further series with one sample for each frame, on the video's own time."""

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame in order; ``t`` is the video's own time in seconds.

        Raises:
            RecordingError: The file cannot be read.
        """


class VideoFaces:
    """The faces in a video file, read by a face process of its own; the same file gives the same bits.

    Example::

        for sample in VideoFaces("face.mp4").samples():
            print(sample.t, sample.aus[:, 0])

    Args:
        path: A video file.
        neutral: The participant's measured neutral face, if there is one.
        extractor: What finds the vertices of the face.

    Attributes:
        info: Announcement of the faces.
        stamps: When each frame was taken, (n,) in seconds of the LSL clock, if a session recorded the video.
        frame_series: Empty.

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
        self.stamps = read_frame_stamps(Path(path))
        self.frame_series = ()
        self._config = FaceProcessConfig(spec, lossless=True, neutral=neutral, extractor=extractor)
        self.info = StreamInfo(
            source=FACE_SOURCE,
            kind="face",
            name=Path(path).name,
            ch_names=FACE_CH_NAMES,
            sfreq=rate_hz,
            source_id=f"video {Path(path).name}",
            extractor=self._config.extractor.id,
        )

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame; ``t`` is the container's time in seconds.

        A process that dies is started again and skips the frames that were delivered.

        Raises:
            RecordingError: The file cannot be read, or the process dies again and again.
        """
        n_done = 0
        for _ in range(_STARTS):
            try:
                for row in self._rows(n_done):
                    n_done += 1
                    yield row_to_face(row.t, np.frombuffer(row.values, np.float32), FACE_SOURCE)
                return
            except EOFError:
                continue
        raise RecordingError(
            expected=f"frames of {self._config.capture.text}",
            found=f"a face process that ended {_STARTS} times, last behind frame {n_done}",
            mend="convert the video, for example with ffmpeg, and see the messages above",
        )

    def _rows(self, skip: int) -> Iterator[FaceRow]:
        """Yield the rows of a new process, without the first ``skip``."""
        n = 0
        with FaceProcess(self._config) as process:
            while True:
                message = process.receive(_FRAME_TIMEOUT_S)
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


class SerializedFaces:
    """The faces of a video in an XDF file that ``clmer serialize`` wrote.

    Args:
        path: The file.

    Attributes:
        info: Announcement of the faces.
        stamps: When each frame was taken, (n,) in seconds of the LSL clock, if the stamps of the video, recorded by a
            session, lie beside this file.
        frame_series: The other numeric streams, such as ``CLMER-HOG``; one sample for each frame.

    Raises:
        RecordingError: The file is missing, or has no ``CLMER-Face`` stream.
    """

    def __init__(self, path: str | Path) -> None:
        file = read_xdf(path)
        numbers = [stream for stream in file.streams if stream.channel_format != "string" and stream.t.size]
        faces = [stream for stream in numbers if is_clmer_face(stream.ch_names)]
        if not faces:
            raise RecordingError(
                expected=f"a file of clmer serialize, with a CLMER-Face stream: {path}",
                found=", ".join(repr(stream.name) for stream in file.streams),
                mend="clmer serialize VIDEO --out DIR",
            )
        self._faces = faces[0]
        video = Path(self._faces.desc_text("video_file")).name
        self.stamps = read_frame_stamps(Path(path).with_name(video)) if video else None
        self.frame_series = tuple(stream for stream in numbers if stream is not self._faces)
        self.info = StreamInfo(
            source=FACE_SOURCE,
            kind="face",
            name=Path(path).name,
            ch_names=FACE_CH_NAMES,
            sfreq=0.0,
            source_id=f"video {Path(path).name}",
            extractor=self._faces.desc_text("extractor"),
        )

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame in order; ``t`` is the video's own time in seconds."""
        for i, t in enumerate(self._faces.t_synced.tolist()):
            yield row_to_face(t, self._faces.samples.read(i, i + 1)[:, 0])


class VideoClock(Protocol):
    """The time of each frame of a video on the clock of a recording."""

    def time(self, number: int, position_s: float) -> float:
        """Return when a frame was taken, in seconds of the recording's clock.

        Args:
            number: Number of the frame, from 0.
            position_s: Time of the frame in the container, in seconds.
        """


@dataclass(frozen=True)
class OffsetClock:
    """The clock of a video whose beginning is known."""

    begin: float  # s, the container's time 0 on the recording's clock

    def time(self, number: int, position_s: float) -> float:
        """Return the beginning plus the time in the container."""
        return self.begin + position_s


@dataclass(frozen=True, eq=False)
class NumberedClock:
    """The clock of a video whose frames are listed by number, with the time of each."""

    name: str  # of the stream
    numbers: FloatArray  # (n,) increasing; the first frame of the file is 0
    t: FloatArray  # (n,) s, when each was taken

    @property
    def period_s(self) -> float:
        """Median of the seconds between two frames."""
        return float(np.median(np.diff(self.t) / np.diff(self.numbers)))

    def time(self, number: int, position_s: float) -> float:
        """Return the time of a frame, interpolated between the listed ones and extrapolated by the frame rate."""
        beyond = number - float(np.clip(number, self.numbers[0], self.numbers[-1]))
        return float(np.interp(number, self.numbers, self.t)) + beyond * self.period_s


def frame_number_clock(file: XdfFile) -> NumberedClock | None:
    """Return the clock given by a recording's stream of frame numbers; None if it has no such stream."""
    clocks = (_numbered(stream) for stream in file.streams if stream.channel_format != "string")
    return next((clock for clock in clocks if clock is not None), None)


def _numbered(stream: XdfStream) -> NumberedClock | None:
    if stream.t.size < 2 or not _FRAME_STREAM.search(f"{stream.name} {stream.type}"):
        return None
    labelled = [i for i, label in enumerate(stream.ch_names) if _NUMBER_LABEL.fullmatch(label)]
    if not labelled and stream.n_channels > 1:
        return None
    numbers = stream.samples.read_channel(labelled[0] if labelled else 0).astype(np.float64)
    known = np.isfinite(numbers)
    numbers, first = np.unique(numbers[known], return_index=True)
    t = stream.t_synced[known][first]
    counted = numbers.size >= 2 and np.array_equal(numbers, np.round(numbers)) and bool(np.all(np.diff(t) > 0))
    return NumberedClock(stream.name, numbers, t) if counted else None


def read_frame_stamps(video: Path) -> FloatArray | None:
    """Return when each frame of a session's own video was taken, (n,) in seconds of the LSL clock.

    The stamps lie beside the video, where ``VideoRecorder`` wrote them. Lines behind a damaged one, or behind a stamp
    that steps back, are left out.

    Args:
        video: Path of the video; it need not exist.

    Returns:
        The stamps; None if there are fewer than two.

    Raises:
        RecordingError: The stamps cannot be read.
    """
    path = stamps_file(video)
    if not path.is_file():
        return None
    try:
        header, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] or [""]
    except OSError as error:
        raise RecordingError(
            f"stamps that can be read at {path}", error.strerror or repr(error), "mend that, or move the file away"
        ) from error
    t: list[float] = []
    for line in lines if header == STAMPS_HEADER else ():
        found = _STAMP_LINE.fullmatch(line)
        if found is None or int(found[1]) != len(t) or (t and float(found[2]) <= t[-1]):
            break
        t.append(float(found[2]))
    return np.array(t) if len(t) > 1 else None
