"""Reading one live stream: resolving it, reading its inlet, and reconnecting when it was lost.

``LslSource`` is the state machine that EEG and face sources share: it resolves the stream, opens an ``LslConnection``,
and goes on with the same stream, or announces a changed one, after a loss. ``LslConnection`` reads one inlet until its
outlet is gone; ``SilenceMonitor`` decides during a silence whether to reconnect. ``ReadPacing`` spaces the reads, so
that a window does not wait for a read and a reader does not wake for each chunk.
"""

from __future__ import annotations

import abc
import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from clmer_streaming.clock import identify_clock, is_unix_time, local_clock
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.resolve import (
    AUTO,
    Claim,
    StreamIdentity,
    StreamQuery,
    explain_no_stream,
    format_error,
    matches_predicate,
    open_resolver,
    parse_headers,
    require_single,
)
from clmer_streaming.lsl.setup import load_pylsl
from clmer_streaming.pipeline.filters import PolyphaseResampler
from clmer_streaming.types import FloatArray, Gap, Item, StreamInfo, Tick
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header

LONGEST_PAUSE_S = 0.05
"""Longest pause between two reads in seconds: charts and recordings get samples at least twenty times a second."""

_MARGIN_S = 0.004  # s before the end of a window without a pause; a timer may be late
_JITTER_S = 0.005  # s by which the stamp of the sample that completes a window may differ from its regular time


@dataclass(frozen=True)
class WindowGrid:
    """The grid of window ends that a reader has to meet, in time of the stream's stamps."""

    hop_s: float  # between the ends of two windows
    delay_s: float = 0.0  # subtracted from the stamps in addition to what the stream declares


@dataclass(frozen=True)
class ReadPacing:
    """The pause that a reader may make between two reads without delaying a window.

    Example::

        pacing = ReadPacing.for_stream(sfreq=128.0, delay_s=0.0, model_sfreq=128.0, hop_s=0.5)
        stop.wait(pacing.pause_s(t_newest=100.095, now=100.1))

    Args:
        hop_s: Seconds between the ends of two windows, which are multiples of it.
        delay_s: Seconds from the end of a window to the stamp of the sample that may complete it.
        uncertainty_s: Seconds by which the stamp of that sample may be later.
    """

    hop_s: float
    delay_s: float
    uncertainty_s: float

    @classmethod
    def for_stream(
        cls, sfreq: float, delay_s: float, model_sfreq: float, hop_s: float, highest_hz: float = 0.0
    ) -> ReadPacing:
        """Return the pacing for a stream.

        Args:
            sfreq: Nominal rate of the stream in Hz; 0 if none is declared.
            delay_s: Seconds that are subtracted from its stamps.
            model_sfreq: Rate in Hz to which it is resampled.
            hop_s: Seconds between two windows.
            highest_hz: Frequency up to which the resampling keeps the signal as it is.
        """
        if sfreq in (0.0, model_sfreq):
            return cls(hop_s, delay_s, _JITTER_S)
        return cls(
            hop_s, delay_s + PolyphaseResampler(sfreq, model_sfreq, highest_hz).delay_s, _JITTER_S + 1 / model_sfreq
        )

    def pause_s(self, t_newest: float, now: float) -> float:
        """Return the seconds for which no window can become complete; 0 while one may.

        Args:
            t_newest: Stamp of the newest sample in seconds.
            now: Current time in seconds of the same clock.
        """
        since_s = (now - self.delay_s) % self.hop_s  # since the end of the last window
        if t_newest < now - since_s + self.uncertainty_s:
            return 0.0
        return max(0.0, min(LONGEST_PAUSE_S, self.hop_s - since_s - _MARGIN_S))


_FORGET_S = 2.0  # s after which a stream that no longer answers is dropped from the results
_ZOMBIE_S = 5.0  # s of silence after which another outlet of the same identity is preferred, though this one answers
_REOPEN_S = 15.0  # s for which a silent outlet answers before its connection is taken for dead


def same_stream(header: StreamDescription, info: StreamInfo) -> bool:
    """Return whether a stream is the announced one, whatever its channels and rate are now.

    Name, type and source_id decide; where there is no source_id, the host has to be the same too.
    """
    if (header.name, header.type, header.source_id) != (info.name, info.type, info.source_id):
        return False
    return bool(info.source_id) or header.hostname == info.hostname


