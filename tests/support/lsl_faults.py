"""The fault table: what happens to a headset, and what the service says and does, over a real LSL network.

Each row runs a headset in a process of its own, the source in a thread, and the signal path as the pipeline thread
would. Run as a program it prints the table: ``python tests/lsl_faults.py``.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo, StreamStatus, Window
from tests.support.lsl_outlet import Headset, headset

WAIT_S = 90.0
"""Generous: many headsets start at the same time on a small machine."""


class Watched:
    """A source and a signal path at work, and everything that came of them.

    Args:
        source: What is watched.
    """

    def __init__(self, source: LslEegSource | LslFaceSource) -> None:
        self.items: list[Item] = []
        self.windows: list[Window] = []
        self.arrivals: list[float] = []  # s, when each window was closed, by the LSL clock
        self.said: list[tuple[float, str, str]] = []  # state and reason at each change, and when, in s of the LSL clock
        self.error: Exception | None = None
        self.may_take = threading.Event()  # cleared: the consumer stalls
        self.may_take.set()
        self.source = source
        self._path = Preprocessor(PreprocessConfig())
        self._news = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.may_take.set()
        self._thread.join(WAIT_S)

    def _run(self) -> None:
        try:
            self.source.run(self._put, self._stop)
        except Exception as error:
            self.error = error
        with self._news:
            self._news.notify_all()

    def _put(self, item: Item) -> None:
        self.may_take.wait(WAIT_S)
        with self._news:
            self.items.append(item)
            windows = self._path.push(item)
            self.windows += windows
            self.arrivals += [local_clock()] * len(windows)
            self._note_status()
            self._news.notify_all()

    def _note_status(self) -> None:
        for status in self._path.statuses():
            reason = status.reason if status.state == "live" else self.source.reason or status.reason
            if not self.said or self.said[-1][1:] != (status.state, reason):
                self.said.append((local_clock(), status.state, reason))

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for a condition on what has come."""
        with self._news:
            met = self._news.wait_for(lambda: self.error is not None or condition(), WAIT_S)
        if self.error is not None:
            raise self.error
        assert met, (self.source.reason, self.said[-2:])

    def until_valid(self, n: int = 1) -> None:
        """Wait for ``n`` more windows with EEG."""
        begin = len(self.windows)
        self.until(lambda: len(self.valid(begin)) >= n)

    def until_state(self, state: str) -> None:
        """Wait until the stream is live, stalled or lost."""
        self.until(lambda: bool(self.said) and self.status.state == state)

    def valid(self, begin: int = 0) -> list[Window]:
        """Return the windows with EEG from the one with this number on."""
        return [window for window in self.windows[begin:] if window.mask["eeg"].any()]

    @property
    def status(self) -> StreamStatus:
        """What is known of the stream now."""
        return self._path.statuses()[0]

    @property
    def states(self) -> list[str]:
        """The states that the stream went through."""
        return [state for state, _ in itertools.groupby(state for _, state, _ in self.said)]

    @property
    def lasting_states(self) -> list[str]:
        """Those of them that cannot pass between two looks: on a busy machine ``stalled`` may."""
        return [state for state, _ in itertools.groupby(state for state in self.states if state != "stalled")]

    def when_said(self, words: str) -> float:
        """Return when a reason with these words was first said, in seconds of the LSL clock."""
        return next(t for t, _, reason in self.said if words in reason)

    @property
    def chunks(self) -> list[Chunk]:
        """The samples as they came."""
        return [item for item in self.items if isinstance(item, Chunk)]

    @property
    def numbers(self) -> FloatArray:
        """(n,) running numbers of the samples as they came."""
        return np.concatenate([chunk.x[-1] for chunk in self.chunks])

    @property
    def gaps(self) -> list[Gap]:
        """The gaps that the source has said."""
        return [item for item in self.items if isinstance(item, Gap)]

    def replays_equal(self) -> bool:
        """Tell whether the same items, pushed again, give the same windows to the last bit."""
        again = Preprocessor(PreprocessConfig())
        windows = [window for item in self.items for window in again.push(item)]
        return [(w.crc, w.t_end, w.reasons) for w in windows] == [(w.crc, w.t_end, w.reasons) for w in self.windows]


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    fault: str
    watched: Watched
    begin: int = 0  # windows closed before the fault
    over: int = 0  # windows closed before it was over
    since: float = float("nan")  # s of stream time, when it was over
    switched_on: float = float("nan")  # s of the LSL clock, when the headset was there again

    @property
    def unaccounted(self) -> int | None:
        """Samples sent between the first and the last that came, neither received nor known to be lost.

        None where there are none, or where no packet counter could tell of losses.
        """
        infos = [item for item in self.watched.items if isinstance(item, StreamInfo)]
        if not self.watched.chunks or "Counter" not in infos[0].ch_names:
            return None
        return missing(self.watched.numbers) - self.watched.status.n_lost

    @property
    def back_s(self) -> float:
        """Seconds of stream time until the end of the first window with EEG; NaN: never; below 0: at once."""
        valid = self.watched.valid(self.over)
        return valid[0].t_end - self.since if valid else float("nan")

    @property
    def events(self) -> list[str]:
        """What the events said of the EEG since the fault."""
        said = [str(r) for window in self.watched.windows[self.begin :] for r in window.reasons]
        return sorted({reason for reason in said if reason != "face_missing"})

    @property
    def said(self) -> list[str]:
        """What the status of the stream said."""
        return list(dict.fromkeys(reason for _, _, reason in self.watched.said if reason))


