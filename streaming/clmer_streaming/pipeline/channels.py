"""From a stream's channels to the model's: found by label, never by position, and brought to microvolts.

In this order: units and the stage ``UnitGuess``; labels, ``ChannelMap`` and the functions that make it; the stage
``ChannelPicker``; and ``ContactQuality``, the contact of sensors as a headset reports it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.config import FurtherSeries, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item, StreamInfo

_UNITS_UV = {"V": 1e6, "MV": 1e3, "UV": 1.0, "NV": 1e-3}
_UNIT_CODES_UV = {"0": 1e6, "-3": 1e3, "-6": 1.0, "-9": 1e-3}  # FIFF_UNITM, powers of ten of a volt, as of MNE-LSL
_UNIT_PREFIXES = {"": "", "U": "U", "MICRO": "U", "M": "M", "MILLI": "M", "N": "N", "NANO": "N"}
_SPELLED_UNIT = re.compile(r"(U|MICRO|M|MILLI|N|NANO|)[\s_-]?V(?:OLTS?|OLT\(S\))?")  # uVolts, micro V, millivolt

_VOLTS_BELOW = 1e-3  # EEG in volts strays about 1e-5 from its median, in microvolts about 10
_GUESS_S = 1.0  # s of signal that a guess rests on


def microvolts_per_unit(unit: str) -> float | None:
    """Return the factor from ``unit`` to microvolts; None for an unknown word or code."""
    word = unit.strip().upper()
    word = word[1:-1].strip() if word[:1] in ("(", "[") and word[-1:] in (")", "]") else word
    for mark in ("\N{MICRO SIGN}", "\N{GREEK CAPITAL LETTER MU}", "\N{GREEK SMALL LETTER MU}"):
        word = word.replace(mark, "U")
    spelled = _SPELLED_UNIT.fullmatch(word)
    return _UNITS_UV[f"{_UNIT_PREFIXES[spelled[1]]}V"] if spelled else _UNIT_CODES_UV.get(word)


_PLAUSIBLE_UV = (2.0, 200.0)  # uV, standard deviation of EEG in a model's band
_OTHER_UNITS = {"V": 1e6, "mV": 1e3, "uV": 1.0}


def explain_unit(sd_uv: FloatArray, unit: str) -> str:
    """Return a sentence for people where channels are wrong by a power of ten for the unit that is declared.

    Args:
        sd_uv: (C,) standard deviations in the model's band, in microvolts by that unit; 0 for a constant channel.
        unit: The unit as the stream declares it.

    Returns:
        "" where they are plausible, constant, or wrong by anything else.
    """
    declared, moving = microvolts_per_unit(unit), sd_uv[sd_uv > 0]
    if declared is None or 2 * moving.size < sd_uv.size:
        return ""
    low, high = _PLAUSIBLE_UV
    typical = float(np.median(moving))
    if low / 20 <= typical <= 20 * high:
        return ""
    for name, factor in _OTHER_UNITS.items():
        if low <= typical * factor / declared <= high:
            times = factor / declared
            how = f"{times:,.0f} times too small" if times > 1 else f"{1 / times:,.0f} times too large"
            return (
                f"its values are {how} for the unit {unit!r} that it declares: say --eeg-unit {name} if they are {name}"
            )
    return ""


def with_unit(info: StreamInfo, unit: str) -> StreamInfo:
    """Return the announcement with ``unit`` for every channel, whatever the stream declares."""
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
    1e-3, the unit is taken as volts, else as microvolts; millivolts cannot be distinguished from either. A second in
    which no channel moves is passed on as it is, and the next one is held. If that turns out to be volts, a Gap
    restarts the following stages.

    Args:
        rows: The stream's channels whose unit is unknown.
        sfreq: Rate of the stream in Hz.
        declared: The unit that the stream declares; ``""`` for none.
    """

    def __init__(self, rows: Sequence[int], sfreq: float, declared: str = "") -> None:
        self._rows = np.array(rows, dtype=np.intp)
        self._n_block = max(2, round(_GUESS_S * sfreq))
        self._declared = declared
        self.reset()

    def reset(self) -> None:
        """Forget the guess and the samples held."""
        self._state = _GuessState(factor=None if self._rows.size else 1.0)

    @property
    def note(self) -> str:
        """The guess in a sentence for people; empty where nothing was guessed."""
        if self._state.factor is None or not self._rows.size:
            return ""
        what = f"declares the unit {self._declared!r}, which is not known" if self._declared else "declares no unit"
        guess = "volts" if self._state.factor != 1.0 else "microvolts"
        return f"{what}; taken as {guess} by the size of the signal, say --eeg-unit if that is wrong"

    def push(self, item: Item) -> list[Item]:
        """Hold Chunks (C_stream, n) and Gaps until the unit is known, then scale; pass everything else."""
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
        """Return the factor by the first block of x (rows, n); None if no channel moves in it."""
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


