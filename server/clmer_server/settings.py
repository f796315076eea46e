"""The serving settings: defaults < ``clmer.toml`` < environment ``CLMER_*`` < command line, read once."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from clmer_server.logs import LogFormat
from clmer_server.participants import PARTICIPANTS_FOLDER, PSEUDONYM
from clmer_streaming.errors import SettingsError

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


FORBIDDEN_PURPOSES = ("workplace", "education")
"""Fields in which emotions must not be inferred, but for medical or safety reasons."""

SETTINGS_FILE = "clmer.toml"
"""Name of the settings file, looked for in the working directory."""


Notch = Annotated[Literal["50", "60", "none"], BeforeValidator(str)]
"""A notch other than the model's, in Hz."""


def lawful(value: Any) -> Any:
    """Return a purpose, unless the law forbids it.

    Raises:
        ValueError: It is one that Article 5(1)(f) of Regulation (EU) 2024/1689 forbids.
    """
    if value in FORBIDDEN_PURPOSES:
        raise ValueError(
            "a purpose that the EU AI Act allows; Article 5(1)(f) forbids inferring emotions at work and in "
            "education, but for medical or safety reasons (docs/privacy.md)"
        )
    return value


Purpose = Annotated[Literal["demo", "research", "entertainment", "medical", "safety"], BeforeValidator(lawful)]
"""What the service is used for."""


def read_names(value: Any) -> Any:
    """Return names with commas as a list."""
    return [name for name in value.replace(" ", "").split(",") if name] if isinstance(value, str) else value


def check_token(token: SecretStr) -> SecretStr:
    """Return a token that is long enough, and that a header can carry.

    Raises:
        ValueError: It is not.
    """
    if not re.fullmatch(TOKEN, token.get_secret_value()):
        raise ValueError("16 to 256 letters, digits and signs, without spaces")
    return token


Token = Annotated[SecretStr, AfterValidator(check_token)]
"""What clients show; never printed with the settings."""

TOKEN = r"[!-~]{16,256}"
"""What a token may be: printable, without spaces, and too long to guess."""

Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.\[\]:-]+$"), BeforeValidator(lambda text: str(text).lower())]
"""Where a page comes from, as its browser says: scheme, host and port, without a path."""

HostName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+$"), BeforeValidator(lambda text: str(text).lower())]
"""A name of a computer, without a port."""


