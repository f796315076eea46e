"""Causal filtering and resampling of a running signal, the same live, replayed and offline."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal as sps

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, IndexArray, Item

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
    """Stage: filters chunks (C, n), carrying its state from one to the next.

    The state starts from the first sample of a segment, as if the signal had always had that value: an
    offset of 4200 uV leaves 18 uV instead of 4110 uV, and no chunking can change a bit of the output.

    Args:
        sos: (n_sections, 6) second-order sections.

    Example::

        stage = CausalFilter(design_sos(SignalConfig(), 128.0))
        (filtered,) = stage.push(Chunk("eeg", np.arange(16) / 128, np.zeros((14, 16))))
    """

    def __init__(self, sos: FloatArray) -> None:
        self._sos = sos
        self._zi_unit: FloatArray = sps.sosfilt_zi(sos)
        self.reset()

    def reset(self) -> None:
        """Restart with the next sample."""
        self._state = _FilterState(zi=None)

    def push(self, item: Item) -> list[Item]:
        """Filter a Chunk; restart at a Gap; pass everything else."""
        if isinstance(item, Gap):
            self.reset()
        if not isinstance(item, Chunk) or item.x.shape[1] == 0:
            return [item]
        if self._state.zi is None:
            self._state.zi = self._zi_unit[:, None, :] * item.x[None, :, :1]
        y, self._state.zi = sps.sosfilt(self._sos, item.x, axis=-1, zi=self._state.zi)
        return [Chunk(item.source, item.t, y, item.filled)]


_LOBES = 6  # of the sinc on either side, at the lower of the two rates, at least: 46.9 ms delay at 128 Hz
_MOST_LOBES = 20  # the same at most
_KAISER_BETA = 5.5  # 58 dB, 0.13 % of ripple (Kaiser 1974)
_EDGE_DB = 53.0  # attenuation by which the length is estimated: the band's last hertz may lie in the transition
_MAX_FACTOR = 5000  # any rate is met within 1e-4, at no more than 200,000 taps; the stamps carry the rest


def design_polyphase(up: int, down: int, lobes: int = _LOBES) -> FloatArray:
    """Return the phases of a Kaiser-windowed sinc low-pass, each with unit gain at 0 Hz.

    Args:
        up: Interpolation factor L.
        down: Decimation factor M.
        lobes: Lobes of the sinc on either side, at the lower of the two rates.

    Returns:
        (L, K) float64; output ``m`` is the sum over k of ``phases[m * M % L, k] * x[m * M // L - k]``.
        The K taps of a phase span the whole prototype, whose delay is ``(L * K - 1) / 2 / L`` input samples.
    """
    n_taps = -(-2 * lobes * max(up, down) // up)
    prototype = sps.firwin(up * n_taps, 1.0 / max(up, down), window=("kaiser", _KAISER_BETA))
    phases: FloatArray = np.ascontiguousarray(prototype.reshape(n_taps, up).T)
    normalized: FloatArray = phases / phases.sum(axis=1, keepdims=True)
    return normalized


def count_lobes(sfreq: float, highest_hz: float) -> int:
    """Return how many lobes a resampling needs that leaves the signal up to a frequency as it is.

    By Kaiser's estimate (1974) of the length of a filter whose transition lies between that frequency and its mirror
    image at the rate.

    Args:
        sfreq: The lower of the two rates in Hz.
        highest_hz: The frequency; 0 where none is asked for.
    """
    width_hz = sfreq - 2 * highest_hz
    if not highest_hz or width_hz <= 0:
        return _LOBES if not highest_hz else _MOST_LOBES
    needed = (_EDGE_DB - 7.95) * sfreq / (2 * 2.285 * 2 * np.pi * width_hz)
    return min(_MOST_LOBES, max(_LOBES, int(np.ceil(needed))))


@dataclass
class _ResamplerState:
    x: FloatArray  # (C, m) input that later outputs still need
    t: FloatArray  # (m,)
    filled: BoolArray  # (C, m)
    first: int  # index, within the segment, of the first column kept
    n_out: int  # index of the next output on the segment's output grid


class PolyphaseResampler:
    """Stage: resamples chunks (C, n) from one rate to another; its delay is taken off the stamps.

    The ratio is the nearest of whole numbers up to 5000, so that a measured rate such as 98.96 Hz is met within
    1e-4 too; each output sample has the stamp of its own time, whatever the ratio leaves over.
    At equal rates chunks pass unchanged and undelayed. Before the first sample of a segment the signal is taken to
    have had its value.

    Args:
        sfreq_in: Rate of the input in Hz, nominal or measured.
        sfreq_out: Nominal rate of the output in Hz.
        highest_hz: Frequency up to which the signal stays as it is, whatever the rates; 0: where it suits the rates.
    """

    def __init__(self, sfreq_in: float, sfreq_out: float, highest_hz: float = 0.0) -> None:
        ratio = Fraction(sfreq_out / sfreq_in).limit_denominator(_MAX_FACTOR)
        self._up, self._down = ratio.numerator, ratio.denominator
        self._same = self._up == self._down
        lobes = count_lobes(min(sfreq_in, sfreq_out), highest_hz)
        self._phases = np.ones((1, 1)) if self._same else design_polyphase(self._up, self._down, lobes)
        self._n_taps = self._phases.shape[1]
        self._delay = (self._up * self._n_taps - 1) / 2 / self._up  # input samples
        self.delay_s = self._delay / sfreq_in
        self.reset()

    def reset(self) -> None:
        """Restart with the next sample."""
        self._state: _ResamplerState | None = None

    def push(self, item: Item) -> list[Item]:
        """Resample a Chunk; restart at a Gap; pass everything else."""
        if isinstance(item, Gap):
            self.reset()
        if not isinstance(item, Chunk) or self._same or item.x.shape[1] == 0:
            return [item]
        return [self._resample(item)]

    def _resample(self, chunk: Chunk) -> Chunk:
        state = self._extend(chunk)
        n_in = state.first + state.t.size
        n_ready = -(-n_in * self._up // self._down)  # outputs m with m * M // L < n_in
        m = np.arange(state.n_out, max(state.n_out, n_ready))
        y = self._convolve(state, m)
        t, filled = self._stamp(state, m)
        state.n_out += m.size
        self._trim(state)
        return Chunk(chunk.source, t, y, filled)

    def _extend(self, chunk: Chunk) -> _ResamplerState:
        filled = np.zeros(chunk.x.shape, dtype=np.bool_) if chunk.filled is None else chunk.filled
        if self._state is None:
            self._state = self._primed(chunk, filled)
        state = self._state
        state.x = np.concatenate([state.x, chunk.x], axis=1)
        state.t = np.concatenate([state.t, chunk.t])
        state.filled = np.concatenate([state.filled, filled], axis=1)
        return state

    def _primed(self, chunk: Chunk, filled: BoolArray) -> _ResamplerState:
        n_before = self._n_taps
        first_output = -(-int(np.ceil(self._delay * self._up)) // self._down)  # the first at or after sample 0
        return _ResamplerState(
            x=np.repeat(chunk.x[:, :1], n_before, axis=1),
            t=np.full(n_before, chunk.t[0]),
            filled=np.repeat(filled[:, :1], n_before, axis=1),
            first=-n_before,
            n_out=first_output,
        )

    def _convolve(self, state: _ResamplerState, m: IndexArray) -> FloatArray:
        if m.size == 0:
            return np.empty((state.x.shape[0], 0))
        newest = m * self._down // self._up - state.first
        taps = self._phases[m * self._down % self._up, ::-1]  # (n, K), oldest sample first
        stretches = sliding_window_view(state.x, self._n_taps, axis=1)[:, newest - self._n_taps + 1]
        # Contiguous taps are summed in one fixed order, so that no chunking can change a bit.
        y: FloatArray = np.add.reduce(np.ascontiguousarray(stretches * taps), axis=-1)
        return y

    def _stamp(self, state: _ResamplerState, m: IndexArray) -> tuple[FloatArray, BoolArray]:
        position = m * self._down / self._up - self._delay
        whole = np.floor(position)
        fraction, left = position - whole, whole.astype(np.intp) - state.first
        t: FloatArray = state.t[left] + fraction * (state.t[left + 1] - state.t[left])
        return t, state.filled[:, left] | state.filled[:, left + 1]

    def _trim(self, state: _ResamplerState) -> None:
        oldest_needed = state.n_out * self._down // self._up - self._n_taps
        surplus = min(oldest_needed - state.first, state.t.size)
        if surplus > 0:
            state.x, state.t = state.x[:, surplus:].copy(), state.t[surplus:].copy()
            state.filled, state.first = state.filled[:, surplus:].copy(), state.first + surplus
