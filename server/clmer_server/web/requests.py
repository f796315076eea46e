"""What one client may ask for, and what it is answered: every message gets one answer."""

from __future__ import annotations

import logging
import math
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from clmer_server.hub import Client, SubscriptionOptions
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import UNEXPECTED, ErrorCode, ErrorMessage, RefusalError, unknown_session
from clmer_server.protocol.inbound import (
    CalibrationStart,
    CalibrationStop,
    ClockSync,
    Hello,
    Inbound,
    MarkerRequest,
    ReplayControl,
    SessionStart,
    SessionStop,
    Subscribe,
    Unsubscribe,
    read_inbound,
)
from clmer_server.protocol.outbound import Ack, ClockReply, PlacedMarker, TopicFailure
from clmer_server.protocol.parts import DEFAULT_TOPICS, TOPICS, RequestId, Topic
from clmer_server.session.config import StartRequest
from clmer_server.session.managed import ManagedSession
from clmer_server.session.manager import SessionManager
from clmer_streaming.types import Marker

DRIFT = 100e-6
"""Seconds per second by which two clocks may part: two quartzes, each within 50 ppm of the truth."""

STEP_S = 1e-3
"""Coarsest step, in seconds, in which browsers and game engines commonly count."""

KEPT = 16
"""Exchanges that count, and that may be open: the newest."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How far our clock is ahead of the client's."""

    offset_s: float
    uncertainty_s: float  # at the time that was asked for
    n: int  # exchanges behind it


@dataclass(frozen=True, slots=True)
class _Exchange:
    at: float  # s, ours, when it took place
    offset_s: float
    delay_s: float  # on the way, there and back


class ClientClock:
    """Estimates offset and uncertainty as NTP does (RFC 5905, section 8).

    The client sends at t0 and gets the answer at t3, by its clock; we get its message at t1 and answer at t2, by ours.
    The offset is ``((t1 - t0) + (t2 - t3)) / 2``. The two ways took ``delay = (t3 - t0) - (t2 - t1)`` together, and
    however they share it, the offset is wrong by no more than half of it. Clocks drift apart, and the client's may
    count in steps, so an exchange of ``age`` seconds ago is known within ``delay / 2 + DRIFT * age + STEP_S``; the one
    for which that is least counts.
    """

    def __init__(self) -> None:
        self._open: dict[RequestId, tuple[float, float, float]] = {}  # t0, t1, t2 of what was answered, by id
        self._exchanges: deque[_Exchange] = deque(maxlen=KEPT)

    def answered(self, request: RequestId, t0: float, t1: float, t2: float) -> None:
        """Keep the three stamps of an exchange until the client tells the fourth."""
        self._open.pop(request, None)
        self._open[request] = t0, t1, t2
        if len(self._open) > KEPT:
            del self._open[next(iter(self._open))]

    def complete(self, request: RequestId, t3: float) -> bool:
        """Take the fourth stamp; False where it fits no open exchange, or its answer came before its question."""
        if request not in self._open:
            return False
        t0, t1, t2 = self._open.pop(request)
        delay_s = (t3 - t0) - (t2 - t1)
        if delay_s < -STEP_S:
            return False
        self._exchanges.append(_Exchange(t2, ((t1 - t0) + (t2 - t3)) / 2, max(delay_s, 0.0)))
        return True

    def estimate(self, now: float) -> Estimate | None:
        """Return what is known at ``now`` seconds of our clock; None before the first exchange."""
        if not self._exchanges:
            return None
        uncertainty_s, offset_s = min((e.delay_s / 2 + DRIFT * (now - e.at), e.offset_s) for e in self._exchanges)
        return Estimate(offset_s, uncertainty_s + STEP_S, len(self._exchanges))


logger = logging.getLogger(__name__)

Answer = Ack | ErrorMessage | ClockReply
"""What a client gets back."""

_Order = Hello | CalibrationStart | CalibrationStop | SessionStart | SessionStop | ReplayControl
"""What is done without anything to say about it."""

MARKER_SOURCE = "websocket"
"""The source of clients' markers within a session."""

MARKER_ID_BYTES = 8
"""Chance in a marker's id: it is new also in a replay of a recording that holds such markers already."""

FARTHEST_S = 3600.0
"""How far from now, in seconds, a marker may lie; more is a mistaken clock."""


