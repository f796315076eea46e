"""The configuration of one session, and how the settings of a service give those of all its sessions.

To be read in this order: ``SessionConfig``, the sessions of a service, devices that sessions cannot share, and the
options whose text has a form of its own (further series, their rates and bands, the notch).
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from clmer_server.participants import load_neutral, neutral_file
from clmer_server.protocol.codes import RefusalError
from clmer_server.protocol.parts import SourceMode
from clmer_server.settings import (
    ONE_PARTICIPANT_OPTIONS,
    SETTINGS_FILE,
    NamedSession,
    ServeSettings,
    SessionOptions,
    SharedOptions,
    StartRequest,
)
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.capture import CaptureSpec
from clmer_streaming.face.extractor import Extractor
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.lsl.resolve import StreamQuery


class SessionConfig(SharedOptions, SessionOptions):
    """Configuration of one session: its name and every option that it depends on. Immutable and picklable.

    The options are those of ``clmer-serve``, under the same names and with the same defaults, but neither
    ``clmer.toml`` nor the environment is read here.

    Example::

        SessionConfig(replay=Path("session.xdf"), speed=math.inf)
        SessionConfig(name="seat-1", eeg="EPOC", camera="0", record=Path("recordings"))

    Raises:
        pydantic.ValidationError: An option is not valid, or two exclude each other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default_factory=lambda: secrets.token_hex(4))  # by which clients ask for it
    named: bool = False  # whether a person gave the name: an earlier run of the service may have had it, too
    recorded: bool = True  # whether it is recorded, where there is a folder to record in
    needs_neutral: bool = True  # whether a replay fails where its participant's neutral face was never measured

    @property
    def mode(self) -> SourceMode:
        """Whether the data is live or read from a recording."""
        return "live" if self.replay is None else "replay"

    @property
    def starts_with_first_client(self) -> bool:
        """Whether it starts with its first client instead of at once: else nobody would see its beginning."""
        return self.replay is not None and math.isinf(self.speed)

    @property
    def face_camera(self) -> str | None:
        """Index, device, URL or file of the camera in use; None: none is."""
        default = "0" if self.replay is None and self.face_stream is None else "none"
        camera = default if self.camera is None else self.camera
        return None if camera == "none" else camera

    @property
    def keeps_video(self) -> bool:
        """Whether its camera's pictures are kept when it is recorded."""
        return self.record_video and self.face_camera is not None

    @property
    def recordings(self) -> Path | None:
        """Folder below which it is recorded; None: it is not."""
        return self.record if self.recorded else None

    @property
    def side_stream_choice(self) -> str:
        """Choice of the other LSL streams that are received: ``all``, ``none``, ``used`` or comma-separated names."""
        if self.side_streams is not None:
            return self.side_streams
        return "used" if self.recordings is None else "all"

    def physio_streams(self) -> dict[str, str]:
        """Return by further series of the model the stream that gives it.

        Raises:
            SettingsError: The option cannot be parsed.
        """
        return parse_physio(self.physio)

    def extractor(self) -> Extractor:
        """Return the extractor of the faces of the camera or video.

        Raises:
            SettingsError: The landmarker's file cannot be used.
        """
        return Extractor.choose(self.face_landmarker)

    def neutral_face(self) -> NeutralFace | None:
        """Return the participant's neutral face; None where none is kept and it is not needed.

        Raises:
            SettingsError: It cannot be read, or is needed and was not measured.
        """
        needed = self.needs_neutral and self.replay is not None  # live, it can still be measured
        if self.participant is None or not (needed or neutral_file(self.participants, self.participant).exists()):
            return None
        return load_neutral(self.participants, self.participant, self.extractor().id)

    def with_request(self, request: StartRequest) -> SessionConfig:
        """Return the configuration with the options of a client's request to start it.

        Raises:
            RefusalError: It asks for a recording, and there is no folder to record in.
        """
        changes = request.model_dump(include=set(StartRequest.model_fields), exclude_none=True)
        record = changes.pop("record", None)
        if record and self.record is None:
            raise RefusalError("recording_off", "this service has no folder to record in; start it with --record")
        if record is not None:
            changes["recorded"] = record
        if request.participant not in (None, self.participant):
            changes["needs_neutral"] = False
        return self.model_copy(update=changes)

    def options(self) -> dict[str, Any]:
        """Return all options as plain JSON values, by name."""
        return self.model_dump(mode="json", include=set(_OPTIONS))


