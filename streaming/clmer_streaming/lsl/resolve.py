"""Choosing streams of the network or of a file: queries, the error messages about them, and claims of sessions.

``StreamQuery`` is the text of ``--eeg``, ``--face-stream`` and similar options; ``announce_eeg`` checks whether a
stream can be the EEG of a model. ``open_resolver`` looks for what a query may match; ``require_single`` and
``explain_no_stream`` turn too many or too few matches into messages.
``StreamClaims`` keeps the sessions of one service from using the same stream twice.
"""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import ClmerError, SettingsError, StreamError
from clmer_streaming.pipeline.channels import apply_eeg_map, resolve_channels
from clmer_streaming.pipeline.filters import design_sos
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.header import StreamDescription, announcement, parse_stream_header

AUTO = "auto"
"""The query for the only stream that fits."""

PROPERTIES = ("name", "type", "source_id", "hostname", "channel_count", "nominal_srate", "channel_format")
"""Properties that a query may name: those that LSL reports of a stream before it is opened."""

STREAM_ID = "stream_id"
"""Property of the streams of a file alone: the number that ``clmer inspect`` shows."""

_ANY_CASE = ("type", "hostname", "channel_format")  # compared without regard to case
_ONE_STREAM = ("name", "source_id", STREAM_ID)  # a query with one of these names a certain stream
_ANY_STREAM = "channel_count>0"
_AND = re.compile(r"\s*,\s*|\s+and\s+")
_XPATH = re.compile(r"""[=,(<>]\s*['"]|^(?:count|starts-with|contains|not)\(""")
_MAX_LISTED = 6  # streams in one sentence


@dataclass(frozen=True)
class StreamQuery:
    """A query for streams of the network.

    Example::

        query = StreamQuery.parse("type=EEG, hostname=lab2")
        query.matches(header)

    Attributes:
        text: As the user wrote it.
        properties: Names and values, all of which must match; empty for ``auto`` and for predicates.
        predicate: What the network is asked for: XPath 1.0 over the stream's header, as liblsl reads it.
    """

    text: str
    properties: tuple[tuple[str, str], ...] = ()
    predicate: str = _ANY_STREAM

    @classmethod
    def parse(cls, text: str) -> StreamQuery:
        """Parse ``auto``, a name, ``property=value`` joined by commas or ``and``, or an XPath predicate.

        Raises:
            SettingsError: It names an unknown property, or a property without a value.
        """
        if text == AUTO:
            return cls(text)
        if _XPATH.search(text):
            return cls(text, predicate=text)
        if "=" not in text:
            return cls(text, (("name", text),))
        return cls(text, tuple(_parse_property(part, text) for part in _AND.split(text)))

    @property
    def is_predicate(self) -> bool:
        """Whether the network itself decides what matches."""
        return self.predicate != _ANY_STREAM

    @property
    def names_stream(self) -> bool:
        """Whether it names a certain stream, so that a match which cannot be used is an error."""
        return any(key in _ONE_STREAM for key, _ in self.properties)

    def matches(self, header: StreamDescription, usual_type: str = "") -> bool:
        """Return whether a stream matches.

        Args:
            header: What LSL reports of the stream.
            usual_type: Type required where the query leaves open which of a device's streams is meant.
        """
        any_type = not (self.is_predicate or self.names_stream or any(key == "type" for key, _ in self.properties))
        if usual_type and any_type and header.type.casefold() != usual_type.casefold():
            return False
        return all(_has_property(header, key, value) for key, value in self.properties)

    def matches_info(self, info: StreamInfo) -> bool:
        """Return whether an announced stream has every property of the query; it has no id of a file."""
        known = {"channel_count": str(len(info.ch_names)), "nominal_srate": f"{info.sfreq:g}"}
        found = {key: known.get(key) or getattr(info, key) for key in PROPERTIES}
        return all(key in found and _is_value(key, found[key], value) for key, value in self.properties)


def _parse_property(part: str, text: str) -> tuple[str, str]:
    key, _, value = (word.strip() for word in part.partition("="))
    if key in (*PROPERTIES, STREAM_ID) and value:
        return key, value
    raise SettingsError(
        expected=f"auto, a stream's name, or properties such as name=..., type=...; known are {', '.join(PROPERTIES)}",
        found=f"{part!r} in {text!r}",
        mend="a name with = in it is given as name=...; clmer streams lists what is there",
    )


def _has_property(header: StreamDescription, key: str, value: str) -> bool:
    if key == "channel_count":
        return str(header.n_channels) == value
    if key == STREAM_ID:
        return str(header.stream_id) == value and header.stream_id > 0
    if key == "nominal_srate":
        return f"{header.sfreq:g}" == value
    return _is_value(key, getattr(header, key), value)


def _is_value(key: str, found: str, value: str) -> bool:
    return found.casefold() == value.casefold() if key in _ANY_CASE else found == value