class RequestHandler:
    """Answer the requests of one client.

    Args:
        client: Who asks.
        home: Name of the session that welcomed it.
        rooms: All sessions.
        clock: Seconds of the LSL clock.
    """

    def __init__(self, client: Client, home: str, rooms: SessionManager, clock: Callable[[], float]) -> None:
        self._client = client
        self._home = home
        self._rooms = rooms
        self._now = clock
        self._clock = ClientClock()
        self._subscribed = False

    async def answer(self, data: str | bytes | None) -> Answer:
        """Return the answer to what the client sent, and do what it asks for."""
        t1 = self._now()
        request: RequestId | None = None
        try:
            said = read_inbound(data, self._client.encoding)
            request = said.id
            return said if isinstance(said, ErrorMessage) else await self._answer_to(said, t1)
        except Exception:
            logger.exception("a message of a client could not be answered", extra={OF_SESSION: self._home})
            return ErrorMessage(id=request, code=ErrorCode.INTERNAL_ERROR, message=UNEXPECTED)

    async def _answer_to(self, said: Inbound, t1: float) -> Answer:
        try:
            return self._compare_clocks(said, t1) if isinstance(said, ClockSync) else await self._act(said, t1)
        except RefusalError as refusal:
            return ErrorMessage(id=said.id, code=ErrorCode(refusal.code), message=refusal.message)

    async def _act(self, said: Inbound, t1: float) -> Ack:
        match said:
            case Subscribe():
                return self._subscribe(said)
            case Unsubscribe():
                return self._unsubscribe(said)
            case MarkerRequest():
                return self._mark(said, t1)
            case ClockSync():
                raise AssertionError("answered by itself")
            case _:
                await self._obey(said)
                return Ack(id=said.id)

    async def _obey(self, said: _Order) -> None:
        match said:
            case Hello():
                pass
            case CalibrationStart():
                self._room(said.session).calibrate(said.kind, said.seconds)
            case CalibrationStop():
                self._room(said.session).stop_calibration(said.kind)
            case SessionStart():
                request = StartRequest(said.participant, said.consent_ref, said.record)
                await self._rooms.start(said.session or self._home, request)
            case SessionStop():
                await self._rooms.stop(said.session or self._home)
            case ReplayControl():
                speed = math.inf if said.speed == "max" else said.speed
                self._room(said.session).control_replay(said.action, speed)
            case _:
                assert_never(said)

    def _room(self, name: str | None) -> ManagedSession:
        rooms = self._rooms.rooms
        wanted = self._home if name is None else name
        if wanted not in rooms:
            raise unknown_session(wanted, rooms)
        return rooms[wanted]

    def _subscribe(self, said: Subscribe) -> Ack:
        hub = self._room(said.session).hub
        if hub.over:
            name = said.session or self._home
            raise RefusalError("session_not_running", f"expected a session that goes on, found that {name} has ended")
        topics, failed = _sorted_out(said.topics)
        if topics:
            self._leave_defaults()
            hub.subscribe(
                self._client, topics, SubscriptionOptions(said.max_hz, said.overflow == "latest", said.smooth_s)
            )
        if "status" in topics:
            hub.tell_status(self._client)
        return Ack(id=said.id, topics=topics, failed=failed)

    def _leave_defaults(self) -> None:
        """Let the first subscription take the place of what comes unasked."""
        if not self._subscribed:
            self._subscribed = True
            self._room(None).hub.unsubscribe(self._client, DEFAULT_TOPICS)

    def _unsubscribe(self, said: Unsubscribe) -> Ack:
        topics, failed = _sorted_out(said.topics)
        self._room(said.session).hub.unsubscribe(self._client, topics)
        return Ack(id=said.id, topics=topics, failed=failed)

    def _mark(self, said: MarkerRequest, t1: float) -> Ack:
        room = self._room(said.session)
        here = room.stream_time(t1)
        t, uncertainty_s = self._place(said, room, t1, here)
        if abs(t - here) > FARTHEST_S:
            raise RefusalError(
                "time_implausible",
                f"expected a time within an hour of {here:.3f} s, found {t:.3f}; is it of the clock {said.clock!r}?",
            )
        marker_id = f"{MARKER_SOURCE}-{secrets.token_hex(MARKER_ID_BYTES)}-{said.id}"
        room.mark(Marker(t, marker_id, said.label, said.value, MARKER_SOURCE, uncertainty_s=uncertainty_s))
        return Ack(id=said.id, marker=PlacedMarker(id=marker_id, t=t, uncertainty_s=uncertainty_s))

    def _place(self, said: MarkerRequest, room: ManagedSession, t1: float, here: float) -> tuple[float, float | None]:
        """Return the time of a marker for its session, and how wrong it may be, in seconds."""
        if said.t is None:
            return here, None
        if said.clock == "lsl":
            return said.t, None
        known = self._clock.estimate(t1)
        if known is None:
            raise RefusalError("clock_not_synced", "expected a complete exchange of clock.sync before it, found none")
        return room.stream_time(said.t + known.offset_s), known.uncertainty_s

    def _compare_clocks(self, said: ClockSync, t1: float) -> ClockReply:
        if said.previous is not None and not self._clock.complete(said.previous.id, said.previous.t3):
            raise RefusalError(
                "clock_implausible",
                "expected the id of an exchange that is not complete yet and a t3 behind its t0; it is left out",
            )
        t2 = self._now()
        self._clock.answered(said.id, said.t0, t1, t2)
        known = self._clock.estimate(t2)
        return ClockReply(
            id=said.id,
            t0=said.t0,
            t1=t1,
            t2=t2,
            offset_s=known.offset_s if known else None,
            uncertainty_s=known.uncertainty_s if known else None,
            n_exchanges=known.n if known else 0,
        )


def _sorted_out(names: tuple[str, ...]) -> tuple[tuple[Topic, ...], tuple[TopicFailure, ...]]:
    """Return the topics among some names, each once, and what to say of the others."""
    known: dict[str, Topic] = {topic: topic for topic in TOPICS}
    wanted = dict.fromkeys(names)
    message = f"known are {', '.join(TOPICS)}"
    failed = [
        TopicFailure(topic=name, code=ErrorCode.UNKNOWN_TOPIC, message=message) for name in wanted if name not in known
    ]
    return tuple(known[name] for name in wanted if name in known), tuple(failed)
