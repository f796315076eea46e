"""Limits on what one client, one address and all of them together may ask for.

To be read in this order: the rate of messages, the number of connections, connections that do not read.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from clmer_server.protocol.parts import Limits

BURST_S = 2.0
"""Seconds whose messages a client may send at once."""

MAX_STRIKES = 50
"""Messages above the rate that are answered; one more ends the connection."""


class TokenBucket:
    """A token bucket: so many per second on average, and a burst after a pause.

    Args:
        rate_per_s: Tokens that are added in a second; infinity allows everything.
        burst: Tokens that the bucket holds.
        clock: Seconds; only differences count.
    """

    def __init__(self, rate_per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    @property
    def full(self) -> bool:
        """Whether the bucket was full at the last ``refill``."""
        return self._level >= self._burst

    def refill(self) -> None:
        """Add the tokens of the time since the last call."""
        if math.isinf(self._rate_per_s):
            return
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate_per_s)
        self._at = now

    def take(self) -> bool:
        """Remove one token; return False where there is none."""
        if math.isinf(self._rate_per_s):
            return True
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class RateVerdict(Enum):
    """Decision about a message, by the rate of the client's messages."""

    ACCEPTED = auto()
    REFUSED = auto()  # not acted upon, but answered
    CUT_OFF = auto()  # too fast for too long: the connection ends


class RateLimiter:
    """Limits how fast one client sends.

    A message above the rate is answered ``rate_limited``. A client that goes on all the same is cut off, so that the
    answers are bounded, too. The count starts again once it has been silent for ``BURST_S``.

    Args:
        limits: Of the service.
        clock: Seconds; only differences count.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        rate_per_s = math.inf if limits.max_messages_per_s is None else limits.max_messages_per_s
        self._bucket = TokenBucket(rate_per_s, max(1.0, rate_per_s * BURST_S), clock)
        self._n_strikes = 0

    def check(self) -> RateVerdict:
        """Return what is done with the message that has just come."""
        self._bucket.refill()
        if self._bucket.full:
            self._n_strikes = 0
        if self._bucket.take():
            return RateVerdict.ACCEPTED
        self._n_strikes += 1
        return RateVerdict.REFUSED if self._n_strikes <= MAX_STRIKES else RateVerdict.CUT_OFF


class ConnectionCounter:
    """Counts the WebSockets that are open, in all and by address.

    Args:
        limits: Of the service.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()

    def refusal_code(self, address: str) -> str | None:
        """Return the error code for one more from this address; None where it is allowed."""
        if self._open.total() >= self._limits.max_connections:
            return "too_many_connections"
        if self._open[address] >= self._limits.max_connections_per_address:
            return "too_many_from_address"
        return None

    def add(self, address: str) -> None:
        """Count one more."""
        self._open[address] += 1

    def remove(self, address: str) -> None:
        """Count one less."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


STALL_S = 5.0
"""How long a send queue may stay full without one message being sent."""

CHECK_S = 0.5
"""Seconds between two checks."""


@dataclass(eq=False)
class WatchedConnection:
    """One connection that the watchdog checks.

    Args:
        is_full: Returns whether the client's send queue is full.
        abort: Ends the connection at once.
        stalled_since: Since when the queue has been full, in seconds; None: it is not.
    """

    is_full: Callable[[], bool]
    abort: Callable[[], None]
    stalled_since: float | None = None

    def sent(self) -> None:
        """Record that a message was sent."""
        self.stalled_since = None


class Watchdog:
    """Aborts connections whose clients do not read; it checks them twice a second while ``run`` runs.

    Args:
        clock: Seconds; only differences count.

    Attributes:
        n_evicted: Connections aborted so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_evicted = 0
        self._clock = clock
        self._watched: set[WatchedConnection] = set()

    @contextmanager
    def watching(self, is_full: Callable[[], bool], abort: Callable[[], None]) -> Iterator[WatchedConnection]:
        """Watch one connection while the context lasts."""
        watched = WatchedConnection(is_full, abort)
        self._watched.add(watched)
        try:
            yield watched
        finally:
            self._watched.discard(watched)

    async def run(self) -> None:
        """Check again and again, until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_S)

    def check(self) -> None:
        """Abort every connection whose send queue has stayed full for too long."""
        now = self._clock()
        for watched in tuple(self._watched):
            if not watched.is_full():
                watched.stalled_since = None
            elif watched.stalled_since is None:
                watched.stalled_since = now
            elif now - watched.stalled_since >= STALL_S:
                self.n_evicted += 1
                self._watched.discard(watched)
                watched.abort()
