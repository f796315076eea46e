"""When the reader of a stream may rest: never where a window may wait for the next sample."""

from __future__ import annotations

import numpy as np
import pytest

from clmer_streaming.config import SignalConfig
from clmer_streaming.sources.lsl import LslEegSource
from clmer_streaming.sources.lsl_rest import LONGEST_S, Rest, WindowGrid
from clmer_streaming.types import Chunk, FloatArray
from listener import Listener
from lsl_outlet import headset

PLAIN = Rest(hop_s=0.5, delay_s=0.0, doubt_s=0.005)


def test_far_from_the_end_of_a_window_there_is_time() -> None:
    """0.1 s behind an end that was passed, and 0.4 s before the next: the longest rest there is."""
    assert PLAIN.after(t_newest=100.095, now=100.1) == LONGEST_S


def test_a_rest_ends_before_a_window_does() -> None:
    """20 ms before the end the rest is shorter than that; 3 ms before it there is none."""
    assert 0.01 < PLAIN.after(t_newest=100.475, now=100.48) < 0.02
    assert PLAIN.after(t_newest=100.495, now=100.497) == 0.0


@pytest.mark.parametrize("t_newest", [99.99, 100.0, 100.004])
def test_what_may_not_yet_complete_the_window_is_waited_behind(t_newest: float) -> None:
    """At 100.01 the window of 100 s may still wait for its last sample, which jitter may have moved."""
    assert PLAIN.after(t_newest, now=100.01) == 0.0


def test_a_stream_that_lags_is_never_rested_from_too_long() -> None:
    """Samples that come 0.3 s late complete a window then: no rest until they have."""
    assert PLAIN.after(t_newest=99.9, now=100.2) == 0.0
    assert PLAIN.after(t_newest=100.01, now=100.31) == LONGEST_S


def test_delays_move_the_end_of_a_window() -> None:
    """A window of a stream that is 60 ms late and resampled ends 60 ms and the filter's 47 later by its stamps."""
    rest = Rest.of(250.0, delay_s=0.06, model_sfreq=128.0, hop_s=0.5)
    assert rest.delay_s == pytest.approx(0.06 + 0.047, abs=0.002)
    assert rest.after(t_newest=100.1, now=100.105) == 0.0
    assert rest.after(t_newest=100.135, now=100.14) == LONGEST_S


def test_a_reader_that_rests_takes_samples_together_and_loses_none() -> None:
    """Of a headset that sends sample by sample: several in a chunk, and the counter runs on."""
    with headset(chunk=1), Listener(LslEegSource("auto", SignalConfig(), grid=WindowGrid(0.5))) as listener:
        chunks = [listener.next(Chunk) for _ in range(20)]
    counter: FloatArray = np.concatenate([chunk.x for chunk in chunks], axis=1)[1]
    assert set(np.diff(counter) % 128) == {1.0}
    assert max(chunk.t.size for chunk in chunks[5:]) > 2
