"""What waits for one client: bounded, the oldest goes first, and every loss is announced."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from clmer_server.protocol.outbound import GapMessage, encode


@dataclass(frozen=True, slots=True)
class Letter:
    """An encoded message, shared by all clients."""

    text: str
    seq: int | None = None  # of a prediction; None for a message of any other type


@dataclass(slots=True)
class _Loss:
    """What went since the last announcement."""

    first_seq: int | None = None
    last_seq: int | None = None
    n: int = 0

    def add(self, letter: Letter) -> None:
        self.n += 1
        if letter.seq is not None:
            self.first_seq = letter.seq if self.first_seq is None else self.first_seq
            self.last_seq = letter.seq


class Mailbox:
    """A bounded queue of letters for one client; for one thread.

    A full mailbox loses its oldest prediction, because a newer one replaces it. Only where it holds no
    prediction at all does it lose another message. What was lost is said by a ``gap`` before anything else is
    handed out.

    Args:
        capacity: Letters that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_dropped = 0  # since the client came
        self._letters: deque[Letter] = deque()
        self._loss = _Loss()

    def __len__(self) -> int:
        """Letters that wait."""
        return len(self._letters)

    def put(self, letter: Letter) -> None:
        """Add a letter; a full mailbox makes room for it first."""
        if len(self._letters) >= self.capacity:
            self._lose_oldest()
        self._letters.append(letter)

    def take(self) -> str | None:
        """Return the next text to send, or None where nothing waits."""
        if self._loss.n:
            loss, self._loss = self._loss, _Loss()
            return encode(GapMessage(from_seq=loss.first_seq, to_seq=loss.last_seq, dropped=loss.n))
        return self._letters.popleft().text if self._letters else None

    def _lose_oldest(self) -> None:
        oldest = next((i for i, letter in enumerate(self._letters) if letter.seq is not None), 0)
        self._loss.add(self._letters[oldest])
        del self._letters[oldest]
        self.n_dropped += 1
