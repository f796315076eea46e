"""Every other stream of the network, taken as it is: contact quality, markers, motion, whatever a lab has running."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.markers import MarkerRows
from clmer_streaming.lsl.resolve import Claim, StreamIdentity
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.pipeline.extra import physio_source, series_name
from clmer_streaming.types import Chunk, Item, Source, StreamInfo, StreamKind
from clmer_streaming.xdf.header import announcement, parse_stream_header, parse_xml


class TakenStreams:
    """The streams that were announced, and those of other sessions; for any thread.

    They are known by the uid that LSL gives each start of an outlet, and, since an inlet recovers without a new
    announcement, by what stays when an outlet is started again.

    Args:
        claim: What this session may take beside other sessions; None: all.
    """

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._lock = threading.Lock()
        self._known: set[str | tuple[str, str, str]] = set()
        self._kinds: set[str] = set()

    def note(self, info: StreamInfo) -> None:
        """Take note of an announcement."""
        with self._lock:
            self._kinds.add(info.kind)
            self._known.add(stream_uid(info.xml))
            if info.source_id:
                self._known.add((info.name, info.source_id, info.hostname))

    def has(self, uid: str, name: str, source_id: str, hostname: str) -> bool:
        """Tell whether a stream was taken, or is another session's."""
        if self._claim is not None and self._claim.is_of_another(StreamIdentity(uid, name, source_id, hostname)):
            return True
        with self._lock:
            return uid in self._known or (name, source_id, hostname) in self._known

    def has_kind(self, kind: str) -> bool:
        """Tell whether any stream of this kind was taken."""
        with self._lock:
            return kind in self._kinds


class Noting:
    """Source: what another source delivers; its announcements are noted before they are passed on.

    Args:
        source: Delivers the items.
        taken: Where the announcements are noted.
    """

    def __init__(self, source: Source, taken: TakenStreams) -> None:
        self._source = source
        self._taken = taken

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver until the source ends or ``stop`` is set."""

        def put_noted(item: Item) -> None:
            if isinstance(item, StreamInfo):
                self._taken.note(item)
            put(item)

        self._source.run(put_noted, stop)


def stream_uid(xml: str) -> str:
    """Return the uid in a stream's header; "" where there is none."""
    try:
        return (parse_xml(xml.encode()).findtext("uid") or "").strip()
    except ValueError:
        return ""


logger = logging.getLogger(__name__)

ALL, NONE, USED = "all", "none", "used"
"""Which streams: every one, none, or those that the service makes use of (contact quality and markers)."""

_ANY_STREAM = "channel_count>0"
_LOOK_S = 0.5  # s between two looks at the network
_FORGET_S = 2.0  # s after which a stream that no longer answers is forgotten
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction
_PULL_S = 0.2  # s for which a reader waits for samples; how soon it stops
_MAX_SAMPLES = 1024  # samples taken by one pull
_EEG_GRACE_S = 10.0  # s for which a stream of type EEG is left to the EEG source, as long as that has none
_CONTACT_TYPES = ("CONTACT-QUALITY", "EEG-QUALITY")


