"""Which streams a user means: the words of ``--eeg``, ``--face-stream`` and the like, and what does not fit them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from clmer_streaming.errors import ClmerError, SettingsError, StreamError
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header

AUTO = "auto"
"""The word for: the only one there is."""

PROPERTIES = ("name", "type", "source_id", "hostname", "channel_count", "nominal_srate", "channel_format")
"""What a query may ask for by name: what LSL tells of a stream before it is opened."""

_ANY_CASE = ("type", "hostname", "channel_format")  # programs spell these as they like
_ONE_STREAM = ("name", "source_id")  # who asks for one of these means a certain stream
_ANY_STREAM = "channel_count>0"
_AND = re.compile(r"\s*,\s*|\s+and\s+")
_XPATH = re.compile(r"""[=,(<>]\s*['"]|^(?:count|starts-with|contains|not)\(""")
_MAX_LISTED = 6  # streams in one sentence


@dataclass(frozen=True)
class StreamQuery:
    """Which streams are meant.

    Attributes:
        text: As the user wrote it.
        wanted: Properties and their values, all of which must hold; empty for ``auto`` and for predicates.
        predicate: What the network is asked for, XPath 1.0 over the stream's header.
    """

    text: str
    wanted: tuple[tuple[str, str], ...] = ()
    predicate: str = _ANY_STREAM

    @classmethod
    def parse(cls, text: str) -> StreamQuery:
        """Read ``auto``, a name, ``property=value`` joined by commas or ``and``, or an XPath predicate.

        Raises:
            SettingsError: It asks for a property that streams do not have, or for no value.
        """
        if text == AUTO:
            return cls(text)
        if _XPATH.search(text):
            return cls(text, predicate=text)
        if "=" not in text:
            return cls(text, (("name", text),))
        return cls(text, tuple(_clause(part, text) for part in _AND.split(text)))

    @property
    def is_predicate(self) -> bool:
        """Whether the network itself decides what fits."""
        return self.predicate != _ANY_STREAM

    @property
    def means_one(self) -> bool:
        """Whether it names a certain stream, so that one of them that cannot be used is a mistake."""
        return any(key in _ONE_STREAM for key, _ in self.wanted)

    def fits(self, header: StreamDescription, usual_type: str = "") -> bool:
        """Tell whether a stream is meant.

        Args:
            header: What is known of it.
            usual_type: Type that a stream must have where the query leaves open which of a device's streams it is.
        """
        open_to_all = not (self.is_predicate or self.means_one or any(key == "type" for key, _ in self.wanted))
        if usual_type and open_to_all and header.type.casefold() != usual_type.casefold():
            return False
        return all(_holds(header, key, value) for key, value in self.wanted)


def _clause(part: str, text: str) -> tuple[str, str]:
    key, _, value = (word.strip() for word in part.partition("="))
    if key in PROPERTIES and value:
        return key, value
    raise SettingsError(
        expected=f"auto, a stream's name, or properties such as name=..., type=...; known are {', '.join(PROPERTIES)}",
        found=f"{part!r} in {text!r}",
        mend="a name with = in it is given as name=...; clmer streams lists what is there",
    )


def _holds(header: StreamDescription, key: str, value: str) -> bool:
    if key == "channel_count":
        return str(header.n_channels) == value
    if key == "nominal_srate":
        return f"{header.sfreq:g}" == value
    found: str = getattr(header, key)
    return found.casefold() == value.casefold() if key in _ANY_CASE else found == value


def watch_network(pylsl: Any, query: StreamQuery, forget_s: float) -> Any:
    """Return a resolver that keeps knowing the streams which a query may mean.

    Args:
        pylsl: The library.
        query: What is looked for.
        forget_s: Seconds after which a stream that no longer answers is forgotten.

    Raises:
        StreamError: LSL does not understand the predicate.
    """
    try:
        return pylsl.ContinuousResolver(pred=query.predicate, forget_after=forget_s)
    except RuntimeError as error:
        raise StreamError(
            expected="an XPath predicate, such as starts-with(name,'Emotiv')",
            found=query.text,
            mend="mind quotes and brackets, or give properties: name=..., type=...; see docs/finding-streams.md",
        ) from error


def with_headers(streams: Iterable[Any]) -> list[tuple[Any, StreamDescription]]:
    """Return each stream of the network (pylsl's StreamInfo) that has a sensible header, with that header."""
    known = []
    for stream in streams:
        try:
            known.append((stream, parse_stream_header(0, stream.as_xml().encode())))
        except ValueError:
            continue
    return known


def the_only_one(infos: Sequence[StreamInfo], option: str, what: str) -> None:
    """Refuse to guess between several streams that fit.

    Args:
        infos: The streams that fit.
        option: The option that can say which, as ``--eeg``.
        what: What one of them is, as ``EEG stream``.

    Raises:
        StreamError: There are several; it lists them.
    """
    if len(infos) < 2:
        return
    names = "; ".join(f"{i.name} (source_id {i.source_id or 'none'}, host {i.hostname}, {i.sfreq:g} Hz)" for i in infos)
    raise StreamError(
        expected=f"one {what}",
        found=f"{len(infos)}: {names}",
        mend=f"{_how_to_say_which(infos, option)}, or switch the others off",
    )


def _how_to_say_which(infos: Sequence[StreamInfo], option: str) -> str:
    if len({info.name for info in infos}) == len(infos):
        return f"say which by its name: {option} NAME"
    for key in ("source_id", "hostname"):
        values = [getattr(info, key) for info in infos]
        if all(values) and len(set(values)) == len(values):
            return "say which: " + " or ".join(f"{option} {key}={value}" for value in values)
    return "give each a source_id of its own, where the streams are made"


def why_none(headers: Iterable[StreamDescription] | None, query: StreamQuery, what: str) -> str:
    """Return why no stream is taken, as one sentence for people.

    Args:
        headers: What is on the network; None before anybody has looked.
        query: What is looked for.
        what: What one of them is, as ``EEG stream``.
    """
    missing = f"no {what} found yet" if query.text == AUTO else f"no {what} {query.text!r} found yet"
    if headers is None or query.is_predicate:  # with a predicate the network tells of nothing else
        return missing
    listed = sorted(f"{header.name} ({header.type or 'no type'})" for header in headers)
    if not listed:
        return f"{missing}; there is no stream at all on the network, clmer doctor looks why"
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return f"{missing}; on the network: {', '.join(listed[:_MAX_LISTED])}{more}"


def one_line(error: ClmerError) -> str:
    """Return an error as one sentence for people."""
    return f"expected {error.expected}, found {error.found}; {error.mend}"


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