_OPTIONS = (*SessionOptions.model_fields, *SharedOptions.model_fields)


def session_configs(settings: ServeSettings) -> tuple[SessionConfig, ...]:
    """Return the sessions of a service, the default one first: those of the file, or the one of the command line.

    Raises:
        SettingsError: Several sessions have one name, there are too many, or options of one participant stand
            beside them.
    """
    if not settings.sessions:
        return (SessionConfig.model_construct(**{name: getattr(settings, name) for name in _OPTIONS}),)
    _check_sessions(settings)
    return tuple(named_config(settings, session) for session in settings.sessions)


def named_config(settings: ServeSettings, session: NamedSession) -> SessionConfig:
    """Return one of several sessions; options that it does not set are those of the service.

    Args:
        settings: Of the service.
        session: Its own.

    Raises:
        SettingsError: It is to be recorded and there is no folder, or its video and there is no camera.
    """
    if session.record and settings.record is None:
        raise SettingsError(
            expected=f"a folder to record the session {session.name} in",
            found="none",
            mend=f'name it with --record, or as record = "FOLDER" above the sessions in {SETTINGS_FILE}',
        )
    if session.record_video and session.camera is None:
        raise SettingsError(
            expected=f"a camera of the session {session.name}, to record its video",
            found="none",
            mend=f'name it, as in camera = "0", or take record_video out of {SETTINGS_FILE}',
        )
    own = SessionOptions.model_fields.keys() & {*session.model_fields_set, *ONE_PARTICIPANT_OPTIONS}
    options = {name: getattr(session if name in own else settings, name) for name in _OPTIONS}
    return SessionConfig.model_construct(
        **{**options, "camera": session.camera or "none"},
        name=session.name,
        named=True,
        recorded=session.record is not False,
        needs_neutral=session.video is not None,
    )


