"""One live stream of the network: found, announced, read, and taken up again when it returns."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.resolve import (
    AUTO,
    Claim,
    StreamIdentity,
    StreamQuery,
    one_line,
    the_only_one,
    watch_network,
    why_none,
    with_headers,
)
from clmer_streaming.pipeline.filters import PolyphaseResampler
from clmer_streaming.types import FloatArray, Gap, Item, StreamInfo, Tick
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header

LONGEST_S = 0.05
"""Seconds of the longest rest: charts and recordings still get samples twenty times a second."""

_MARGIN_S = 0.004  # s before the end of a window in which there is no rest; a timer may be late
_JITTER_S = 0.005  # s by which the stamp of the sample that completes a window may stray from its counted time


@dataclass(frozen=True)
class WindowGrid:
    """Whose ends a reader waits for, on the clock of the stream's stamps."""

    hop_s: float  # between the ends of two windows
    delay_s: float = 0.0  # taken off the stamps on top of what the stream declares


@dataclass(frozen=True)
class Rest:
    """Tells how long a reader may rest.

    Args:
        hop_s: Seconds between the ends of two windows, which lie on its multiples.
        delay_s: Seconds from the end of a window to the stamp of the sample that may complete it.
        doubt_s: Seconds by which the stamp of the sample that does may be later.
    """

    hop_s: float
    delay_s: float
    doubt_s: float

    @classmethod
    def of(cls, sfreq: float, delay_s: float, model_sfreq: float, hop_s: float) -> Rest:
        """Return the rests of a stream.

        Args:
            sfreq: Its nominal rate in Hz; 0 where none is declared.
            delay_s: Seconds that are taken off its stamps.
            model_sfreq: The rate in Hz to which it is resampled.
            hop_s: Seconds between two windows.
        """
        if sfreq in (0.0, model_sfreq):
            return cls(hop_s, delay_s, _JITTER_S)
        return cls(hop_s, delay_s + PolyphaseResampler(sfreq, model_sfreq).delay_s, _JITTER_S + 1 / model_sfreq)

    def after(self, t_newest: float, now: float) -> float:
        """Return for how many seconds no window will wait; 0 while one may.

        Args:
            t_newest: Stamp of the newest sample, in seconds.
            now: Seconds of the same clock.
        """
        since_s = (now - self.delay_s) % self.hop_s  # the end of the last window
        if t_newest < now - since_s + self.doubt_s:
            return 0.0
        return max(0.0, min(LONGEST_S, self.hop_s - since_s - _MARGIN_S))


FORGET_S = 2.0
"""Seconds after which a stream that no longer answers is forgotten."""

_ZOMBIE_S = 5.0  # s of silence after which another outlet of the same identity is preferred, though this one answers
_REOPEN_S = 15.0  # s for which a silent outlet answers before the connection to it is taken for dead


def same_stream(header: StreamDescription, info: StreamInfo) -> bool:
    """Tell whether a stream is the announced one, whatever its channels and its rate are now.

    Name, type and source_id decide; the host does too where there is no source_id.
    """
    if (header.name, header.type, header.source_id) != (info.name, info.type, info.source_id):
        return False
    return bool(info.source_id) or header.hostname == info.hostname


class SilenceWatch:
    """Looks at the network while a connected stream is silent.

    Args:
        pylsl: The library.
        info: The stream.
        uid: Its outlet; another one of the same stream has another uid.
    """

    def __init__(self, pylsl: Any, info: StreamInfo, uid: str) -> None:
        self._network = watch_network(pylsl, StreamQuery(AUTO), FORGET_S)
        self._info = info
        self._uid = uid
        self._answers_since: float | None = None
        self.answers = False  # whether the outlet was there at the last look

    def connection_is_dead(self, silent_s: float, now: float) -> bool:
        """Tell whether to connect anew: to an outlet that took the place of this one, or to this one again.

        An outlet that does not answer may be frozen, and then goes on without loss: it is waited for.

        Args:
            silent_s: Seconds since the last sample.
            now: Seconds of the LSL clock.
        """
        found = with_headers(self._network.results())
        uids = {stream.uid() for stream, header in found if same_stream(header, self._info)}
        self.answers = self._uid in uids
        self._answers_since = (self._answers_since or now) if self.answers else None
        replaced = len(uids) > self.answers and (not self.answers or silent_s > _ZOMBIE_S)
        return replaced or (self._answers_since is not None and now - self._answers_since > _REOPEN_S)