class LslExtraSource:
    """Source: all streams of the network that no other source has taken, and none of CLMER's own.

    Stamps come on this machine's LSL clock. Streams of words, and numeric ones of type Markers without a rate,
    give markers; all others give chunks: of kind ``physio`` where the model has a series for them, else ``contact``
    or ``other``.

    Args:
        choice: ``all``, ``none``, ``used``, or names of streams with commas between.
        taken: What the other sources have taken.
        physio: By further series of the model: name or type of the stream that gives it, whatever was chosen.
    """

    def __init__(self, choice: str, taken: TakenStreams, physio: Mapping[str, str] | None = None) -> None:
        self._choice = choice
        self._names = frozenset(name.strip() for name in choice.split(","))
        self._taken = taken
        self._physio = dict(physio or {})
        self._readers: dict[str, _Reader] = {}  # by uid
        self._first_seen: dict[str, float] = {}  # by uid, s
        self._keys: dict[tuple[str, str, str, str], str] = {}  # name, type, source_id, host -> source name
        self._numbers: dict[str, Iterator[int]] = {}  # by source name, for the ids of its markers
        self._silences: dict[str, str] = {}  # by source name: why nothing can come; "" while it is connected

    def silence(self, source: str) -> str:
        """Return why nothing can come from a stream now, in a sentence for people; "" while it is connected."""
        return self._silences.get(source, "")

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the streams until ``stop`` is set.

        Raises:
            ItemQueueOverflowError: Nobody takes what the streams deliver.
            StreamError: Several streams fit one series of ``physio``.
        """
        if self._choice == NONE and not self._physio:
            return
        pylsl = load_pylsl()
        network = pylsl.ContinuousResolver(pred=_ANY_STREAM, forget_after=_FORGET_S)
        try:
            while not stop.wait(_LOOK_S):
                self._look(pylsl, network.results(), put)
        finally:
            for reader in self._readers.values():
                reader.stop.set()
            for reader in self._readers.values():
                reader.thread.join(2 * _PULL_S)

    def _look(self, pylsl: Any, results: list[Any], put: Callable[[Item], None]) -> None:
        """Begin to read what is new and wanted; end what another source has taken meanwhile."""
        for uid, reader in list(self._readers.items()):
            if reader.failure is not None:
                raise reader.failure
            if self._taken.has(uid, *reader.identity):
                reader.stop.set()
            if not reader.thread.is_alive() and not reader.refused:
                del self._readers[uid]
                self._silences[reader.source] = reader.why_ended
        for result in results:
            if result.uid() not in self._readers and self._wanted(pylsl, result):
                source = self._source(pylsl, result, results)
                numbers = self._numbers.setdefault(source, itertools.count(1))
                self._silences[source] = ""
                reader = self._readers[result.uid()] = _Reader(pylsl, result, source, numbers, put)
                reader.thread.start()

    def _wanted(self, pylsl: Any, result: Any) -> bool:
        uid, numeric = result.uid(), result.channel_format() != pylsl.cf_string
        if result.source_id().startswith(OWN_ID_PREFIX) or self._taken.has(uid, *_identity(result)):
            return False
        if self._series(pylsl, result):
            return True
        seen = self._first_seen.setdefault(uid, local_clock())
        if numeric and result.type().upper() == "EEG" and not self._taken.has_kind("eeg"):
            return local_clock() - seen > _EEG_GRACE_S and self._chosen(result.name(), "other")
        return self._chosen(result.name(), _kind(result.name(), result.type(), result.nominal_srate(), numeric=numeric))

    def _chosen(self, name: str, kind: StreamKind) -> bool:
        if self._choice in (ALL, USED):
            return self._choice == ALL or kind != "other"
        return name in self._names

    def _series(self, pylsl: Any, result: Any) -> str:
        """Return the series that a stream of numbers gives by its name or type; "" where it gives none."""
        if result.channel_format() == pylsl.cf_string:
            return ""
        words = (result.name().lower(), result.type().lower())
        return next((series for series, wanted in self._physio.items() if wanted.lower() in words), "")

    def _source(self, pylsl: Any, result: Any, results: list[Any]) -> str:
        """Return the source name of a stream, which must be the only one for its series.

        Raises:
            StreamError: Another stream of the network fits the same series.
        """
        series = self._series(pylsl, result)
        if not series:
            return self._key(result)
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

    def _key(self, result: Any) -> str:
        """Return a source name that this stream gets again when it returns, and no other one has."""
        identity = (result.name(), result.type(), result.source_id(), result.hostname())
        if identity not in self._keys:
            n = 1 + sum(name == result.name() for name, *_ in self._keys)
            self._keys[identity] = f"lsl:{result.name()}" if n == 1 else f"lsl:{result.name()}#{n}"
        return self._keys[identity]


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
        self.refused = False  # it cannot be read, now or later
        self.thread = threading.Thread(target=self._run, args=(pylsl, result, put), name="clmer-side", daemon=True)

    @property
    def why_ended(self) -> str:
        """Why nothing comes any more, in a sentence for people."""
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
                _read_markers(inlet, MarkerRows(info, self._numbers), put, self.stop)
            else:
                _read_chunks(inlet, info, put, self.stop)
        except (pylsl.util.LostError, pylsl.util.TimeoutError):
            return  # it is taken up again when it is back
        except ValueError as error:
            self.refused = True
            logger.warning("the stream %r cannot be read: %s", result.name(), error)
        except Exception as error:
            self.failure = error


def _identity(result: Any) -> tuple[str, str, str]:
    return result.name(), result.source_id(), result.hostname()


def extra_stream_info(xml: str, source: str) -> StreamInfo:
    """Return the announcement of a side stream.

    Raises:
        ValueError: Its header cannot be read.
    """
    header = parse_stream_header(0, xml.encode())
    numeric = header.channel_format != "string"
    kind = "physio" if series_name(source) else _kind(header.name, header.type, header.sfreq, numeric=numeric)
    return dataclasses.replace(announcement(header, kind), source=source)


def _kind(name: str, stream_type: str, sfreq: float, *, numeric: bool) -> StreamKind:
    """Return what a stream carries; words are markers whatever their type says, since only markers hold words."""
    if not numeric or ("MARKER" in stream_type.upper() and sfreq == 0):
        return "markers"
    if stream_type.upper() in _CONTACT_TYPES or name.upper().endswith(_CONTACT_TYPES):
        return "contact"
    return "other"


def _read_chunks(inlet: Any, info: StreamInfo, put: Callable[[Item], None], stop: threading.Event) -> None:
    while not stop.is_set():
        x, t = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
        if len(t):
            put(Chunk(info.source, t, np.ascontiguousarray(x.T, dtype=np.float64)))


def _read_markers(inlet: Any, rows: MarkerRows, put: Callable[[Item], None], stop: threading.Event) -> None:
    while not stop.is_set():
        samples, stamps = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1)
        for t, row in zip(stamps, samples, strict=True):
            put(rows.marker(t, row))
