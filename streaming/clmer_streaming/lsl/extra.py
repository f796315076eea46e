"""The extra streams of a session: whatever else is on the network, such as contact quality, markers and motion.

``LslExtraSource`` finds and reads them, each in a thread of its own; ``StreamRegistry`` holds what the other sources
of the session have announced, so that no stream is read twice.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.config import physio_source, series_name
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.markers import MarkerDecoder
from clmer_streaming.lsl.resolve import AUTO, Claim, StreamIdentity, StreamQuery, parse_headers
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import INPUT_KINDS, Chunk, Item, StreamInfo, StreamKind
from clmer_streaming.xdf.header import announcement, parse_stream_header, parse_xml
from clmer_streaming.xdf.scan import values_of

logger = logging.getLogger(__name__)

ALL, NONE, USED = "all", "none", "used"
"""Choices of streams: every one, none, or those that the service uses (contact quality and markers)."""

_ANY_STREAM = "channel_count>0"
_POLL_S = 0.5  # s between two looks at the results of the resolver
_FORGET_S = 2.0  # s after which a stream that no longer answers is dropped from the results
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction
_PULL_S = 0.2  # s for which a reader waits for samples; how soon it stops
_MAX_SAMPLES = 1024  # samples of one pull
_GRACE_S = 10.0  # s for which a stream is left to the source that asks for it, as long as that has none
_CONTACT_TYPES = ("CONTACT-QUALITY", "EEG-QUALITY")


class StreamRegistry:
    """The streams that sources of this session have announced, and those of other sessions. Thread-safe.

    A stream is recognized by the uid that LSL gives each start of an outlet and, since an inlet recovers without a
    new announcement, by its name, source_id and host.

    Args:
        claim: Claim of the session; None: there is no other session.
    """

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._lock = threading.Lock()
        self._known: set[str | tuple[str, str, str]] = set()
        self._kinds: set[str] = set()

    def add(self, info: StreamInfo) -> None:
        """Add an announced stream."""
        with self._lock:
            self._kinds.add(info.kind)
            self._known.add(stream_uid(info.xml))
            if info.source_id:
                self._known.add((info.name, info.source_id, info.hostname))

    def observe(self, item: Item) -> list[Item]:
        """Add the stream that an item announces, if any; return the item: a transform for ``TransformedSource``."""
        if isinstance(item, StreamInfo):
            self.add(item)
        return [item]

    def is_used(self, uid: str, name: str, source_id: str, hostname: str) -> bool:
        """Return whether a stream was announced, or belongs to another session."""
        if self._claim is not None and self._claim.is_claimed_by_other(StreamIdentity(uid, name, source_id, hostname)):
            return True
        with self._lock:
            return uid in self._known or (name, source_id, hostname) in self._known

    def has_kind(self, kind: str) -> bool:
        """Return whether any stream of this kind was announced."""
        with self._lock:
            return kind in self._kinds


class LslExtraSource:
    """Source: all streams of the network that no other source uses, except for CLMER's own.

    Stamps are seconds of this machine's LSL clock. String streams, and numeric ones of type Markers without a rate,
    give markers; all others give chunks: of kind ``physio`` where the model has a series for them, else ``contact``
    or ``other``.

    Example::

        registry = StreamRegistry()
        source = LslExtraSource("used", registry, physio={"ecg": "Polar H10"})

    Args:
        choice: ``all``, ``none``, ``used``, or names of streams, separated by commas.
        registry: The streams of the other sources.
        physio: Series of the model -> name or type of the stream that gives it, whatever ``choice`` is.
        asked: Kind of an input -> the query by which another source of the session asks for it; see ``StreamQuery``.
    """

    def __init__(
        self,
        choice: str,
        registry: StreamRegistry,
        physio: Mapping[str, str] | None = None,
        asked: Mapping[str, str] | None = None,
    ) -> None:
        self._choice = choice
        self._names = frozenset(name.strip() for name in choice.split(","))
        self._registry = registry
        self._physio = dict(physio or {})
        self._asked = {kind: StreamQuery.parse(text) for kind, text in (asked or {"eeg": AUTO}).items()}
        self._readers: dict[str, _Reader] = {}  # by uid
        self._first_seen: dict[str, float] = {}  # by uid, s
        self._keys: dict[tuple[str, str, str, str], list[str]] = {}  # name, type, source_id, host -> source keys
        self._numbers: dict[str, Iterator[int]] = {}  # by source key, for the ids of its markers
        self._reasons: dict[str, str] = {}  # by source key: why nothing can come; "" while it is connected

    def reason(self, source: str) -> str:
        """Return why nothing can come from a stream now, as a sentence; "" while it is connected."""
        return self._reasons.get(source, "")

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the streams until ``stop`` is set.

        Raises:
            ItemQueueOverflowError: ``put`` raised it: the items are not processed in time.
            StreamError: Several streams fit one series of ``physio``.
        """
        if self._choice == NONE and not self._physio:
            return
        pylsl = load_pylsl()
        resolver = pylsl.ContinuousResolver(pred=_ANY_STREAM, forget_after=_FORGET_S)
        try:
            while not stop.wait(_POLL_S):
                self._update(pylsl, resolver.results(), put)
        finally:
            for reader in self._readers.values():
                reader.stop.set()
            for reader in self._readers.values():
                reader.thread.join(2 * _PULL_S)

    def _update(self, pylsl: Any, results: list[Any], put: Callable[[Item], None]) -> None:
        """Start readers of new streams, and stop those of streams that another source uses meanwhile."""
        for uid, reader in list(self._readers.items()):
            if reader.failure is not None:
                raise reader.failure
            if self._registry.is_used(uid, *reader.identity):
                reader.stop.set()
            if not reader.thread.is_alive() and not reader.unreadable:
                del self._readers[uid]
                self._reasons[reader.source] = reader.why_ended
        for result in results:
            if result.uid() not in self._readers and self._is_selected(pylsl, result):
                source = self._source_key(pylsl, result, results)
                numbers = self._numbers.setdefault(source, itertools.count(1))
                self._reasons[source] = ""
                reader = self._readers[result.uid()] = _Reader(pylsl, result, source, numbers, put)
                reader.thread.start()

    def _is_selected(self, pylsl: Any, result: Any) -> bool:
        """Return whether a stream is to be read now."""
        uid, numeric = result.uid(), result.channel_format() != pylsl.cf_string
        if result.source_id().startswith(OWN_ID_PREFIX) or self._registry.is_used(uid, *_identity(result)):
            return False
        if self._series(pylsl, result):
            return True
        seen = self._first_seen.setdefault(uid, local_clock())
        if numeric and self._is_asked_for(result):
            return local_clock() - seen > _GRACE_S and self._is_chosen(result.name(), "other")
        kind = _kind(result.name(), result.type(), result.nominal_srate(), numeric=numeric)
        return self._is_chosen(result.name(), kind)

    def _is_asked_for(self, result: Any) -> bool:
        """Return whether a source of the session asks for such a stream, and has found none yet."""
        ((_, header),) = parse_headers([result])
        return any(
            query.matches(header, usual_type="EEG" if kind == "eeg" else "") and not self._registry.has_kind(kind)
            for kind, query in self._asked.items()
        )

    def _is_chosen(self, name: str, kind: StreamKind) -> bool:
        if self._choice in (ALL, USED):
            return self._choice == ALL or kind != "other"
        return name in self._names

    def _series(self, pylsl: Any, result: Any) -> str:
        """Return the series that a numeric stream gives by its name or type; "" if it gives none."""
        if result.channel_format() == pylsl.cf_string:
            return ""
        words = (result.name().lower(), result.type().lower())
        return next((series for series, stream in self._physio.items() if stream.lower() in words), "")

    def _source_key(self, pylsl: Any, result: Any, results: list[Any]) -> str:
        """Return the source key of a stream, which must be the only one for its series.

        Raises:
            StreamError: Another stream of the network fits the same series.
        """
        series = self._series(pylsl, result)
        if not series:
            return self._extra_key(result)
        fitting = {_identity(other) for other in results if self._series(pylsl, other) == series}
        if len(fitting) > 1:
            names = "; ".join(
                f"{name} (source_id {source_id or 'none'}, host {host})" for name, source_id, host in fitting
            )
            raise StreamError(
                expected=f"one stream {self._physio[series]!r} for the series {series}",
                found=f"{len(fitting)}: {names}",
                mend=f"say which by its name: --physio {series}=NAME, or switch the others off",
            )
        return physio_source(series)

    def _extra_key(self, result: Any) -> str:
        """Return a source key that no other stream has now, and that this one gets again when it returns.

        Two outlets that are on the network at the same time are two streams, however equal their names and ids are.
        """
        identity = (result.name(), result.type(), result.source_id(), result.hostname())
        keys = self._keys.setdefault(identity, [])
        taken = {reader.source for reader in self._readers.values()}
        free = next((key for key in keys if key not in taken), None)
        if free is not None:
            return free
        n = 1 + sum(len(known) for (name, *_), known in self._keys.items() if name == result.name())
        keys.append(f"lsl:{result.name()}" if n == 1 else f"lsl:{result.name()}#{n}")
        return keys[-1]


