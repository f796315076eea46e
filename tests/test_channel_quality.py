"""Claims about bad channels."""

from __future__ import annotations

import numpy as np

from clmer_streaming.channel_quality import ChannelJudge
from clmer_streaming.types import FloatArray

NOTHING_FILLED = np.zeros((4, 256), dtype=bool)


def signal(*sds: float) -> FloatArray:
    """Return one sine per standard deviation, (C, 256)."""
    return np.outer(sds, np.sqrt(2) * np.sin(2 * np.pi * 8 * np.arange(256) / 256))


def test_flat_and_noisy_channels_are_told_apart() -> None:
    """Constant is flat, 300 uV is noisy, 10 and 40 uV are EEG."""
    verdict = ChannelJudge(4, 128.0).judge(signal(0, 10, 40, 300), NOTHING_FILLED)
    assert verdict.flat.tolist() == [True, False, False, False]
    assert verdict.noisy.tolist() == [False, False, False, True]
    assert verdict.good.tolist() == [False, True, True, False]


def test_a_channel_of_invented_values_is_bad() -> None:
    """Half of the samples held: not a measurement."""
    filled = NOTHING_FILLED.copy()
    filled[2, :128] = True
    assert ChannelJudge(4, 128.0).judge(signal(10, 10, 10, 10), filled).good.tolist() == [True, True, False, True]


def test_the_verdict_does_not_flicker() -> None:
    """A channel noisy at 110 uV stays so at 90 uV and is good again at 70 uV; 90 uV alone is no reason."""
    judge = ChannelJudge(1, 128.0)
    nothing = NOTHING_FILLED[:1]
    assert [bool(judge.judge(signal(sd), nothing).good[0]) for sd in (90, 110, 90, 70, 90)] == [
        True, False, False, True, True,
    ]  # fmt: skip
