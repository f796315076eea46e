"""A client of a running service: predictions, markers on a common clock, and sessions, without an event loop.

Read in this order: ``connect``, ``Client``, then ``ServiceError``, ``ClockOffset`` and what is private: ``Inbox``
(messages that wait to be read) and the handshake.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import TypeAdapter, ValidationError
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket
from websockets.typing import Subprotocol

from clmer.messages import ANSWERS, RUN_ENDED, Inbox, ServiceError, is_of, parse_message, plain_values
from clmer_server.protocol.codes import GOODBYES, PROTOCOL, ByeReason, ErrorMessage, NoticeCode
from clmer_server.protocol.outbound import (
    Ack,
    Bye,
    ClockReply,
    GapMessage,
    Message,
    Notice,
    PlacedMarker,
    Preview,
    Welcome,
)
from clmer_server.protocol.parts import DEFAULT_TOPICS, EmotionEvent, Topic
from clmer_streaming.errors import SettingsError

if TYPE_CHECKING:
    from clmer_server.web.sessions_api import SessionStatus

SYNC_EXCHANGES = 5
"""Exchanges of ``clock.sync`` in one comparison of clocks."""

SYNC_EVERY_S = 60.0
"""Seconds after which the clocks are compared again before they are used."""

_ORDERLY = frozenset({ByeReason.SHUTDOWN, ByeReason.SESSION_REMOVED})
"""Reasons of a ``bye`` that end an iteration; the others are raised."""


def connect(  # noqa: PLR0913 - each is a choice of the user's, given by name
    url: str = "ws://127.0.0.1:8765",
    *,
    token: str | None = None,
    session: str | None = None,
    timeout_s: float = 10.0,
    timer: Callable[[], float] = time.monotonic,
    ssl_context: ssl.SSLContext | None = None,
) -> Client:
    """Connect to a running service.

    Args:
        url: Of the service: ``ws://HOST:PORT`` or ``wss://HOST:PORT``.
        token: That the service asks for; none is needed on its own computer, unless one was set.
        session: Name of the session to follow; None for the default one.
        timeout_s: Seconds that the connection, and each answer of the service, may take.
        timer: Your clock in seconds, for the times of markers; it must not jump.
        ssl_context: For ``wss`` with a certificate that this computer does not trust by itself.

    Raises:
        ServiceError: There is no service at this address, or it refuses the connection; ``code`` says why.
        SettingsError: The address cannot be one.

    Example::

        import clmer

        with clmer.connect("ws://127.0.0.1:8765") as client:
            print(client.welcome.model.id, client.welcome.source)
    """
    address = _address(url, session)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with contextlib.ExitStack() as opening:
        try:
            socket = opening.enter_context(
                open_websocket(
                    address,
                    subprotocols=[Subprotocol(PROTOCOL)],
                    additional_headers=headers,
                    open_timeout=timeout_s,
                    ssl=ssl_context,
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            raise _refused(address, bytes(error.response.body or b"")) from error
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise _unreachable(address, str(error) or type(error).__name__) from error
        client = Client(socket, address, headers, timeout_s=timeout_s, timer=timer, ssl_context=ssl_context)
        opening.pop_all()  # the client closes it
        return client


@dataclass(frozen=True)
class ClockOffset:
    """Offset of the service's clock (LSL) from the client's timer."""

    offset_s: float
    uncertainty_s: float  # the offset is wrong by no more than this
    n_exchanges: int  # behind it

    def to_service(self, t: float) -> float:
        """Return ``t`` seconds of the timer as seconds of the service's clock."""
        return t + self.offset_s

    def to_client(self, t: float) -> float:
        """Return ``t`` seconds of the service's clock as seconds of the timer."""
        return t - self.offset_s