def announce_eeg(
    header: StreamDescription,
    signal: SignalConfig,
    eeg_map: str | None = None,
    *,
    force_map: bool = False,
    sfreq: float | None = None,
) -> StreamInfo:
    """Return the announcement of a stream as the EEG of a model.

    Args:
        header: Of the stream, live or in a file.
        signal: Signal settings of the model.
        eeg_map: Names for its channels; see ``apply_eeg_map``.
        force_map: Whether the map may contradict its labels.
        sfreq: Its rate in Hz, in place of the one that it declares.

    Raises:
        StreamError: It holds text, its channels are not those of the model, the map does not fit it, or its rate is too
            low.
    """
    if header.channel_format == "string":
        raise StreamError(
            expected="numbers, for EEG",
            found=f"{header.name!r}, a stream of text (type {header.type or 'none'})",
            mend="name the stream of the samples: --eeg NAME; clmer streams and clmer inspect list what there is",
        )
    info = announcement(header, "eeg")
    if eeg_map is not None:
        info = apply_eeg_map(info, eeg_map, signal.ch_names, force=force_map)
    resolve_channels(info, signal)
    if rate_hz := sfreq or info.sfreq:
        design_sos(signal, rate_hz)
    return info


def open_resolver(pylsl: Any, query: StreamQuery, forget_s: float) -> Any:
    """Return a continuous resolver for the streams that a query may match.

    Args:
        pylsl: The module.
        query: What is looked for.
        forget_s: Seconds after which a stream that no longer answers is dropped from the results.

    Raises:
        StreamError: liblsl does not accept the predicate.
    """
    try:
        return pylsl.ContinuousResolver(pred=query.predicate, forget_after=forget_s)
    except RuntimeError as error:
        raise StreamError(
            expected="an XPath predicate, such as starts-with(name,'Emotiv')",
            found=query.text,
            mend="mind quotes and brackets, or give properties: name=..., type=...; see docs/finding-streams.md",
        ) from error


def matches_predicate(stream: Any, query: StreamQuery) -> bool:
    """Return whether liblsl finds that a stream fits a predicate, by what is known of it before it is opened.

    Args:
        stream: The stream as pylsl resolved it; it has no ``desc`` yet, of which only its sender knows.
        query: The predicate.
    """
    from pylsl.lib import lib  # pylsl has no method for it

    return bool(lib.lsl_stream_info_matches_query(stream.obj, query.predicate.encode()))


def parse_headers(streams: Iterable[Any]) -> list[tuple[Any, StreamDescription]]:
    """Return each resolved stream (pylsl's StreamInfo) together with its header.

    Of a header that cannot be parsed it is what liblsl itself reads of it, without channels and ``xml``.
    """
    return [(stream, _parse_header(stream)) for stream in streams]


_FORMATS = ("", "float32", "double64", "string", "int32", "int16", "int8", "int64")  # by liblsl's number


def _parse_header(stream: Any) -> StreamDescription:
    try:
        return parse_stream_header(0, stream.as_xml().encode())
    except ValueError:
        return StreamDescription(
            stream_id=0,
            name=stream.name(),
            type=stream.type(),
            ch_names=("",) * stream.channel_count(),
            units=("",) * stream.channel_count(),
            ch_types=("",) * stream.channel_count(),
            unit="",
            sfreq=stream.nominal_srate(),
            channel_format=("", "float32", "double64", "string", "int32", "int16", "int8", "int64")[
                stream.channel_format()
            ],
            source_id=stream.source_id(),
            hostname=stream.hostname(),
            manufacturer="",
            desc=ET.Element("desc"),
            xml="",
            n_labels=None,
        )


def require_single(infos: Sequence[StreamInfo], option: str, what: str) -> None:
    """Raise an error if several streams match.

    Args:
        infos: The streams that match.
        option: Option by which the user can choose one, as ``--eeg``.
        what: What one of them is, as ``EEG stream``.

    Raises:
        StreamError: There is more than one; the message lists them.
    """
    if len(infos) < 2:
        return
    names = "; ".join(f"{i.name} (source_id {i.source_id or 'none'}, host {i.hostname}, {i.sfreq:g} Hz)" for i in infos)
    raise StreamError(
        expected=f"one {what}",
        found=f"{len(infos)}: {names}",
        mend=f"{_how_to_choose(infos, option)}, or switch the others off",
    )


def _how_to_choose(infos: Sequence[StreamInfo], option: str) -> str:
    """Return which property tells the streams apart, as an instruction for the user."""
    if len({info.name for info in infos}) == len(infos):
        return f"say which by its name: {option} NAME"
    for key in ("source_id", "hostname"):
        values = [getattr(info, key) for info in infos]
        if all(values) and len(set(values)) == len(values):
            return "say which: " + " or ".join(f"{option} {key}={value}" for value in values)
    return "give each a source_id of its own, where the streams are made"


