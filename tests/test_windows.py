"""Claims about EEG windows. Values are sample numbers."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import Chunk, Gap, Reason
from clmer_streaming.windows import EegBuffer
from signals import stamps


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
