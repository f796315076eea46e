"""The options of a service and of its sessions: each is defined once, as a field with its type, default and help text.

From that definition follow the key in ``clmer.toml``, the environment variable ``CLMER_*``, the command-line option
(``add_options``), the printed settings (``settings_text``) and, for a field marked ``OverHttp``, the field of a
request that makes a session. To be read in this order: the types of the values, the options of a session, those of a
service, the command line, and reading and printing settings. The module imports nothing heavy, so that ``--help`` and
a mistake in an option are answered at once.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar, get_args

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
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from clmer_server.cli import LSL_CONFIG_HELP
from clmer_server.logs import LogFormat
from clmer_streaming.errors import SettingsError

SETTINGS_FILE = "clmer.toml"
"""Name of the settings file, looked for in the working directory."""

PARTICIPANTS_FOLDER = Path("participants")
"""Default folder of what is kept of participants, relative to the working directory."""

SESSION_NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Pattern of a session's name: cannot lead to another folder or name a hidden one."""

PSEUDONYM = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Pattern of a participant's pseudonym: cannot lead to another folder or name a hidden file."""

CONSENT_REF = r"^[^\x00-\x1f\x7f]{1,200}$"
"""Pattern of the reference to a signed consent: one line of text."""

TOKEN = r"[!-~]{16,256}"
"""Pattern of a token: printable, without spaces, too long to guess."""

FORBIDDEN_PURPOSES = ("workplace", "education")
"""Fields in which emotions must not be inferred, except for medical or safety reasons."""


def read_speed(value: Any) -> Any:
    """Return a replay speed as a number; ``max`` is infinity."""
    return math.inf if value == "max" else value


def check_purpose(value: Any) -> Any:
    """Return a purpose unless the law forbids it.

    Raises:
        ValueError: It is one that Article 5(1)(f) of Regulation (EU) 2024/1689 forbids.
    """
    if value in FORBIDDEN_PURPOSES:
        raise ValueError(
            "a purpose that the EU AI Act allows; Article 5(1)(f) forbids inferring emotions at work and in "
            "education, but for medical or safety reasons (docs/privacy.md)"
        )
    return value


def check_token(token: SecretStr) -> SecretStr:
    """Return a token that is long enough and that a header can carry.

    Raises:
        ValueError: It does not match ``TOKEN``.
    """
    if not re.fullmatch(TOKEN, token.get_secret_value()):
        raise ValueError("16 to 256 letters, digits and signs, without spaces")
    return token


def read_names(value: Any) -> Any:
    """Return comma-separated names as a list."""
    return [name for name in value.replace(" ", "").split(",") if name] if isinstance(value, str) else value


Speed = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(read_speed),
    PlainSerializer(lambda speed: "max" if math.isinf(speed) else speed),
]
"""Recorded seconds per second; ``max``, which is infinity, means as fast as possible."""

Notch = Annotated[Literal["50", "60", "none"], BeforeValidator(str)]
"""A notch filter in Hz, in place of the model's."""

Purpose = Annotated[Literal["demo", "research", "entertainment", "medical", "safety"], BeforeValidator(check_purpose)]
"""What the service is used for."""

Token = Annotated[SecretStr, AfterValidator(check_token)]
"""What clients must show; never printed with the settings."""

Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9.\[\]:-]+$"), BeforeValidator(lambda text: str(text).lower())]
"""Origin of a page, as its browser sends it: scheme, host and port, without a path."""

HostName = Annotated[str, Field(pattern=r"^[a-z0-9.-]+$"), BeforeValidator(lambda text: str(text).lower())]
"""Name of a computer, without a port."""

Participant = Annotated[
    str | None,
    Field(
        pattern=PSEUDONYM,
        description="pseudonym of the participant, whose neutral face was measured by clmer calibrate",
    ),
]
"""Pseudonym of a participant; None: nobody is named."""

ConsentRef = Annotated[
    str | None,
    Field(
        pattern=CONSENT_REF,
        description="where the participant's signed consent is filed; kept in the recording",
    ),
]
"""Reference to the participant's signed consent; None: none is kept."""

