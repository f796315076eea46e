"""What a WebSocket passes before it hears anything: the token in its first message, where it has brought none yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect

from clmer_server.auth import TokenCheck
from clmer_server.guard import AUTHENTICATED
from clmer_server.limits import InboundPace, Pace
from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.errors import ErrorCode, ErrorMessage
from clmer_server.protocol.inbound import Hello, read_inbound
from clmer_server.protocol.names import Encoding
from clmer_server.protocol.notices import ByeReason
from clmer_server.protocol.outbound import Bye, Message
from clmer_server.protocol.parts import Limits
from clmer_server.transport import ABORT
from clmer_server.watchdog import Watchdog, Watched

GOING_AWAY = 1001
"""WebSocket close code of a service that has nothing more to say."""

POLICY_VIOLATION = 1008
"""WebSocket close code of a client that did what it must not."""


class Door:
    """Who comes in, how fast they may talk, and who is put out.

    Args:
        check: Of the tokens that are shown.
        limits: Of the service.
        watchdog: Over all clients.
    """

    def __init__(self, check: TokenCheck, limits: Limits, watchdog: Watchdog | None = None) -> None:
        self.limits = limits
        self.watchdog = Watchdog() if watchdog is None else watchdog
        self._check = check
        self._bye: Bye | None = None  # what is said to whoever comes now
        self._patience: set[asyncio.Timeout] = set()  # with each client that has not said hello yet

    def close(self, bye: Bye) -> None:
        """Let everybody who waits at the door, and who comes to it from now on, hear ``bye`` and go."""
        self._bye = bye
        for patience in self._patience:
            if not patience.expired():
                patience.reschedule(asyncio.get_running_loop().time())

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
            if isinstance(heard, Bye):
                await _part(socket, encoding, (heard,), GOING_AWAY)
            else:
                await _part(socket, encoding, (heard, Bye(reason=ByeReason(heard.code))), POLICY_VIOLATION, heard.code)
        return None

    def watching(self, socket: WebSocket, is_full: Callable[[], bool]) -> AbstractContextManager[Watched]:
        """Watch a connection while the context lasts; it is aborted when its mailbox stays full."""
        return self.watchdog.watching(is_full, abort_of(socket))

    def pace(self) -> InboundPace:
        """Return the judge of how fast one client sends."""
        return InboundPace(self.limits)

    async def _first_words(self, socket: WebSocket, encoding: Encoding) -> Hello | ErrorMessage | Bye:
        """Return the client's hello, what is wrong with its first message, or goodbye where the service ends before."""
        try:
            with self._waiting() as patience:
                async with patience:
                    event = await socket.receive()
        except TimeoutError:
            return self._bye or _too_late(self.limits)
        data = event.get("text")
        said = read_inbound(event.get("bytes") if data is None else data, encoding)
        if not isinstance(said, Hello) or said.token is None:
            text = "the first message must be hello with the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_MISSING, message=text, fatal=True)
        if not self._check.holds(said.token):
            text = "this is not the service's token"
            return ErrorMessage(id=said.id, code=ErrorCode.TOKEN_WRONG, message=text, fatal=True)
        return said

    @contextmanager
    def _waiting(self) -> Iterator[asyncio.Timeout]:
        patience = asyncio.timeout(0.0 if self._bye else self.limits.hello_timeout_s)
        self._patience.add(patience)
        try:
            yield patience
        finally:
            self._patience.discard(patience)


def _too_late(limits: Limits) -> ErrorMessage:
    text = f"the token did not come within {limits.hello_timeout_s:g} s; say hello with it first"
    return ErrorMessage(code=ErrorCode.AUTH_TIMEOUT, message=text, fatal=True)


def too_fast(pace: Pace, limits: Limits) -> ErrorMessage:
    """Return the answer to a message that came too fast."""
    text = f"at most {limits.max_messages_per_s:g} messages a second; this one was not acted upon"
    return ErrorMessage(code=ErrorCode.RATE_LIMITED, message=text, fatal=pace is Pace.GOES_ON)


def abort_of(socket: WebSocket) -> Callable[[], None]:
    """Return what ends a connection at once, without waiting for the client to read."""
    abort: Callable[[], None] = socket.scope["extensions"][ABORT]
    return abort


async def _part(
    socket: WebSocket, encoding: Encoding, last_words: Sequence[Message], code: int, reason: str | None = None
) -> None:
    """Say the last words, and close with a code."""
    for message in last_words:
        content = encode_as(message, encoding)
        if isinstance(content, str):
            await socket.send_text(content)
        else:
            await socket.send_bytes(content)
    await socket.close(code, reason)
