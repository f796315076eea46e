"""The settings of one session: those of the command line, and those of a table of ``[[sessions]]``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from clmer_server.participants import PSEUDONYM

SESSION_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""What a session may be called: nothing that hides or leads to another folder."""

CONSENT_REF = r"^[^\x00-\x1f\x7f]{1,200}$"
"""Where a signed consent is filed: one line of words."""


def read_speed(value: Any) -> Any:
    """Return a replay speed as a number; ``max`` is infinity."""
    return math.inf if value == "max" else value


Speed = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(read_speed),
    PlainSerializer(lambda speed: "max" if math.isinf(speed) else speed),
]
"""Recorded seconds per second; ``max``, which is infinity, means as fast as possible."""


class SessionSettings(BaseModel):
    """What one session can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    replay: Path | None = None
    eeg: str = "auto"  # the live EEG stream: name or properties; "auto": the only one there is
    eeg_map: str | None = None
    eeg_unit: Literal["V", "mV", "uV"] | None = None  # in place of what the stream declares
    eeg_delay: float = Field(default=0.0, ge=-10, le=10)  # s from the brain to the stamp, on top of the declared delay
    physio: str | None = None  # further series of the model and their streams: "ecg,gsr=Shimmer"
    camera: str | None = None  # index, device, URL, video file or "none"; None: the first one, of a live session
    face_stream: str | None = None  # a CLMER-Face stream, by name or properties, instead of a camera
    face_delay: float = Field(default=0.0, ge=0, le=10)  # s from what the camera sees to its frame
    record_video: bool = False  # keep the camera's pictures in the recording, too; no client can ask for it
    video: Path | None = None  # of the face, beside a recording
    video_offset: float = 0.0  # s from the first EEG sample to the video's first frame
    participant: str | None = Field(default=None, pattern=PSEUDONYM)  # pseudonym; whose neutral face is used
    consent_ref: str | None = Field(default=None, pattern=CONSENT_REF)  # where the signed consent is filed
    speed: Speed = 1.0
    loop: bool = False
    side_streams: str | None = None  # "all", "none" or names with commas; None: all when recording, else what is used
    outlets: bool | None = None  # predictions and markers on LSL; None: in a live session

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if self.replay is not None and self.eeg != "auto":
            raise ValueError("either a live EEG stream (eeg) or a recording (replay), not both")
        if self.replay is not None and (self.face_stream is not None or self.camera not in (None, "none")):
            raise ValueError("either a live face (camera, face-stream) or a recording (replay), not both")
        if self.face_stream is not None and self.camera not in (None, "none"):
            raise ValueError("either a camera or a face stream (face-stream), not both")
        return self

    @model_validator(mode="after")
    def _camera_of_a_kept_video(self) -> Self:
        if self.record_video and (self.replay is not None or self.face_stream is not None or self.camera == "none"):
            raise ValueError("a live session with a camera of its own, to record its video (record-video)")
        return self

    @model_validator(mode="after")
    def _video_beside_a_recording(self) -> Self:
        if self.video is not None and self.replay is None:
            raise ValueError("a recording (replay) beside the video; a video alone is played by camera FILE")
        return self


class NamedSession(SessionSettings):
    """One of several sessions of a service; a camera is used only where one is named."""

    name: str = Field(pattern=SESSION_NAME)
    record: bool | None = None  # into the service's folder; None: where the service has one


OF_ONE_PARTICIPANT = ("replay", "eeg", "camera", "face_stream", "video", "video_offset", "participant", "consent_ref")
"""Settings that cannot hold for several sessions at once; all others hold for those that do not name their own."""
