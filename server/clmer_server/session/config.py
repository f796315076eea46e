"""From settings to sessions: what each one is to do, under which name."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from clmer_server.participants import PARTICIPANTS_FOLDER, PSEUDONYM, load_neutral, neutral_file
from clmer_server.protocol.codes import RefusalError
from clmer_server.protocol.parts import SourceMode
from clmer_server.settings import (
    CONSENT_REF,
    OF_ONE_PARTICIPANT,
    SETTINGS_FILE,
    NamedSession,
    ServeSettings,
    SessionSettings,
)
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.capture import CaptureSpec
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.lsl.resolve import StreamQuery


@dataclass(frozen=True)
class StartRequest:
    """What a client may say when it starts a session; None leaves the session's setting as it is."""

    participant: str | None = None  # pseudonym
    consent_ref: str | None = None  # where the signed consent is filed
    record: bool | None = None


def effective_preprocess(trained: PreprocessConfig, notch: Literal["50", "60", "none"] | None) -> PreprocessConfig:
    """Return the model's settings with the user's notch; None leaves them as they are."""
    return trained if notch is None else trained.with_notch(None if notch == "none" else float(notch))


def notch_text(trained: PreprocessConfig, used: PreprocessConfig) -> str:
    """Return what a user should know of a notch that is not the model's own; ``""`` where it is."""
    ours, theirs = used.signal.notch_hz, trained.signal.notch_hz
    if ours == theirs:
        return ""
    return f"{_words(ours)}, other than the model, which was trained with {_words(theirs)}; config {used.config_hash}"


def _words(notch_hz: float | None) -> str:
    return "no notch" if notch_hz is None else f"a notch at {notch_hz:g} Hz"


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
    """Refuse series that the model does not know.

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


@dataclass(frozen=True)
class SessionPlan:
    """What a session is to do when it starts."""

    name: str
    settings: ServeSettings  # as for a service of this session alone
    recordings: Path | None  # folder of the service, in which this session is recorded if its settings say so
    one_of_several: bool = False  # nothing is recorded, or opened, under a name that an earlier run may have had
    needs_neutral: bool = True  # whether the participant of a replay must have been calibrated before

    @property
    def on_first_client(self) -> bool:
        """Whether it begins with its first client, and not at once: else nobody would see how it begins."""
        return self.settings.replay is not None and math.isinf(self.settings.speed)

    @property
    def keeps_video(self) -> bool:
        """Whether its camera's pictures are kept when it is recorded."""
        return self.settings.record_video and self.camera is not None

    @property
    def camera(self) -> str | None:
        """Which camera is used."""
        settings = self.settings
        usual = "0" if settings.replay is None and settings.face_stream is None else "none"
        camera = usual if settings.camera is None else settings.camera
        return None if camera == "none" else camera

    def asked_for(self, request: StartRequest) -> SessionPlan:
        """Return the plan with what a client asks for.

        Raises:
            RefusalError: A word cannot be kept, or there is no folder to record in.
        """
        changes: dict[str, Any] = {}
        for name, pattern in (("participant", PSEUDONYM), ("consent_ref", CONSENT_REF)):
            if (text := getattr(request, name)) is not None:
                if not re.fullmatch(pattern, text):
                    raise RefusalError("bad_field", f"expected {name} of the form {pattern}, found {text[:80]!r}")
                changes[name] = text
        if request.record is not None:
            if request.record and self.recordings is None:
                raise RefusalError("recording_off", "this service has no folder to record in; start it with --record")
            changes["record"] = self.recordings if request.record else None
        named = request.participant not in (None, self.settings.participant)
        settings = self.settings.model_copy(update=changes)
        return replace(self, settings=settings, needs_neutral=self.needs_neutral and not named)

    def config(self) -> SessionConfig:
        """Return it as the inputs want it.

        Raises:
            SettingsError: A setting cannot be read, or the participant's neutral face, or a replay finds none.
        """
        settings = self.settings
        extractor = Extractor.choose(settings.face_landmarker)
        usual_sides = "used" if settings.record is None else "all"
        return SessionConfig(
            session=self.name,
            replay=settings.replay,
            eeg=settings.eeg,
            eeg_map=settings.eeg_map,
            eeg_unit=settings.eeg_unit,
            eeg_delay_s=settings.eeg_delay,
            physio=parse_physio(settings.physio),
            speed=settings.speed,
            loop=settings.loop,
            camera=self.camera,
            face_stream=settings.face_stream,
            face_delay_s=settings.face_delay,
            video=settings.video,
            video_offset_s=settings.video_offset,
            extractor=extractor,
            side_streams=usual_sides if settings.side_streams is None else settings.side_streams,
            neutral=self._neutral(extractor.id),
            participant=settings.participant,
            participants=settings.participants,
        )

    def _neutral(self, extractor: str) -> NeutralFace | None:
        folder, participant = self.settings.participants, self.settings.participant
        needed = self.needs_neutral and self.settings.replay is not None  # live, it can still be measured
        if participant is None or not (needed or neutral_file(folder, participant).exists()):
            return None
        return load_neutral(folder, participant, extractor)


