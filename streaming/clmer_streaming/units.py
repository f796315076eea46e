"""Units of EEG: spellings that are known, and a guess from the signal's size where none is declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo

_UNITS_UV = {
    "V": 1e6, "VOLT": 1e6, "VOLTS": 1e6,
    "MV": 1e3, "MILLIVOLT": 1e3, "MILLIVOLTS": 1e3,
    "UV": 1.0, "µV": 1.0, "MICROVOLT": 1.0, "MICROVOLTS": 1.0,
    "NV": 1e-3, "NANOVOLT": 1e-3, "NANOVOLTS": 1e-3,
    "0": 1e6, "-3": 1e3, "-6": 1.0, "-9": 1e-3,  # FIFF_UNITM codes: powers of ten of a volt, as MNE-LSL writes them
}  # fmt: skip

_VOLTS_BELOW = 1e-3  # EEG in volts strays about 1e-5 from its median, in microvolts about 10
_GUESS_S = 1.0  # s of signal that a guess rests on


def microvolts_per_unit(unit: str) -> float | None:
    """Return the factor from ``unit`` to microvolts; None for a word or code that is not known."""
    key = unit.strip().replace("μ", "µ").upper().replace("Μ", "µ")  # the micro sign and the Greek letter look alike
    return _UNITS_UV.get(key)


def with_unit(info: StreamInfo, unit: str) -> StreamInfo:
    """Return the announcement with this unit for every channel, whatever the stream declares."""
    return dataclasses.replace(info, unit=unit, units=())


def channel_scales(info: StreamInfo, picks: Sequence[int]) -> FloatArray:
    """Return the factor to microvolts of each picked channel, (C,); NaN where no known unit is declared.

    Args:
        info: The stream; a channel without a known unit of its own has that of the stream.
        picks: Index of each channel in the stream, -1 where the stream lacks it.
    """
    common = microvolts_per_unit(info.unit)
    declared = [microvolts_per_unit(info.units[i]) if info.units and i >= 0 else None for i in picks]
    scales = [common if scale is None else scale for scale in declared]
    return np.array([np.nan if scale is None else scale for scale in scales])


@dataclass
class _GuessState:
    factor: float | None = None  # None while unknown
    held: list[Chunk | Gap] = field(default_factory=list)
    n_held: int = 0  # samples in ``held``
    t_passed: float = np.nan  # s, the last sample passed on while nothing was known


class UnitGuess:
    """Stage: brings channels without a declared unit to microvolts, by the size of the signal.

    The first second is held back. If the median over the live channels of ``median |x - median x|`` is below
    1e-3, the unit is taken as volts, else as microvolts; millivolts cannot be told from either. A second in
    which no channel moves tells nothing: it is passed on as it is, and the next one is held. If that turns out
    to be volts, a Gap starts the stages behind anew.

    Args:
        rows: The stream's channels whose unit is unknown.
        sfreq: Rate of the stream in Hz.
        declared: The word that the stream has for its unit; ``""`` for none.
    """

    def __init__(self, rows: Sequence[int], sfreq: float, declared: str = "") -> None:
        self._rows = np.array(rows, dtype=np.intp)
        self._n_block = max(2, round(_GUESS_S * sfreq))
        self._declared = declared
        self.reset()

    def reset(self) -> None:
        """Guess anew."""
        self._state = _GuessState(factor=None if self._rows.size else 1.0)

    @property
    def note(self) -> str:
        """What was guessed, in a sentence for people; empty while there is nothing to say."""
        if self._state.factor is None or not self._rows.size:
            return ""
        what = f"declares the unit {self._declared!r}, which is not known" if self._declared else "declares no unit"
        guess = "volts" if self._state.factor != 1.0 else "microvolts"
        return f"{what}; taken as {guess} by the size of the signal, say --eeg-unit if that is wrong"

    def push(self, item: Item) -> list[Item]:
        """Hold Chunks (C_stream, n) and Gaps until the unit is known, then scale; pass the rest."""
        if not isinstance(item, Chunk | Gap):
            return [item]
        if self._state.factor is not None:
            return [self._scaled(item)]
        self._state.held.append(item)
        self._state.n_held += item.t.size if isinstance(item, Chunk) else 0
        return self._decide()

    def _decide(self) -> list[Item]:
        state, out = self._state, list[Item]()
        while state.factor is None and state.n_held >= self._n_block:
            factor = self._factor(np.concatenate([c.x[self._rows] for c in state.held if isinstance(c, Chunk)], axis=1))
            if factor is None:
                out.extend(self._pass_block())
                continue
            state.factor = factor
            if factor != 1.0 and np.isfinite(state.t_passed):
                out.append(self._restart(state))
            out.extend(self._scaled(held) for held in state.held)
            state.held = []
        return out

    def _factor(self, x: FloatArray) -> float | None:
        """Return the factor that the first block of x (rows, n) speaks for; None if no channel moves in it."""
        values = [row[np.isfinite(row)] for row in x[:, : self._n_block]]
        spreads = [float(np.median(np.abs(row - np.median(row)))) for row in values if row.size]
        live = [spread for spread in spreads if spread > 0]
        if not live:
            return None
        return 1e6 if np.median(live) < _VOLTS_BELOW else 1.0

    def _pass_block(self) -> list[Item]:
        """Release the first block of what is held, unscaled."""
        state, out, n_left = self._state, list[Item](), self._n_block
        while n_left or isinstance(state.held[0] if state.held else None, Gap):
            item = state.held.pop(0)
            if isinstance(item, Chunk) and item.t.size > n_left:
                state.held.insert(0, _part(item, slice(n_left, None)))
                item = _part(item, slice(0, n_left))
            if isinstance(item, Chunk) and item.t.size:
                n_left -= item.t.size
                state.t_passed = float(item.t[-1])
            out.append(item)
        state.n_held -= self._n_block
        return out

    def _restart(self, state: _GuessState) -> Gap:
        first = next(held for held in state.held if isinstance(held, Chunk) and held.t.size)
        return Gap(state.t_passed, float(first.t[0]), first.source, "invalid_values")

    def _scaled(self, item: Chunk | Gap) -> Chunk | Gap:
        if isinstance(item, Gap) or self._state.factor in (None, 1.0):
            return item
        x = item.x.copy()
        x[self._rows] *= self._state.factor
        return dataclasses.replace(item, x=x)


def _part(chunk: Chunk, columns: slice) -> Chunk:
    filled = None if chunk.filled is None else chunk.filled[:, columns]
    return Chunk(chunk.source, chunk.t[columns], chunk.x[:, columns], filled)
