"""The one session of a service that has no other."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from clmer_server.protocol.outbound import Notice
from clmer_server.rooms import RefusalError, Room, StartRequest
from clmer_server.session import Session

_STOP_TIMEOUT_S = 2.0


class OnlyRoom:
    """All sessions there are: one, which is started with the service and can be stopped once.

    Args:
        name: Of the session.
        room: As its clients see it.
        session: What is stopped.
    """

    def __init__(self, name: str, room: Room, session: Session) -> None:
        self.rooms: Mapping[str, Room] = {name: room}
        self._session = session

    async def start(self, name: str, request: StartRequest) -> None:
        """Refuse: it runs, or is over for good."""
        self._check(name)
        if self._session.running:
            raise RefusalError("session_running", f"expected a session that does not run, found {name} running")
        raise RefusalError("not_supported", f"expected a running service's one session, found {name} ended: start anew")

    async def stop(self, name: str) -> None:
        """Stop the session."""
        self._check(name)
        if not self._session.running:
            raise RefusalError("session_not_running", f"expected a running session, found {name} not running")
        await asyncio.to_thread(self._session.stop, _STOP_TIMEOUT_S)
        message = "The session was stopped by a client."
        self.rooms[name].hub.publish(Notice(session=name, code="session_stopped", message=message))

    def _check(self, name: str) -> None:
        if name not in self.rooms:
            raise RefusalError("unknown_session", f"expected the session {next(iter(self.rooms))}, found {name!a}")