def plan_sessions(settings: ServeSettings) -> tuple[SessionPlan, ...]:
    """Return the sessions of a service, the default one first: those of the file, or the one of the command line.

    Raises:
        SettingsError: Several sessions have one name, there are too many, or settings of one participant stand
            beside them.
    """
    if not settings.sessions:
        return (SessionPlan(secrets.token_hex(4), settings, settings.record),)
    _check_sessions(settings)
    return tuple(plan_named(settings, session) for session in settings.sessions)


def plan_named(settings: ServeSettings, session: NamedSession) -> SessionPlan:
    """Return one of several sessions; what it leaves open it has from the service.

    Args:
        settings: Those of the service.
        session: Its own.

    Raises:
        SettingsError: It is to be recorded, and there is no folder for it.
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
    own = SessionSettings.model_fields.keys() & (session.model_fields_set | set(OF_ONE_PARTICIPANT))
    changes: dict[str, Any] = {name: getattr(session, name) for name in own}
    changes["camera"] = session.camera or "none"
    changes["record"] = None if session.record is False else settings.record
    alone = settings.model_copy(update={**changes, "sessions": ()})
    return SessionPlan(session.name, alone, settings.record, True, needs_neutral=session.video is not None)


def _check_sessions(settings: ServeSettings) -> None:
    fields = ServeSettings.model_fields
    beside = [name for name in OF_ONE_PARTICIPANT if getattr(settings, name) != fields[name].default]
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


def devices(plan: SessionPlan) -> dict[str, str]:
    """Return what a session asks for and cannot share: by what it is, the words for people.

    Raises:
        SettingsError: A stream or a camera is named in words that cannot be read.
    """
    settings = plan.settings
    if settings.replay is not None:
        return {}
    found = {f"eeg {_query(settings.eeg)}": f"the EEG stream {settings.eeg!r}"}
    if settings.face_stream is not None:
        found[f"face {_query(settings.face_stream)}"] = f"the face stream {settings.face_stream!r}"
    for stream in parse_physio(settings.physio).values():
        found[f"physio {stream.lower()}"] = f"the stream {stream!r}"
    if plan.camera is not None and (spec := CaptureSpec.parse(plan.camera)).kind != "file":
        found[f"camera {re.sub('^/dev/video', '', spec.text)}"] = f"the camera {plan.camera}"
    return found


def shared(one: SessionPlan, other: SessionPlan) -> str:
    """Return what both sessions ask for, in words for people; "" where nothing."""
    theirs = devices(other)
    return " and ".join(words for key, words in devices(one).items() if key in theirs)


def check_no_conflict(plans: Sequence[SessionPlan]) -> None:
    """Refuse sessions that ask for the same device.

    Raises:
        SettingsError: Two do.
    """
    for i, one in enumerate(plans):
        for other in plans[:i]:
            if both := shared(other, one):
                raise SettingsError(
                    expected="an EEG stream and a camera for each session alone",
                    found=f"the sessions {other.name} and {one.name} both ask for {both}",
                    mend='say whose is which, as in eeg = "source_id=A1" and camera = "1"; clmer streams lists them',
                )


def _query(text: str) -> str:
    query = StreamQuery.parse(text)
    return str(sorted(query.wanted)) if query.wanted else query.text
