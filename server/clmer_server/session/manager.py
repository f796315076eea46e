"""All sessions of one service: made, started, stopped and removed; one that fails does not affect the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from clmer_server.metrics import Reading
from clmer_server.protocol.codes import ByeReason, RefusalError, unknown_session
from clmer_server.protocol.outbound import Bye
from clmer_server.session.config import SessionConfig, shared_devices
from clmer_server.session.managed import ManagedSession, PreparedRun, SharedParts
from clmer_server.session.session import SessionState
from clmer_server.settings import StartRequest


class SessionManager:
    """All sessions of a service. Made and called on the event loop.

    Args:
        shared: What all sessions share.
    """

    def __init__(self, shared: SharedParts) -> None:
        self._shared = shared
        self._sessions: dict[str, ManagedSession] = {}
        self._starting: set[str] = set()  # names of those whose devices are reserved, until they have them

    @property
    def sessions(self) -> Mapping[str, ManagedSession]:
        """Sessions by name, the default one first."""
        return MappingProxyType(self._sessions)

    @property
    def default(self) -> ManagedSession:
        """The session of clients that ask for none by name."""
        return next(iter(self._sessions.values()))

    def reading(self) -> Reading:
        """Return the present numbers of all sessions and their clients, for monitoring."""
        hubs = {name: session.hub for name, session in self._sessions.items()}
        return Reading(
            streams={name: hub.streams for name, hub in hubs.items()},
            running={name for name, session in self._sessions.items() if session.state is SessionState.RUNNING},
            n_clients=sum(hub.n_clients for hub in hubs.values()),
            n_dropped=sum(hub.n_dropped for hub in hubs.values()),
        )

    def open(self, config: SessionConfig, prepared: PreparedRun) -> None:
        """Add a session and open its first run, which then waits.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        session = self._sessions[config.name] = ManagedSession(config, self._shared)
        session.open(prepared)

    def begin(self) -> None:
        """Start every session that waits, each as its configuration says."""
        for session in self._sessions.values():
            session.begin()

    def create(self, config: SessionConfig) -> ManagedSession:
        """Add a session, which waits to be started.

        Raises:
            RefusalError: The name is taken, or there are as many as there may be.
        """
        if config.name.casefold() in map(str.casefold, self._sessions):
            raise RefusalError("session_exists", f"there is a session {config.name} already; choose another name")
        if len(self._sessions) >= self._shared.settings.max_sessions:
            raise RefusalError(
                "too_many_sessions", f"there are {len(self._sessions)} sessions already; remove one that has ended"
            )
        session = self._sessions[config.name] = ManagedSession(config, self._shared)
        return session

    def find(self, name: str) -> ManagedSession:
        """Return a session.

        Raises:
            RefusalError: There is none of this name.
        """
        if name not in self._sessions:
            raise unknown_session(name, self._sessions)
        return self._sessions[name]

    async def start(self, name: str, request: StartRequest) -> None:
        """Start a session that waits or has ended.

        Raises:
            RefusalError: There is none of this name, it runs, or another one has its headset or camera.
        """
        session = self.find(name)
        self._reserve(session)
        try:
            await session.start(request)
        finally:
            self._starting.discard(name)

    def _reserve(self, session: ManagedSession) -> None:
        """Reserve a session's devices, so that a start that hangs holds up no other session."""
        if session.name in self._starting:
            raise RefusalError("session_running", f"the session {session.name} is being started already")
        for other in self._sessions.values():
            if (
                other is not session
                and self._has_devices(other)
                and (both := shared_devices(session.config, other.config))
            ):
                raise RefusalError("device_in_use", f"the session {other.name} has {both}; stop it first")
        self._starting.add(session.name)

    def _has_devices(self, session: ManagedSession) -> bool:
        return session.has_devices or session.name in self._starting

    async def stop(self, name: str) -> None:
        """Stop a session; the others go on.

        Raises:
            RefusalError: There is none of this name, or it does not run, or not yet.
        """
        session = self.find(name)
        if name in self._starting:
            raise RefusalError("session_not_running", f"the session {name} is still being started; stop it then")
        await session.stop()

    def remove(self, name: str) -> None:
        """Remove a session that does not run; its recordings stay, its clients get ``bye``.

        Raises:
            RefusalError: There is none of this name, it runs, or it is the default one.
        """
        session = self.find(name)
        if session is self.default:
            raise RefusalError("session_default", f"{name} is the session of clients that name none; it stays")
        if self._has_devices(session):
            state = "being started" if name in self._starting else session.state
            raise RefusalError("session_running", f"the session {name} is {state}; stop it first")
        del self._sessions[name]
        session.hub.say_goodbye(Bye(reason=ByeReason.SESSION_REMOVED))

    def why_not_ready(self) -> list[str]:
        """Return why no predictions come: of the sessions that should give some; of all, where none should."""
        sessions = self._sessions.values()
        due = [session for session in sessions if session.has_devices or session.state is SessionState.FAILED]
        reasons = {session.name: session.why_not_ready() for session in due or sessions}
        alone = len(self._sessions) == 1
        return [text if alone else f"{name}: {text}" for name, texts in reasons.items() for text in texts]

    async def end(self, bye: Bye, goodbye_timeout_s: float) -> None:
        """Send ``bye`` to all clients, wait ``goodbye_timeout_s`` seconds for them to get it, and end all sessions."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.hub.say_goodbye(bye)
        await asyncio.gather(*(session.hub.wait_empty(goodbye_timeout_s) for session in sessions))
        await asyncio.gather(*(session.shut_down() for session in sessions))