class SilenceMonitor:
    """Watches the network while a connected stream is silent.

    Args:
        pylsl: The module.
        info: The stream.
        uid: Its outlet; another outlet of the same stream has another uid.

    Attributes:
        answers: Whether the outlet was on the network at the last check.
    """

    def __init__(self, pylsl: Any, info: StreamInfo, uid: str) -> None:
        self._resolver = open_resolver(pylsl, StreamQuery(AUTO), _FORGET_S)
        self._info = info
        self._uid = uid
        self._answers_since: float | None = None
        self.answers = False

    def should_reconnect(self, silent_s: float, now: float) -> bool:
        """Return whether to reconnect: to an outlet that replaced this one, or to this one again.

        An outlet that does not answer may be frozen and then goes on without loss, so it is waited for.

        Args:
            silent_s: Seconds since the last sample.
            now: Seconds of the LSL clock.
        """
        found = parse_headers(self._resolver.results())
        uids = {stream.uid() for stream, header in found if same_stream(header, self._info)}
        self.answers = self._uid in uids
        self._answers_since = (self._answers_since or now) if self.answers else None
        replaced = len(uids) > self.answers and (not self.answers or silent_s > _ZOMBIE_S)
        return replaced or (self._answers_since is not None and now - self._answers_since > _REOPEN_S)


Decoder: TypeAlias = Callable[[FloatArray, Any], list[Item]]
"""Makes items of stamps (n,) in seconds and samples (n, C) as pylsl returns them."""

_CONNECT_S = 5.0  # s, for opening and the first clock correction (0.64 s on a quiet network)
_PULL_S = 0.5  # s of silence after which a tick is put
_MAX_SAMPLES = 1024  # samples of one pull
_WATCH_S = 1.0  # s of silence, or twice the last interval between samples, after which the network is watched
_SILENT_S = 5.0  # s of silence that are reported
_HELD_UP_S = 1.0  # s for which a full pipeline may hold up the reading without a tick