def _check_sessions(settings: ServeSettings) -> None:
    fields = ServeSettings.model_fields
    beside = [name for name in ONE_PARTICIPANT_OPTIONS if getattr(settings, name) != fields[name].default]
    if beside:
        raise SettingsError(
            expected="settings of one participant in the tables [[sessions]] alone, where there are such",
            found=f"{', '.join(beside)} beside them",
            mend=f"put them into the session that they are for, or take the sessions out of {SETTINGS_FILE}",
        )
    names = [session.name.casefold() for session in settings.sessions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(
            expected="a name of its own for every session",
            found=f"{names.count(twice[0])} sessions called {twice[0]!r}",
            mend=f"name them differently in {SETTINGS_FILE}",
        )
    if len(names) > settings.max_sessions:
        raise SettingsError(
            expected=f"at most {settings.max_sessions} sessions",
            found=str(len(names)),
            mend="set max_sessions higher, if this computer is fast enough",
        )


def devices(config: SessionConfig) -> dict[str, str]:
    """Return the devices that a session cannot share: their names for people, by a key that is equal for equal devices.

    Raises:
        SettingsError: The name of a stream or a camera cannot be parsed.
    """
    if config.replay is not None:
        return {}
    found = {f"eeg {_query(config.eeg)}": f"the EEG stream {config.eeg!r}"}
    if config.face_stream is not None:
        found[f"face {_query(config.face_stream)}"] = f"the face stream {config.face_stream!r}"
    for stream in config.physio_streams().values():
        found[f"physio {stream.lower()}"] = f"the stream {stream!r}"
    camera = config.face_camera
    if camera is not None and (spec := CaptureSpec.parse(camera)).kind != "file":
        found[f"camera {re.sub('^/dev/video', '', spec.text)}"] = f"the camera {camera}"
    return found


def shared_devices(one: SessionConfig, other: SessionConfig) -> str:
    """Return the devices that both sessions use, as text for people; "" where there are none."""
    theirs = devices(other)
    return " and ".join(name for key, name in devices(one).items() if key in theirs)


def check_no_conflict(configs: Sequence[SessionConfig]) -> None:
    """Check that no two sessions use the same device.

    Raises:
        SettingsError: Two do.
    """
    for i, one in enumerate(configs):
        for other in configs[:i]:
            if both := shared_devices(other, one):
                raise SettingsError(
                    expected="an EEG stream and a camera for each session alone",
                    found=f"the sessions {other.name} and {one.name} both ask for {both}",
                    mend='say whose is which, as in eeg = "source_id=A1" and camera = "1"; clmer streams lists them',
                )


def _query(text: str) -> str:
    query = StreamQuery.parse(text)
    return str(sorted(query.properties)) if query.properties else query.text


def parse_physio(spec: str | None, option: str = "--physio") -> dict[str, str]:
    """Return by series the stream that gives it, from ``ecg,gsr=Shimmer``; a series alone names its stream too.

    Args:
        spec: As the user wrote it; None: not at all.
        option: Where.

    Raises:
        SettingsError: An entry names no series, or one names it twice.
    """
    streams: dict[str, str] = {}
    for entry in spec.split(",") if spec is not None else ():
        series, _, stream = (part.strip() for part in entry.partition("="))
        if not series or series.lower() in map(str.lower, streams):
            expected = f"{option} SERIES or SERIES=STREAM, each series once, with commas between"
            raise SettingsError(expected, repr(spec), f"for example {option} mine=Stream")
        streams[series] = stream or series
    return streams


def parse_rates(spec: str | None) -> dict[str, float]:
    """Return by series its rate in Hz, from ``ecg=128,gsr=32``.

    Raises:
        SettingsError: An entry is no series with a rate.
    """
    rates = {}
    for series, text in _entries(spec, "--physio-rate SERIES=HZ", "ecg=128"):
        rates[series] = _hertz(text, series)
        if not 0 < rates[series] <= 4096:
            raise SettingsError("a rate above 0 and up to 4096 Hz", f"{series}={text}", "mend --physio-rate")
    return rates


def parse_bands(spec: str | None) -> dict[str, tuple[float, float]]:
    """Return by series its band in Hz, from ``ecg=0.5-40,gsr=0-3``; from 0: a low-pass.

    Raises:
        SettingsError: An entry is no series with a band.
    """
    bands = {}
    for series, text in _entries(spec, "--physio-band SERIES=LOW-HIGH", "ecg=0.5-40"):
        low, _, high = text.partition("-")
        bands[series] = _hertz(low, series), _hertz(high, series)
        if not 0 <= bands[series][0] < bands[series][1]:
            raise SettingsError("a band that ends above its beginning", f"{series}={text}", "mend --physio-band")
    return bands


def _entries(spec: str | None, expected: str, example: str) -> list[tuple[str, str]]:
    pairs = [entry.partition("=") for entry in spec.split(",")] if spec is not None else []
    if any(not (series.strip() and value.strip()) for series, _, value in pairs):
        raise SettingsError(f"{expected}, with commas between", repr(spec), f"for example {example}")
    return [(series.strip(), value.strip()) for series, _, value in pairs]


def _hertz(text: str, series: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError("a number of Hz", f"{text!r} for {series}", "for example 0.5")
    return value


def check_physio(physio: Mapping[str, str], preprocess: PreprocessConfig) -> None:
    """Check that the model has all of these series.

    Raises:
        SettingsError: The model has no series of that name.
    """
    known = ", ".join(series.name for series in preprocess.further) or "none"
    for name in physio:
        if preprocess.further_of(name) is None:
            raise SettingsError(
                expected=f"a further series of this model, which has {known}",
                found=f"--physio {name}: this model has no series of that name",
                mend="leave the option out, or choose a model that was trained with it",
            )


def effective_preprocess(trained: PreprocessConfig, notch: Literal["50", "60", "none"] | None) -> PreprocessConfig:
    """Return the model's signal settings with the user's notch filter; None leaves them as they are."""
    return trained if notch is None else trained.with_notch(None if notch == "none" else float(notch))


def notch_text(trained: PreprocessConfig, used: PreprocessConfig) -> str:
    """Return a sentence about a notch that is not the model's own; "" where it is."""
    ours, theirs = used.signal.notch_hz, trained.signal.notch_hz
    if ours == theirs:
        return ""
    trained_with = f"other than the model, which was trained with {_notch_name(theirs)}"
    return f"{_notch_name(ours)}, {trained_with}; config {used.config_hash}"


def _notch_name(notch_hz: float | None) -> str:
    return "no notch" if notch_hz is None else f"a notch at {notch_hz:g} Hz"
