"""Which session has which live stream, so that no participant's signals get into another's numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from clmer_streaming.sources.selection import StreamQuery
from clmer_streaming.types import StreamInfo


@dataclass(frozen=True)
class StreamIdentity:
    """A stream of the network, and what stays when its outlet is started again."""

    uid: str  # new at each start of an outlet
    name: str
    source_id: str
    hostname: str

    @classmethod
    def of(cls, uid: str, info: StreamInfo) -> Self:
        """Return that of an announced stream."""
        return cls(uid, info.name, info.source_id, info.hostname)

    @classmethod
    def found(cls, stream: Any) -> Self:
        """Return that of a stream as pylsl found it."""
        return cls(stream.uid(), stream.name(), stream.source_id(), stream.hostname())

    def is_same(self, other: StreamIdentity) -> bool:
        """Tell whether it is the same stream."""
        return self.uid == other.uid or (self.name == other.name and self.is_same_device(other))

    def is_same_device(self, other: StreamIdentity) -> bool:
        """Tell whether it comes from the same device: the same source_id at the same computer."""
        return bool(self.source_id) and (self.source_id, self.hostname) == (other.source_id, other.hostname)

    def is_meant_by(self, query: StreamQuery) -> bool:
        """Tell whether a query names this stream, its device or its computer; of predicates only the network knows."""
        found = {"name": self.name, "source_id": self.source_id, "hostname": self.hostname.casefold()}
        wanted = [(key, value) for key, value in query.wanted if key in found]
        return bool(wanted) and all(
            found[key] == (value.casefold() if key == "hostname" else value) for key, value in wanted
        )


@dataclass
class _Share:
    """What one session has taken, and what it asks for."""

    session: str
    asked: tuple[StreamQuery, ...]
    taken: list[StreamIdentity] = field(default_factory=list)


class StreamClaims:
    """The live streams of all sessions of one service; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shares: list[_Share] = []

    def join(self, session: str, asked: Sequence[str]) -> Claim:
        """Enter a session.

        Args:
            session: Its name.
            asked: The words by which it asks for its streams, as ``StreamQuery`` reads them.

        Raises:
            SettingsError: The words cannot be read.
        """
        share = _Share(session, tuple(StreamQuery.parse(text) for text in asked))
        with self._lock:
            self._shares.append(share)
        return Claim(self, share)

    def leave(self, share: _Share) -> None:
        """Free what a session has."""
        with self._lock:
            self._shares = [other for other in self._shares if other is not share]

    def take(self, share: _Share, stream: StreamIdentity) -> bool:
        """Take a stream; False where another session has it."""
        with self._lock:
            if any(taken.is_same(stream) for other in self._others(share) for taken in other.taken):
                return False
            share.taken.append(stream)
            return True

    def others(self, share: _Share) -> list[_Share]:
        """Return a snapshot of the other sessions."""
        with self._lock:
            return [_Share(other.session, other.asked, list(other.taken)) for other in self._others(share)]

    def _others(self, share: _Share) -> Iterator[_Share]:
        return (other for other in self._shares if other is not share)


class Claim:
    """What one session may take of the network; made by ``StreamClaims.join``.

    Args:
        claims: Those of all sessions; None: there is no other one.
        share: Its own.
    """

    def __init__(self, claims: StreamClaims | None = None, share: _Share | None = None) -> None:
        self._claims = claims or StreamClaims()
        self._share = share or _Share("", ())

    def take(self, stream: StreamIdentity) -> bool:
        """Take a stream; False where another session has it."""
        return self._claims.take(self._share, stream)

    def holder(self, stream: StreamIdentity) -> str:
        """Return the name of the other session that has this stream; "" where none has."""
        others = self._claims.others(self._share)
        return next((other.session for other in others if any(taken.is_same(stream) for taken in other.taken)), "")

    def is_of_another(self, stream: StreamIdentity) -> bool:
        """Tell whether another session has this stream or one of the same device, or asks for it by name."""
        return any(
            any(taken.is_same(stream) or taken.is_same_device(stream) for taken in other.taken)
            or any(stream.is_meant_by(query) for query in other.asked)
            for other in self._claims.others(self._share)
        )

    def leave(self) -> None:
        """Free everything."""
        self._claims.leave(self._share)