class LslConnection:
    """Reads one outlet until it is lost or replaced, or the reader is stopped.

    Args:
        pylsl: The module.
        inlet: Not yet opened; without recovery, which would hide a changed rate and wait forever for other channels.
        info: What the outlet announces.
        uid: Its uid.
        decode: Makes items of its samples.
        pacing: How long to pause between reads; None: never.
        sfreq: Rate in Hz at which samples come; None: as the outlet announces.

    Attributes:
        info: The announcement; a note is added when the stamps turn out not to be LSL time.
        t_last: Stamp of the newest sample put, in seconds; NaN before the first.
        reason: Why nothing comes, as a sentence; "" while samples come.
    """

    def __init__(  # noqa: PLR0913 - an outlet, and how to read it
        self,
        pylsl: Any,
        inlet: Any,
        info: StreamInfo,
        uid: str,
        decode: Decoder,
        *,
        pacing: ReadPacing | None = None,
        sfreq: float | None = None,
    ) -> None:
        self.info = info
        self.uid = uid
        self.t_last = float("nan")
        self.reason = ""
        self._pylsl = pylsl
        self._inlet = inlet
        self._decode = decode
        self._pacing = pacing
        self._sfreq = sfreq
        self._last_arrival = local_clock()  # s
        self._interval = 0.0  # s between the last two arrivals
        self._backlog_s = 0.0  # s by which stamps may lag now, because reading was held up
        self._foreign_clock = False
        self._restarted = False
        self._monitor: SilenceMonitor | None = None
        self._abandoned = False  # after a long silence, though it never broke

    def open(self) -> None:
        """Connect and wait for the first clock correction; samples that arrive meanwhile are kept and corrected too.

        Raises:
            LostError: The outlet is gone (pylsl).
            TimeoutError: It does not answer (pylsl).
        """
        self._inlet.open_stream(_CONNECT_S)
        self._inlet.time_correction(_CONNECT_S)
        self._last_arrival = local_clock()

    def resume_from(self, before: LslConnection) -> None:
        """Continue the stream of a lost connection: a Gap will span its last sample and the first one here."""
        self.info, self.t_last, self._restarted = before.info, before.t_last, True
        self.reason = before.reason

    @property
    def has_recovered(self) -> bool:
        """Whether samples came after all since it was abandoned for its silence."""
        return self._abandoned and self._inlet.samples_available() > 0

    def read(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Pass every item to ``put`` until the connection is dead or ``stop`` is set.

        Args:
            put: Called with each item; may block.
            stop: Ends the reading.

        Raises:
            LostError: The outlet is gone (pylsl).
        """
        done = local_clock()  # s, when the last pull had ended
        while not stop.is_set():
            asked = local_clock()
            x, t = self._inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
            held_up_s, done = asked - done, local_clock()
            if held_up_s > _HELD_UP_S or not len(t):
                put(Tick(done, self.info.source))  # a backlog is processed, but must not pass for live
            if len(t):
                for item in self._items(x, t, done):
                    put(item)
                if self._pacing is not None and not self._foreign_clock:  # else arrival is the stamp: never pause
                    stop.wait(self._pacing.pause_s(self.t_last, local_clock()))
            elif self._is_dead(done):
                self._abandoned = True
                return

    def _items(self, x: Any, t: FloatArray, now: float) -> list[Item]:
        """Return the samples on the LSL clock, after a changed announcement or a Gap where there is one."""
        self._interval, self._last_arrival = now - self._last_arrival, now
        self._monitor, self.reason = None, ""
        items: list[Item] = []
        if self._on_foreign_clock(now - float(t[-1]), float(t[-1])):
            self._foreign_clock = True
            self.info = dataclasses.replace(self.info, note=foreign_clock_note(float(t[-1]), now))
            items.append(self.info)
        stamps = arrival_stamps(now, t, self._sfreq or self.info.sfreq) if self._foreign_clock else t
        if self._restarted and np.isfinite(self.t_last):
            items.append(Gap(self.t_last, float(stamps[0]), self.info.source, "stream_restarted"))
        self._restarted, self.t_last = False, float(stamps[-1])
        return [*items, *self._decode(stamps, x)]

    def _on_foreign_clock(self, age_s: float, stamp: float) -> bool:
        """Return whether the stamps turn out not to be LSL time; a backlog is as old as the silence before it."""
        self._backlog_s = max(self._backlog_s, self._interval)
        ours = identify_clock(age_s, stamp, self._backlog_s) in ("LSL", "unknown")
        if age_s < _HELD_UP_S:
            self._backlog_s = 0.0
        return not ours and not self._foreign_clock

    def _is_dead(self, now: float) -> bool:
        silent_s = now - self._last_arrival
        if silent_s < max(_WATCH_S, 2 * self._interval):
            return False
        if self._monitor is None:
            self._monitor = SilenceMonitor(self._pylsl, self.info, self.uid)
            return False
        dead = self._monitor.should_reconnect(silent_s, now)
        if silent_s > _SILENT_S:
            how = "is on the network but sends nothing" if self._monitor.answers else "does not answer"
            self.reason = f"{self.info.name} {how}; what it sends is taken up at once"
        return dead


def arrival_stamps(now: float, t: FloatArray, sfreq: float) -> FloatArray:
    """Return stamps (n,) for samples that are on another clock, from the time of their arrival.

    The newest sample gets ``now``. The others precede it by the nominal rate, or as their own stamps do where no rate
    is declared.

    Args:
        now: Seconds of the LSL clock.
        t: (n,) stamps of the other clock in seconds.
        sfreq: Nominal rate in Hz; 0 if none is declared.
    """
    spacing = np.arange(t.size - 1, -1, -1) / sfreq if sfreq else t[-1] - t
    stamps: FloatArray = now - spacing
    return stamps


def foreign_clock_note(stamp: float, now: float) -> str:
    """Return a sentence for people on a stream whose ``stamp``, which came at ``now`` seconds, is not LSL time."""
    clock = "Unix time" if is_unix_time(stamp) else f"on a clock {abs(now - stamp):.3g} s away from LSL time"
    return f"its stamps are {clock}: its samples are stamped when they arrive"


_POLL_S = 0.5  # s between two looks at the results of the resolver
_OTHERS_S = 10.0  # s for which a lost stream is waited for before another one that matches is used


class LslSource(abc.ABC):
    """Source: one stream of the network, which survives every loss of it.

    While there is no stream, ticks are put. A lost stream is looked for by its identity and continued behind a Gap, or
    announced anew if it is not what it was. Stamps are seconds of this machine's LSL clock: clock synchronization is
    on, de-jitter is off.

    Subclasses say which streams match, and make items of their samples.

    Args:
        source: Source key of the items.
        option: Option by which the user chooses the stream, as ``--eeg``; for messages.
        what: What the stream is, as ``EEG stream``; for messages.
        query: Which stream; see ``StreamQuery.parse``.
        claim: Claim of the session; None: there is no other session.
        sfreq: Rate in Hz at which samples come, in place of the one that the stream declares; None: as it declares.

    Raises:
        SettingsError: The query cannot be parsed.
    """

    def __init__(  # noqa: PLR0913 - what is read, its words for messages, and how it is read
        self,
        source: str,
        option: str,
        what: str,
        query: str,
        claim: Claim | None = None,
        *,
        sfreq: float | None = None,
    ) -> None:
        self._source = source
        self._option = option
        self._what = what
        self._query = StreamQuery.parse(query)
        self._claim = claim or Claim()
        self._sfreq = sfreq
        self._reason = explain_no_stream(None, self._query, what)
        self._connection: LslConnection | None = None
        self._last: StreamInfo | None = None  # the stream that is or was read
        self._fitting: frozenset[str] = frozenset()  # uids of the streams that matched when it last looked for one

    @abc.abstractmethod
    def _matches(self, header: StreamDescription) -> bool:
        """Return whether a stream is meant, from what LSL reports of it before it is opened."""

    @abc.abstractmethod
    def _describe(self, header: StreamDescription) -> StreamInfo:
        """Return the announcement of a stream.

        Raises:
            StreamError: The stream cannot be used.
        """

    @abc.abstractmethod
    def _decode(self, t: FloatArray, rows: Any) -> list[Item]:
        """Return samples (n, C) with their stamps (n,) as items."""

    def _pacing(self, info: StreamInfo) -> ReadPacing | None:
        """Return how to pause between the reads of a stream; None: never."""
        return None

    @property
    def reason(self) -> str:
        """Why nothing comes now, as a sentence; "" while samples come."""
        return self._reason if self._connection is None else self._connection.reason

    @property
    def uid(self) -> str:
        """The uid of the outlet that it is connected to; "" while there is none."""
        return "" if self._connection is None else self._connection.uid

    @property
    def asks_network(self) -> bool:
        """Whether the network decides what matches: of predicates on ``desc``, ``wants`` knows after a second or so."""
        return self._query.is_predicate and self._connection is None

    def wants(self, stream: Any, header: StreamDescription) -> bool:
        """Return whether it would use a stream, or takes it for the one that it has or had.

        Args:
            stream: The stream as pylsl resolved it.
            header: What LSL reports of it before it is opened.
        """
        if self._last is not None and same_stream(header, self._last):
            return True
        if self._connection is not None:
            return False
        if not self._query.is_predicate:
            return self._matches(header)
        return stream.uid() in self._fitting or (matches_predicate(stream, self._query) and self._matches(header))

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: Before the first connection: several streams match, or the named one cannot be used. Later,
                such problems are reported by ``reason`` and waited out.
        """
        pylsl = load_pylsl()
        before: LslConnection | None = None
        while not stop.is_set():
            found = self._search(pylsl, put, stop, before)
            if found is None:
                continue
            self._connection = found
            try:
                found.open()
                if before is not None and before.uid == found.uid and before.has_recovered:
                    self._connection = found = before  # both have what came meanwhile; this one has it without a gap
                elif before is not None and not _describe_change(before.info, found.info):
                    found.resume_from(before)
                else:
                    put(found.info)
                before, self._last = found, found.info
                found.read(put, stop)
            except (pylsl.util.LostError, pylsl.util.TimeoutError):
                put(Tick(local_clock(), self._source))
            self._reason = f"{found.info.name} is gone; waiting for it to come back"
            self._connection = None

    def _search(
        self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event, before: LslConnection | None
    ) -> LslConnection | None:
        """Resolve the stream, putting ticks, until two looks agree; return None when nothing can be used."""
        resolver = open_resolver(pylsl, self._query if before is None else StreamQuery(AUTO), _FORGET_S)
        seen: set[str] = set()
        began = local_clock()
        while not stop.wait(_POLL_S):
            now = local_clock()
            put(Tick(now, self._source))
            found = parse_headers(resolver.results())
            candidates = self._candidates(found, before, now - began)
            self._fitting = frozenset(stream.uid() for stream, header in found if self._matches(header))
            uids = {candidate.uid() for candidate in candidates}
            if not uids and before is None:
                self._reason = self._explain_no_stream(found)
            if uids and uids == seen:
                return self._choose(pylsl, candidates) if before is None else self._reconnect(pylsl, candidates, before)
            seen = uids
        return None

    def _candidates(
        self, found: list[tuple[Any, StreamDescription]], before: LslConnection | None, waited_s: float
    ) -> list[Any]:
        """Return the streams that may be used: at first all that match; later the lost one, while it may return."""
        if before is not None:
            again = [stream for stream, header in found if same_stream(header, before.info)]
            others = [stream for stream in again if stream.uid() != before.uid]
            if again or waited_s < _OTHERS_S or self._query.is_predicate:
                return others or again
        return [stream for stream, header in found if self._matches(header) and self._is_available(stream)]

    def _reconnect(self, pylsl: Any, candidates: list[Any], before: LslConnection) -> LslConnection | None:
        """Return a connection to the stream that came back; None, with the reason set, if it cannot be used."""
        try:
            found = self._choose(pylsl, candidates)
        except StreamError as error:
            self._reason = format_error(error)
            return None
        if found is not None and (change := _describe_change(before.info, found.info)):
            found.info = dataclasses.replace(found.info, note=change)
        return found

    def _choose(self, pylsl: Any, candidates: list[Any]) -> LslConnection | None:
        """Return a connection to the one stream that can be used; None to look again."""
        usable: list[LslConnection] = []
        unusable: list[StreamError] = []
        for candidate in candidates:
            inlet = pylsl.StreamInlet(candidate, recover=False, processing_flags=pylsl.proc_clocksync)
            try:
                info = self._announce(pylsl, inlet)
            except StreamError as error:
                unusable.append(error)
                continue
            if info is not None:
                pacing = self._pacing(info)
                uid, sfreq = candidate.uid(), self._sfreq
                usable.append(LslConnection(pylsl, inlet, info, uid, self._decode, pacing=pacing, sfreq=sfreq))
        require_single([connection.info for connection in usable], self._option, self._what)
        if unusable and not usable and self._query.names_stream:
            raise unusable[0]
        self._reason = "" if usable else "; ".join(map(format_error, unusable))
        claimed = usable and self._claim.acquire(StreamIdentity.from_info(usable[0].uid, usable[0].info))
        return usable[0] if claimed else None

    def _is_available(self, stream: Any) -> bool:
        """Return whether no other session has the stream; ``auto`` also leaves what others ask for by name."""
        found = StreamIdentity.from_result(stream)
        if self._query.text == AUTO:
            return not self._claim.is_claimed_by_other(found)
        return not self._claim.holder(found)

    def _explain_no_stream(self, found: list[tuple[Any, StreamDescription]]) -> str:
        if any(self._matches(header) for _, header in found):
            return f"every {self._what} that fits {self._query.text!r} is another session's"
        return explain_no_stream((header for _, header in found), self._query, self._what)

    def _announce(self, pylsl: Any, inlet: Any) -> StreamInfo | None:
        """Return the stream's announcement; None to look again.

        Raises:
            StreamError: The stream cannot be used.
        """
        try:
            info = inlet.info(_CONNECT_S)
        except (pylsl.util.LostError, pylsl.util.TimeoutError):
            return None
        try:
            header = parse_stream_header(0, info.as_xml().encode())
        except ValueError as error:
            raise StreamError(
                expected=f"a header of {info.name()!r} in XML that can be read",
                found=str(error),
                mend="correct the program that sends it: its name, labels or description hold invalid characters",
            ) from error
        return self._describe(header)


def _describe_change(before: StreamInfo, now: StreamInfo) -> str:
    """Return how a stream that came back differs from before, as a sentence; "" if it does not."""
    if dataclasses.replace(before, note="") == dataclasses.replace(now, note=""):
        return ""
    if (before.name, before.source_id) != (now.name, now.source_id):
        return f"took the place of {before.name} (source_id {before.source_id or 'none'}), which is gone"
    layouts = [f"{len(info.ch_names)} channels at {info.sfreq:g} Hz" for info in (before, now)]
    if layouts[0] == layouts[1]:
        return "came back with another description"
    return f"came back with {layouts[1]}; before it had {layouts[0]}"
