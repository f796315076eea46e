"""Which EEG channels of a window can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.types import BoolArray, FloatArray

_FLAT_UV = 0.5  # SD in 4-45 Hz; live scalp EEG stays above 1 uV
_FLAT_LEAVE_UV = 0.7
_NOISY_UV = 100.0  # SD in 4-45 Hz; blinks stay below 60 uV over 2 s
_NOISY_LEAVE_UV = 80.0
_FILLED = 0.25  # share of invented values
_FILLED_LEAVE = 0.15


@dataclass(frozen=True, eq=False)
class ChannelVerdict:
    """The judgement of one window, all (C,)."""

    flat: BoolArray
    noisy: BoolArray
    filled: BoolArray

    @property
    def good(self) -> BoolArray:
        """(C,) True where nothing was found."""
        return ~(self.flat | self.noisy | self.filled)


class ChannelJudge:
    """Judges the channels of successive windows, with hysteresis so that the good set does not flicker.

    A railed amplifier delivers a constant and so shows as flat behind the band-pass.

    Args:
        n_channels: C.
    """

    def __init__(self, n_channels: int) -> None:
        self._n_channels = n_channels
        self.reset()

    def reset(self) -> None:
        """Take every channel as good until judged."""
        nothing = np.zeros(self._n_channels, dtype=np.bool_)
        self._last = ChannelVerdict(nothing, nothing, nothing)

    def judge(self, x: FloatArray, filled: BoolArray) -> ChannelVerdict:
        """Judge one window.

        Args:
            x: (C, T) filtered EEG in microvolts.
            filled: (C, T) True where a value was invented.
        """
        sd = np.std(x, axis=1)
        share = np.mean(filled, axis=1)
        last = self._last
        self._last = ChannelVerdict(
            flat=sd < np.where(last.flat, _FLAT_LEAVE_UV, _FLAT_UV),
            noisy=sd > np.where(last.noisy, _NOISY_LEAVE_UV, _NOISY_UV),
            filled=share > np.where(last.filled, _FILLED_LEAVE, _FILLED),
        )
        return self._last