class _Reader:
    """Reads one stream in its own thread until it is gone or ``stop`` is set."""

    def __init__(
        self, pylsl: Any, result: Any, source: str, numbers: Iterator[int], put: Callable[[Item], None]
    ) -> None:
        self.identity = _identity(result)
        self.source = source
        self._numbers = numbers
        self.stop = threading.Event()
        self.failure: Exception | None = None
        self.unreadable = False  # its header is broken, now and later
        self.thread = threading.Thread(target=self._run, args=(pylsl, result, put), name="clmer-extra", daemon=True)

    @property
    def why_ended(self) -> str:
        """Why nothing comes any more, as a sentence."""
        name = self.identity[0]
        return f"{name} has become an input" if self.stop.is_set() else f"{name} is gone; waiting for it to come back"

    def _run(self, pylsl: Any, result: Any, put: Callable[[Item], None]) -> None:
        try:
            inlet = pylsl.StreamInlet(result, recover=False, processing_flags=pylsl.proc_clocksync)
            info = extra_stream_info(inlet.info(_CONNECT_S).as_xml(), self.source)
            inlet.open_stream(_CONNECT_S)
            inlet.time_correction(_CONNECT_S)
            put(info)
            if info.kind == "markers":
                _read_markers(inlet, MarkerDecoder(info, self._numbers), put, self.stop)
            else:
                _read_chunks(inlet, info, put, self.stop)
        except (pylsl.util.LostError, pylsl.util.TimeoutError):
            return  # it is read again when it is back
        except ValueError as error:
            self.unreadable = True
            logger.warning("the stream %r cannot be read: %s", result.name(), error)
        except Exception as error:
            self.failure = error