_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}  # 10-20 names before the 1991 revision
_PREFIX = re.compile(r"^(EEG\d*[\s_.:-]+(\d+[\s_.:-]+)?|CH\d+[\s_.:-]+)")  # "EEG AF3" (EDF), "EEG_TP9", "EEG00 AF3"
_BRACKETS = re.compile(r"^(.+?)[\s_-]*[\[(]([^\])]*)[\])]$")  # "AF3 [uV]"
_SUFFIX = re.compile(r"^(.+?)[\s_/:-]+([^\s_/:-]+)$")  # "AF3-CPz", "AF3_uV"
_REFERENCES = {  # what a channel is recorded against; not CZ: FZ-CZ and CZ-PZ are pairs of the usual bipolar montage
    "REF", "GND", "COM", "LE", "RE", "A1", "A2", "A1A2", "LM", "RM", "M1", "M2", "M1M2", "AR", "AV", "AVG", "CAR",
    "CMS", "DRL", "CPZ", "FCZ", "NOSE",
}  # fmt: skip
_RAW_UNITS = ("COUNTS", "ADC", "ADU", "A.U.", "RAW")
_AUXILIARY = re.compile(  # columns that are no electrode, whatever a map says
    r"COUNTER|TIME|STAMP|INTERPOLATED?$|MARKER|TRIGGER|EVENT|STATUS|BATTERY|QUALITY|CONTACT|IMPEDANCE|OHM|PACKET|SAMPLE"
    r"|SEQUENCE|ACCEL|GYRO|(?<![A-Z])(CQ|EQ|CNT|SEQ|TS|TRI?GG?|STIM?|ACC[XYZ]?|GYR)(?![A-Z])"
)
_COUNTER_LABELS = ("COUNTER", "PACKET_COUNTER", "SAMPLE_COUNTER")
_INTERPOLATE_LABELS = ("INTERPOLATE", "INTERPOLATED")
_MAX_LISTED = 16  # channels in one sentence

_IMPOSSIBLE_UV = 1e9  # no amplifier delivers a kilovolt; such values, like NaN, are no measurements


def normalise_label(label: str) -> str:
    """Return a channel label in the form that labels are compared in: upper case, current 10-20 name.

    A prefix, a common reference and a unit are taken off. A bipolar pair such as ``F7-T3`` or ``Fz-Cz``, and a column
    such as ``CQ_AF3`` or ``AF3 [kOhm]``, is left as it is, and so is never taken for an electrode.
    """
    name = _PREFIX.sub("", label.strip().upper())
    while (parts := _BRACKETS.match(name) or _SUFFIX.match(name)) and _is_addition(parts[2].strip()):
        name = parts[1]
    name = name.strip(" .")  # PhysioNet pads with dots: "Af3."
    return _OLD_NAMES.get(name, name)


def _is_addition(word: str) -> bool:
    """Return whether a word behind the name of an electrode is its reference or its unit."""
    is_unit = word in _RAW_UNITS or (word not in _UNIT_CODES_UV and microvolts_per_unit(word) is not None)
    return is_unit or word.replace("+", "") in _REFERENCES


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """Indices of the model's channels, and of the marks of lost samples, in a stream."""

    picks: tuple[int, ...]  # for each model channel its index in the stream, -1 where the stream lacks it
    counter: int | None  # index of the packet counter
    interpolate: int | None  # index of the headset's "this sample was filled in" mark
    scales: FloatArray  # (C,) factor of each channel to microvolts; NaN where the unit is unknown

    @property
    def unit_unknown(self) -> tuple[int, ...]:
        """Indices in the stream of the model's channels whose unit is unknown."""
        return tuple(p for p, scale in zip(self.picks, self.scales, strict=True) if p >= 0 and np.isnan(scale))

    @property
    def present(self) -> BoolArray:
        """Whether the stream has each of the model's channels, (C,)."""
        return np.array([pick >= 0 for pick in self.picks], dtype=np.bool_)


