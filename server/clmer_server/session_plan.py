"""From settings to sessions: what each one is to do, under which name."""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clmer_server.participants import PSEUDONYM, load_neutral, neutral_file
from clmer_server.preprocessing import parse_physio
from clmer_server.rooms import RefusalError, StartRequest
from clmer_server.session_config import SessionConfig
from clmer_server.session_settings import CONSENT_REF, OF_ONE_PARTICIPANT, NamedSession, SessionSettings
from clmer_server.settings import SETTINGS_FILE, ServeSettings
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.extractor import Extractor
from clmer_streaming.face.neutral import NeutralFace


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
