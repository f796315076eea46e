"""The sessions over HTTP: list, create, start, stop and remove them. No path comes from a client."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Path
from pydantic import BaseModel, ConfigDict, Field

from clmer_server.participants import PSEUDONYM
from clmer_server.protocol.codes import RefusalError
from clmer_server.protocol.parts import SourceMode, StreamEntry
from clmer_server.session.config import SessionPlan, StartRequest, devices, plan_named
from clmer_server.session.managed import ManagedSession
from clmer_server.session.manager import SessionManager
from clmer_server.session.session import SessionState, describe
from clmer_server.settings import CONSENT_REF, SESSION_NAME, NamedSession, ServeSettings
from clmer_server.web.middleware import RefusalBody
from clmer_streaming.errors import SettingsError
from clmer_streaming.lsl.resolve import StreamQuery

Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of words."""

SessionName = Annotated[str, Path(description="Name of the session.", max_length=64)]

_REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": RefusalBody} for status in (404, 409, 422)}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StartSession(_Body):
    """What may be said when a session starts; what is left out stays as it is."""

    participant: str | None = Field(default=None, pattern=PSEUDONYM, description="The participant's pseudonym.")
    consent_ref: str | None = Field(default=None, pattern=CONSENT_REF, description="Where the signed consent is filed.")
    record: bool | None = Field(default=None, description="Whether to record, into a new folder of the service's own.")

    def request(self) -> StartRequest:
        """Return it as the sessions take it."""
        return StartRequest(self.participant, self.consent_ref, self.record)


class NewSession(StartSession):
    """A live session of one participant."""

    name: str = Field(pattern=SESSION_NAME, description="By which clients ask for it.")
    eeg: Words = Field(default="auto", description="EEG stream on LSL: auto, its name, or as in source_id=E-1234.")
    eeg_map: Words | None = Field(default=None, description="Names of channels without labels, e.g. AF3=1,F7=2.")
    eeg_unit: Literal["V", "mV", "uV"] | None = Field(default=None, description="In place of the declared unit.")
    eeg_delay: float = Field(default=0.0, ge=-10, le=10, description="Seconds from the brain to the sample's stamp.")
    camera: int | None = Field(default=None, ge=0, le=63, description="Number of a camera of the service's computer.")
    face_stream: Words | None = Field(default=None, description="A CLMER-Face stream on LSL, instead of a camera.")
    face_delay: float = Field(default=0.0, ge=0, le=10, description="Seconds from what the camera sees to its frame.")
    physio: Words | None = Field(default=None, description="Further series and their streams, e.g. ecg=Polar.")
    side_streams: Words | None = Field(default=None, description="Other LSL streams to record: all, none, or names.")
    outlets: bool | None = Field(default=None, description="Whether predictions are published on LSL; null: yes.")

    def plan(self, settings: ServeSettings) -> SessionPlan:
        """Return the session that is meant.

        Raises:
            RefusalError: Its settings do not go together, or a stream is named in words that cannot be read.
        """
        given = self.model_dump(exclude_unset=True)
        if given.get("camera") is not None:
            given["camera"] = str(given["camera"])
        try:
            plan = plan_named(settings, NamedSession(**given))
            devices(plan)
            _check_words(self.eeg, self.face_stream)
        except SettingsError as error:
            raise RefusalError("bad_field", describe(error)) from error
        except ValueError as error:
            raise RefusalError("bad_field", "expected a camera or a face stream, found both") from error
        return plan


class SessionStatus(BaseModel):
    """A session as it is now."""

    name: str = Field(description="By which clients ask for it: /ws?session=NAME.")
    default: bool = Field(description="Whether clients that name no session get this one.")
    state: SessionState = Field(description="waiting, running, ended, failed or stopped.")
    ready: bool = Field(description="Whether predictions come, or begin with the first client.")
    reasons: list[str] = Field(description="Why no predictions come; empty where they come.")
    source: SourceMode = Field(description="Whether its data is live or read from a recording.")
    participant: str | None = Field(description="The participant's pseudonym.")
    recording: str | None = Field(description="Folder of its newest recording, below the service's; null: none.")
    clients: int = Field(description="Connections that listen to it.")
    streams: list[StreamEntry] = Field(description="Its input streams.")


def session_status(session: ManagedSession, *, default: bool) -> SessionStatus:
    """Return a session as it is now."""
    reasons = session.why_not_ready()
    return SessionStatus(
        name=session.name,
        default=default,
        state=session.state,
        ready=not reasons,
        reasons=reasons,
        source=session.source,
        participant=session.plan.settings.participant,
        recording=session.recording,
        clients=session.hub.n_clients,
        streams=list(session.hub.streams),
    )


def add_session_api(app: FastAPI, sessions: SessionManager, settings: ServeSettings) -> None:
    """Serve the sessions below ``/api/sessions``.

    Args:
        app: The application.
        sessions: All of them.
        settings: Of the service; new sessions have from it what they leave open.
    """
    _add_list(app, sessions)
    _add_making(app, sessions, settings)
    _add_running(app, sessions)


def _told(sessions: SessionManager, session: ManagedSession) -> SessionStatus:
    return session_status(session, default=session is sessions.default)


def _add_list(app: FastAPI, sessions: SessionManager) -> None:
    @app.get("/api/sessions", tags=["sessions"])
    async def list_sessions() -> list[SessionStatus]:
        """Tell all sessions, the default one first."""
        return [_told(sessions, session) for session in sessions.rooms.values()]

    @app.get("/api/sessions/{name}", tags=["sessions"], responses=_REFUSALS)
    async def show_session(name: SessionName) -> SessionStatus:
        """Tell one session."""
        return _told(sessions, sessions.find(name))


def _add_making(app: FastAPI, sessions: SessionManager, settings: ServeSettings) -> None:
    @app.post("/api/sessions", tags=["sessions"], status_code=201, responses=_REFUSALS)
    async def create_session(session: NewSession) -> SessionStatus:
        """Make a live session, which waits to be started."""
        plan = session.plan(settings).asked_for(session.request())
        return _told(sessions, sessions.create(plan))

    @app.delete("/api/sessions/{name}", tags=["sessions"], status_code=204, responses=_REFUSALS)
    async def remove_session(name: SessionName) -> None:
        """Take a session that does not run out of the list; its recordings stay."""
        sessions.remove(name)


def _add_running(app: FastAPI, sessions: SessionManager) -> None:
    @app.post("/api/sessions/{name}/start", tags=["sessions"], responses=_REFUSALS)
    async def start_session(name: SessionName, start: Annotated[StartSession | None, Body()] = None) -> SessionStatus:
        """Start a session that waits, has ended, has failed or was stopped."""
        await sessions.start(name, (start or StartSession()).request())
        return _told(sessions, sessions.find(name))

    @app.post("/api/sessions/{name}/stop", tags=["sessions"], responses=_REFUSALS)
    async def stop_session(name: SessionName) -> SessionStatus:
        """Stop a session; the others go on, and its clients stay."""
        await sessions.stop(name)
        return _told(sessions, sessions.find(name))


def _check_words(*texts: str | None) -> None:
    for text in texts:
        if text is not None and StreamQuery.parse(text).is_predicate:
            raise SettingsError("a stream's name or properties", repr(text), "XPath is for the command line alone")
