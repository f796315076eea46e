"""The requests of one client over its WebSocket: every message gets one answer.

To be read in this order: ``RequestHandler``, then the comparison of the client's clock with ours.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from clmer_server.hub import Smoothing, SubscriptionOptions
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import UNEXPECTED, ErrorCode, ErrorMessage, RefusalError
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
from clmer_server.send_queue import Subscriber
from clmer_server.session.managed import ManagedSession
from clmer_server.session.manager import SessionManager
from clmer_streaming.types import Marker

logger = logging.getLogger(__name__)

Answer = Ack | ErrorMessage | ClockReply
"""The answer to a request."""

_Command = Hello | CalibrationStart | CalibrationStop | SessionStart | SessionStop | ReplayControl
"""Requests that are answered by a plain ``ack``."""

MARKER_SOURCE = "websocket"
"""Source of clients' markers within a session."""

MARKER_ID_BYTES = 8
"""Random bytes in a marker's id, which is new also in a replay of a recording that holds such markers already."""

FARTHEST_S = 3600.0
"""How far from now, in seconds, a marker may lie; farther away it is of another clock."""


class RequestHandler:
    """Answers the requests of one client.

    Args:
        client: The client.
        session: Name of the session that welcomed it.
        manager: All sessions.
        clock: Returns seconds of the LSL clock.
    """

    def __init__(self, client: Subscriber, session: str, manager: SessionManager, clock: Callable[[], float]) -> None:
        self._client = client
        self._name = session
        self._manager = manager
        self._now = clock
        self._clock = ClientClock()
        self._subscribed = False

    async def answer(self, data: str | bytes | None) -> Answer:
        """Carry out the request in a message; return the answer."""
        t1 = self._now()
        request_id: RequestId | None = None
        try:
            request = read_inbound(data, self._client.encoding)
            request_id = request.id
            return request if isinstance(request, ErrorMessage) else await self._answer_to(request, t1)
        except Exception:
            logger.exception("a message of a client could not be answered", extra={OF_SESSION: self._name})
            return ErrorMessage(id=request_id, code=ErrorCode.INTERNAL_ERROR, message=UNEXPECTED)

    async def _answer_to(self, request: Inbound, t1: float) -> Answer:
        try:
            return self._compare_clocks(request, t1) if isinstance(request, ClockSync) else await self._act(request, t1)
        except RefusalError as refusal:
            return ErrorMessage(id=request.id, code=ErrorCode(refusal.code), message=refusal.message)

    async def _act(self, request: Inbound, t1: float) -> Ack:
        match request:
            case Subscribe():
                return self._subscribe(request)
            case Unsubscribe():
                return self._unsubscribe(request)
            case MarkerRequest():
                return self._mark(request, t1)
            case ClockSync():
                raise AssertionError("answered by itself")
            case _:
                await self._execute(request)
                return Ack(id=request.id)

    async def _execute(self, request: _Command) -> None:
        match request:
            case Hello():
                pass
            case CalibrationStart():
                self._session(request.session).running().controls.calibrate(request.kind, request.seconds)
            case CalibrationStop():
                self._session(request.session).running().controls.stop_calibration(request.kind)
            case SessionStart():
                await self._manager.start(request.session or self._name, request)
            case SessionStop():
                await self._manager.stop(request.session or self._name)
            case ReplayControl():
                speed = math.inf if request.speed == "max" else request.speed
                self._session(request.session).running().controls.replay(request.action, speed)
            case _:
                assert_never(request)

    def _session(self, name: str | None) -> ManagedSession:
        """Return the session of a request; None: the one that welcomed the client."""
        return self._manager.find(self._name if name is None else name)

    def _subscribe(self, request: Subscribe) -> Ack:
        hub = self._session(request.session).hub
        if hub.over:
            name = request.session or self._name
            raise RefusalError("session_not_running", f"expected a session that goes on, found that {name} has ended")
        topics, failed = _sort_topics(request.topics)
        if topics:
            self._drop_defaults()
            hub.subscribe(
                self._client,
                topics,
                SubscriptionOptions(request.max_hz, request.overflow == "latest", _smoothing(request)),
            )
        if "status" in topics:
            hub.send_status(self._client)
        return Ack(id=request.id, topics=topics, failed=failed)

    def _drop_defaults(self) -> None:
        """Let the first subscription replace the default topics."""
        if not self._subscribed:
            self._subscribed = True
            self._session(None).hub.unsubscribe(self._client, DEFAULT_TOPICS)

    def _unsubscribe(self, request: Unsubscribe) -> Ack:
        topics, failed = _sort_topics(request.topics)
        self._session(request.session).hub.unsubscribe(self._client, topics)
        return Ack(id=request.id, topics=topics, failed=failed)

    def _mark(self, request: MarkerRequest, t1: float) -> Ack:
        session = self._session(request.session)
        here = session.stream_time(t1)
        t, uncertainty_s = self._place(request, session, t1, here)
        if abs(t - here) > FARTHEST_S:
            raise RefusalError(
                "time_implausible",
                f"expected a time within an hour of {here:.3f} s, found {t:.3f}; is it of the clock {request.clock!r}?",
            )
        marker_id = f"{MARKER_SOURCE}-{secrets.token_hex(MARKER_ID_BYTES)}-{request.id}"
        session.running().mark(
            Marker(t, marker_id, request.label, request.value, MARKER_SOURCE, uncertainty_s=uncertainty_s)
        )
        return Ack(id=request.id, marker=PlacedMarker(id=marker_id, t=t, uncertainty_s=uncertainty_s))

    def _place(
        self, request: MarkerRequest, session: ManagedSession, t1: float, here: float
    ) -> tuple[float, float | None]:
        """Return the time of a marker for its session, and how wrong it may be, in seconds."""
        if request.t is None:
            return here, None
        if request.clock == "lsl":
            return request.t, None
        known = self._clock.estimate(t1)
        if known is None:
            raise RefusalError("clock_not_synced", "expected a complete exchange of clock.sync before it, found none")
        return session.stream_time(request.t + known.offset_s), known.uncertainty_s

    def _compare_clocks(self, request: ClockSync, t1: float) -> ClockReply:
        if request.previous is not None and not self._clock.complete(request.previous.id, request.previous.t3):
            raise RefusalError(
                "clock_implausible",
                "expected the id of an exchange that is not complete yet and a t3 behind its t0; it is left out",
            )
        t2 = self._now()
        self._clock.answered(request.id, request.t0, t1, t2)
        known = self._clock.estimate(t2)
        return ClockReply(
            id=request.id,
            t0=request.t0,
            t1=t1,
            t2=t2,
            offset_s=known.offset_s if known else None,
            uncertainty_s=known.uncertainty_s if known else None,
            n_exchanges=known.n if known else 0,
        )