def _read_chunks(inlet: Any, info: StreamInfo, put: Callable[[Item], None], stop: threading.Event) -> None:
    while not stop.is_set():
        x, t = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
        if len(t):
            put(
                Chunk(info.source, t, values_of(x) if info.kind not in INPUT_KINDS else values_of(x).astype(np.float64))
            )


def _read_markers(inlet: Any, decoder: MarkerDecoder, put: Callable[[Item], None], stop: threading.Event) -> None:
    while not stop.is_set():
        samples, stamps = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1)
        for t, row in zip(stamps, samples, strict=True):
            put(decoder.decode(t, row))


def extra_stream_info(xml: str, source: str) -> StreamInfo:
    """Return the announcement of an extra stream.

    Args:
        xml: The stream's header.
        source: Its source key.

    Raises:
        ValueError: The header cannot be parsed.
    """
    header = parse_stream_header(0, xml.encode())
    numeric = header.channel_format != "string"
    kind = "physio" if series_name(source) else _kind(header.name, header.type, header.sfreq, numeric=numeric)
    return dataclasses.replace(announcement(header, kind), source=source)


def _kind(name: str, stream_type: str, sfreq: float, *, numeric: bool) -> StreamKind:
    """Return what a stream carries; strings are markers whatever their type, since only markers hold strings."""
    if not numeric or ("MARKER" in stream_type.upper() and sfreq == 0):
        return "markers"
    if stream_type.upper() in _CONTACT_TYPES or name.upper().endswith(_CONTACT_TYPES):
        return "contact"
    return "other"


def stream_uid(xml: str) -> str:
    """Return the uid in a stream's header; "" if there is none."""
    try:
        return (parse_xml(xml.encode()).findtext("uid") or "").strip()
    except ValueError:
        return ""


def _identity(result: Any) -> tuple[str, str, str]:
    return result.name(), result.source_id(), result.hostname()