OVER_HTTP = "over_http"
FILE_ONLY = "file_only"

ValueT = TypeVar("ValueT")

OverHttp: TypeAlias = Annotated[ValueT, OVER_HTTP]
"""An option that a client may set when it makes a session over HTTP. Never a path: no path comes from a client."""

FileOnly: TypeAlias = Annotated[ValueT, FILE_ONLY]
"""An option of ``clmer.toml`` and the environment that has no command-line option."""


class SessionOptions(BaseModel):
    """Options that each of several sessions can have of its own.

    To add an option, add its field here and use it where it takes effect; see the module's docstring for what follows
    from the field.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    replay: Path | None = Field(default=None, description="replay this XDF recording instead of live streams")
    eeg: OverHttp[str] = Field(
        default="auto",
        description="EEG stream, live or of the recording: its name, or properties as in type=EEG,hostname=lab2; "
        "auto takes the only one",
    )
    eeg_map: OverHttp[str | None] = Field(
        default=None, description="names of EEG channels without labels, e.g. AF3=1,F7=2"
    )
    eeg_map_force: OverHttp[bool] = Field(
        default=False, description="let eeg-map contradict the labels that the stream has"
    )
    eeg_rate: OverHttp[float | None] = Field(
        default=None, gt=0, le=100_000, description="Hz at which the EEG comes, in place of what the stream declares"
    )
    eeg_unit: OverHttp[Literal["V", "mV", "uV"] | None] = Field(
        default=None, description="unit of the EEG, V, mV or uV, in place of what the stream declares"
    )
    eeg_delay: OverHttp[float] = Field(
        default=0.0,
        ge=-10,
        le=10,
        description="seconds from the brain to the stamp of its sample, on top of what the stream declares",
    )
    physio: OverHttp[str | None] = Field(
        default=None, description="further series of the model and their streams, e.g. ecg or ecg=Polar,gsr=Shimmer"
    )
    camera: str | None = Field(
        default=None,
        description="camera of the face: index, device, URL or video file; none goes without "
        "(default 0; a replay: none)",
    )
    face_stream: OverHttp[str | None] = Field(
        default=None,
        description="CLMER-Face stream, from clmer face-stream, by name or properties, instead of a camera",
    )
    face_delay: OverHttp[float] = Field(
        default=0.0, ge=0, le=10, description="seconds from what the camera sees to its frame"
    )
    record_video: bool = Field(
        default=False,
        description="with --record: keep the camera's pictures, too, in face.avi (default: no picture is kept)",
    )
    video: Path | None = Field(
        default=None, description="beside a replay: video of the face, or its CSV (OpenFace) or XDF (clmer serialize)"
    )
    video_offset: float = Field(default=0.0, description="seconds from the first EEG sample to the video's first frame")
    participant: Participant = None
    consent_ref: ConsentRef = None
    speed: Speed = Field(
        default=1.0, description="of the replay: recorded seconds per second, or max, which begins at the first client"
    )
    loop: bool = Field(default=False, description="replay again and again")
    side_streams: OverHttp[str | None] = Field(
        default=None,
        description="other LSL streams to record: all, none, or names with commas (default all when recording)",
    )
    outlets: OverHttp[bool | None] = Field(
        default=None, description="publish predictions and markers on LSL (default: in a live session)"
    )

    @model_validator(mode="after")
    def _check_one_input(self) -> Self:
        if self.replay is not None and (self.face_stream is not None or self.camera not in (None, "none")):
            raise ValueError("either a live face (camera, face-stream) or a recording (replay), not both")
        if self.face_stream is not None and self.camera not in (None, "none"):
            raise ValueError("either a camera or a face stream (face-stream), not both")
        return self

    @model_validator(mode="after")
    def _check_camera_of_a_kept_video(self) -> Self:
        if self.record_video and (self.replay is not None or self.face_stream is not None or self.camera == "none"):
            raise ValueError("a live session with a camera of its own, to record its video (record-video)")
        return self

    @model_validator(mode="after")
    def _check_video_beside_a_recording(self) -> Self:
        if self.video is not None and self.replay is None:
            raise ValueError("a recording (replay) beside the video; a video alone is played by camera FILE")
        return self


ONE_PARTICIPANT_OPTIONS = (
    "replay",
    "eeg",
    "camera",
    "face_stream",
    "video",
    "video_offset",
    "participant",
    "consent_ref",
)
"""Options that cannot hold for several sessions at once; all others hold for those that do not set their own."""


class SharedOptions(BaseModel):
    """Options of a service that all of its sessions use."""

    record: Path | None = Field(default=None, description="record each session in a folder of its own below this one")
    participants: Path = Field(default=PARTICIPANTS_FOLDER, description="folder of the neutral faces")
    face_landmarker: Path | None = Field(
        default=None,
        description="your FaceLandmarker file (.task), which finds the face's points as an extractor of its own",
    )


class StartRequest(BaseModel):
    """What a client may change when it starts a session; a field that is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    participant: Participant = None
    consent_ref: ConsentRef = None
    record: bool | None = Field(default=None, description="whether to record, into a new folder of the service's own")


