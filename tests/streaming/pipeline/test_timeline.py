"""Claims about counted time, losses and gaps. Values are sample numbers, so a loss can be read off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.pipeline.sample_clock import SampleClock
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item
from tests.support.signals import cut, joined, push_all, stamps


def numbered(n: int) -> FloatArray:
    """Return (2, n): the sample number, and Emotiv's counter that restarts each 128 samples."""
    number = np.arange(n, dtype=float)
    return np.stack([number, number % 128])


def timeline(*, counter: bool = True) -> Timeline:
    return Timeline(128.0, [0], counter=1 if counter else None)


def run(
    keep: BoolArray | None = None, t: FloatArray | None = None, *, counter: bool = True, n: int = 1280
) -> tuple[list[Item], Timeline]:
    """Push the kept ones of n numbered samples in chunks of 16."""
    stage = timeline(counter=counter)
    kept = np.ones(n, dtype=bool) if keep is None else keep
    received = stamps(n) if t is None else t
    return push_all(stage, cut(received[kept], numbered(n)[:, kept], [16])), stage


def without(first: int, n_lost: int, n: int = 1280) -> BoolArray:
    """Return a mask that loses ``n_lost`` samples from ``first`` on."""
    keep = np.ones(n, dtype=bool)
    keep[first : first + n_lost] = False
    return keep


def gaps(items: list[Item]) -> list[Gap]:
    return [item for item in items if isinstance(item, Gap)]


def filled(items: list[Item]) -> BoolArray:
    return np.concatenate([c.filled[0] for c in items if isinstance(c, Chunk) and c.filled is not None])


def test_without_loss_every_sample_comes_out_once() -> None:
    """1280 samples in, the same 1280 out, at their stamps, none invented."""
    items, _ = run()
    t, x = joined(items)
    assert np.array_equal(x[0], np.arange(1280))
    assert t == pytest.approx(stamps(1280), abs=1e-9)
    assert not filled(items).any()


@pytest.mark.parametrize("n_lost", [1, 5, 12])
def test_a_loss_up_to_a_tenth_of_a_second_is_bridged_and_marked(n_lost: int) -> None:
    """The missing sample numbers are put back by a straight line and marked as invented."""
    items, stage = run(without(640, n_lost))
    assert not gaps(items)
    assert stage.n_bridged == n_lost
    assert np.array_equal(np.flatnonzero(filled(items)), np.arange(640, 640 + n_lost))
    assert joined(items)[1][0] == pytest.approx(np.arange(1280), abs=1e-9)


def test_without_a_counter_a_short_loss_is_seen_by_the_stamps() -> None:
    """Twelve samples lost show as an offset that lasts, and are bridged to within a sample."""
    items, stage = run(without(640, 12), counter=False)
    assert not gaps(items)
    assert stage.n_bridged == pytest.approx(12, abs=1)
    assert np.flatnonzero(filled(items))[0] == 640
    assert joined(items)[0][-1] == pytest.approx(stamps(1280)[-1], abs=0.01)


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("lost_s", [0.25, 1.0, 1.5, 3.0])
def test_a_longer_loss_ends_the_segment(lost_s: float, counter: bool) -> None:
    """A loss of a whole number of counter turns (1 s, 3 s) is seen as well as any other."""
    items, stage = run(without(640, round(128 * lost_s)), counter=counter)
    (gap,) = gaps(items)
    assert gap.reason == "lost_samples"
    assert gap.t0 == pytest.approx(stamps(1280)[639], abs=0.01)
    assert gap.t1 == pytest.approx(stamps(1280)[640 + round(128 * lost_s)], abs=0.01)
    assert stage.n_gaps == 1
    assert not filled(items).any()


