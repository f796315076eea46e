"""Claims about the buffer of the latest samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clmer_streaming.pipeline.buffer import SampleBuffer


@given(steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=30))
def test_what_is_kept_is_all_that_came_since(steps: list[tuple[int, int]]) -> None:
    """Sample numbers as times and values: after each chunk, and each forgetting, exactly the latest are there."""
    buffer, n, first = SampleBuffer(2), 0, 0
    for n_new, n_kept in steps:
        numbers = np.arange(n, n + n_new, dtype=np.float64)
        buffer.append(numbers, np.stack([numbers, -numbers]), np.stack([numbers % 2 == 0, numbers % 3 == 0]))
        n, first = n + n_new, max(first, n + n_new - n_kept)
        buffer.drop_before(first)
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
        buffer.drop_before(first - 20.0)
    assert np.array_equal(view, numbers[None, :10])


def test_what_is_fed_is_not_written_to() -> None:
    """The caller's array is copied, not adopted."""
    buffer, fed = SampleBuffer(1), np.arange(4.0)
    buffer.append(fed, fed[None, :], False)
    fed[:] = -1.0
    assert np.array_equal(buffer.x, [[0.0, 1.0, 2.0, 3.0]])
