"""Claims about EEG windows. Values are sample numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clmer_streaming.pipeline.buffer import SampleBuffer
from clmer_streaming.pipeline.eeg import EegBuffer
from clmer_streaming.types import Chunk, Gap, Reason
from tests.support.signals import stamps


def chunk(n: int, t0: float = 100.0, first: int = 0) -> Chunk:
    number = np.arange(first, first + n, dtype=float)[None, :]
    return Chunk("eeg", stamps(n, t0=t0), number, np.zeros((1, n), dtype=bool))


def buffer() -> EegBuffer:
    """A buffer of two-second windows that settle for half a second."""
    return EegBuffer(n_times=256, sfreq=128.0, window_s=2.0, settle_s=0.5)


def test_a_window_is_the_last_t_samples_before_its_end() -> None:
    """At t = 103 s the window holds samples 128 to 383; sample 384 lies at 103 s and is outside."""
    kept = buffer()
    kept.push(chunk(640))
    cut = kept.cut(103.0)
    assert cut.x is not None
    assert np.array_equal(cut.x[0], np.arange(128, 384))


def test_the_first_window_begins_behind_the_settling() -> None:
    """First sample at 100 s, settled at 100.5 s: the first window ends at 102.5 s."""
    kept = buffer()
    kept.push(chunk(640))
    assert kept.cut(102.0).reasons == (Reason.WARMING_UP,)
    assert kept.cut(102.5).reasons == ()


def test_before_any_sample_there_is_no_eeg() -> None:
    """Nothing heard is missing, not warming up."""
    kept = buffer()
    assert kept.cut(100.0).reasons == (Reason.EEG_MISSING,)
    kept.push(chunk(64))
    assert kept.cut(100.0).reasons == (Reason.EEG_MISSING,)


def test_no_window_spans_a_gap() -> None:
    """Within the gap and a window behind it: gap; then warming up; then samples of the new segment alone."""
    kept = buffer()
    kept.push(chunk(640))
    kept.push(Gap(105.0, 107.0, "eeg", "lost_samples"))
    kept.push(chunk(640, t0=107.0, first=1000))
    assert [kept.cut(t).reasons for t in (106.0, 107.0, 108.5, 109.0, 109.25)] == [
        (Reason.GAP,), (Reason.EEG_STALE,), (Reason.GAP,), (Reason.WARMING_UP,), (Reason.WARMING_UP,),
    ]  # fmt: skip
    cut = kept.cut(109.5)
    assert cut.x is not None
    assert cut.x[0, 0] == 1000 + 64


def test_silence_is_stale() -> None:
    """Samples end at 105 s and nobody said why."""
    kept = buffer()
    kept.push(chunk(640))
    assert kept.cut(105.5).reasons == (Reason.EEG_STALE,)


def test_a_clock_jump_is_named() -> None:
    """Behind a jump of the clock the reason says so."""
    kept = buffer()
    kept.push(chunk(640))
    kept.push(Gap(105.0, 205.0, "eeg", "clock_jump"))
    kept.push(chunk(64, t0=205.0))
    assert Reason.EEG_CLOCK_JUMP in kept.cut(205.5).reasons


def test_forgetting_keeps_what_later_windows_need() -> None:
    """What was dropped changes no later window."""
    kept, whole = buffer(), buffer()
    for each in (kept, whole):
        each.push(chunk(1280))
    kept.forget_before(105.0)
    one, other = kept.cut(105.5).x, whole.cut(105.5).x
    assert one is not None
    assert other is not None
    assert np.array_equal(one, other)


@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=30))
def test_what_is_kept_is_all_that_came_since(steps: list[tuple[int, int]]) -> None:
    """Sample numbers as times and values: after each chunk, and each forgetting, exactly the latest are there."""
    buffer, n, first = SampleBuffer(2), 0, 0
    for n_new, n_kept in steps:
        numbers = np.arange(n, n + n_new, dtype=np.float64)
        buffer.append(numbers, np.stack([numbers, -numbers]), np.stack([numbers % 2 == 0, numbers % 3 == 0]))
        n, first = n + n_new, max(first, n + n_new - n_kept)
        buffer.forget_before(first)
        kept = np.arange(first, n, dtype=np.float64)
        assert np.array_equal(buffer.t, kept)
        assert np.array_equal(buffer.x, np.stack([kept, -kept]))
        assert np.array_equal(buffer.marks, np.stack([kept % 2 == 0, kept % 3 == 0]))


def test_a_cut_stays_as_it_was_while_samples_come_and_go() -> None:
    """A view of ten samples, then a thousand more in chunks of seven, with the old ones forgotten."""
    buffer = SampleBuffer(1)
    numbers = np.arange(1010, dtype=np.float64)
    buffer.append(numbers[:10], numbers[None, :10], True)
    view = buffer.x
    for first in range(10, 1010, 7):
        new = numbers[first : first + 7]
        buffer.append(new, new[None, :], False)
        buffer.forget_before(first - 20.0)
    assert np.array_equal(view, numbers[None, :10])


def test_what_is_fed_is_not_written_to() -> None:
    """The caller's array is copied, not adopted."""
    buffer, fed = SampleBuffer(1), np.arange(4.0)
    buffer.append(fed, fed[None, :], False)
    fed[:] = -1.0
    assert np.array_equal(buffer.x, [[0.0, 1.0, 2.0, 3.0]])
