"""The sessions over HTTP: list, create, start, stop and remove them. No path comes from a client.

To be read in this order: the body of a request that makes a session, the status of a session, the routes.
"""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any

from fastapi import Body, FastAPI, Path
from pydantic import BaseModel, Field, create_model

from clmer_server.protocol.codes import RefusalError
from clmer_server.protocol.parts import SourceMode, StreamEntry
from clmer_server.session.config import SessionConfig, devices, named_config
from clmer_server.session.managed import ManagedSession
from clmer_server.session.manager import SessionManager
from clmer_server.session.session import SessionState, describe_error
from clmer_server.settings import (
    OVER_HTTP,
    SESSION_NAME,
    NamedSession,
    ServeSettings,
    SessionOptions,
    StartRequest,
)
from clmer_server.web.middleware import RefusalBody
from clmer_streaming.errors import SettingsError
from clmer_streaming.lsl.resolve import StreamQuery

Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of text."""

SessionName = Annotated[str, Path(description="Name of the session.", max_length=64)]

_REFUSALS: dict[int | str, dict[str, Any]] = {status: {"model": RefusalBody} for status in (404, 409, 422)}


def _http_fields() -> dict[str, Any]:
    """Return the options of a session that are marked ``OverHttp``; their text is one line."""
    types: dict[Any, Any] = {str: Words, str | None: Words | None}
    fields = {name: field for name, field in SessionOptions.model_fields.items() if OVER_HTTP in field.metadata}
    return {name: (types.get(field.annotation, field.annotation), copy(field)) for name, field in fields.items()}


class StartSession(StartRequest):
    """Body of a request that starts a session; what is left out stays as it is."""


_NewSessionBase: Any = create_model("_NewSessionBase", __base__=StartSession, **_http_fields())


class NewSession(_NewSessionBase):  # type: ignore[misc]  # its fields are those of SessionOptions
    """A live session of one participant."""

    name: str = Field(pattern=SESSION_NAME, description="By which clients ask for it.")
    camera: int | None = Field(default=None, ge=0, le=63, description="Number of a camera of the service's computer.")

    def config(self, settings: ServeSettings) -> SessionConfig:
        """Return the configuration of the session.

        Args:
            settings: Of the service.

        Raises:
            RefusalError: Its options exclude each other, or the name of a stream cannot be parsed.
        """
        given = self.model_dump(exclude_unset=True)
        if given.get("camera") is not None:
            given["camera"] = str(given["camera"])
        try:
            config = named_config(settings, NamedSession(**given))
            devices(config)
            _check_streams(config.eeg, config.face_stream)
        except SettingsError as error:
            raise RefusalError("bad_field", describe_error(error)) from error
        except ValueError as error:
            raise RefusalError("bad_field", "expected a camera or a face stream, found both") from error
        return config


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
        source=session.config.mode,
        participant=session.config.participant,
        recording=session.recording,
        clients=session.hub.n_clients,
        streams=list(session.hub.streams),
    )


def add_session_api(app: FastAPI, manager: SessionManager, settings: ServeSettings) -> None:
    """Serve the sessions below ``/api/sessions``.

    Args:
        app: The application.
        manager: All sessions.
        settings: Of the service; new sessions get from it the options that they do not set.
    """
    _add_list(app, manager)
    _add_create_and_remove(app, manager, settings)
    _add_start_and_stop(app, manager)


def _status(manager: SessionManager, session: ManagedSession) -> SessionStatus:
    return session_status(session, default=session is manager.default)


def _add_list(app: FastAPI, manager: SessionManager) -> None:
    @app.get("/api/sessions", tags=["sessions"])
    async def list_sessions() -> list[SessionStatus]:
        """List all sessions, the default one first."""
        return [_status(manager, session) for session in manager.sessions.values()]

    @app.get("/api/sessions/{name}", tags=["sessions"], responses=_REFUSALS)
    async def show_session(name: SessionName) -> SessionStatus:
        """Show one session."""
        return _status(manager, manager.find(name))


def _add_create_and_remove(app: FastAPI, manager: SessionManager, settings: ServeSettings) -> None:
    @app.post("/api/sessions", tags=["sessions"], status_code=201, responses=_REFUSALS)
    async def create_session(session: NewSession) -> SessionStatus:
        """Create a live session, which waits to be started."""
        return _status(manager, manager.create(session.config(settings)))

    @app.delete("/api/sessions/{name}", tags=["sessions"], status_code=204, responses=_REFUSALS)
    async def remove_session(name: SessionName) -> None:
        """Remove a session that does not run; its recordings stay."""
        manager.remove(name)


def _add_start_and_stop(app: FastAPI, manager: SessionManager) -> None:
    @app.post("/api/sessions/{name}/start", tags=["sessions"], responses=_REFUSALS)
    async def start_session(name: SessionName, start: Annotated[StartSession | None, Body()] = None) -> SessionStatus:
        """Start a session that waits, has ended, has failed or was stopped."""
        await manager.start(name, start or StartSession())
        return _status(manager, manager.find(name))

    @app.post("/api/sessions/{name}/stop", tags=["sessions"], responses=_REFUSALS)
    async def stop_session(name: SessionName) -> SessionStatus:
        """Stop a session; the others go on, and its clients stay."""
        await manager.stop(name)
        return _status(manager, manager.find(name))


def _check_streams(*texts: str | None) -> None:
    for text in texts:
        if text is not None and StreamQuery.parse(text).is_predicate:
            raise SettingsError("a stream's name or properties", repr(text), "XPath is for the command line alone")