class NamedSession(SessionOptions):
    """One of several sessions of a service: a table ``[[sessions]]``. It uses a camera only if it names one."""

    name: str = Field(pattern=SESSION_NAME)
    record: bool | None = None  # into the service's folder; None: where the service has one


class ServeSettings(SharedOptions, SessionOptions, BaseSettings):
    """All options of ``clmer-serve``: of its one session, or of several, and of the service itself.

    A new instance reads ``clmer.toml`` and the environment for every option that is not given.
    """

    model_config = SettingsConfigDict(env_prefix="CLMER_", extra="forbid", frozen=True, protected_namespaces=())

    host: str = Field(
        default="127.0.0.1", description="where to listen; anything but this machine itself is open to the network"
    )
    port: int = Field(default=8765, ge=0, le=65535, description="port to listen at; 0 takes any free one")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="where the model runs: auto, cpu, cuda or cuda:N",
    )
    model: str | None = Field(
        default=None,
        description="a shipped model's name or the path of a .ts or .onnx file (default: the shipped model)",
    )
    model_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="hash that the model file must have; needed for files that no manifest knows",
    )
    notch: Notch | None = Field(
        default=None, description="filter the mains out at 50 or 60 Hz, or none; by default as the model was trained"
    )
    lsl_config: Path | None = Field(
        default=None,
        description=LSL_CONFIG_HELP,
    )
    retention_days: int | None = Field(
        default=None, ge=1, description="at the start, delete recorded sessions that are older (default: keep all)"
    )
    work: FileOnly[tuple[Path, ...]] = Field(
        default=(), description="folders of stores, splits and models made from sessions; deletion reaches there"
    )
    purpose: Purpose | None = Field(
        default=None,
        description="what it is for: demo, research, entertainment, medical or safety; kept in recordings",
    )
    token: Token | None = Field(
        default=None,
        description="what every client must show (better in CLMER_TOKEN; off this machine: default a new one, printed)",
    )
    tls_cert: Path | None = Field(default=None, description="certificate in PEM, for https and wss")
    tls_key: Path | None = Field(default=None, description="its key in PEM, without a password")
    allow_origin: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(read_names)] = Field(
        default=(), description="pages elsewhere that may connect, e.g. https://lab.example, with commas"
    )
    allow_host: Annotated[tuple[HostName, ...], NoDecode, BeforeValidator(read_names)] = Field(
        default=(), description="further names by which this machine is asked for, with commas"
    )
    max_clients: int = Field(default=256, ge=1, description="WebSockets at once")
    max_clients_per_address: int = Field(default=64, ge=1, description="of them, from one address")
    max_message_rate: float = Field(
        default=50.0, gt=0, description="messages that a client may send in a second; inf: any number"
    )
    sessions: FileOnly[tuple[NamedSession, ...]] = Field(
        default=(), description="sessions of several participants; empty: one session, by the options above"
    )
    max_sessions: FileOnly[int] = Field(
        default=16, ge=1, le=256, description="sessions that there may be at once, ended ones included"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="warning", description="debug, info, warning or error"
    )
    log_format: LogFormat = Field(default="console", description="console, or json for one object a line")

    @model_validator(mode="after")
    def _check_pixels_for_the_landmarker(self) -> Self:
        if self.sessions:
            return self
        no_pixels = self.face_stream is not None or self.camera == "none" if self.replay is None else self.video is None
        if self.face_landmarker is not None and no_pixels:
            raise ValueError("pixels (camera, or video beside a recording) for the face landmarker (face-landmarker)")
        return self

    @model_validator(mode="after")
    def _check_folder_of_a_kept_video(self) -> Self:
        sessions: tuple[SessionOptions, ...] = (self, *self.sessions)
        if self.record is None and any(each.record_video for each in sessions):
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
        """Return the sources of settings, strongest first."""
        return kwargs["init_settings"], kwargs["env_settings"], TomlConfigSettingsSource(settings_cls, SETTINGS_FILE)


