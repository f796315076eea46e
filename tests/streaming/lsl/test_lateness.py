"""Claims about a live stream whose chunks come late, over a real LSL network."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.config import SignalConfig
from clmer_streaming.lsl.sources import LslEegSource
from clmer_streaming.types import Chunk, Gap
from tests.support.lsl_faults import Watched
from tests.support.lsl_outlet import headset

pytestmark = pytest.mark.lsl


@pytest.mark.deep
@pytest.mark.parametrize("counter", [False, True])
def test_a_minute_of_late_chunks_keeps_its_windows(counter: bool) -> None:
    """Chunks of 32, pushed 30 ms late on average: no gap, nothing invented, and 94 % of the windows."""
    with (
        headset("late", "LATE-0001", chunk=32, late_s=0.03, counter=counter),
        Watched(LslEegSource("late", SignalConfig())) as watched,
    ):
        watched.until_valid()
        t_first = next(item.t[0] for item in watched.items if isinstance(item, Chunk))
        watched.until(lambda: watched.windows[-1].t_end >= t_first + 60.0)
    status = watched.status
    assert (status.n_gaps, status.n_lost, status.n_lost_estimated) == (0, 0, 0)
    assert status.n_bridged == status.n_dropped  # those that the headset itself marks as interpolated
    assert not any(isinstance(item, Gap) for item in watched.items)
    windows = [window for window in watched.windows if t_first < window.t_end <= t_first + 60.0]
    assert len(windows) >= 119
    assert np.mean([window.mask["eeg"].any() for window in windows]) >= 0.94