Deliver: TypeAlias = Callable[[FloatArray, Any], list[Item]]
"""Makes items of stamps (n,) in seconds and samples (n, C) as LSL has them."""

_CONNECT_S = 5.0  # s, for opening and the first clock correction (0.64 s on a quiet network)
_PULL_S = 0.5  # s of silence after which a tick is put
_MAX_SAMPLES = 1024  # samples taken by one pull
_WATCH_S = 1.0  # s of silence, or twice the last interval between samples, after which the network is looked at
_SILENT_S = 5.0  # s of silence that are spoken of
_HELD_UP_S = 1.0  # s for which a full pipeline may hold up the reading unmentioned
_FOREIGN_CLOCK_S = 10.0  # s; stamps further from now than this are not on the LSL clock


class LslConnection:
    """Reads one outlet until it is lost, replaced, or nobody wants it any more.

    Args:
        pylsl: The library.
        inlet: Not yet opened; without recovery, which would hide another rate and wait for ever for other channels.
        info: What the outlet announces.
        uid: Which outlet it is.
        deliver: Makes items of its samples.
        rest: When the reader may rest; None: never.
    """

    def __init__(  # noqa: PLR0913 - an outlet, and what is made of it
        self, pylsl: Any, inlet: Any, info: StreamInfo, uid: str, deliver: Deliver, *, rest: Rest | None = None
    ) -> None:
        self.info = info
        self._rest = rest
        self.uid = uid
        self.t_last = float("nan")  # s, the newest stamp put
        self.reason = ""  # why nothing comes, in a sentence for people
        self._pylsl = pylsl
        self._inlet = inlet
        self._deliver = deliver
        self._heard = local_clock()  # s, when the last samples came
        self._interval = 0.0  # s between the last two arrivals
        self._backlog_s = 0.0  # s by which stamps may lag now, because reading was held up
        self._foreign_clock = False
        self._restarted = False
        self._watch: SilenceWatch | None = None
        self._given_up = False  # after a long silence, though it never broke

    def open(self) -> None:
        """Connect and wait for the first clock correction; what comes meanwhile is kept, and corrected too.

        Raises:
            LostError: The outlet is gone (pylsl).
            TimeoutError: It does not answer (pylsl).
        """
        self._inlet.open_stream(_CONNECT_S)
        self._inlet.time_correction(_CONNECT_S)
        self._heard = local_clock()

    def take_over(self, before: LslConnection) -> None:
        """Go on with the stream of a connection that was lost: its end and the first sample will enclose a Gap."""
        self.info, self.t_last, self._restarted = before.info, before.t_last, True
        self.reason = before.reason

    @property
    def lives(self) -> bool:
        """Whether something has come after all since it was given up for its silence."""
        return self._given_up and self._inlet.samples_available() > 0

    def read(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Put everything that comes until the connection is dead or ``stop`` is set.

        Args:
            put: Takes the items; may block.
            stop: Ends it.

        Raises:
            LostError: The outlet is gone (pylsl).
        """
        done = local_clock()  # s, when the last pull had ended
        while not stop.is_set():
            asked = local_clock()
            x, t = self._inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
            held_up_s, done = asked - done, local_clock()
            if held_up_s > _HELD_UP_S or not len(t):
                put(Tick(done, self.info.source))  # what waits is caught up with, but must not pass for live
            if len(t):
                for item in self._items(x, t, done):
                    put(item)
                if self._rest is not None and not self._foreign_clock:  # arrival must be seen where it is the stamp
                    stop.wait(self._rest.after(self.t_last, local_clock()))
            elif self._is_dead(done):
                self._given_up = True
                return

    def _items(self, x: Any, t: FloatArray, now: float) -> list[Item]:
        """Return the samples on the LSL clock, behind what has to be said before them."""
        self._interval, self._heard = now - self._heard, now
        self._watch, self.reason = None, ""
        items: list[Item] = []
        if self._on_foreign_clock(now - float(t[-1])):
            self._foreign_clock = True
            self.info = dataclasses.replace(self.info, note=_foreign_clock_note(float(t[-1]), now))
            items.append(self.info)
        stamps = arrival_stamps(now, t, self.info.sfreq) if self._foreign_clock else t
        if self._restarted and np.isfinite(self.t_last):
            items.append(Gap(self.t_last, float(stamps[0]), self.info.source, "stream_restarted"))
        self._restarted, self.t_last = False, float(stamps[-1])
        return [*items, *self._deliver(stamps, x)]

    def _on_foreign_clock(self, age_s: float) -> bool:
        """Tell whether the stamps turn out not to be LSL time; a backlog is as old as the silence before it."""
        self._backlog_s = max(self._backlog_s, self._interval)
        on_time = -_FOREIGN_CLOCK_S <= age_s <= _FOREIGN_CLOCK_S + self._backlog_s
        if age_s < _HELD_UP_S:
            self._backlog_s = 0.0
        return not on_time and not self._foreign_clock

    def _is_dead(self, now: float) -> bool:
        silent_s = now - self._heard
        if silent_s < max(_WATCH_S, 2 * self._interval):
            return False
        if self._watch is None:
            self._watch = SilenceWatch(self._pylsl, self.info, self.uid)
            return False
        dead = self._watch.connection_is_dead(silent_s, now)
        if silent_s > _SILENT_S:
            how = "is on the network but sends nothing" if self._watch.answers else "does not answer"
            self.reason = f"{self.info.name} {how}; what it sends is taken up at once"
        return dead


def arrival_stamps(now: float, t: FloatArray, sfreq: float) -> FloatArray:
    """Return (n,) stamps for samples whose own ones ``t`` are on another clock: the newest arrives now.

    The others precede it by the nominal rate or, where none is declared, as their own stamps do.
    """
    spacing = np.arange(t.size - 1, -1, -1) / sfreq if sfreq else t[-1] - t
    stamps: FloatArray = now - spacing
    return stamps


def _foreign_clock_note(stamp: float, now: float) -> str:
    unix = abs(time.time() - stamp) < _FOREIGN_CLOCK_S
    clock = "Unix time" if unix else f"on a clock {abs(now - stamp):.3g} s away from LSL time"
    return f"its stamps are {clock}: its samples are stamped when they arrive"


_LOOK_S = 0.5  # s between two looks at the network
_OTHERS_S = 10.0  # s for which a lost stream is waited for before another one that fits is taken


@dataclass(frozen=True)
class StreamRequest:
    """What a source wants of the network."""

    source: str  # the source key of its items
    option: str  # that says which stream, as ``--eeg``
    what: str  # what it is, as ``EEG stream``
    query: StreamQuery
    fits: Callable[[StreamDescription], bool]  # by what is known of a stream before it is opened
    describe: Callable[[StreamDescription], StreamInfo]  # its announcement; raises StreamError where it is no use
    deliver: Deliver
    rest: Callable[[StreamInfo], Rest | None] = lambda info: None  # when the reader of a stream may rest
    claim: Claim = field(default_factory=Claim)  # what may be taken of the network, beside other sessions


class LslStream:
    """Delivers one stream of the network, whatever becomes of it.

    While there is none it puts ticks. A stream that is lost is looked for by its identity and taken up again by
    itself, with a Gap, or announced anew where it is not what it was. Stamps come on this machine's LSL clock
    (clock synchronisation on, de-jitter off).

    Args:
        wish: Which stream, and what is made of it.
    """

    def __init__(self, wish: StreamRequest) -> None:
        self._wish = wish
        self._reason = why_none(None, wish.query, wish.what)
        self._connection: LslConnection | None = None

    @property
    def reason(self) -> str:
        """Why nothing comes now, in a sentence for people; "" while samples come."""
        return self._reason if self._connection is None else self._connection.reason

    def run(self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: At first, more than one stream fits, or the named one is no use. Once a stream was there,
                such things are said in ``reason`` and waited out.
        """
        before: LslConnection | None = None
        while not stop.is_set():
            found = self._search(pylsl, put, stop, before)
            if found is None:
                continue
            self._connection = found
            try:
                found.open()
                if before is not None and before.uid == found.uid and before.lives:
                    self._connection = found = before  # both have what came meanwhile; this one without a gap
                elif before is not None and not _what_changed(before.info, found.info):
                    found.take_over(before)
                else:
                    put(found.info)
                before = found
                found.read(put, stop)
            except (pylsl.util.LostError, pylsl.util.TimeoutError):
                put(Tick(local_clock(), self._wish.source))
            self._reason = f"{found.info.name} is gone; waiting for it to come back"
            self._connection = None

    def _search(
        self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event, before: LslConnection | None
    ) -> LslConnection | None:
        """Look for the stream, putting ticks, until two looks agree on what there is; None when nothing can be used."""
        wish = self._wish
        network = watch_network(pylsl, wish.query if before is None else StreamQuery(AUTO), FORGET_S)
        seen: set[str] = set()
        began = local_clock()
        while not stop.wait(_LOOK_S):
            now = local_clock()
            put(Tick(now, wish.source))
            found = with_headers(network.results())
            candidates = self._candidates(found, before, now - began)
            uids = {candidate.uid() for candidate in candidates}
            if not uids and before is None:
                self._reason = self._why_none(found)
            if uids and uids == seen:
                return self._choose(pylsl, candidates) if before is None else self._retake(pylsl, candidates, before)
            seen = uids
        return None

    def _candidates(
        self, found: list[tuple[Any, StreamDescription]], before: LslConnection | None, waited_s: float
    ) -> list[Any]:
        """Return what may be taken: at first all that is meant; later the stream from before, while it may return."""
        if before is not None:
            again = [stream for stream, header in found if same_stream(header, before.info)]
            others = [stream for stream in again if stream.uid() != before.uid]
            if again or waited_s < _OTHERS_S or self._wish.query.is_predicate:
                return others or again
        return [stream for stream, header in found if self._wish.fits(header) and self._is_free(stream)]

    def _retake(self, pylsl: Any, candidates: list[Any], before: LslConnection) -> LslConnection | None:
        """Return a connection to the stream that came back; None, and why, where it cannot be used."""
        try:
            found = self._choose(pylsl, candidates)
        except StreamError as error:
            self._reason = one_line(error)
            return None
        if found is not None and (changed := _what_changed(before.info, found.info)):
            found.info = dataclasses.replace(found.info, note=changed)
        return found

    def _choose(self, pylsl: Any, candidates: list[Any]) -> LslConnection | None:
        """Return a connection to the one stream that fits; None to look again."""
        wish = self._wish
        usable: list[LslConnection] = []
        unfit: list[StreamError] = []
        for candidate in candidates:
            inlet = pylsl.StreamInlet(candidate, recover=False, processing_flags=pylsl.proc_clocksync)
            try:
                info = self._describe(pylsl, inlet)
            except StreamError as error:
                unfit.append(error)
            else:
                found = (
                    []
                    if info is None
                    else [LslConnection(pylsl, inlet, info, candidate.uid(), wish.deliver, rest=wish.rest(info))]
                )
                usable += found
        the_only_one([connection.info for connection in usable], wish.option, wish.what)
        if unfit and not usable and wish.query.means_one:
            raise unfit[0]
        self._reason = "" if usable else "; ".join(map(one_line, unfit))
        taken = usable and wish.claim.take(StreamIdentity.of(usable[0].uid, usable[0].info))
        return usable[0] if taken else None

    def _is_free(self, stream: Any) -> bool:
        """Tell whether no other session has the stream; ``auto`` leaves them what they ask for by name, too."""
        claim, found = self._wish.claim, StreamIdentity.found(stream)
        return not (claim.is_of_another(found) if self._wish.query.text == AUTO else claim.holder(found))

    def _why_none(self, found: list[tuple[Any, StreamDescription]]) -> str:
        wish = self._wish
        if any(wish.fits(header) for _, header in found):
            return f"every {wish.what} that fits {wish.query.text!r} is another session's"
        return why_none((header for _, header in found), wish.query, wish.what)

    def _describe(self, pylsl: Any, inlet: Any) -> StreamInfo | None:
        """Return the stream's announcement; None to look again.

        Raises:
            StreamError: It is no use.
        """
        try:
            header = parse_stream_header(0, inlet.info(_CONNECT_S).as_xml().encode())
        except (pylsl.util.LostError, pylsl.util.TimeoutError, ValueError):
            return None
        return self._wish.describe(header)


def _what_changed(before: StreamInfo, now: StreamInfo) -> str:
    """Return what a stream that came back has otherwise than before, in a sentence for people; "" if nothing."""
    if dataclasses.replace(before, note="") == dataclasses.replace(now, note=""):
        return ""
    if (before.name, before.source_id) != (now.name, now.source_id):
        return f"took the place of {before.name} (source_id {before.source_id or 'none'}), which is gone"
    layouts = [f"{len(info.ch_names)} channels at {info.sfreq:g} Hz" for info in (before, now)]
    if layouts[0] == layouts[1]:
        return "came back with another description"
    return f"came back with {layouts[1]}; before it had {layouts[0]}"
