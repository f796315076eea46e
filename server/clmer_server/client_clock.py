"""The clock of one client against ours, from exchanges of four stamps."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from clmer_server.protocol.parts import RequestId

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
