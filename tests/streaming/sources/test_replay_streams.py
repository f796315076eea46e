"""A replay at full speed cuts EEG in fewer places, and makes the same windows."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.replay import Pace, ReplaySource
from clmer_streaming.sources.replay_streams import LONGEST_CHUNK_S, chunk_edges, select_cuts
from clmer_streaming.types import Chunk, FloatArray, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import eeg_like

SECONDS = 60.0
T0 = 1000.0


def eeg(rng: np.random.Generator, sfreq: float, *, counter: bool) -> tuple[FloatArray, FloatArray]:
    """Return stamps and samples that jitter, with losses of up to 3 s, odd stamps and perhaps a clock that is set."""
    n = int(SECONDS * sfreq)
    t, x = T0 + np.arange(n) / sfreq, eeg_like(n, seed=1, sfreq=sfreq)
    if counter:
        x = np.concatenate([x, np.arange(n)[None, :] % round(sfreq)])
    t += rng.choice([0.0, 1e-3, 4e-3]) * rng.standard_normal(n)
    t[rng.integers(0, n, 3)] += rng.uniform(-0.2, 0.2, 3)
    if rng.random() < 0.3:
        t[int(rng.integers(n // 2, n)) :] += rng.choice([-3.0, 0.5])
    keep = np.ones(n, dtype=bool)
    for lost_s in rng.uniform(0.05, 3.0, 2):
        first = int(rng.integers(int(3 * sfreq), n))
        keep[first : first + int(lost_s * sfreq)] = False
    return t[keep], x[:, keep]


def face_stamps(rng: np.random.Generator) -> FloatArray:
    """Return stamps of a face at a steady rate that begins late, ends early and is silent four times."""
    begin, end = T0 + rng.uniform(-1.0, 4.0), T0 + SECONDS - rng.uniform(-1.0, 4.0)
    t = np.arange(begin, end, 1 / rng.choice([2.5, 12.0, 30.0])) + rng.uniform(0.0, 0.03)
    for silent in rng.uniform(T0, T0 + SECONDS, 4):
        t = t[(t < silent) | (t > silent + rng.uniform(0.2, 3.0))]
    return t


def recording(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    sfreq, counter = float(rng.choice([128.0, 250.0])), bool(rng.random() < 0.5)
    names = (*EPOC_CH_NAMES, "COUNTER") if counter else EPOC_CH_NAMES
    faces = face_stamps(rng)
    rows = np.zeros((len(FACE_CH_NAMES), faces.size))
    rows[:204] = np.arange(faces.size)
    rows[FACE_CH_NAMES.index("QUALITY")] = 1.0
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", names, sfreq, units=("uV",) * len(names)))
        xdf.write_samples(stream, *eeg(rng, sfreq, counter=counter))
        stream = xdf.add_stream(
            XdfStreamSpec("CLMER-Face", "MoCap", FACE_CH_NAMES, 30.0, desc={"extractor": EXTRACTOR_ID})
        )
        xdf.write_samples(stream, faces, rows)
    return path


def windows(path: Path, speed: float) -> tuple[list[Window], int]:
    """Return all windows of a replay, and how many chunks it had."""
    items, stage = list(ReplaySource(path, speed=speed).items()), Preprocessor(PreprocessConfig())
    return [window for item in items for window in stage.push(item)], sum(isinstance(item, Chunk) for item in items)


def seen(window: Window) -> str:
    quality = {name: dict(measures) for name, measures in window.quality.items()}
    return repr((window.index, window.crc, window.reasons, quality, window.channels))


def test_chunks_are_as_long_as_they_may_be() -> None:
    """At 128 Hz 32 samples, cut behind samples of the time that is forced; a dropout ends a chunk."""
    t = np.arange(128) / 128
    assert np.diff(chunk_edges(t, 32, np.empty(0))).tolist() == [32, 32, 32, 32]
    assert np.diff(chunk_edges(t, 32, np.array([10 / 128]))).tolist() == [11, 32, 32, 32, 21]
    assert np.diff(chunk_edges(t + (t > 0.1) * 2 * LONGEST_CHUNK_S, 32, np.empty(0)))[0] == 13


def test_only_items_behind_a_silence_cut_steady_eeg() -> None:
    """Of a face from 20 s on with a second of silence at 30 s: the first frame, and the first behind the silence."""
    t = np.arange(0.0, 60.0, 1 / 128)
    face = np.arange(20.0, 40.0, 0.1)
    face = face[(face < 30) | (face > 31)]
    assert select_cuts(face, t).tolist() == [face[0], face[face > 31][0]]


def test_all_items_cut_eeg_whose_time_is_in_doubt() -> None:
    """For 14 s from its first sample, and for two behind a gap."""
    t = np.arange(0.0, 60.0, 1 / 128)
    t = t[(t < 30) | (t > 31)]
    cutting = select_cuts(np.arange(0.0, 60.0, 0.1), t)
    assert set(np.round(cutting)) == {*range(15), *range(30, 35)}


@pytest.mark.parametrize("seed", range(4))
def test_full_speed_gives_the_windows_of_any_other_speed(tmp_path: Path, seed: int) -> None:
    """EEG and a face with losses, silences, jitter and odd stamps: every window is equal in all that is said of it."""
    path = recording(tmp_path / "session.xdf", seed)
    timely, n_timely = windows(path, 1.0)
    fast, n_fast = windows(path, math.inf)
    assert list(map(seen, fast)) == list(map(seen, timely))
    assert n_fast < n_timely


STEP_S = 0.01
"""Stream time between two items."""


class Walk:
    """Items that become due one after the other, in a thread; counts those that have."""

    def __init__(self, pace: Pace) -> None:
        self.n = 0
        self.stop = threading.Event()
        self._pace = pace
        self._moved = threading.Condition()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._pace.begin()
        for i in itertools.count():
            if self._pace.wait_until(1000.0 + i * STEP_S, self.stop):
                return
            with self._moved:
                self.n += 1
                self._moved.notify_all()

    def reached(self, n: int) -> bool:
        """Wait until n items were due."""
        with self._moved:
            return self._moved.wait_for(lambda: self.n >= n, 20.0)


@contextmanager
def walking(pace: Pace) -> Iterator[Walk]:
    walk = Walk(pace)
    walk.thread.start()
    try:
        yield walk
    finally:
        walk.stop.set()
        walk.thread.join(20.0)
        assert not walk.thread.is_alive()


def test_the_speed_is_that_of_the_recording_times_the_factor() -> None:
    """A second of stream time at ten times the pace takes a tenth of a second, and no less."""
    with walking(Pace(10.0)) as walk:
        begin = time.monotonic()
        assert walk.reached(100)
        assert time.monotonic() - begin > 0.08


def test_what_is_held_stands_still_and_goes_on_from_there() -> None:
    """It does not catch up on the time that it was held."""
    pace = Pace(1.0)
    with walking(pace) as walk:
        assert walk.reached(5)
        pace.pause()
        assert pace.paused
        time.sleep(0.02)  # what was due already
        n, begin = walk.n, time.monotonic()
        assert not walk.stop.wait(0.3)
        assert walk.n == n
        pace.resume()
        assert walk.reached(n + 20)
        assert time.monotonic() - begin > 0.3 + 0.15


def test_another_speed_holds_from_now_on() -> None:
    """From a crawl to as fast as can be, without waiting for what the crawl would have waited for."""
    pace = Pace(0.001)
    with walking(pace) as walk:
        assert walk.reached(1)
        pace.set_speed(math.inf)
        assert walk.reached(10_000)
        pace.set_speed(0.001)
        time.sleep(0.02)
        n = walk.n
        assert not walk.stop.wait(0.2)
        assert walk.n <= n + 1
    assert pace.speed == 0.001


@pytest.mark.parametrize("held", [False, True])
def test_a_stop_takes_effect_at_once(held: bool) -> None:
    """Also where it is held, or waits for long."""
    pace = Pace(0.001)
    if held:
        pace.pause()
    with walking(pace) as walk:
        begin = time.monotonic()
        walk.stop.set()
        walk.thread.join(20.0)
        assert time.monotonic() - begin < 5.0
    assert walk.n == (0 if held else 1)
