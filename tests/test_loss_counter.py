"""Claims about packet counters."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.loss_counter import LossCounter


def taught(values: list[float], sfreq: float = 128.0) -> LossCounter:
    counter = LossCounter(sfreq)
    for value in values:
        counter.accept(np.array([value]))
    return counter


def test_the_increment_is_learnt_from_two_equal_steps() -> None:
    """A board that counts by twos is understood after three samples."""
    assert not taught([10.0, 12.0]).known
    counter = taught([10.0, 12.0, 14.0])
    assert counter.known
    assert counter.lost_before(16.0) == 0
    assert counter.lost_before(20.0) == 2


def test_emotiv_wraps_each_second() -> None:
    """127 is followed by 0; from 125 to 2 four samples are missing."""
    assert taught([125.0, 126.0, 127.0]).contiguous(np.array([0.0, 1.0, 2.0])) == 3
    assert taught([123.0, 124.0, 125.0]).lost_before(2.0) == 4


def test_a_byte_counter_is_recognised_once_it_passes_the_rate() -> None:
    """Beyond the nominal rate the counter wraps at 256: 254 is followed by 0 for one that counts by twos."""
    counter = taught([250.0, 252.0, 254.0], 125.0)
    assert counter.contiguous(np.array([0.0, 2.0, 4.0])) == 3
    assert counter.wrap_samples == 128


def test_contiguous_stops_at_the_first_break() -> None:
    """Of 3, 4, 6, 7 the first two follow 2."""
    assert taught([0.0, 1.0, 2.0]).contiguous(np.array([3.0, 4.0, 6.0, 7.0])) == 2


@pytest.mark.parametrize("value", [13.0, np.nan])
def test_a_value_between_the_steps_is_odd(value: float) -> None:
    """A counter by twos never shows an odd difference, nor NaN; nothing is concluded from it."""
    assert taught([8.0, 10.0, 12.0]).lost_before(value) is None


def test_a_repeated_value_claims_a_whole_wrap() -> None:
    """The same value again would mean 127 lost samples; the stamps decide whether to believe it."""
    assert taught([0.0, 1.0, 2.0]).lost_before(2.0) == 127


def test_a_new_segment_follows_nothing() -> None:
    """The increment outlives a gap, the last value does not."""
    counter = taught([0.0, 1.0, 2.0])
    counter.forget_last()
    assert not counter.known
    counter.accept(np.array([50.0]))
    assert counter.lost_before(52.0) == 1