def resolve_channels(info: StreamInfo, config: SignalConfig) -> ChannelMap:
    """Return where the EEG channels of a model are in a stream, by label; without any labels, by number from 0.

    Args:
        info: The stream, with its labels (or the names that a map gave them).
        config: The model's channels.

    Raises:
        StreamError: Fewer of the model's channels are there than it needs, or there are more or fewer labels than
            channels.
    """
    if info.n_labels is not None:
        raise StreamError(
            expected=f"a label for each of the {len(info.ch_names)} channels of {info.name!r}",
            found=f"{info.n_labels} labels",
            mend="nobody can know which channel a label means: say it (0-based index): --eeg-map "
            + ",".join(f"{name}={i}" for i, name in enumerate(config.ch_names[:3]))
            + ",...",
        )
    names = [normalise_label(name) for name in info.ch_names]
    if not any(names):
        names = [str(number) for number in range(len(names))]
    picks = tuple(
        names.index(normalise_label(name)) if normalise_label(name) in names else -1 for name in config.ch_names
    )
    n_found = sum(pick >= 0 for pick in picks)
    if n_found < config.least_channels:
        raise _unusable_channels(info, config, n_found)
    return ChannelMap(
        picks, _first(names, _COUNTER_LABELS), _first(names, _INTERPOLATE_LABELS), channel_scales(info, picks)
    )


def find_counter(ch_names: Sequence[str]) -> int | None:
    """Return the index of the packet counter among the channels of a stream; None without one."""
    return _first([normalise_label(name) for name in ch_names], _COUNTER_LABELS)


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(label) for label in wanted if label in names), None)


def _unusable_channels(info: StreamInfo, config: SignalConfig, n_found: int) -> StreamError:
    named = [name for name in info.ch_names if name]
    labels = f"labels {', '.join(named[:24])}" if named else "no labels"
    example = ",".join(f"{name}={i + 1}" for i, name in enumerate(config.ch_names[:3]))
    return StreamError(
        expected=f"at least {config.least_channels} of the channels {', '.join(config.ch_names)}",
        found=f"{n_found} of them in stream {info.name!r} ({len(info.ch_names)} channels, {info.sfreq:g} Hz, {labels})",
        mend=f"say which channel is which (0-based index or label): --eeg-map {example},...",
    )


def resolve_series(info: StreamInfo, series: FurtherSeries) -> ChannelMap:
    """Return where the channels of a further series are in a stream.

    They are found by label; by position where the stream has no labels; one channel of each is a match, too. Voltages
    become microvolts; other units stay as they are.

    Raises:
        StreamError: A channel is missing, or the labels are not as many as the channels.
    """
    if info.n_labels is not None and len(info.ch_names) > 1:
        raise StreamError(
            expected=f"a label for each of the {len(info.ch_names)} channels of {info.name!r}",
            found=f"{info.n_labels} labels",
            mend="correct the labels where the stream is made, or leave all of them out",
        )
    names = [normalise_label(name) for name in info.ch_names]
    wanted = [normalise_label(name) for name in series.ch_names]
    as_they_are = len(names) == len(wanted) and (len(names) == 1 or not any(names))
    place = {name: i for i, name in reversed(list(enumerate(names)))}
    picks = tuple(range(len(names))) if as_they_are else tuple(place.get(name, -1) for name in wanted)
    if -1 in picks:
        raise StreamError(
            expected=f"a stream with the channels {_listed(series.ch_names)}",
            found=f"{info.name!r} with {_listed(info.ch_names) or 'no labels'}",
            mend="name another stream: --physio SERIES=STREAM",
        )
    return ChannelMap(picks, None, None, channel_scales(info, picks))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def apply_eeg_map(
    info: StreamInfo, spec: str, ch_names: Sequence[str] | None = None, *, force: bool = False
) -> StreamInfo:
    """Return a stream with its channels renamed by a map such as ``AF3=1,F7=2,COUNTER=0``.

    Where the stream has not as many labels as channels its own labels are ignored: they cannot be trusted.

    Args:
        info: The stream.
        spec: ``label=channel`` pairs with commas between; a channel is a 0-based index or the stream's own label.
        ch_names: Channels of the model, which the labels of the map must be among, beside counters and the like; None:
            any label will do.
        force: Whether a channel that is labelled as one of the model's may become another one.

    Raises:
        StreamError: The map is malformed, names a channel twice or one that the stream lacks, makes EEG of a column
            that is none, or contradicts a label of the stream.
    """
    if info.n_labels is not None:
        info = dataclasses.replace(info, ch_names=("",) * len(info.ch_names), n_labels=None)
    new_names = _parse_eeg_map(info, spec)
    if ch_names is not None:
        _check_eeg_map(info, new_names, ch_names, force=force)
    taken = {normalise_label(name) for name in new_names.values()}
    kept = ["" if normalise_label(name) in taken else name for name in info.ch_names]
    return dataclasses.replace(info, ch_names=tuple(new_names.get(i, name) for i, name in enumerate(kept)))