class ServeSettings(SessionSettings, BaseSettings):
    """Everything ``clmer-serve`` can be told: of its one session, or of several, and of the service itself."""

    model_config = SettingsConfigDict(env_prefix="CLMER_", extra="forbid", frozen=True, protected_namespaces=())

    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)  # 0: any free port
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    model: str | None = None  # a name in weights/ or a path; None: the shipped one
    model_sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    notch: Notch | None = None  # None: as the model was trained
    face_landmarker: Path | None = None  # a FaceLandmarker bundle (.task), which finds the points instead of FaceMesh
    participants: Path = PARTICIPANTS_FOLDER
    lsl_config: Path | None = None  # liblsl's own settings file; None: where liblsl itself finds one
    retention_days: int | None = Field(default=None, ge=1)  # recorded sessions older than that are deleted at start
    work: tuple[Path, ...] = ()  # folders of stores, splits and models made from sessions; deletion reaches there
    record: Path | None = None  # folder in which each session gets a folder of its own; None: nothing is recorded
    purpose: Purpose | None = None  # what participants' emotions are estimated for; kept in recordings
    token: Token | None = None  # that every client must show; None: none on loopback, else a new one
    tls_cert: Path | None = None  # PEM, for https and wss
    tls_key: Path | None = None  # PEM
    allow_origin: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(read_names)] = ()  # pages elsewhere
    allow_host: Annotated[tuple[HostName, ...], NoDecode, BeforeValidator(read_names)] = ()  # names of this machine
    max_clients: int = Field(default=256, ge=1)  # WebSockets at once
    max_clients_per_address: int = Field(default=64, ge=1)
    max_message_rate: float = Field(default=50.0, gt=0)  # messages that a client may send in a second; inf: any number
    sessions: tuple[NamedSession, ...] = ()  # several participants; empty: one session, by the settings above
    max_sessions: int = Field(default=16, ge=1, le=256)  # that there may be at once, also ended ones
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: LogFormat = "console"

    @model_validator(mode="after")
    def _pixels_for_the_landmarker(self) -> ServeSettings:
        if self.sessions:
            return self
        sees_none = self.face_stream is not None or self.camera == "none" if self.replay is None else self.video is None
        if self.face_landmarker is not None and sees_none:
            raise ValueError("pixels (camera, or video beside a recording) for the face landmarker (face-landmarker)")
        return self

    @model_validator(mode="after")
    def _folder_of_a_kept_video(self) -> ServeSettings:
        if self.record is None and any(each.record_video for each in (self, *self.sessions)):
            raise ValueError("a folder to record in (record), beside record-video")
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return is_loopback(self.host)

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *args: PydanticBaseSettingsSource, **kwargs: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the places that settings come from, strongest first."""
        return kwargs["init_settings"], kwargs["env_settings"], TomlConfigSettingsSource(settings_cls, SETTINGS_FILE)


def is_loopback(host: str) -> bool:
    """Return whether ``host`` names this machine alone: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_settings(given: dict[str, Any]) -> ServeSettings:
    """Return the settings, with those ``given`` on the command line over all others.

    Raises:
        SettingsError: A value cannot hold, or nothing is known by its name.
    """
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        raise _settings_error(error.errors()[0]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            expected=f"{SETTINGS_FILE} in TOML", found=str(error), mend=f"correct or remove {SETTINGS_FILE}"
        ) from error


def _found(name: str, value: Any) -> str:
    """Return what was given, unless it is nobody's business."""
    return "something else, which is not shown" if name == "token" else repr(value)


def _settings_error(first: ErrorDetails) -> SettingsError:
    """Return the error that tells which setting is wrong, and how to mend it."""
    place, loc = "", list(first["loc"])
    if loc[:1] == ["sessions"] and len(loc) > 1:
        place, loc = f"session {int(loc[1]) + 1} of [[sessions]], ", loc[2:]
    name = ".".join(map(str, loc)) or ("its settings together" if place else "the settings together")
    missing = first["type"] == "missing"
    return SettingsError(
        expected=f"{place}{name}: {first['msg']}",
        found="none" if missing else _found(name, first["input"]) if loc else "both",
        mend=f"correct the option, the CLMER_ variable or the line in {SETTINGS_FILE}; see clmer-serve --help",
    )


SECRET = "***"
"""Stands for a token, which is not printed."""

_SECRETS = frozenset({"token"})


def settings_text(settings: ServeSettings) -> str:
    """Return all settings as TOML; those without a value are comments, secrets are blanked out."""
    lines = [f"# The settings in force; as a file, {SETTINGS_FILE} in the working directory."]
    tables: list[str] = []
    given = [session.model_dump(mode="json", exclude_unset=True) for session in settings.sessions]
    for name, value in (settings.model_dump(mode="json") | {"sessions": given}).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [line for table in value for line in ("", f"[[{name}]]", *_lines(table))]
        else:
            lines += _lines({name: value})
    return "\n".join([*lines, *tables])


def _lines(values: dict[str, Any]) -> list[str]:
    return [
        f"# {name} is not set" if value is None else f"{name} = {_toml(SECRET if name in _SECRETS else value)}"
        for name, value in values.items()
    ]


def _toml(value: Any) -> str:
    """Return a plain value in TOML; its strings, numbers, booleans and lists of these are written as in JSON."""
    return "inf" if isinstance(value, float) and math.isinf(value) else json.dumps(value, ensure_ascii=False)
