"""Causal filtering of a running signal, the same live, replayed and offline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal as sps

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.types import Chunk, FloatArray, Gap, Item

_NOTCH_Q = 30.0  # delays 40 Hz by at most 1.5 ms


def design_sos(config: SignalConfig, sfreq: float) -> FloatArray:
    """Return second-order sections: the notch, if any, then a Butterworth band-pass.

    Args:
        config: Band, order and notch.
        sfreq: Rate of the signal to be filtered in Hz.

    Returns:
        (n_sections, 6) float64.

    Raises:
        StreamError: The rate is too low for the band or the notch.
    """
    sections = [design_band(config.band, config.filter_order, sfreq)]
    if config.notch_hz is not None:
        sections.insert(0, _design_notch(config.notch_hz, sfreq))
    sos: FloatArray = np.concatenate(sections)
    return sos


def design_band(band: tuple[float, float], order: int, sfreq: float) -> FloatArray:
    """Return the second-order sections of a Butterworth band-pass; of a low-pass where the band begins at 0 Hz.

    Args:
        band: Edges in Hz, where the gain is 3 dB down.
        order: Of the prototype.
        sfreq: Rate of the signal to be filtered in Hz.

    Returns:
        (n_sections, 6) float64.

    Raises:
        StreamError: The rate is too low for the band.
    """
    low, high = band
    if 2 * high >= sfreq:
        raise StreamError(
            expected=f"a stream above {2 * high:g} Hz, for a band up to {high:g} Hz",
            found=f"a nominal rate of {sfreq:g} Hz",
            mend="choose another stream, or a model with a narrower band",
        )
    if low <= 0:
        sos: FloatArray = sps.butter(order, high, btype="lowpass", fs=sfreq, output="sos")
    else:
        sos = sps.butter(order, (low, high), btype="bandpass", fs=sfreq, output="sos")
    return sos


def _design_notch(notch_hz: float, sfreq: float) -> FloatArray:
    if 2 * notch_hz >= sfreq:
        raise StreamError(
            expected=f"a stream above {2 * notch_hz:g} Hz, for a notch at {notch_hz:g} Hz",
            found=f"a nominal rate of {sfreq:g} Hz",
            mend="go without it: --notch none",
        )
    sos: FloatArray = sps.tf2sos(*sps.iirnotch(notch_hz, _NOTCH_Q, fs=sfreq))
    return sos


@dataclass
class _FilterState:
    zi: FloatArray | None  # (n_sections, C, 2); None before the first sample of a segment


class CausalFilter:
    """Stage: filters (C, n) chunks, carrying its state from one to the next.

    The state starts from the first sample of a segment, as if the signal had always had that value: an
    offset of 4200 uV leaves 18 uV instead of 4110 uV, and no chunking can change a bit of the output.

    Args:
        sos: (n_sections, 6) second-order sections.
    """

    def __init__(self, sos: FloatArray) -> None:
        self._sos = sos
        self._zi_unit: FloatArray = sps.sosfilt_zi(sos)
        self.reset()

    def reset(self) -> None:
        """Start anew with the next sample."""
        self._state = _FilterState(zi=None)

    def push(self, item: Item) -> list[Item]:
        """Filter a Chunk; start anew at a Gap; pass the rest."""
        if isinstance(item, Gap):
            self.reset()
        if not isinstance(item, Chunk) or item.x.shape[1] == 0:
            return [item]
        if self._state.zi is None:
            self._state.zi = self._zi_unit[:, None, :] * item.x[None, :, :1]
        y, self._state.zi = sps.sosfilt(self._sos, item.x, axis=-1, zi=self._state.zi)
        return [Chunk(item.source, item.t, y, item.filled)]