def _check_eeg_map(info: StreamInfo, new_names: Mapping[int, str], ch_names: Sequence[str], *, force: bool) -> None:
    """Check that a map names channels of the model, and contradicts no label without force."""
    known = {normalise_label(name) for name in ch_names}
    for index, name in new_names.items():
        label, old = normalise_label(name), info.ch_names[index]
        if label not in known and not is_auxiliary(name):
            raise StreamError(
                expected=f"--eeg-map with channels of the model: {_listed(ch_names)}",
                found=f"{name!r}, which is none of them",
                mend="correct the name; a channel that the model does not know needs no name",
            )
        if label in known and is_auxiliary(old):
            raise StreamError(
                expected="an electrode for each channel of --eeg-map",
                found=f"{name}={index}, where stream {info.name!r} has the column {old!r}, which is no EEG",
                mend="count the channels again, from 0; clmer streams and clmer inspect list the labels",
            )
        if normalise_label(old) in known and normalise_label(old) != label and not force:
            found = f"{name}={index}, where stream {info.name!r} says {old!r}, another channel of the model"
            raise _contradiction(found)
        moved = [i for i, other in enumerate(info.ch_names) if i not in new_names and normalise_label(other) == label]
        if label in known and moved and not force:
            raise _contradiction(f"{name}={index}, where stream {info.name!r} says that channel {moved[0]} is {name}")


def _contradiction(found: str) -> StreamError:
    return StreamError(
        expected="--eeg-map for channels without labels, or with other names",
        found=found,
        mend="leave the map out if the labels are right; if they are wrong, add --eeg-map-force",
    )


def is_auxiliary(label: str) -> bool:
    """Return whether a label is that of a counter, stamps, markers or the quality of a contact, and so never of EEG."""
    return bool(_AUXILIARY.search(label.strip().upper()))


def _parse_eeg_map(info: StreamInfo, spec: str) -> dict[int, str]:
    new_names: dict[int, str] = {}
    for entry in spec.split(","):
        label, equals, channel = (part.strip() for part in entry.partition("="))
        if not (equals and label and channel):
            raise _bad_map(info, f"the entry {entry.strip()!r}")
        index = _channel_index(info, channel)
        if index in new_names or normalise_label(label) in map(normalise_label, new_names.values()):
            raise _bad_map(info, f"{entry.strip()!r}, a label or channel for the second time")
        new_names[index] = label
    return new_names


def _channel_index(info: StreamInfo, channel: str) -> int:
    n_channels = len(info.ch_names)
    if channel.isdecimal() and int(channel) < n_channels:
        return int(channel)
    names = [normalise_label(name) for name in info.ch_names]
    if normalise_label(channel) in names:
        return names.index(normalise_label(channel))
    raise _bad_map(info, f"channel {channel!r}, which stream {info.name!r} with {n_channels} channels lacks")


def _bad_map(info: StreamInfo, found: str) -> StreamError:
    return StreamError(
        expected=f"--eeg-map LABEL=CHANNEL,... with channels 0 to {len(info.ch_names) - 1} or their labels",
        found=found,
        mend="for example --eeg-map AF3=1,F7=2,F3=3",
    )


@dataclass
class _HoldState:
    last: FloatArray  # (C,) the last finite value of each channel, 0 before there is one