def missing(numbers: FloatArray) -> int:
    """Return how many running numbers are absent, within each life of the headset."""
    lives = np.split(numbers, np.flatnonzero(np.diff(numbers) < 0) + 1)
    return sum(int(life[-1] - life[0] + 1 - np.unique(life).size) for life in lives)


def watched_headset(name: str) -> Watched:
    """Return what watches the headset of this name."""
    return Watched(LslEegSource(name, PreprocessConfig().signal))


@contextlib.contextmanager
def watching(name: str, **faults: Any) -> Iterator[tuple[Watched, Headset]]:
    """Run a headset of this name, and watch what comes of it."""
    with headset(name, f"ID-{name}", **faults) as device, watched_headset(name) as watched:
        yield watched, device


def steady(fault: str, name: str, n: int = 16, *, valid: bool = True, **faults: Any) -> Outcome:
    """Watch a headset that has the same fault all the time, for ``n`` windows."""
    with watching(name, **faults) as (watched, _):
        watched.until(lambda: len(watched.valid() if valid else watched.windows) >= n)
    return Outcome(fault, watched, since=float(watched.chunks[0].t[0]))


def returned(fault: str, name: str, source_id: str = "ID", **changed: Any) -> Outcome:
    """Kill a headset; when it is lost, start it again, as it was or otherwise."""
    with watched_headset(name) as watched:
        with headset(name, source_id) as device:
            watched.until_valid()
            begin = len(watched.windows)
            device.kill()
        watched.until_state("lost")
        n_chunks = len(watched.chunks)
        with headset(name, source_id, **changed):
            switched_on = local_clock()
            watched.until(lambda: len(watched.chunks) > n_chunks)
            since, over = float(watched.chunks[n_chunks].t[0]), len(watched.windows)
            watched.until_valid(3)
    return Outcome(fault, watched, begin, over, since, switched_on)


def useless(fault: str, name: str) -> Outcome:
    """Let a headset come back with five channels, which are too few, and then with all of them."""
    with watched_headset(name) as watched:
        with headset(name):
            watched.until_valid()
            begin = len(watched.windows)
        with headset(name, sensors=5):
            switched_on = local_clock()
            watched.until(lambda: "found 5 of them" in watched.said[-1][2])
            watched.until_state("lost")
        n_chunks = len(watched.chunks)
        with headset(name):
            watched.until(lambda: len(watched.chunks) > n_chunks)
            since, over = float(watched.chunks[n_chunks].t[0]), len(watched.windows)
            watched.until_valid(3)
    return Outcome(fault, watched, begin, over, since, switched_on)


def frozen(fault: str, name: str) -> Outcome:
    """Freeze a headset's program until it is lost, and let it go on."""
    with watching(name) as (watched, device):
        watched.until_valid()
        begin = len(watched.windows)
        device.freeze()
        watched.until_state("lost")
        since, over = local_clock(), len(watched.windows)
        device.thaw()
        watched.until_state("live")
        watched.until_valid(3)
    return Outcome(fault, watched, begin, over, since)


def zombie(fault: str, name: str, *, until: str, n: int = 3) -> Outcome:
    """Let a headset fall silent that answers all the while, until this is said; then it goes on for ``n`` windows."""
    with watching(name) as (watched, device):
        watched.until_state("live")
        watched.until(lambda: len(watched.chunks) > 16)
        begin = len(watched.windows)
        device.fall_silent()
        watched.until(lambda: until in watched.said[-1][2])
        since, over = local_clock(), len(watched.windows)
        device.speak()
        watched.until_state("live")
        watched.until_valid(n)
    return Outcome(fault, watched, begin, over, since)