def test_time_is_right_at_once_behind_a_gap() -> None:
    """No later sample is pulled towards the stamps before the gap."""
    keep = without(640, 128)
    t, _ = joined(run(keep)[0])
    assert t == pytest.approx(stamps(1280)[keep], abs=1e-6)


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("lost_s", [0.25, 1.0, 3.0, 10.0])
def test_ten_seconds_behind_a_gap_time_is_right_to_a_millisecond(lost_s: float, counter: bool) -> None:
    """With 4 ms of jitter and 35 ppm of drift, for four seeds, to the end of the minute after."""
    n_lost, n = round(128 * lost_s), round(128 * (80 + lost_s))
    keep = without(1280, n_lost, n)
    true = 100.0 + np.arange(n) / (128.0 * (1 + 35e-6))
    behind = true[keep] >= true[1280 + n_lost] + 10.0
    for seed in range(4):
        jitter = 0.004 * np.random.default_rng(seed).standard_normal(n)
        t, _ = joined(run(keep, true + jitter, counter=counter, n=n)[0])
        assert np.max(np.abs(t - true[keep])[behind]) < 1e-3


@pytest.mark.parametrize("n_lost", [1, 12, 32, 300])
def test_losses_are_counted_exactly_by_the_counter(n_lost: int) -> None:
    """Bridged or a gap, beyond whole turns of the counter or not."""
    _, stage = run(without(640, n_lost))
    assert (stage.n_lost, stage.n_lost_estimated) == (n_lost, 0)


def test_a_loss_of_whole_turns_of_the_counter_is_estimated_by_the_stamps() -> None:
    """The counter runs on as if nothing were missing: only the stamps show the second that is."""
    _, stage = run(without(640, 128))
    assert (stage.n_lost, stage.n_lost_estimated) == (0, 128)


@pytest.mark.parametrize("n_lost", [12, 32, 128, 300])
def test_without_a_counter_losses_are_estimated_by_the_stamps(n_lost: int) -> None:
    """To within a sample, and under another name than those that a counter proves."""
    _, stage = run(without(640, n_lost), counter=False)
    assert stage.n_lost_estimated == pytest.approx(n_lost, abs=1)
    assert stage.n_lost == 0


def test_unusable_samples_are_no_losses() -> None:
    """Rows of NaN were received: they are unusable, and not counted a second time as lost."""
    for counter in (True, False):
        stage, x = timeline(counter=counter), numbered(1280)
        x[0, 640:680] = np.nan
        push_all(stage, cut(stamps(1280), x, [16]))
        assert (stage.n_unusable, stage.n_lost) == (40, 0)


@pytest.mark.parametrize("jump_s", [50.3, 5000.0, -50.3])
def test_a_clock_that_was_set_while_the_counter_runs_on_is_a_jump(jump_s: float) -> None:
    """Nothing was lost, as the counter shows: the segment ends, and no loss is invented."""
    received = stamps(1280)
    received[640:] += jump_s
    items, stage = run(t=received)
    assert [gap.reason for gap in gaps(items)] == ["clock_jump"]
    assert stage.n_lost == 0


def test_without_a_counter_a_leap_of_more_than_ten_minutes_is_a_clock_that_was_set() -> None:
    """Shorter ones are taken for what they look like: samples that are missing."""
    for jump_s, reason in ((300.0, "lost_samples"), (3600.0, "clock_jump")):
        received = stamps(1280)
        received[640:] += jump_s
        assert [gap.reason for gap in gaps(run(t=received, counter=False)[0])] == [reason]


