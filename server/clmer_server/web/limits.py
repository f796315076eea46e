"""How much one client, one address and all of them together may ask for."""

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
"""A client may send what it may send in this time at once."""

MAX_STRIKES = 50
"""Messages over the rate that are answered; one more ends the connection."""


class TokenBucket:
    """Lets so much through in a second, and a burst after a pause.

    Args:
        rate_per_s: What comes back in a second; infinity lets everything through.
        burst: What fits in.
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
        """Whether a whole burst was there at the last look."""
        return self._level >= self._burst

    def refill(self) -> None:
        """Add what has come back since the last look."""
        if math.isinf(self._rate_per_s):
            return
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate_per_s)
        self._at = now

    def take(self) -> bool:
        """Take one out; False where there is none."""
        if math.isinf(self._rate_per_s):
            return True
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class Pace(Enum):
    """What becomes of a message, by how fast it came."""

    FINE = auto()
    TOO_FAST = auto()  # not acted upon, and answered
    GOES_ON = auto()  # too fast for too long: the connection ends


class InboundPace:
    """Judges how fast one client sends.

    Too fast a message is answered ``rate_limited``. A client that goes on all the same is stopped, so that the
    answers are bounded, too. Once it has kept still for ``BURST_S``, all is forgotten.

    Args:
        limits: Of the service.
        clock: Seconds; only differences count.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        rate_per_s = math.inf if limits.max_messages_per_s is None else limits.max_messages_per_s
        self._bucket = TokenBucket(rate_per_s, max(1.0, rate_per_s * BURST_S), clock)
        self._n_strikes = 0

    def judge(self) -> Pace:
        """Return what becomes of the message that has just come."""
        self._bucket.refill()
        if self._bucket.full:
            self._n_strikes = 0
        if self._bucket.take():
            return Pace.FINE
        self._n_strikes += 1
        return Pace.TOO_FAST if self._n_strikes <= MAX_STRIKES else Pace.GOES_ON


class Admissions:
    """Counts the WebSockets that are open, in all and by address.

    Args:
        limits: Of the service.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: Counter[str] = Counter()

    def why_not(self, address: str) -> str | None:
        """Return the error code for one more from this address; None where there is room."""
        if self._open.total() >= self._limits.max_connections:
            return "too_many_connections"
        if self._open[address] >= self._limits.max_connections_per_address:
            return "too_many_from_address"
        return None

    def enter(self, address: str) -> None:
        """Count one more."""
        self._open[address] += 1

    def leave(self, address: str) -> None:
        """Count one less."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


STALL_S = 5.0
"""How long a mailbox may stay full, without one message leaving it."""

LOOK_S = 0.5
"""Time between two looks."""


@dataclass(eq=False)
class Watched:
    """One connection under watch.

    Args:
        is_full: Whether what waits for the client fills its mailbox.
        abort: Ends the connection at once.
    """

    is_full: Callable[[], bool]
    abort: Callable[[], None]
    stalled_since: float | None = None

    def sent(self) -> None:
        """Note that a message has left the mailbox."""
        self.stalled_since = None


class Watchdog:
    """Looks at all connections twice a second, while it is run.

    Args:
        clock: Seconds; only differences count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_evicted = 0
        self._clock = clock
        self._watched: set[Watched] = set()

    @contextmanager
    def watching(self, is_full: Callable[[], bool], abort: Callable[[], None]) -> Iterator[Watched]:
        """Watch one connection while the context lasts."""
        watched = Watched(is_full, abort)
        self._watched.add(watched)
        try:
            yield watched
        finally:
            self._watched.discard(watched)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Abort every connection whose mailbox has stayed full for too long."""
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
