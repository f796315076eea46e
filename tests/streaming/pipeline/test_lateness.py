"""Claims about samples that are late, which are not lost, and about lost ones among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.support.senders import Sender, push_times
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.rate import RateDecision, RateGate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, StreamInfo, StreamStatus, Window
from tests.support.signals import cut, eeg_like, push_all

SECONDS = 60.0
INFO = StreamInfo("eeg", "eeg", "Late", (*EPOC_CH_NAMES, "COUNTER"), 128.0, unit="microvolts")

CHUNKS = (1, 4, 8, 16, 32, 64, 128)
SENDERS = [
    *(Sender(delay_s=delay_s) for delay_s in (0.01, 0.03, 0.06, 0.1, 0.2)),
    *(Sender(hiccup_s=hiccup_s) for hiccup_s in (0.15, 0.4)),
]


@dataclass(frozen=True, eq=False)
class Placed:
    """What gate and timeline make of a stream."""

    number: FloatArray  # (n,) of the samples that were placed, bridged ones left out
    t: FloatArray  # (n,) s, their times
    gaps: list[Gap]
    timeline: Timeline


def place(stamps: FloatArray, chunk: int, *, counter: bool, kept: BoolArray | None = None) -> Placed:
    """Run stamps through gate and timeline; values are the numbers of the samples, and a counter of seven bits."""
    number = np.arange(stamps.size, dtype=np.float64)
    x = np.stack([number, number % 128])
    if kept is not None:
        stamps, x = stamps[kept], x[:, kept]
    gate, timeline, out = RateGate(INFO, 1 if counter else None), Timeline(128.0, [0]), []
    for item in push_all(gate, cut(stamps, x, [chunk])):
        if isinstance(item, RateDecision):
            before, timeline = timeline, Timeline(item.sfreq, [0], 1 if counter else None)
            timeline.carry_counts(before)
            timeline.use_measured(item.measured)
        else:
            out += timeline.push(item)
    chunks = [item for item in out if isinstance(item, Chunk)]
    t, numbers = np.concatenate([c.t for c in chunks]), np.concatenate([c.x[0] for c in chunks])
    filled = np.concatenate([c.filled[0] for c in chunks if c.filled is not None])
    gaps = [item for item in out if isinstance(item, Gap)]
    return Placed(numbers[~filled], t[~filled], gaps, timeline)


def see(stamps: FloatArray, chunk: int, *, counter: bool) -> tuple[float, StreamStatus]:
    """Return the share of the windows that have EEG, and the status of the stream."""
    x = np.concatenate([eeg_like(stamps.size), (np.arange(stamps.size) % 128)[None, :]])
    info = INFO if counter else StreamInfo("eeg", "eeg", "Late", (*EPOC_CH_NAMES, "AUX"), 128.0, unit="microvolts")
    stage = Preprocessor(PreprocessConfig())
    windows = push_all(stage, [info, *cut(stamps, x, [chunk])])
    return float(np.mean([window.mask["eeg"].any() for window in windows])), stage.statuses()[0]


def with_chunk(sender: Sender, chunk: int) -> Sender:
    return Sender(sender.sfreq, chunk, sender.delay_s, sender.hiccup_s, sender.jitter_s)


def least_lateness(stamps: FloatArray, taken: FloatArray) -> FloatArray:
    """Return for each sample the least lateness (n,) of the last 30 s: none can know more of the truth by then."""
    late = stamps - taken
    return np.array([np.min(late[max(0, i - 3840) : i + 1]) for i in range(late.size)])


def check_lossless(sender: Sender, seed: int, *, counter: bool) -> None:
    """At least 94 % of the windows (96 are possible), no gap, nothing invented or lost, times near the truth.

    From 10 s on, times are 10 ms from the push that was least late, or 30 % of the mean delay where a push comes each
    half second.
    """
    taken, stamps = push_times(sender, SECONDS, seed)
    share, status = see(stamps, sender.chunk, counter=counter)
    assert share >= 0.94
    assert (status.n_gaps, status.n_bridged, status.n_lost, status.n_lost_estimated) == (0, 0, 0, 0)
    placed = place(stamps, sender.chunk, counter=counter)
    number = placed.number.astype(np.intp)
    error = np.abs(placed.t - taken[number]) - least_lateness(stamps, taken)[number]
    allowed_s = max(0.01, 0.3 * sender.delay_s * sender.chunk / 64)
    assert np.max(error[taken[number] >= taken[0] + 10.0]) <= allowed_s


@pytest.mark.parametrize("counter", [False, True])
@pytest.mark.parametrize(
    "sender",
    [
        Sender(chunk=1, delay_s=0.03),
        Sender(chunk=32, delay_s=0.03),
        Sender(chunk=32, delay_s=0.1),
        Sender(chunk=64, delay_s=0.1),
        Sender(chunk=1, hiccup_s=0.4),
        Sender(chunk=32, hiccup_s=0.4),
        Sender(chunk=128, hiccup_s=0.15),
    ],
)
def test_late_samples_are_not_lost(sender: Sender, counter: bool) -> None:
    """Lossless streams keep their windows, however late their chunks are pushed."""
    check_lossless(sender, 0, counter=counter)


@pytest.mark.deep
@pytest.mark.parametrize("counter", [False, True])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("sender", SENDERS, ids=str)
def test_late_samples_are_not_lost_in_any_chunks(sender: Sender, chunk: int, counter: bool) -> None:
    """The same for chunks of 1 to 128 samples, delays of 10 to 200 ms, and hiccups of 150 and 400 ms."""
    for seed in range(3):
        check_lossless(with_chunk(sender, chunk), seed, counter=counter)


@pytest.mark.parametrize("counter", [False, True])
@pytest.mark.parametrize("chunk", [1, 8, 32])
@pytest.mark.parametrize("lost_s", [0.5, 1.5, 3.25])
def test_a_true_loss_among_late_samples_is_found(lost_s: float, chunk: int, counter: bool) -> None:
    """Pushes are late by 30 ms on average, and once samples are missing: one gap, of the right length."""
    for seed in range(3):
        taken, stamps = push_times(Sender(chunk=chunk, delay_s=0.03), SECONDS, seed)
        kept = np.ones(taken.size, dtype=bool)
        n_lost = round(lost_s * 128) // chunk * chunk
        first = 2560
        kept[first : first + n_lost] = False
        placed = place(stamps, chunk, counter=counter, kept=kept)
        (gap,) = placed.gaps
        assert gap.reason == "lost_samples"
        assert taken[first - 1] - 0.05 <= gap.t0 <= taken[first + n_lost] + 1.0
        found = placed.timeline.n_lost if counter else placed.timeline.n_lost_estimated
        assert found == n_lost if counter else abs(found - n_lost) <= 6
        error = placed.t - taken[placed.number.astype(np.intp)]
        assert np.max(np.abs(error[placed.t > taken[first + n_lost] + 10.0])) < 0.02


@pytest.mark.parametrize("chunk", [16, 32])
def test_an_hour_of_late_samples_has_no_gap(chunk: int) -> None:
    """Pushes that are late by 100 ms on average, 14,400 and more of them: not one is taken for a loss."""
    _, stamps = push_times(Sender(chunk=chunk, delay_s=0.1), 3600.0, 5)
    placed = place(stamps, chunk, counter=False)
    assert placed.gaps == []
    assert (placed.timeline.n_bridged, placed.timeline.n_lost_estimated) == (0, 0)


def test_a_sender_that_catches_up_slowly_has_lost_nothing() -> None:
    """Three seconds of stall, then twice the rate until it has caught up, each sample stamped when it is pushed."""
    taken = 1000.0 + np.arange(128 * 40) / 128.0
    stamps = taken.copy()
    stalled = (taken >= 1020.0) & (taken < 1026.0)
    stamps[stalled] = 1023.0 + (taken[stalled] - 1020.0) / 2
    placed = place(stamps, 8, counter=False)
    assert placed.gaps == []
    assert placed.timeline.n_lost_estimated == 0
    assert np.max(np.abs(placed.t - taken[placed.number.astype(np.intp)])) < 0.01


def test_a_first_chunk_that_is_late_does_not_delay_all_the_others() -> None:
    """The first push is 200 ms late: from the first second on, times are those of the pushes in time."""
    taken, stamps = push_times(Sender(chunk=32), 30.0)
    stamps[:32] += 0.2
    placed = place(stamps, 32, counter=False)
    number = placed.number.astype(np.intp)
    error = np.abs(placed.t - taken[number])
    assert np.max(error[taken[number] > taken[0] + 1.0]) < 0.005
    assert np.min(np.diff(placed.t)) > 0


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
    delay_ms=st.sampled_from([0.0, 10.0, 60.0]),
    hiccup_ms=st.sampled_from([0.0, 400.0]),
    chunk=st.sampled_from([1, 8, 32]),
    lost=st.lists(st.tuples(st.integers(300, 1500), st.integers(1, 200)), max_size=2),
    counter=st.booleans(),
)
def test_any_cut_gives_the_same_times(  # noqa: PLR0917 - drawn by name
    sizes: list[int], delay_ms: float, hiccup_ms: float, chunk: int, lost: list[tuple[int, int]], counter: bool
) -> None:
    """Late or lost: what is decided, and where, does not depend on how the stream was cut into items."""
    sender = Sender(chunk=chunk, delay_s=delay_ms / 1e3, hiccup_s=hiccup_ms / 1e3)
    _, stamps = push_times(sender, 16.0, 1)
    kept = np.ones(stamps.size, dtype=bool)
    for first, n_lost in lost:
        kept[first : first + n_lost] = False
    number = np.arange(stamps.size, dtype=np.float64)
    x = np.stack([number, number % 128])[:, kept]

    def made(cuts: list[int]) -> list[object]:
        timeline, out = Timeline(128.0, [0], 1 if counter else None), list[object]()
        for item in push_all(timeline, cut(stamps[kept], x, cuts)):
            if isinstance(item, Chunk):
                out += item.t.tolist()
            elif isinstance(item, Gap):
                out.append((item.t0, item.t1, item.reason))
        return out

    assert made(sizes) == made([stamps.size])


@pytest.fixture
def cases(sample_data: Path) -> Path:
    """The folder of recordings that people report."""
    return sample_data / "cases"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("one_chunk_of_32_is_60ms_late", 35),
        ("hiccup_400ms_sample_by_sample", 35),
        ("ble_chunk32_expdelay_100ms", 55),
        ("nominal250_true125_chunk50", 54),
    ],
)
def test_the_cases_that_people_report(cases: Path, name: str, least: int) -> None:
    """No gap, nothing invented or lost, and all the windows that are possible."""
    stage = Preprocessor(PreprocessConfig())
    source = ReplaySource(cases / f"{name}.xdf", speed=math.inf)
    windows: list[Window] = [window for item in source.items() for window in stage.push(item)]
    (status,) = (status for status in stage.statuses() if status.kind == "eeg")
    assert (status.n_gaps, status.n_bridged, status.n_lost, status.n_lost_estimated) == (0, 0, 0, 0)
    assert sum(window.mask["eeg"].any() for window in windows) >= least
    if name.startswith("nominal250"):
        assert "declares 250 Hz, runs at 125 Hz" in status.reason


def test_the_stamps_of_a_late_stream_are_true(cases: Path) -> None:
    """Chunks of 32, late by 100 ms on average: within 10 ms from 10 s on.

    A delay that all pushes have in common cannot be known: 8.5 ms, that of the push that was least late.
    """
    source = ReplaySource(cases / "ble_chunk32_expdelay_100ms.xdf", speed=math.inf)
    stamps = np.concatenate([item.t for item in source.items() if isinstance(item, Chunk)])
    taken = 5000.0 + np.arange(stamps.size) / 128.0
    placed = place(stamps, 32, counter=False)
    common_s = np.min(stamps - taken)
    error = placed.t - taken[placed.number.astype(np.intp)] - common_s
    assert np.max(np.abs(error[placed.t > 5010.0])) < 0.01
