"""What one session is to do, as its sources want to know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clmer_server.participants import PARTICIPANTS_FOLDER
from clmer_server.protocol.parts import SourceMode
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.neutral import NeutralFace


@dataclass(frozen=True)
class SessionConfig:
    """What one session is to do; plain values, so that it can be sent to another process."""

    session: str  # unique name
    replay: Path | None = None  # a recording; None: live
    eeg: str = "auto"  # the live EEG stream: "auto" for the only one there is, its name, or its properties
    eeg_map: str | None = None  # names for channels without labels
    eeg_unit: str | None = None  # in place of what the stream declares
    eeg_delay_s: float = 0.0  # from the brain to the stamp, on top of what the stream declares
    physio: Mapping[str, str] = field(default_factory=dict)  # by series of the model: the stream that gives it
    speed: float = 1.0  # of a replay, in recorded seconds per second; inf: as fast as possible
    loop: bool = False  # start a replay again at its end
    camera: str | None = None  # of a live session: index, device, URL or video file; None: none
    face_stream: str | None = None  # of a live session: which CLMER-Face stream
    face_delay_s: float = 0.0  # from what the camera sees to its frame
    video: Path | None = None  # beside a recording: of the face, or OpenFace's CSV of it
    video_offset_s: float = 0.0  # from the first EEG sample to the video's first frame
    extractor: Extractor = FACE_MESH  # of the face in the camera or the video
    side_streams: str = "used"  # of a live session: "all", "none", names with commas, or only what is used
    neutral: NeutralFace | None = None  # of the participant
    participant: str | None = None  # pseudonym
    participants: Path = PARTICIPANTS_FOLDER  # where their neutral faces and EEG at rest are kept

    @property
    def mode(self) -> SourceMode:
        """Whether the data is live or read from a recording."""
        return "live" if self.replay is None else "replay"
