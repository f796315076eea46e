"""What a WebSocket passes before it hears anything: the token in its first message, where it has brought none yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from starlette.websockets import WebSocket, WebSocketDisconnect

from clmer_server.auth import TokenCheck
from clmer_server.guard import AUTHENTICATED
from clmer_server.limits import InboundPace, Pace
from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.errors import ErrorCode, ErrorMessage
from clmer_server.protocol.inbound import Hello, read_inbound
from clmer_server.protocol.names import Encoding
from clmer_server.protocol.notices import ByeReason
from clmer_server.protocol.outbound import Bye
from clmer_server.protocol.parts import Limits
from clmer_server.transport import ABORT
from clmer_server.watchdog import Watchdog, Watched

POLICY_VIOLATION = 1008
"""WebSocket close code of a client that did what it must not."""


@dataclass(frozen=True)
class Door:
    """Who comes in, how fast they may talk, and who is put out."""

    check: TokenCheck
    limits: Limits
    watchdog: Watchdog = field(default_factory=Watchdog)

    async def hellos(self, socket: WebSocket, encoding: Encoding) -> tuple[Hello, ...] | None:
        """Return what an accepted client had to say to come in; None where it has been told why it may not.

        Args:
            socket: The accepted connection; it is closed where the answer is None.
            encoding: Of its messages.
        """
        if socket.scope["state"][AUTHENTICATED]:
            return ()
        heard = await self._first_words(socket, encoding)
        if isinstance(heard, Hello):
            return (heard,)
        with contextlib.suppress(WebSocketDisconnect):
            for message in (heard, Bye(reason=ByeReason(heard.code))):
                await _send(socket, encode_as(message, encoding))
            await socket.close(POLICY_VIOLATION, heard.code)
        return None

    def watching(self, socket: WebSocket, is_full: Callable[[], bool]) -> AbstractContextManager[Watched]:
        """Watch a connection while the context lasts; it is aborted when its mailbox stays full."""
        return self.watchdog.watching(is_full, abort_of(socket))

    def pace(self) -> InboundPace:
        """Return the judge of how fast one client sends."""
        return InboundPace(self.limits)

    async def _first_words(self, socket: WebSocket, encoding: Encoding) -> Hello | ErrorMessage:
        try:
            async with asyncio.timeout(self.limits.hello_timeout_s):
                event = await socket.receive()
        except TimeoutError:
            text = f"the token did not come within {self.limits.hello_timeout_s:g} s; say hello with it first"
            return ErrorMessage(code=ErrorCode.AUTH_TIMEOUT, message=text, fatal=True)
        data = event.get("text")
        said = read_inbound(event.get("bytes") if data is None else data, encoding)
        if not isinstance(said, Hello) or said.token is None:
            text = "the first message must be hello with the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_MISSING, message=text, fatal=True)
        if not self.check.holds(said.token):
            text = "this is not the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_WRONG, message=text, fatal=True)
        return said


def too_fast(pace: Pace, limits: Limits) -> ErrorMessage:
    """Return the answer to a message that came too fast."""
    text = f"at most {limits.max_messages_per_s:g} messages a second; this one was not acted upon"
    return ErrorMessage(code=ErrorCode.RATE_LIMITED, message=text, fatal=pace is Pace.GOES_ON)


def abort_of(socket: WebSocket) -> Callable[[], None]:
    """Return what ends a connection at once, without waiting for the client to read."""
    abort: Callable[[], None] = socket.scope["extensions"][ABORT]
    return abort


async def _send(socket: WebSocket, content: str | bytes) -> None:
    if isinstance(content, str):
        await socket.send_text(content)
    else:
        await socket.send_bytes(content)