@pytest.mark.parametrize("counter", [True, False])
def test_stamps_in_a_staircase_with_backward_steps_are_jitter(counter: bool) -> None:
    """Chunks of 8 that all carry one stamp, every other one 80 ms back: no gap, nothing invented."""
    n = 128 * 20
    t = stamps(n)[np.arange(n) // 8 * 8 + 7] - 0.08 * (np.arange(n) // 8 % 2)
    assert np.min(np.diff(t)) < 0
    items, stage = run(t=t, n=n, counter=counter)
    assert (gaps(items), stage.n_bridged, stage.n_lost) == ([], 0, 0)
    counted = joined(items)[0]
    assert np.min(np.diff(counted)) > 0
    assert np.max(np.abs(counted - stamps(n) - np.median(counted - stamps(n)))[1280:]) < 0.005


def test_what_was_learnt_of_the_jitter_outlives_a_gap() -> None:
    """Stamps in blocks that stray by 80 ms: once known as jitter they are jitter behind a gap, too."""
    rng = np.random.default_rng(0)
    late = np.repeat(rng.uniform(-0.04, 0.04, 768), 10)[: 128 * 60]
    keep = without(128 * 30, 640, 128 * 60)
    items, _ = run(keep, stamps(128 * 60) + late, counter=False, n=128 * 60)
    assert len(gaps(items)) == 1


def test_one_odd_stamp_is_no_gap() -> None:
    """A single stamp half a second off is given its counted time."""
    received = stamps(1280)
    received[700] += 0.5
    items, _ = run(t=received)
    assert not gaps(items)
    assert joined(items)[0] == pytest.approx(stamps(1280), abs=1e-6)


@pytest.mark.parametrize("counter", [True, False])
def test_a_clock_set_back_ends_the_segment_as_a_jump(counter: bool) -> None:
    """Stamps that fall back by 100 s for good are a clock jump, not a loss."""
    received = stamps(1280)
    received[640:] -= 100.0
    (gap,) = gaps(run(t=received, counter=counter)[0])
    assert gap.reason == "clock_jump"


def test_a_contiguous_counter_outweighs_a_small_shift_of_the_stamps() -> None:
    """If nothing was lost the signal goes on; only the clock starts anew."""
    received = stamps(1280)
    received[640:] += 0.4
    items, _ = run(t=received)
    t, x = joined(items)
    assert not gaps(items)
    assert np.array_equal(x[0], np.arange(1280))
    assert t[-1] == pytest.approx(received[-1], abs=1e-3)


def test_samples_that_the_headset_invented_are_losses() -> None:
    """Rows with Interpolate set are thrown away and bridged by our own, marked, line."""
    stage = Timeline(128.0, [0], counter=1, interpolate=2)
    x = np.concatenate([numbered(1280), np.zeros((1, 1280))])
    x[2, 640:644] = 1.0
    x[0, 640:644] = -999.0
    items = push_all(stage, cut(stamps(1280), x, [16]))
    assert np.array_equal(joined(items)[1][0], np.arange(1280))
    assert np.array_equal(np.flatnonzero(filled(items)), [640, 641, 642, 643])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_a_finite_value_are_losses_even_without_counter(value: float) -> None:
    """Three rows of NaN are bridged, a second of NaN is a gap; every sample is accounted for."""
    for n_bad, n_gaps in ((3, 0), (128, 1)):
        stage = timeline(counter=False)
        x = numbered(1280)
        x[0, 640 : 640 + n_bad] = value
        items = push_all(stage, cut(stamps(1280), x, [16]))
        t, y = joined(items)
        assert len(gaps(items)) == n_gaps
        assert stage.n_unusable == n_bad
        assert np.isfinite(y).all()
        assert t[-1] == pytest.approx(stamps(1280)[-1], abs=1e-6)


def test_bursts_of_seventy_milliseconds_are_jitter() -> None:
    """Stamps in the bursts of a real board (blocks of 10, up to 70 ms off) neither end nor bridge anything."""
    rng = np.random.default_rng(0)
    late = np.repeat(rng.uniform(-0.035, 0.035, 384), 10)[: 128 * 30]
    items, stage = run(t=stamps(128 * 30) + late, counter=False, n=128 * 30)
    assert not gaps(items)
    assert stage.n_bridged == 0


def test_a_gap_from_the_source_ends_the_segment_without_a_second_gap() -> None:
    """What the source said is passed on; the samples behind it start anew."""
    stage = timeline()
    said = Gap(101, 200, "eeg", "replay_loop")
    items = push_all(
        stage, [*cut(stamps(128), numbered(128), [32]), said, *cut(stamps(128, t0=200.0), numbered(128), [32])]
    )
    assert gaps(items) == [said]
    assert joined(items)[0][128] == 200.0


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    lost=st.lists(st.tuples(st.integers(5, 900), st.integers(1, 200)), max_size=3),
    jitter_ms=st.sampled_from([0.0, 4.0, 30.0]),
    counter=st.booleans(),
)
def test_any_cut_gives_the_same_bits(
    sizes: list[int], lost: list[tuple[int, int]], jitter_ms: float, counter: bool
) -> None:
    """Stamps, values, marks and gaps do not depend on how the stream was cut."""
    keep = np.ones(1100, dtype=bool)
    for first, n_lost in lost:
        keep[first : first + n_lost] = False
    received = stamps(1100) + 1e-3 * jitter_ms * np.random.default_rng(7).standard_normal(1100)
    t, x = received[keep], numbered(1100)[:, keep]
    whole = push_all(timeline(counter=counter), cut(t, x, [t.size]))
    pieces = push_all(timeline(counter=counter), cut(t, x, sizes))
    assert gaps(whole) == gaps(pieces)
    for one, other in zip(joined(whole), joined(pieces), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(filled(whole), filled(pieces))


def times(
    received: FloatArray, sfreq: float = 128.0, sizes: tuple[int, ...] = (1000,)
) -> tuple[FloatArray, SampleClock]:
    """Run stamps through a clock in pieces of the given sizes."""
    clock = SampleClock(sfreq, float(received[0]))
    out, done, turn = [], 0, 0
    while done < received.size:
        n = min(sizes[turn % len(sizes)], clock.n_left, received.size - done)
        out.append(clock.advance(received[done : done + n]))
        done, turn = done + n, turn + 1
    return np.concatenate(out), clock


def test_even_stamps_are_kept() -> None:
    """Where nothing jitters the counted time is the stamp."""
    received = stamps(2000)
    assert times(received)[0] == pytest.approx(received, abs=1e-9)


def test_jitter_and_drift_are_followed_to_a_millisecond() -> None:
    """4 ms jitter and 35 ppm: within 1 ms of the truth from 10 s on, and the drift is found."""
    rng = np.random.default_rng(5)
    true = 50.0 + np.arange(128 * 60) / (128.0 * (1 + 35e-6))
    t, clock = times(true + 0.004 * rng.standard_normal(true.size))
    assert np.max(np.abs(t - true)[1280:]) < 1e-3
    assert 1 / clock.period / 128.0 - 1 == pytest.approx(35e-6, abs=15e-6)


def test_a_rate_off_by_a_sixth_of_a_percent_is_found() -> None:
    """A nominal 125 Hz stream that runs at 125.21 Hz (as a real board does) is counted at 125.21 Hz."""
    t, clock = times(stamps(125 * 40, 125.21), 125.0)
    assert 1 / clock.period == pytest.approx(125.21, abs=1e-3)
    assert t[-1] == pytest.approx(stamps(125 * 40, 125.21)[-1], abs=1e-3)


def test_time_never_runs_backward() -> None:
    """Whatever the stamps do, each sample is later than the one before."""
    rng = np.random.default_rng(1)
    t, _ = times(stamps(3000) + 0.08 * rng.standard_normal(3000))
    assert np.min(np.diff(t)) > 0


def test_invented_samples_do_not_enter_the_fit() -> None:
    """A NaN stamp is counted and given a time, but teaches nothing."""
    received = stamps(1000)
    holed = received.copy()
    holed[300:310] = np.nan
    assert times(holed)[0] == pytest.approx(received, abs=1e-9)


def test_any_cut_gives_the_same_times() -> None:
    """The map is fitted anew at fixed indices, so pieces do not matter."""
    rng = np.random.default_rng(2)
    received = stamps(2000) + 0.01 * rng.standard_normal(2000)
    whole = times(received)[0]
    for sizes in ((1,), (8,), (5, 31, 2)):
        assert np.array_equal(times(received, sizes=sizes)[0], whole)
