"""The quality of EEG channels: which of a window can be trusted, and the faults of the others.

Six faults mask a channel: ``missing``, ``flat``, ``railed``, ``noisy`` and ``filled`` leave no EEG in it, and so does
bad ``contact`` as the headset reports it. Three only warn: ``line``, ``muscle`` and ``uncorrelated`` channels still
carry EEG. docs/channel-quality.md has how often each is found in simulated and in real recordings.

In this order: ``Spectrum``; ``RawMonitor``, which keeps the unfiltered signal; ``ChannelJudge`` and its verdict.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clmer_streaming.pipeline.buffer import SampleBuffer
from clmer_streaming.pipeline.channels import POOR_CONTACT
from clmer_streaming.types import BoolArray, ChannelFault, ChannelQuality, Chunk, FloatArray, Item

_HIGHEST_HZ = 64.0  # beyond EEG and mains; higher frequencies are not used
_AT_ONCE = 16  # channels; as many as fit into a processor's cache


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The spectrum of a signal under a Hann window, without a unit: only shares and correlations mean something."""

    values: npt.NDArray[np.complex128]  # (C, m)
    n: int  # samples of the signal
    sfreq: float  # Hz, their rate

    def band(self, low: float, high: float) -> FloatArray:
        """Return real and imaginary parts (C, 2 b) of the b bins from ``low`` to ``high`` Hz, both included."""
        parts: FloatArray = self.values[:, _bins(self.n, self.sfreq, low, high)].view(np.float64)
        return parts

    def power(self, low: float, high: float) -> FloatArray:
        """Return the summed power (C,) from ``low`` to ``high`` Hz, both included."""
        band = self.band(low, high)
        power: FloatArray = np.einsum("cb,cb->c", band, band)
        return power


def spectrum(x: FloatArray, sfreq: float) -> Spectrum:
    """Return the spectrum of x (C, n) without its mean, between 0 Hz and half of the rate, both left out."""
    n = x.shape[1]
    n_bins = _frequencies(n, sfreq).size + 2
    plain = np.empty((x.shape[0], n_bins), dtype=np.complex128)
    for first in range(0, x.shape[0], _AT_ONCE):
        some = x[first : first + _AT_ONCE]
        plain[first : first + _AT_ONCE] = np.fft.rfft(some - some[:, :1], axis=1)[:, :n_bins]
    plain[:, 0] = 0.0
    # Multiplying by a Hann window is, on the bins, taking off the mean of both neighbours.
    return Spectrum(0.5 * plain[:, 1:-1] - 0.25 * (plain[:, :-2] + plain[:, 2:]), n, sfreq)


@functools.lru_cache(maxsize=64)
def _frequencies(n: int, sfreq: float) -> FloatArray:
    """Return the frequencies (m,) in Hz of the bins that are kept, of a signal of ``n`` samples."""
    freqs: FloatArray = np.fft.rfftfreq(n, 1.0 / sfreq)[1:-1]
    return freqs[freqs <= _HIGHEST_HZ]


@functools.lru_cache(maxsize=256)
def _bins(n: int, sfreq: float, low: float, high: float) -> slice:
    freqs = _frequencies(n, sfreq)
    return slice(int(np.searchsorted(freqs, low)), int(np.searchsorted(freqs, high, side="right")))


_MAINS_HZ = (50.0, 60.0)
_MAINS_HALF_WIDTH_HZ = 1.0  # a Hann window of 2 s spreads a line over 1 Hz to either side
_EEG_HZ = (4.0, 45.0)


@dataclass(frozen=True, eq=False)
class RawView:
    """The unfiltered signal of one window, all (C,)."""

    stuck: FloatArray  # 0-1, share of the measured samples that repeat the one before, to the last bit
    level_uv: FloatArray  # uV, mean
    line: FloatArray  # 0-1, power of the mains (50 or 60 Hz, whichever has more) over it and that of 4-45 Hz