def replaced(fault: str, name: str) -> Outcome:
    """Let a headset fall silent that answers all the while, and switch another one of its identity on."""
    with watching(name) as (watched, device):
        watched.until_valid()
        begin = len(watched.windows)
        device.fall_silent()
        watched.until_state("lost")
        n_chunks = len(watched.chunks)
        with headset(name, f"ID-{name}"):
            switched_on = local_clock()
            watched.until(lambda: len(watched.chunks) > n_chunks)
            since, over = float(watched.chunks[n_chunks].t[0]), len(watched.windows)
            watched.until_valid(3)
    return Outcome(fault, watched, begin, over, since, switched_on)


def held_up(fault: str, name: str, seconds: float = 10.0) -> Outcome:
    """Let the consumer stand still for ten seconds."""
    with watching(name) as (watched, _):
        watched.until_valid()
        begin = len(watched.windows)
        watched.may_take.clear()
        threading.Event().wait(seconds)
        since = local_clock()
        watched.may_take.set()
        watched.until(lambda: watched.windows[-1].t_end > since)
        watched.until_valid(3)
    return Outcome(fault, watched, begin, begin, since)


def two_of_one_name(fault: str, name: str) -> Outcome:
    """Switch two headsets of one name on."""
    with (
        headset(name, "ID-1"),
        headset(name, "ID-2"),
        watched_headset(name) as watched,
        contextlib.suppress(StreamError),
    ):
        watched.until(lambda: False)
    return Outcome(fault, watched)


ROWS: dict[str, Callable[[], Outcome]] = {
    "killed": lambda: returned("outlet killed, and back", "killed"),
    "killed, no id": lambda: returned("the same, with an empty source_id", "killed-no-id", ""),
    "other channels": lambda: returned("back with 10 of 14 sensors", "other-channels", sensors=10),
    "other rate": lambda: returned("back at 256 Hz", "other-rate", hz=256.0),
    "useless": lambda: useless("back with 5 sensors, later with 14", "useless"),
    "frozen": lambda: frozen("frozen until lost (5 s)", "frozen"),
    "zombie": lambda: zombie("sends nothing, and answers", "zombie", until="sends nothing"),
    "zombie, replaced": lambda: replaced("the same, and another one takes its place", "zombie-replaced"),
    "zombie for long": lambda: zombie("the same, until it is given up", "zombie-long", until="is gone", n=1),
    "held up": lambda: held_up("consumer stalled for 10 s", "held-up"),
    "two": lambda: two_of_one_name("two streams of one name", "two"),
    "unix": lambda: steady("Unix stamps", "unix", stamps="unix"),
    "timestamp": lambda: steady("float32 Timestamp channel", "timestamp"),
    "no rate": lambda: steady("nominal rate 0", "no-rate", nominal_hz=0.0),
    "fast": lambda: steady("nominal rate 20 % too low", "fast", nominal_hz=128.0 / 1.2),
    "slow": lambda: steady("nominal rate 25 % too high", "slow", nominal_hz=160.0),
    "half lost": lambda: steady("half the samples lost", "half-lost", 30, valid=False, lost=0.5),
    "half lost, no counter": lambda: steady(
        "the same, without a counter", "half-lost-no-counter", 30, valid=False, lost=0.5, counter=False
    ),
    "flat": lambda: steady("3 flat channels, 1 railed", "flat", flat=3, railed=1),
    "nan": lambda: steady("bursts of NaN", "nan", nan_bursts=True),
    "long chunks": lambda: steady("chunks of 2 s", "long-chunks", chunk=256),
}
"""How each row is run."""


def run_all() -> dict[str, Outcome]:
    """Run every row, all at the same time."""
    with ThreadPoolExecutor(len(ROWS)) as threads:
        futures = {name: threads.submit(row) for name, row in ROWS.items()}
        return {name: future.result() for name, future in futures.items()}


def table(outcomes: dict[str, Outcome]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| fault | states | the events said | the status said | EEG again after | unaccounted |",
        "|---|---|---|---|---|---|",
    ]
    for row in outcomes.values():
        error = row.watched.error
        said = f"refused: {error.found}" if isinstance(error, StreamError) else "; ".join(row.said)
        back = "" if np.isnan(row.back_s) else f"{row.back_s:.2f} s" if row.back_s > 0 else "at once"
        states, events = ", ".join(row.watched.states), ", ".join(row.events)
        unaccounted = "" if row.unaccounted is None else row.unaccounted
        lines.append(f"| {row.fault} | {states} | {events} | {said} | {back} | {unaccounted} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(run_all()))
