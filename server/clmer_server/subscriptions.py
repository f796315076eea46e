"""What one client wants of one topic, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from clmer_server.letters import Letter

_EARLY = 0.1
"""Share of the period by which a message may come early, and a newer one is waited for: arrivals jitter."""


@dataclass(frozen=True)
class Wish:
    """How a client wants the messages of a topic."""

    max_hz: float | None = None  # None: all of them
    latest: bool = False  # a slow client gets the newest alone
    smooth_s: float | None = None  # s; of predictions


ALL = Wish()
"""Every message, in order."""


@dataclass(slots=True)
class _Turn:
    """The newest message of a key, and when the next may go."""

    due: float  # s, of the event loop's clock
    held: Letter | None = None
    timer: asyncio.TimerHandle | None = None


class Subscription:
    """One topic of one session for one client; lives on the event loop.

    ``max_hz`` keeps the newest message until its turn comes. What a newer one replaces meanwhile was asked to be left
    out: it is no loss. Markers are events and all pass.

    Args:
        wish: What the client asked for.
        put: Takes what is due.
    """

    def __init__(self, wish: Wish, put: Callable[[Letter, bool], None]) -> None:
        self.wish = wish
        self._put = put
        self._period_s = 0.0 if wish.max_hz is None else 1.0 / wish.max_hz
        self._turns: dict[object, _Turn] = {}  # by key of the letters

    def offer(self, letter: Letter) -> None:
        """Pass a letter on, now or when its turn comes."""
        if not self._period_s or letter.topic == "markers":
            self._put(letter, self.wish.latest and letter.topic != "markers")
            return
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(letter.key, _Turn(loop.time()))
        turn.held = letter
        if loop.time() >= turn.due - _EARLY * self._period_s:
            self._pass(turn)
        elif turn.timer is None:
            turn.timer = loop.call_at(turn.due + _EARLY * self._period_s, self._pass, turn)

    def end(self) -> None:
        """Forget what waits."""
        for turn in self._turns.values():
            if turn.timer is not None:
                turn.timer.cancel()
        self._turns.clear()

    def _pass(self, turn: _Turn) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        assert turn.held is not None
        letter, turn.held = turn.held, None
        turn.due = max(turn.due, asyncio.get_running_loop().time()) + self._period_s
        self._put(letter, self.wish.latest)
