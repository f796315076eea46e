"""One connection to an outlet: its samples, stamped on this machine's LSL clock, and its silences."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.sources.lsl_rest import Rest
from clmer_streaming.sources.lsl_watch import SilenceWatch
from clmer_streaming.types import FloatArray, Gap, Item, StreamInfo, Tick

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
