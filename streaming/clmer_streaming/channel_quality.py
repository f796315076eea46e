"""Which EEG channels of a window can be trusted, and what ails the others.

Five faults mask a channel: ``missing``, ``flat``, ``railed``, ``noisy`` and ``filled`` leave no EEG in it, and a
headset that reports bad ``contact`` knows best. Three only warn: ``line``, ``muscle`` and ``uncorrelated`` channels
still carry EEG. How often each is found in simulated and in real recordings stands in docs/channel-quality.md.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from clmer_streaming.contact_quality import POOR_CONTACT
from clmer_streaming.raw_monitor import RawView
from clmer_streaming.spectrum import Spectrum, spectrum
from clmer_streaming.types import BoolArray, ChannelFault, ChannelQuality, FloatArray

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
    """What a channel is judged by, besides its filtered signal."""

    raw: RawView | None = None  # of the unfiltered signal; None where it was not kept
    contact: FloatArray | None = None  # (C,) 0-4 as the headset reports it, NaN where it does not


@dataclass(frozen=True, eq=False)
class ChannelVerdict:
    """The judgement of one window."""

    faults: Mapping[ChannelFault, BoolArray]  # each (C,)
    measures: Mapping[str, FloatArray]  # each (C,); the fields of ChannelQuality that hold a number

    @property
    def good(self) -> BoolArray:
        """(C,) True where nothing was found that masks."""
        good: BoolArray = ~_any_of(self.faults, MASKING)
        return good

    def share(self, *faults: ChannelFault) -> float:
        """Return the share of the channels that have any of these faults."""
        found = _any_of(self.faults, faults)
        return float(np.count_nonzero(found)) / found.size

    def channels(self, ch_names: tuple[str, ...]) -> tuple[ChannelQuality, ...]:
        """Return the verdict channel by channel."""
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
    """Judges the channels of successive windows, with hysteresis so that the good set does not flicker.

    Args:
        n_channels: C.
        sfreq: Rate of the windows in Hz.
        highest_hz: Where their band ends.
    """

    def __init__(self, n_channels: int, sfreq: float, highest_hz: float = 45.0) -> None:
        self._n_channels = n_channels
        self._sfreq = sfreq
        # Every so many samples are enough for the spectrum: what folds into it lies two octaves above the band.
        self._step = max(1, int(sfreq / (_BAND_HZ[1] + 4 * highest_hz)))
        self.reset()

    def reset(self) -> None:
        """Take every channel as good until judged."""
        self._last: dict[ChannelFault, BoolArray] = {f: np.zeros(self._n_channels, dtype=np.bool_) for f in _FAULTS}

    def judge(self, x: FloatArray, filled: BoolArray, evidence: Evidence | None = None) -> ChannelVerdict:
        """Judge one window.

        Args:
            x: (C, T) filtered EEG in microvolts.
            filled: (C, T) True where a value was invented.
            evidence: What else is known.
        """
        evidence = evidence or Evidence()
        seen = spectrum(x[:, :: self._step], self._sfreq / self._step)
        measures = self._measures(x, filled, evidence, seen)
        found = self._masking(measures)
        faults = _told_apart(found, evidence)
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


def _told_apart(found: Mapping[ChannelFault, BoolArray], evidence: Evidence) -> dict[ChannelFault, BoolArray]:
    """Return the faults with one name for each: a channel that stands still is missing, railed or flat."""
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