def _smoothing(request: Subscribe) -> Smoothing | None:
    if request.smooth_s is None and request.smooth_windows is None:
        return None
    return Smoothing(request.smooth_s, request.smooth_windows)


def _sort_topics(names: tuple[str, ...]) -> tuple[tuple[Topic, ...], tuple[TopicFailure, ...]]:
    """Return the topics among some names, each once, and the failures of the others."""
    known: dict[str, Topic] = {topic: topic for topic in TOPICS}
    wanted = dict.fromkeys(names)
    message = f"known are {', '.join(TOPICS)}"
    failed = [
        TopicFailure(topic=name, code=ErrorCode.UNKNOWN_TOPIC, message=message) for name in wanted if name not in known
    ]
    return tuple(known[name] for name in wanted if name in known), tuple(failed)


DRIFT = 100e-6
"""Seconds per second by which two clocks may drift apart: two quartzes, each within 50 ppm of the truth."""

STEP_S = 1e-3
"""Coarsest step, in seconds, in which browsers and game engines commonly count."""

KEPT = 16
"""Exchanges that count, and that may be open: the newest."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated offset of our clock from the client's."""

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
        """Keep the three stamps of an exchange until the client sends the fourth."""
        self._open.pop(request, None)
        self._open[request] = t0, t1, t2
        if len(self._open) > KEPT:
            del self._open[next(iter(self._open))]

    def complete(self, request: RequestId, t3: float) -> bool:
        """Add the fourth stamp; return False where it fits no open exchange, or the answer came before the question."""
        if request not in self._open:
            return False
        t0, t1, t2 = self._open.pop(request)
        delay_s = (t3 - t0) - (t2 - t1)
        if delay_s < -STEP_S:
            return False
        self._exchanges.append(_Exchange(t2, ((t1 - t0) + (t2 - t3)) / 2, max(delay_s, 0.0)))
        return True

    def estimate(self, now: float) -> Estimate | None:
        """Return the estimate at ``now`` seconds of our clock; None before the first exchange."""
        if not self._exchanges:
            return None
        uncertainty_s, offset_s = min((e.delay_s / 2 + DRIFT * (now - e.at), e.offset_s) for e in self._exchanges)
        return Estimate(offset_s, uncertainty_s + STEP_S, len(self._exchanges))