class RawMonitor:
    """Stage: keeps the latest seconds of the unfiltered signal, and passes everything on.

    Args:
        sfreq: Rate of the stream in Hz.
        notch_hz: Mains frequency that is filtered out later, and so does not count; None without a notch.
    """

    def __init__(self, sfreq: float, notch_hz: float | None = None) -> None:
        self._sfreq = sfreq
        self._mains_hz = tuple(hz for hz in _MAINS_HZ if hz != notch_hz)
        self.reset()

    def reset(self) -> None:
        """Forget the signal."""
        self._samples: SampleBuffer | None = None  # uV; marked where a value was measured

    def push(self, item: Item) -> list[Item]:
        """Keep Chunks (C, n) in microvolts; pass everything."""
        if isinstance(item, Chunk) and item.t.size:
            if self._samples is None or (self._samples.t.size and item.t[0] <= self._samples.t[-1]):
                self._samples = SampleBuffer(item.x.shape[0])  # the first chunk, or the clock has gone back
            self._samples.append(item.t, item.x, True if item.filled is None else ~item.filled)
        return [item]

    def view(self, t_start: float, t_end: float) -> RawView | None:
        """Return the measures of the samples with ``t_start <= t < t_end``; None where there are fewer than two."""
        if self._samples is None:
            return None
        first, last = np.searchsorted(self._samples.t, (t_start, t_end)).tolist()
        if last - first < 2:
            return None
        x, measured = self._samples.x[:, first:last], self._samples.marks[:, first:last]
        return RawView(
            stuck=_repeated(x, measured[:, 1:]),
            level_uv=np.mean(x, axis=1),
            line=mains_share(x, self._sfreq, self._mains_hz),
        )

    def drop_before(self, t: float) -> None:
        """Drop samples older than ``t`` seconds."""
        if self._samples is not None:
            self._samples.drop_before(t)


def _repeated(x: FloatArray, measured: BoolArray) -> FloatArray:
    """Return the share (C,) of the measured samples that repeat the one before: x (C, n), measured (C, n - 1)."""
    same = x[:, 1:] == x[:, :-1]
    if not same.any():
        return np.zeros(x.shape[0])
    share: FloatArray = np.sum(same & measured, axis=1) / np.maximum(np.sum(measured, axis=1), 1)
    return share


def mains_share(x: FloatArray, sfreq: float, mains_hz: tuple[float, ...] = _MAINS_HZ) -> FloatArray:
    """Return the share (C,) of the mains in unfiltered EEG: its power over the sum of it and that of 4-45 Hz.

    Args:
        x: (C, n) uV.
        sfreq: Its rate in Hz; frequencies that it cannot carry do not count.
        mains_hz: Frequencies of the mains; the one with the most power counts.
    """
    seen = spectrum(x, sfreq)
    eeg = seen.power(*_EEG_HZ)
    carried = [hz for hz in mains_hz if hz + _MAINS_HALF_WIDTH_HZ < sfreq / 2]
    lines = [seen.power(hz - _MAINS_HALF_WIDTH_HZ, hz + _MAINS_HALF_WIDTH_HZ) for hz in carried]
    line: FloatArray = np.max(lines, axis=0) if lines else np.zeros(x.shape[0])
    total = eeg + line
    return np.divide(line, total, out=np.zeros(x.shape[0]), where=total > 0)


_FLAT_UV = 0.5  # SD in 4-45 Hz; live scalp EEG stays above 1 uV
_FLAT_LEAVE_UV = 0.7
_NOISY_UV = 100.0  # SD in 4-45 Hz; blinks stay below 60 uV over 2 s
_NOISY_LEAVE_UV = 80.0
_FILLED = 0.25  # share of invented values
_FILLED_LEAVE = 0.15
_STUCK = 0.5  # share of raw values that repeat the last one; EPOC EEG in steps of 0.5 uV stays below 0.1
_STUCK_LEAVE = 0.3
_RAIL_UV = 10_000.0  # an amplifier's end, where a signal stands still; a channel without input stands near 0
_LINE = 0.5  # as much mains as EEG
_LINE_LEAVE = 0.4
_MUSCLE = 0.6  # share of 20-45 Hz in the power of 4-45 Hz; 1 % of the windows of people at rest
_MUSCLE_LEAVE = 0.5
_MUSCLE_HZ = (20.0, 45.0)  # where muscle outweighs EEG (Goncharova et al. 2003; Whitham et al. 2007)
_BAND_HZ = (4.0, 45.0)
_UNCORRELATED = (
    0.3  # largest |r| with another good channel; 0.4 in PREP (Bigdely-Shamlo et al. 2015), for the whole cap
)
_UNCORRELATED_LEAVE = 0.4
_ENOUGH_CHANNELS = 8  # with fewer, neighbours are too far apart to expect a correlation

