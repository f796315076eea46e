"""The extra streams of a session: whatever else is on the network, such as contact quality, markers and motion.

``LslExtraSource`` finds and reads them, each in a thread of its own, and none that another source of the session reads.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from clmer_streaming.clock import identify_clock, local_clock
from clmer_streaming.config import physio_source, series_name
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.inlet import LslSource, foreign_clock_note
from clmer_streaming.lsl.markers import MarkerDecoder
from clmer_streaming.lsl.resolve import Claim, StreamIdentity, parse_headers
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import Chunk, Item, StreamInfo, StreamKind
from clmer_streaming.xdf.header import announcement, parse_stream_header
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
_REMEMBERED_S = _FORGET_S + _POLL_S  # s for which a stream that is gone may still be among the results
_SETTLE_S = 2 * _POLL_S  # s in which the loss of a stream shows, and what the network says to a predicate
_GRACE_S = 10.0  # s for which a stream is left to the input that wants it
_CONTACT_TYPES = ("CONTACT-QUALITY", "EEG-QUALITY")


class LslExtraSource:
    """Source: all streams of the network that no other source uses, except for CLMER's own.

    Stamps are seconds of this machine's LSL clock. String streams, and numeric ones of type Markers without a rate,
    give markers; all others give chunks: of kind ``physio`` where the model has a series for them, else ``contact``
    or ``other``. A stream that an input wants is left to it for ten seconds.

    Example::

        headset = LslEegSource("auto", SignalConfig())
        source = LslExtraSource("used", [headset], physio={"ecg": "Polar H10"})

    Args:
        choice: ``all``, ``none``, ``used``, or names of streams, separated by commas.
        inputs: The other sources of the session.
        physio: Series of the model -> name or type of the stream that gives it, whatever ``choice`` is.
        claim: Claim of the session; None: there is no other session.
    """

    def __init__(
        self,
        choice: str,
        inputs: Sequence[LslSource] = (),
        physio: Mapping[str, str] | None = None,
        claim: Claim | None = None,
    ) -> None:
        self._choice = choice
        self._names = frozenset(name.strip() for name in choice.split(","))
        self._inputs = tuple(inputs)
        self._physio = dict(physio or {})
        self._claim = claim or Claim()
        self._readers: dict[str, _Reader] = {}  # by uid
        self._free_since: dict[str, float] = {}  # by uid, s, when it was first seen, or last used by an input
        self._lost: dict[str, float] = {}  # by uid, s, when its connection was lost
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
        now = local_clock()
        for uid, reader in list(self._readers.items()):
            if reader.failure is not None:
                raise reader.failure
            if self._is_used(reader.identity):
                reader.stop.set()
            if not reader.thread.is_alive() and not reader.unreadable:
                del self._readers[uid]
                self._lost[uid] = now
                if all(other.source != reader.source for other in self._readers.values()):
                    self._reasons[reader.source] = reader.why_ended
        there = [stream for stream in results if now - self._lost.get(stream.uid(), -math.inf) > _REMEMBERED_S]
        for stream in there:
            if self._is_used(StreamIdentity.from_result(stream)):
                self._free_since[stream.uid()] = now
            elif stream.uid() not in self._readers:
                free_s = now - self._free_since.setdefault(stream.uid(), now)
                if self._is_selected(pylsl, stream, free_s):
                    self._read(pylsl, stream, self._source_key(pylsl, stream, there), put)

    def _read(self, pylsl: Any, stream: Any, source: str, put: Callable[[Item], None]) -> None:
        """Start to read a stream, in place of one that is silent and does not answer any more."""
        for reader in self._readers.values():
            if reader.source == source:
                reader.stop.set()
        self._reasons[source] = ""
        numbers = self._numbers.setdefault(source, itertools.count(1))
        reader = self._readers[stream.uid()] = _Reader(pylsl, stream, source, numbers, put)
        reader.thread.start()

    def _is_used(self, stream: StreamIdentity) -> bool:
        """Return whether an input reads a stream now, or another session has it."""
        return any(source.uid == stream.uid for source in self._inputs) or self._claim.is_claimed_by_other(stream)

    def _is_selected(self, pylsl: Any, stream: Any, free_s: float) -> bool:
        """Return whether a stream that no input has used for ``free_s`` seconds is to be read now."""
        if stream.source_id().startswith(OWN_ID_PREFIX):
            return False
        equal = any(_key_of(reader.stream) == _key_of(stream) for reader in self._readers.values())
        if equal and free_s < _SETTLE_S:  # that one may be gone, and this one be the same stream, started again
            return False
        if self._series(pylsl, stream):
            return True
        numeric = stream.channel_format() != pylsl.cf_string
        kind = _kind(stream.name(), stream.type(), stream.nominal_srate(), numeric=numeric)
        if numeric and self._is_wanted(stream, free_s):
            return False
        return self._is_chosen(stream.name(), kind)

    def _is_wanted(self, stream: Any, free_s: float) -> bool:
        """Return whether a stream that no input has used for ``free_s`` seconds is still to be left to one."""
        if free_s > _GRACE_S:
            return False
        if free_s < _SETTLE_S and any(source.asks_network for source in self._inputs):
            return True
        ((_, header),) = parse_headers([stream])
        return any(source.wants(stream, header) for source in self._inputs)

    def _is_chosen(self, name: str, kind: StreamKind) -> bool:
        if self._choice in (ALL, USED):
            return self._choice == ALL or kind != "other"
        return name in self._names

    def _series(self, pylsl: Any, stream: Any) -> str:
        """Return the series that a numeric stream gives by its name or type; "" if it gives none."""
        if stream.channel_format() == pylsl.cf_string:
            return ""
        words = (stream.name().lower(), stream.type().lower())
        return next((series for series, wanted in self._physio.items() if wanted.lower() in words), "")

    def _source_key(self, pylsl: Any, stream: Any, there: list[Any]) -> str:
        """Return the source key of a stream, which must be the only one for its series.

        Raises:
            StreamError: Another stream of the network fits the same series.
        """
        series = self._series(pylsl, stream)
        if not series:
            return self._extra_key(stream, there)
        fitting = [other for other in there if self._series(pylsl, other) == series]
        if len(fitting) > 1:
            names = [other.name() for other in fitting]
            choice = f"say which by its name: --physio {series}=NAME" if len(set(names)) > 1 else "rename one of them"
            raise StreamError(
                expected=f"one stream {self._physio[series]!r} for the series {series}",
                found=f"{len(fitting)}: "
                + "; ".join(f"{o.name()} (source_id {o.source_id() or 'none'}, host {o.hostname()})" for o in fitting),
                mend=f"{choice}, or switch the others off",
            )
        return physio_source(series)

    def _extra_key(self, stream: Any, there: list[Any]) -> str:
        """Return a source key that no other stream has now, and that this one gets again when it returns.

        Two outlets that are on the network at the same time are two streams, however equal their names and ids are. One
        that neither answers nor sends any more is none: its computer is gone without a word.
        """
        uids = {other.uid() for other in there}
        taken = {reader.source for uid, reader in self._readers.items() if uid in uids or reader.is_receiving}
        keys = self._keys.setdefault(_key_of(stream), [])
        free = next((key for key in keys if key not in taken), None)
        if free is not None:
            return free
        n = 1 + sum(len(known) for (name, *_), known in self._keys.items() if name == stream.name())
        keys.append(f"lsl:{stream.name()}" if n == 1 else f"lsl:{stream.name()}#{n}")
        return keys[-1]


class _Reader:
    """Reads one stream in its own thread until it is gone or ``stop`` is set."""

    def __init__(
        self, pylsl: Any, stream: Any, source: str, numbers: Iterator[int], put: Callable[[Item], None]
    ) -> None:
        self.stream = stream
        self.identity = StreamIdentity.from_result(stream)
        self.source = source
        self._numbers = numbers
        self.stop = threading.Event()
        self.failure: Exception | None = None
        self.unreadable = False  # its header is broken, now and later
        self._last_arrival = local_clock()  # s; at first, of the stream itself
        self.thread = threading.Thread(target=self._run, args=(pylsl, put), name="clmer-extra", daemon=True)

    @property
    def is_receiving(self) -> bool:
        """Whether it sends, so that it is there whether it answers or not."""
        return local_clock() - self._last_arrival < _FORGET_S

    @property
    def why_ended(self) -> str:
        """Why nothing comes any more, as a sentence."""
        name = self.identity.name
        return f"{name} has become an input" if self.stop.is_set() else f"{name} is gone; waiting for it to come back"

    def _run(self, pylsl: Any, put: Callable[[Item], None]) -> None:
        try:
            inlet = pylsl.StreamInlet(self.stream, recover=False, processing_flags=pylsl.proc_clocksync)
            info = extra_stream_info(inlet.info(_CONNECT_S).as_xml(), self.source)
            inlet.open_stream(_CONNECT_S)
            inlet.time_correction(_CONNECT_S)
            if self.stop.is_set():
                return
            put(info)
            if info.kind == "markers":
                self._read_markers(inlet, info, put)
            else:
                self._read_chunks(inlet, put)
        except (pylsl.util.LostError, pylsl.util.TimeoutError):
            return  # it is read again when it is back
        except ValueError as error:
            self.unreadable = True
            logger.warning("the stream %r cannot be read: %s", self.identity.name, error)
        except Exception as error:
            self.failure = error

    def _read_chunks(self, inlet: Any, put: Callable[[Item], None]) -> None:
        while not self.stop.is_set():
            x, t = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
            if len(t):
                self._last_arrival = local_clock()
                put(Chunk(self.source, t, values_of(x)))

    def _read_markers(self, inlet: Any, info: StreamInfo, put: Callable[[Item], None]) -> None:
        """Put the markers; those of a stream on another clock are stamped when they arrive."""
        decoder, foreign = MarkerDecoder(info, self._numbers), False
        while not self.stop.is_set():
            samples, stamps = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1)
            now = local_clock()
            for t, row in zip(stamps, samples, strict=True):
                if not foreign and identify_clock(now - t, t, now - self._last_arrival) in ("Unix time", "other"):
                    foreign = True
                    put(dataclasses.replace(info, note=foreign_clock_note(t, now)))
                put(decoder.decode(now if foreign else t, row))
                self._last_arrival = now


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


def _key_of(stream: Any) -> tuple[str, str, str, str]:
    """Return what stays the same when the outlet of a stream is started again."""
    return stream.name(), stream.type(), stream.source_id(), stream.hostname()