def explain_no_stream(headers: Iterable[StreamDescription] | None, query: StreamQuery, what: str) -> str:
    """Return one sentence about why no stream was found.

    Args:
        headers: The streams of the network; None before the first look.
        query: What is looked for.
        what: What one of them is, as ``EEG stream``.
    """
    missing = f"no {what} found yet" if query.text == AUTO else f"no {what} {query.text!r} found yet"
    if headers is None or query.is_predicate:  # a resolver with a predicate reports no other streams
        return missing
    listed = sorted(f"{header.name} ({header.type or 'no type'})" for header in headers)
    if not listed:
        return f"{missing}; there is no stream at all on the network, clmer doctor looks why"
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return f"{missing}; on the network: {', '.join(listed[:_MAX_LISTED])}{more}"


def format_error(error: ClmerError) -> str:
    """Return an error as one sentence."""
    return f"expected {error.expected}, found {error.found}; {error.mend}"


@dataclass(frozen=True)
class StreamIdentity:
    """The identity of a stream on the network: its outlet, and what stays when the outlet is started again."""

    uid: str  # new at each start of an outlet
    name: str
    source_id: str
    hostname: str

    @classmethod
    def from_info(cls, uid: str, info: StreamInfo) -> Self:
        """Return the identity of an announced stream."""
        return cls(uid, info.name, info.source_id, info.hostname)

    @classmethod
    def from_result(cls, stream: Any) -> Self:
        """Return the identity of a resolved stream (pylsl's StreamInfo)."""
        return cls(stream.uid(), stream.name(), stream.source_id(), stream.hostname())

    def is_same(self, other: StreamIdentity) -> bool:
        """Return whether both are the same stream, possibly restarted."""
        return self.uid == other.uid or (self.name == other.name and self.is_same_device(other))

    def is_same_device(self, other: StreamIdentity) -> bool:
        """Return whether both come from the same device: the same source_id on the same computer."""
        return bool(self.source_id) and (self.source_id, self.hostname) == (other.source_id, other.hostname)

    def is_named_by(self, query: StreamQuery) -> bool:
        """Return whether a query names this stream, its device or its computer; False for predicates."""
        found = {"name": self.name, "source_id": self.source_id, "hostname": self.hostname.casefold()}
        named = [(key, value) for key, value in query.properties if key in found]
        return bool(named) and all(
            found[key] == (value.casefold() if key == "hostname" else value) for key, value in named
        )


class StreamClaims:
    """Registry of the live streams that the sessions of one service use. Thread-safe.

    Example::

        claims = StreamClaims()
        first, second = claims.join("first", ["EPOC"]), claims.join("second", ["auto"])
        second.is_claimed_by_other(epoc)  # True: the first session asks for it by name
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards ``active`` and the streams of every claim
        self.active: list[Claim] = []

    def join(self, session: str, asked: Sequence[str]) -> Claim:
        """Add a session and return its claim.

        Args:
            session: Name of the session.
            asked: The queries by which it asks for its streams; see ``StreamQuery.parse``.

        Raises:
            SettingsError: A query cannot be parsed.
        """
        claim = Claim(self, session, tuple(StreamQuery.parse(text) for text in asked))
        with self.lock:
            self.active.append(claim)
        return claim


class Claim:
    """The streams of one session; made by ``StreamClaims.join``.

    Args:
        claims: Those of all sessions; None: there is no other session.
        session: Name of the session.
        queries: What it asks for.
    """

    def __init__(
        self, claims: StreamClaims | None = None, session: str = "", queries: tuple[StreamQuery, ...] = ()
    ) -> None:
        self.session = session
        self._claims = claims or StreamClaims()
        self._queries = queries
        self._streams: list[StreamIdentity] = []

    def acquire(self, stream: StreamIdentity) -> bool:
        """Claim a stream; return False if another session holds it."""
        with self._claims.lock:
            if any(other._holds(stream) for other in self._others()):
                return False
            self._streams.append(stream)
            return True

    def holder(self, stream: StreamIdentity) -> str:
        """Return the name of the other session that holds a stream; "" if there is none."""
        with self._claims.lock:
            return next((other.session for other in self._others() if other._holds(stream)), "")

    def is_claimed_by_other(self, stream: StreamIdentity) -> bool:
        """Return whether another session holds the stream or one of the same device, or asks for it by name."""
        with self._claims.lock:
            return any(
                any(held.is_same(stream) or held.is_same_device(stream) for held in other._streams)
                or any(stream.is_named_by(query) for query in other._queries)
                for other in self._others()
            )

    def leave(self) -> None:
        """Release every stream and the queries."""
        with self._claims.lock:
            self._claims.active = [other for other in self._claims.active if other is not self]

    def _others(self) -> Iterator[Claim]:
        return (other for other in self._claims.active if other is not self)

    def _holds(self, stream: StreamIdentity) -> bool:
        return any(held.is_same(stream) for held in self._streams)
