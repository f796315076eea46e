"""Options of replays and live sessions: those of ``clmer predict`` and ``clmer-serve``, under the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

from pydantic import ValidationError

from clmer_server.session.config import SessionConfig
from clmer_server.settings import Notch
from clmer_streaming.errors import SettingsError


class CommonOptions(TypedDict, total=False):
    """Options of recordings and live sessions."""

    eeg_map: str | None  # names of EEG channels without labels, e.g. "AF3=1,F7=2"
    eeg_map_force: bool  # let eeg_map contradict the labels that the stream has
    eeg_rate: float | None  # Hz at which the EEG comes, in place of the declared rate
    eeg_unit: Literal["V", "mV", "uV"] | None  # in place of the declared one
    eeg_delay: float  # s from the brain to the stamp, on top of the declared delay
    notch: Literal["50", "60", "none"] | None  # Hz; None: as the model was trained
    physio: str | None  # further series of the model and their streams, e.g. "ecg=Polar"
    face_landmarker: str | Path | None  # FaceLandmarker bundle (.task) that reads the video or the camera's pictures
    participant: str | None  # pseudonym
    participants: str | Path  # folder of what is kept of participants


class ReplayOptions(CommonOptions, total=False):
    """Options of a recording; see ``clmer predict --help``."""

    eeg: str  # the EEG stream, by name or properties; "auto" takes the only one
    video: str | Path | None  # of the face beside the recording, or its CSV (OpenFace) or XDF (clmer serialize)
    video_offset: float  # s from the first EEG sample to the video's first frame


class LiveOptions(CommonOptions, total=False):
    """Options of a live session beside its EEG, its camera and its recording; see ``clmer-serve --help``."""

    face_stream: str | None  # a CLMER-Face stream, by name or properties, instead of a camera
    face_delay: float  # s from what the camera sees to its frame
    consent_ref: str | None  # where the signed consent is filed; kept in the recording
    record_video: bool  # keep the camera's pictures in the recording, too
    side_streams: str | None  # other LSL streams to record: "all", "none", or names with commas
    outlets: bool  # publish predictions and markers on LSL


class LocalConfig(SessionConfig):
    """Configuration of a session in this program: that of a session of a service, and the notch filter."""

    notch: Notch | None = None


def local_config(**options: Any) -> LocalConfig:
    """Return the configuration of a session.

    Raises:
        SettingsError: There is no such option, or it cannot have this value.
    """
    try:
        return LocalConfig(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        mend = "see docs/python.md, or clmer-serve --help: the options are the same"
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(ReplayOptions.__annotations__ | LiveOptions.__annotations__))
            raise SettingsError(f"an option of a session: {known}", repr(name), mend) from error
        expected = f"{name or 'the options together'}: {first['msg'].removeprefix('Value error, ')}"
        raise SettingsError(expected, repr(first["input"]) if name else "both", mend) from error