MASKING: tuple[ChannelFault, ...] = ("missing", "flat", "railed", "noisy", "filled", "contact")
"""Faults with which a channel is masked; the others are warnings."""

_FAULTS: tuple[ChannelFault, ...] = (*MASKING, "line", "muscle", "uncorrelated")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence about the channels of a window, besides their filtered signals."""

    raw: RawView | None = None  # of the unfiltered signal; None where it was not kept
    contact: FloatArray | None = None  # (C,) 0-4 as the headset reports it, NaN where it does not


@dataclass(frozen=True, eq=False)
class ChannelVerdict:
    """The faults and measures of the channels of one window."""

    faults: Mapping[ChannelFault, BoolArray]  # each (C,)
    measures: Mapping[str, FloatArray]  # each (C,); the fields of ChannelQuality that hold a number

    @property
    def good(self) -> BoolArray:
        """Whether each channel, (C,), is free of faults that mask it."""
        good: BoolArray = ~_any_of(self.faults, MASKING)
        return good

    def of(self, channels: BoolArray) -> ChannelVerdict:
        """Return the verdict on these channels (C,) alone."""
        faults = {fault: found[channels] for fault, found in self.faults.items()}
        return ChannelVerdict(faults, {measure: values[channels] for measure, values in self.measures.items()})

    def share(self, *faults: ChannelFault) -> float:
        """Return the share of the channels that have any of these faults."""
        found = _any_of(self.faults, faults)
        return float(np.count_nonzero(found)) / found.size

    def channels(self, ch_names: tuple[str, ...]) -> tuple[ChannelQuality, ...]:
        """Return the quality of each channel.

        Args:
            ch_names: Their labels, C of them.
        """
        good = self.good.tolist()
        faults = {fault: found.tolist() for fault, found in self.faults.items() if found.any()}
        measures = {measure: values.tolist() for measure, values in self.measures.items()}
        return tuple(
            ChannelQuality(
                name=name,
                good=good[i],
                faults=tuple(fault for fault, found in faults.items() if found[i]),
                **{measure: values[i] for measure, values in measures.items()},
            )
            for i, name in enumerate(ch_names)
        )


class ChannelJudge:
    """Finds the faults of the channels of successive windows, with hysteresis so that the good set is steady.

    Args:
        n_channels: C.
        sfreq: Rate of the windows in Hz.
        highest_hz: Upper edge of their band in Hz.

    Example::

        judge = ChannelJudge(14, 128.0)
        verdict = judge.judge(np.zeros((14, 256)), np.zeros((14, 256), dtype=bool))
        assert verdict.share("flat") == 1.0
    """

    def __init__(self, n_channels: int, sfreq: float, highest_hz: float = 45.0) -> None:
        self._n_channels = n_channels
        self._sfreq = sfreq
        # Every so many samples are enough for the spectrum: what folds into it lies two octaves above the band.
        self._step = max(1, int(sfreq / (_BAND_HZ[1] + 4 * highest_hz)))
        self.reset()

    def reset(self) -> None:
        """Mark every channel as good."""
        self._last: dict[ChannelFault, BoolArray] = {f: np.zeros(self._n_channels, dtype=np.bool_) for f in _FAULTS}

    def judge(self, x: FloatArray, filled: BoolArray, evidence: Evidence | None = None) -> ChannelVerdict:
        """Return the faults of the channels of one window.

        Args:
            x: (C, T) filtered EEG in microvolts.
            filled: (C, T) True where a value was invented.
            evidence: What else is known about them.
        """
        evidence = evidence or Evidence()
        seen = spectrum(x[:, :: self._step], self._sfreq / self._step)
        measures = self._measures(x, filled, evidence, seen)
        found = self._masking(measures)
        faults = _one_fault_each(found, evidence)
        good = ~_any_of(faults, MASKING)
        measures["correlation"] = _correlation(seen, good)
        warnings: dict[ChannelFault, BoolArray] = {
            "line": self._above("line", measures["line_share"], _LINE, _LINE_LEAVE),
            "muscle": self._above("muscle", measures["muscle_share"], _MUSCLE, _MUSCLE_LEAVE),
            "uncorrelated": self._below("uncorrelated", measures["correlation"], _UNCORRELATED, _UNCORRELATED_LEAVE),
        }
        self._last = {**found, **warnings}
        faults.update({fault: there & good for fault, there in warnings.items()})
        return ChannelVerdict(faults, measures)

    def _measures(self, x: FloatArray, filled: BoolArray, evidence: Evidence, seen: Spectrum) -> dict[str, FloatArray]:
        whole, muscle = seen.power(*_BAND_HZ), seen.power(*_MUSCLE_HZ)
        unknown = np.full(self._n_channels, np.nan)
        return {
            "sd_uv": np.std(x, axis=1),
            "filled_share": np.mean(filled, axis=1) if filled.any() else np.zeros(self._n_channels),
            "stuck_share": unknown if evidence.raw is None else evidence.raw.stuck,
            "line_share": unknown if evidence.raw is None else evidence.raw.line,
            "muscle_share": np.divide(muscle, whole, out=unknown.copy(), where=whole > 0),
            "contact": unknown if evidence.contact is None else evidence.contact,
        }

    def _masking(self, measures: Mapping[str, FloatArray]) -> dict[ChannelFault, BoolArray]:
        return {
            "missing": measures["filled_share"] == 1.0,
            "flat": self._below("flat", measures["sd_uv"], _FLAT_UV, _FLAT_LEAVE_UV),
            "railed": self._above("railed", measures["stuck_share"], _STUCK, _STUCK_LEAVE),
            "noisy": self._above("noisy", measures["sd_uv"], _NOISY_UV, _NOISY_LEAVE_UV),
            "filled": self._above("filled", measures["filled_share"], _FILLED, _FILLED_LEAVE),
            "contact": measures["contact"] <= POOR_CONTACT,
        }

    def _above(self, fault: ChannelFault, values: FloatArray, enter: float, leave: float) -> BoolArray:
        above: BoolArray = values > np.where(self._last[fault], leave, enter)
        return above

    def _below(self, fault: ChannelFault, values: FloatArray, enter: float, leave: float) -> BoolArray:
        below: BoolArray = values < np.where(self._last[fault], leave, enter)
        return below


def _any_of(found: Mapping[ChannelFault, BoolArray], faults: Iterable[ChannelFault]) -> BoolArray:
    """Return where (C,) any of these faults was found."""
    return functools.reduce(operator.or_, (found[fault] for fault in faults))


def _one_fault_each(found: Mapping[ChannelFault, BoolArray], evidence: Evidence) -> dict[ChannelFault, BoolArray]:
    """Return the faults, of missing, railed and flat one at most for each channel that stands still."""
    missing, still = found["missing"], found["flat"]
    far_off = np.zeros(still.size, dtype=np.bool_) if evidence.raw is None else np.abs(evidence.raw.level_uv) > _RAIL_UV
    railed = found["railed"] & (~still | far_off) & ~missing
    return {
        **found,
        "flat": still & ~railed & ~missing,
        "railed": railed,
        "filled": found["filled"] & ~missing,
    }


def _correlation(seen: Spectrum, good: BoolArray) -> FloatArray:
    """Return the largest absolute correlation (C,) of each good channel with another one; NaN where it says nothing.

    It is that of the Hann-windowed signals in 4-45 Hz, by Parseval's theorem: a few bins in place of many samples.
    """
    largest = np.full(good.size, np.nan)
    if np.sum(good) < _ENOUGH_CHANNELS:
        return largest
    band = seen.band(*_BAND_HZ)[good]
    unit = band / np.sqrt(np.einsum("cb,cb->c", band, band))[:, None]
    r = np.abs(np.einsum("ib,jb->ij", unit, unit))
    np.fill_diagonal(r, 0.0)
    largest[good] = np.max(r, axis=1)
    return largest
