"""The last predictions of a session, for clients whose connection broke."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from clmer_server.letters import Letter
from clmer_server.protocol.outbound import GapMessage
from clmer_server.protocol.prediction import EmotionEvent

N_KEPT = 120
"""Predictions that are kept: a minute at a hop of 0.5 s, and fewer than crowd a client's mailbox."""


@dataclass(frozen=True)
class History:
    """What a client that comes back may have missed."""

    kept: deque[tuple[int, Letter]] = field(default_factory=lambda: deque(maxlen=N_KEPT))  # number, prediction

    def add(self, event: EmotionEvent, letter: Letter) -> None:
        """Keep a prediction, in place of the oldest one."""
        self.kept.append((event.seq, letter))

    def after(self, seq: int) -> list[Letter]:
        """Return the predictions behind a number, and before them a gap for those that are kept no more."""
        missed = [(number, letter) for number, letter in self.kept if number > seq]
        if not missed:
            return []
        first, oldest = missed[0]
        lost = [] if first == seq + 1 else [_gap(oldest.session, seq + 1, first - 1)]
        return [*lost, *(letter for _, letter in missed)]


def _gap(session: str | None, first: int, last: int) -> Letter:
    n = last - first + 1
    topics = {"predictions": n}
    return Letter(GapMessage(session=session, from_seq=first, to_seq=last, dropped=n, topics=topics, reason="not_kept"))