def is_loopback(host: str) -> bool:
    """Return whether ``host`` names this machine alone: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def add_options(parser: argparse._ActionsContainer, fields: Mapping[str, FieldInfo]) -> None:
    """Declare the command-line option of each field.

    An option that is not given leaves no attribute in the parsed arguments, so that environment, file and default
    decide. Values stay text: the model checks them.

    Args:
        parser: A parser, or a group of one.
        fields: By name, as ``model_fields`` has them; those marked ``FileOnly`` are left out.
    """
    for name, field in fields.items():
        if FILE_ONLY in field.metadata:
            continue
        option, text = f"--{name.replace('_', '-')}", _help_text(field)
        if bool in (field.annotation, *get_args(field.annotation)):
            switch = argparse.BooleanOptionalAction
            parser.add_argument(option, action=switch, default=argparse.SUPPRESS, help=text)
        else:
            parser.add_argument(option, default=argparse.SUPPRESS, help=text)


def _help_text(field: FieldInfo) -> str:
    """Return the description of a field, with its default where that is a value."""
    default = field.default
    if default is None or isinstance(default, bool | tuple):
        return field.description or ""
    return f"{field.description} (default {f'{default:g}' if isinstance(default, float) else default})"


def load_settings(given: dict[str, Any]) -> ServeSettings:
    """Return the settings: defaults < ``clmer.toml`` < environment ``CLMER_*`` < ``given``.

    Args:
        given: Options of the command line, by field name.

    Raises:
        SettingsError: A value is not valid, or no option has its name.
    """
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        raise settings_error(error) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            expected=f"{SETTINGS_FILE} in TOML", found=str(error), mend=f"correct or remove {SETTINGS_FILE}"
        ) from error


_WHERE_SETTINGS_ARE = f"correct the option, the CLMER_ variable or the line in {SETTINGS_FILE}; see clmer-serve --help"


def settings_error(error: ValidationError, mend: str = _WHERE_SETTINGS_ARE) -> SettingsError:
    """Return the error that names the first option that is wrong, what was found, and how to mend it."""
    first: ErrorDetails = error.errors()[0]
    place, loc = "", list(first["loc"])
    if loc[:1] == ["sessions"] and len(loc) > 1:
        place, loc = f"session {int(loc[1]) + 1} of [[sessions]], ", loc[2:]
    name = ".".join(map(str, loc)) or ("its settings together" if place else "the settings together")
    missing = first["type"] == "missing"
    return SettingsError(
        expected=f"{place}{name}: {first['msg']}",
        found="none" if missing else _found(name, first["input"]) if loc else "both",
        mend=mend,
    )


def _found(name: str, value: Any) -> str:
    """Return what was given, unless it is secret."""
    return "something else, which is not shown" if name in _SECRETS else repr(value)


SECRET = "***"
"""Stands for a token, which is not printed."""

_SECRETS = frozenset({"token"})


def settings_text(settings: ServeSettings) -> str:
    """Return all settings as TOML; those without a value are comments, secrets are replaced by ``SECRET``."""
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
