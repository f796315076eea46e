"""What waits for one client: bounded, the oldest goes first, and every loss is announced."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from clmer_server.letters import Letter
from clmer_server.protocol.outbound import GapMessage
from clmer_server.protocol.parts import Topic

_RANKS: dict[Topic | None, int] = {"eeg.preview": 0, "face.preview": 0, "quality": 1, "predictions": 1}
"""What goes first where there is no room: what the next of its kind makes up for. All else goes last."""

_LAST_RANK = 2


@dataclass(slots=True)
class _Loss:
    """What went of one session since the last announcement."""

    first_seq: int | None = None
    last_seq: int | None = None
    topics: Counter[str] = field(default_factory=Counter)

    def add(self, letter: Letter) -> None:
        self.topics[letter.topic or "other"] += 1
        if letter.seq is not None:
            self.first_seq = letter.seq if self.first_seq is None else self.first_seq
            self.last_seq = letter.seq


class Mailbox:
    """A bounded queue of letters for one client; for one thread.

    A full mailbox loses its oldest preview, then its oldest prediction or quality, because a newer one replaces it.
    Only where it holds none of these does it lose another message. What was lost is said by a ``gap`` before
    anything else is handed out.

    Args:
        capacity: Letters that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_dropped = 0  # since the client came
        self._letters: deque[Letter] = deque()
        self._losses: dict[str | None, _Loss] = {}  # by session

    def __len__(self) -> int:
        """Letters that wait."""
        return len(self._letters)

    @property
    def full(self) -> bool:
        """Whether one more letter would push another one out."""
        return len(self._letters) >= self.capacity

    def put(self, letter: Letter, *, alone: bool = False) -> None:
        """Add a letter; a full mailbox makes room for it first.

        Args:
            letter: What to add.
            alone: Whether it takes the place of an earlier one of its key.
        """
        if alone and (same := [i for i, old in enumerate(self._letters) if old.key == letter.key]):
            self._lose(same[0])
        if self.full:
            self._lose(self._most_dispensable())
        self._letters.append(letter)

    def take(self) -> Letter | None:
        """Return the next letter to send, or None where nothing waits."""
        if self._losses:
            session, loss = self._losses.popitem()
            dropped = loss.topics.total()
            gap = GapMessage(
                session=session, from_seq=loss.first_seq, to_seq=loss.last_seq, dropped=dropped, topics=loss.topics
            )
            return Letter(gap)
        return self._letters.popleft() if self._letters else None

    def _most_dispensable(self) -> int:
        ranks = [_RANKS.get(letter.topic, _LAST_RANK) for letter in self._letters]
        return ranks.index(min(ranks))

    def _lose(self, place: int) -> None:
        letter = self._letters[place]
        self._losses.setdefault(letter.session, _Loss()).add(letter)
        del self._letters[place]
        self.n_dropped += 1
