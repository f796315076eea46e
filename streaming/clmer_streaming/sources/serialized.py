"""The faces of a video as ``clmer serialize`` has written them, and what it has written beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.layout import FACE_CH_NAMES, is_clmer_face, row_to_face
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.sources.video_clock import kept_stamps
from clmer_streaming.types import FaceSample, StreamInfo
from clmer_streaming.xdf.reader import read_xdf

if TYPE_CHECKING:
    from clmer_streaming.sources.video import FaceTrack


class SerializedFaces:
    """The faces in the XDF file of a video, without the video.

    Args:
        path: The file.

    Attributes:
        info: How the stream is announced.
        stamps: When each frame was taken (n,), seconds of the LSL clock, where a session's own video of that name has
            left its stamps beside this file.
        beside: The other streams of numbers, such as ``CLMER-HOG``; one sample for each frame.

    Raises:
        RecordingError: The file is missing, or holds no faces of ``clmer serialize``.
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
        self.stamps = kept_stamps(Path(path).with_name(video)) if video else None
        self.beside = tuple(stream for stream in numbers if stream is not self._faces)
        self.info = StreamInfo(
            source="face",
            kind="face",
            name=Path(path).name,
            ch_names=FACE_CH_NAMES,
            sfreq=0.0,
            source_id=f"video {Path(path).name}",
            extractor=self._faces.desc_text("extractor"),
        )

    def samples(self) -> Iterator[FaceSample]:
        """Yield one sample for each frame, in order; ``t`` is the video's own time in seconds."""
        for t, row in zip(self._faces.t_synced.tolist(), self._faces.x.T, strict=True):
            yield row_to_face(t, row)


def face_track(path: Path, *, neutral: NeutralFace | None = None, extractor: Extractor = FACE_MESH) -> FaceTrack:
    """Return the faces of a video: of the file itself, or as OpenFace (.csv) or ``clmer serialize`` (.xdf) wrote them.

    Args:
        path: The video, or what was made of it.
        neutral: The participant's neutral face, for a video itself.
        extractor: What finds the points of the face in a video itself.

    Raises:
        RecordingError: The file is missing, or cannot be read.
    """
    from clmer_streaming.face.openface import OpenFaceTrack
    from clmer_streaming.sources.video import VideoFaces

    match path.suffix.lower():
        case ".csv":
            return OpenFaceTrack(path)
        case ".xdf":
            return SerializedFaces(path)
    return VideoFaces(path, neutral=neutral, extractor=extractor)