class ChannelPicker:
    """Stage: picks the model's channels, scales them to microvolts, holds the last value over NaN.

    Channels of unknown unit are taken as microvolts; the stage ``UnitGuess`` before this one makes them so.

    Channels that the stream lacks are 0 and marked as filled throughout; so is every held value. No later
    stage gets a NaN, which would stay in a recursive filter for ever.

    Args:
        channel_map: Where the model's channels are in the stream.
    """

    def __init__(self, channel_map: ChannelMap) -> None:
        self._present = channel_map.present
        self._picks = np.array(channel_map.picks, dtype=np.intp)
        self._scales = np.where(np.isnan(channel_map.scales), 1.0, channel_map.scales)[:, None]
        self.reset()

    def reset(self) -> None:
        """Forget the held values."""
        self._state = _HoldState(last=np.zeros(len(self._picks)))

    def push(self, item: Item) -> list[Item]:
        """Pick from a Chunk (C_stream, n); end the hold at a Gap; pass everything else."""
        if isinstance(item, Gap):
            self.reset()
        return [self._pick(item)] if isinstance(item, Chunk) else [item]

    def _pick(self, chunk: Chunk) -> Chunk:
        x = chunk.x[self._picks] * self._scales
        x[~self._present] = 0.0
        filled = np.zeros(x.shape, dtype=np.bool_) if chunk.filled is None else chunk.filled[self._picks].copy()
        filled[~self._present] = True
        invalid = ~(np.abs(x) < _IMPOSSIBLE_UV)
        if invalid.any():
            x = _hold_last(x, invalid, self._state.last)
            filled |= invalid
        if x.shape[1]:
            self._state.last = x[:, -1].copy()
        return Chunk(chunk.source, chunk.t, x, filled)


def _hold_last(x: FloatArray, invalid: BoolArray, last: FloatArray) -> FloatArray:
    """Replace each invalid value of (C, n) by the last valid one of its channel."""
    with_last = np.concatenate([last[:, None], x], axis=1)
    columns = np.where(invalid, 0, np.arange(1, x.shape[1] + 1))
    source = np.maximum.accumulate(columns, axis=1)
    held: FloatArray = np.take_along_axis(with_last, source, axis=1)
    return held


POOR_CONTACT = 1.0
"""Contact (0-4) at which a sensor gives no usable signal, or below."""

_STALE_S = 5.0  # s after which a value is outdated
_KEEP_S = 30.0  # s of values that are kept, for windows that close late
_CONTACT_PREFIX = re.compile(r"^(CQ|EQ)[\s_.:-]+")  # "CQ_AF3"


class ContactQuality:
    """Keeps the latest contact values of one stream.

    Args:
        info: The stream, of kind ``contact``.
        ch_names: Labels of the model's channels, C of them.
    """

    def __init__(self, info: StreamInfo, ch_names: tuple[str, ...]) -> None:
        self.info = info
        names = [normalise_label(_CONTACT_PREFIX.sub("", name.strip().upper())) for name in info.ch_names]
        wanted = [normalise_label(name) for name in ch_names]
        self._picks = np.array([names.index(name) if name in names else -1 for name in wanted], dtype=np.intp)
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self._values: deque[tuple[float, FloatArray]] = deque()  # s, (C,)

    def push(self, item: Chunk | Gap) -> None:
        """Keep the values of a Chunk (C_stream, n); a Gap changes nothing, values end by their age."""
        if isinstance(item, Gap):
            return
        for t, column in zip((item.t - self.info.delay_s).tolist(), item.x.T, strict=True):
            if np.isfinite(t):
                self._values.append((t, np.where(self._picks >= 0, column[self._picks], np.nan)))
        newest = self._values[-1][0] if self._values else -np.inf
        while self._values and self._values[0][0] < newest - _KEEP_S:
            self._values.popleft()

    def at(self, t_end: float) -> FloatArray:
        """Return the newest values (C,), 0-4, before ``t_end`` seconds; NaN where the last 5 s have none."""
        for t, values in reversed(self._values):
            if t < t_end:
                return values if t_end - t <= _STALE_S else np.full(self._picks.size, np.nan)
        return np.full(self._picks.size, np.nan)


def worst_contact(streams: Collection[ContactQuality], t_end: float) -> FloatArray | None:
    """Return the lowest contact (C,) that any stream reports for each channel; None without a stream."""
    if not streams:
        return None
    worst: FloatArray = np.fmin.reduce([stream.at(t_end) for stream in streams])
    return worst