class Client:
    """A connection to a service, as ``connect`` returns it; its methods may be called in any thread.

    Messages are read in the background. Those that nobody iterates over wait, up to 20,000 of them; then the oldest
    go, which a ``gap`` message tells. ``close``, or the end of a ``with`` block, ends the connection.

    Attributes:
        welcome: The service's first message: session, model, streams, capabilities, limits.

    Example::

        import clmer

        with clmer.connect("ws://127.0.0.1:8765") as client:
            placed = client.mark("stimulus/joy", value=7)
            print(f"at {placed.t:.3f} s of the service's clock, within {placed.uncertainty_s:.4f} s")
            for event in client.predictions():
                print(event.t_end, event.valid, event.label, event.valence)
                break
    """

    def __init__(  # noqa: PLR0913 - what connect has made
        self,
        socket: ClientConnection,
        address: str,
        headers: dict[str, str],
        *,
        timeout_s: float,
        timer: Callable[[], float],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = socket
        self._address = address
        self._headers = headers
        self._timeout_s = timeout_s
        self._timer = timer
        self._ssl = ssl_context
        self._ids = itertools.count(1)
        self._answers: dict[object, Future[str | bytes]] = {}  # by id of the request
        self._lock = threading.Lock()  # guards _answers and _topics
        self._topics: frozenset[str] | None = None  # what was subscribed to; None: the service's defaults
        self._clock: ClockOffset | None = None
        self._last_exchange: dict[str, Any] | None = None  # id and t3 of the newest one, to be told with the next
        self._synced_at = -float("inf")  # s of time.monotonic
        self._syncing = threading.Lock()
        self._inbox = Inbox()
        self._run_over = False  # nothing comes until the session is started again
        self._lost: ServiceError | None = None  # why nothing more comes, where that is no orderly end
        self.welcome: Welcome = self._receive_welcome()
        self._reader = threading.Thread(target=self._read, name="clmer-client", daemon=True)
        self._reader.start()

    def predictions(self, *, timeout_s: float | None = None) -> Iterator[EmotionEvent]:
        """Yield the predictions of the session as they come, oldest first; other messages are skipped.

        The iteration ends when the replay or the input has ended, the session is stopped, or the service ends.

        Args:
            timeout_s: Seconds to wait for the next message of any kind; None: as long as it takes.

        Raises:
            ServiceError: The session has failed, the connection is lost, or nothing came in time.

        Example::

            with clmer.connect("ws://127.0.0.1:8765") as client:
                event = next(client.predictions())
        """
        if self._run_over and self._inbox.empty:
            return
        for message in self._messages(("predictions",), timeout_s):
            if isinstance(message, EmotionEvent):
                yield message
            elif isinstance(message, Notice) and message.code in RUN_ENDED and self._run_over:
                return

    def messages(
        self, topics: Iterable[Topic] | None = None, *, timeout_s: float | None = None
    ) -> Iterator[Message | Preview]:
        """Yield messages of some topics as they come, with the notices, gaps and the ``bye`` among them.

        Args:
            topics: ``predictions``, ``quality``, ``status``, ``markers``, ``eeg.preview``, ``face.preview``; they are
                subscribed to where they are not yet. None: what is subscribed to, at first predictions, status and
                markers.
            timeout_s: Seconds to wait for the next message; None: as long as it takes.

        Raises:
            ServiceError: There is no such topic, the session has failed, or the connection is lost.

        Example::

            with clmer.connect("ws://127.0.0.1:8765") as client:
                for message in client.messages(["quality"]):
                    if message.type == "quality":
                        print(message.seq, [channel.name for channel in message.channels if not channel.good])
                        break
        """
        return self._messages(None if topics is None else tuple(topics), timeout_s)

    def mark(self, label: str, value: float | None = None, t: float | None = None) -> PlacedMarker:
        """Send a marker: it is recorded, published on LSL, and sent to every client.

        Args:
            label: 1 to 256 characters without control characters.
            value: A number beside it, if you like.
            t: When it happened, in seconds of the timer (``time.monotonic``, unless ``connect`` was given another);
                None: now.

        Returns:
            Its id, its time by the service's clock (in a replay: of the recording), and how wrong that may be.

        Raises:
            ServiceError: The session does not run, or a field cannot have this value.

        Example::

            with clmer.connect("ws://127.0.0.1:8765") as client:
                begun = time.monotonic()
                client.mark("stimulus/joy", value=7, t=begun)
        """
        happened = self._timer() if t is None else t
        self._sync(SYNC_EVERY_S)
        ack = self.request("marker", label=label, value=value, t=happened, clock="client")
        if ack.marker is None:
            raise self._unexpected("an answer that says where the marker is", ack)
        return ack.marker

    @property
    def clock(self) -> ClockOffset:
        """Offset of the service's clock from the timer, and its uncertainty; measured anew every minute.

        Example::

            with clmer.connect("ws://127.0.0.1:8765") as client:
                now = client.clock.to_service(time.monotonic())
        """
        return self._sync(SYNC_EVERY_S)

    def sessions(self) -> list[SessionStatus]:
        """Return the sessions of the service, the default one first: name, state, streams, recording.

        Raises:
            ServiceError: The service does not answer.
        """
        from clmer_server.web.sessions_api import SessionStatus  # brings FastAPI along

        told = self._get("/api/sessions")
        try:
            return TypeAdapter(list[SessionStatus]).validate_python(told, extra="ignore")
        except ValidationError as error:
            raise self._unexpected("a list of sessions", told) from error

    def start(
        self,
        session: str | None = None,
        *,
        participant: str | None = None,
        consent_ref: str | None = None,
        record: bool | None = None,
    ) -> None:
        """Start a session that waits, was stopped or has ended; what is None stays as the settings have it.

        Args:
            session: Its name; None: the one that is followed.
            participant: Pseudonym.
            consent_ref: Where the signed consent is filed.
            record: Whether to record it, into a new folder of the service's own.

        Raises:
            ServiceError: It runs already (``session_running``), cannot start (``cannot_start``), there is no folder
                to record in (``recording_off``), and others.
        """
        said = {"session": session, "participant": participant, "consent_ref": consent_ref, "record": record}
        self.request("session.start", **{name: value for name, value in said.items() if value is not None})
        if session in (None, self.welcome.session):
            self._inbox.discard_ends()  # of the run before
            self._run_over = False

    def stop(self, session: str | None = None) -> None:
        """Stop a session; its clients stay, and its recording is closed.

        Args:
            session: Its name; None: the one that is followed.

        Raises:
            ServiceError: It does not run.
        """
        self.request("session.stop", **({} if session is None else {"session": session}))

    def request(self, kind: str, **fields: Any) -> Ack:
        """Send a message of the protocol, for which there is no method here, and return the answer.

        Args:
            kind: Its type, e.g. ``calibration.start`` or ``replay.control``.
            fields: The others; the id is given.

        Raises:
            ServiceError: The service refuses it, or does not answer in time.

        Example::

            with clmer.connect("ws://127.0.0.1:8765") as client:
                client.request("replay.control", action="pause")
                client.request("replay.control", action="resume")
        """
        answer = self._ask(kind, next(self._ids), **fields)
        if not isinstance(answer, Ack):
            raise self._unexpected("an ack", answer)
        return answer

    def close(self) -> None:
        """Close the connection; iterators over its messages end."""
        self._inbox.close()
        self._socket.close()
        self._reader.join(self._timeout_s)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the connection."""
        self.close()

    def __repr__(self) -> str:
        """Return the address and the session."""
        return f"<clmer.Client of {self._address}, session {self.welcome.session}>"

    def _messages(self, topics: tuple[str, ...] | None, timeout_s: float | None) -> Iterator[Message | Preview]:
        if topics is not None:
            self._subscribe(topics)
        failure = ""  # what the notice of a failed session said
        while (content := self._next(timeout_s)) is not None:
            message = content if isinstance(content, GapMessage) else parse_message(content)
            if message is None or not is_of(message, topics):
                continue
            if isinstance(message, Notice) and message.session in (None, self.welcome.session):
                self._run_over = message.code in RUN_ENDED or (
                    self._run_over and message.code is not NoticeCode.SESSION_STARTED
                )
                failure = message.message if message.code is NoticeCode.SESSION_FAILED else failure
            yield message
            if isinstance(message, Bye):
                if message.reason not in _ORDERLY:
                    raise self._ended(message, failure)
                return

    def _next(self, timeout_s: float | None) -> str | bytes | GapMessage | None:
        """Return what waits next; None where the connection has ended in order."""
        try:
            content = self._inbox.get(timeout_s)
        except TimeoutError as error:
            found = f"none within {timeout_s:g} s"
            raise ServiceError("timeout", f"a message of {self._address}", found, "wait longer") from error
        if content is None and self._lost is not None:
            raise self._lost
        return content

    def _subscribe(self, topics: tuple[str, ...]) -> None:
        """Subscribe to the topics that do not come yet."""
        with self._lock:
            subscribed = frozenset(DEFAULT_TOPICS) if self._topics is None else self._topics
        if missing := [topic for topic in topics if topic not in subscribed]:
            ack = self.request("subscribe", topics=missing)
            for failed in ack.failed:
                raise ServiceError(str(failed.code), "a topic of the service", repr(failed.topic), failed.message)
            with self._lock:
                self._topics = frozenset(missing) if self._topics is None else self._topics | frozenset(missing)

    def _sync(self, at_most_s: float) -> ClockOffset:
        """Compare clocks, where that was longer ago than ``at_most_s`` seconds."""
        with self._syncing:
            if self._clock is not None and time.monotonic() - self._synced_at < at_most_s:
                return self._clock
            for _ in range(SYNC_EXCHANGES):
                reply = self._exchange()
            if reply.offset_s is None or reply.uncertainty_s is None:
                raise self._unexpected("the offset of the clocks", reply)
            self._clock = ClockOffset(reply.offset_s, reply.uncertainty_s, reply.n_exchanges)
            self._synced_at = time.monotonic()
            return self._clock

    def _exchange(self) -> ClockReply:
        number, previous = next(self._ids), self._last_exchange
        self._last_exchange = None
        reply = self._ask("clock.sync", number, t0=self._timer(), previous=previous)
        if not isinstance(reply, ClockReply):
            raise self._unexpected("a clock.reply", reply)
        self._last_exchange = {"id": number, "t3": self._timer()}
        return reply

    def _ask(self, kind: str, number: int, **fields: Any) -> Message | Preview | None:
        """Send a message, and return the answer that carries its number."""
        answer: Future[str | bytes] = Future()
        with self._lock:
            self._answers[number] = answer
        try:
            self._socket.send(json.dumps({"type": kind, "id": number, **fields}))
            message = parse_message(answer.result(self._timeout_s))
        except TimeoutError as error:
            found = f"none within {self._timeout_s:g} s"
            raise ServiceError("timeout", f"an answer of {self._address} to {kind}", found, "is it busy?") from error
        except ConnectionClosed as error:
            raise self._lost or self._closed(str(error)) from error
        finally:
            with self._lock:
                self._answers.pop(number, None)
        if isinstance(message, ErrorMessage):
            raise ServiceError(
                str(message.code),
                f"{self._address} to accept {kind}",
                message.message,
                f"see the code {message.code} in docs/protocol.md",
            )
        return message

    def _receive_welcome(self) -> Welcome:
        hello = {"type": "hello", "id": next(self._ids), "client": "clmer for Python", "version": version("clmer")}
        try:
            self._socket.send(json.dumps(hello))  # else a service that wants a token waits for it, and says so late
            message = parse_message(self._socket.recv(self._timeout_s))
        except TimeoutError as error:
            raise _unreachable(self._address, "no welcome in time") from error
        except ConnectionClosed as error:
            raise self._closed(str(error)) from error
        if isinstance(message, ErrorMessage):
            raise ServiceError(str(message.code), f"to be let in by {self._address}", message.message, "see the code")
        if isinstance(message, Bye):
            raise self._ended(message)
        if not isinstance(message, Welcome):
            raise self._unexpected("a welcome", message)
        return message

    def _read(self) -> None:
        """Take what comes: answers to who asked, everything else into the inbox."""
        try:
            for content in self._socket:
                if not self._answered(content):
                    self._inbox.put(content)
        except ConnectionClosed as error:
            self._lost = self._closed(str(error))
        self._inbox.close()
        with self._lock:
            waiting = list(self._answers.values())
        for answer in waiting:
            with contextlib.suppress(InvalidStateError):
                answer.set_exception(self._lost or self._closed("it was closed"))

    def _answered(self, content: str | bytes) -> bool:
        """Hand an answer to the one who waits for it; False where it is no answer, or one to nothing in particular."""
        plain = {} if isinstance(content, bytes) else plain_values(content)
        if plain.get("type") not in ANSWERS:
            return False
        with self._lock:
            answer = self._answers.get(plain.get("id"))
        if answer is None:
            return plain.get("id") is not None  # nobody waits any more
        with contextlib.suppress(InvalidStateError):
            answer.set_result(content)
        return True

    def _get(self, path: str) -> Any:
        """Return what the service says over HTTP."""
        parts = urlsplit(self._address)
        url = urlunsplit((parts.scheme.replace("ws", "http", 1), parts.netloc, path, "", ""))
        handlers: list[Any] = [urllib.request.ProxyHandler({})]
        if self._ssl is not None:
            handlers.append(urllib.request.HTTPSHandler(context=self._ssl))
        request = urllib.request.Request(url, headers=self._headers)
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self._timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise _refused(url, error.read()) from error
        except (OSError, ValueError) as error:
            raise _unreachable(url, str(error)) from error

    def _ended(self, bye: Bye, failure: str = "") -> ServiceError:
        found = failure or f"bye: {GOODBYES[bye.reason]}"
        return ServiceError(str(bye.reason), f"{self._address} to go on", found, "mend this, and start it again")

    def _closed(self, found: str) -> ServiceError:
        return ServiceError("closed", f"an open connection to {self._address}", found, "connect again")

    def _unexpected(self, expected: str, found: object) -> ServiceError:
        mend = "install the same version of clmer here and there"
        return ServiceError("bad_message", f"{expected} from {self._address}", f"{found!r:.200}", mend)


def _address(url: str, session: str | None) -> str:
    """Return the address of the WebSocket.

    Raises:
        SettingsError: The URL is none of a service.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.path not in ("", "/", "/ws"):
        raise SettingsError("the address of a service", repr(url), "for example ws://127.0.0.1:8765")
    query = "" if session is None else f"session={quote(session, safe='')}"
    return urlunsplit((parts.scheme, parts.netloc, "/ws", query, ""))


def _refused(address: str, body: bytes) -> ServiceError:
    """Return the error of a request that was refused over HTTP."""
    plain = plain_values(body.decode(errors="replace"))
    code = str(plain.get("code", "refused"))
    found = str(plain.get("message") or f"a refusal without a reason: {body[:80]!r}")
    return ServiceError(code, f"to be let in by {address}", found, f"see the code {code} in docs/protocol.md")


def _unreachable(address: str, found: str) -> ServiceError:
    return ServiceError("unreachable", f"a service at {address}", found, "start it: clmer-serve; or check the address")
