"""From a stream's own channels to the model's: by label, never by position, in microvolts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, Item, StreamInfo
from clmer_streaming.units import channel_scales

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}  # 10-20 names before the 1991 revision
_PREFIX = re.compile(r"^EEG[\s_.:-]+")  # "EEG AF3" (EDF), "EEG.AF3" (EmotivPRO's CSV), "EEG_TP9"
_REFERENCE = re.compile(r"[\s_-]+(REF|LE|AR|AVG|CAR|CMS|A1|A2|M1|M2)$")  # what the channel was recorded against
_UNIT_SUFFIX = re.compile(r"\s*[\[(][^\])]*[\])]$")  # "AF3 [uV]"
_COUNTER_LABELS = ("COUNTER", "PACKET_COUNTER", "SAMPLE_COUNTER")
_INTERPOLATE_LABELS = ("INTERPOLATE", "INTERPOLATED")

_IMPOSSIBLE_UV = 1e9  # no amplifier delivers a kilovolt; such values, like NaN, are no measurements


def normalise_label(label: str) -> str:
    """Return a channel label in the form that labels are compared in: upper case, current 10-20 name.

    A bipolar pair such as ``F7-T3`` stays what it is, and so never passes for one of its electrodes.
    """
    name = _PREFIX.sub("", _UNIT_SUFFIX.sub("", label.strip().upper()))
    name = _REFERENCE.sub("", name).strip(" .")  # PhysioNet pads with dots: "Af3."
    return _OLD_NAMES.get(name, name)


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """Where the model's channels, and the loss marks, stand in a stream."""

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
        """(C,) True for each model channel that the stream has."""
        return np.array([pick >= 0 for pick in self.picks], dtype=np.bool_)


def resolve_channels(info: StreamInfo, config: SignalConfig) -> ChannelMap:
    """Find the model's channels in a stream by label.

    Raises:
        StreamError: Fewer than half of the model's channels are there.
    """
    names = [normalise_label(name) for name in info.ch_names]
    picks = tuple(
        names.index(normalise_label(name)) if normalise_label(name) in names else -1 for name in config.ch_names
    )
    n_found = sum(pick >= 0 for pick in picks)
    if 2 * n_found < len(config.ch_names):
        raise _unusable_channels(info, config, n_found)
    return ChannelMap(
        picks, _first(names, _COUNTER_LABELS), _first(names, _INTERPOLATE_LABELS), channel_scales(info, picks)
    )


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(label) for label in wanted if label in names), None)


def _unusable_channels(info: StreamInfo, config: SignalConfig, n_found: int) -> StreamError:
    named = [name for name in info.ch_names if name]
    labels = f"labels {', '.join(named[:24])}" if named else "no labels"
    example = ",".join(f"{name}={i + 1}" for i, name in enumerate(config.ch_names[:3]))
    return StreamError(
        expected=f"at least half of the channels {', '.join(config.ch_names)}",
        found=f"{n_found} of them in stream {info.name!r} ({len(info.ch_names)} channels, {info.sfreq:g} Hz, {labels})",
        mend=f"say which channel is which (0-based index or label): --eeg-map {example},...",
    )


def apply_eeg_map(info: StreamInfo, spec: str) -> StreamInfo:
    """Rename a stream's channels after a map such as ``AF3=1,F7=2,COUNTER=0``.

    Args:
        info: The stream.
        spec: ``label=channel`` pairs with commas between; a channel is a 0-based index or the stream's own label.

    Raises:
        StreamError: The map cannot be read, names a channel twice, or one that the stream lacks.
    """
    new_names = _parse_eeg_map(info, spec)
    taken = {normalise_label(name) for name in new_names.values()}
    kept = ["" if normalise_label(name) in taken else name for name in info.ch_names]
    return dataclasses.replace(info, ch_names=tuple(new_names.get(i, name) for i, name in enumerate(kept)))


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

    Channels of unknown unit are taken as microvolts; ``UnitGuess`` before this stage makes them so.

    Channels that the stream lacks are 0 and marked as filled throughout; so is every held value. A later
    stage never meets a NaN, which would stay in a recursive filter for ever.

    Args:
        channel_map: Where the model's channels stand in the stream.
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
        """Pick from a Chunk (C_stream, n); the hold ends with the segment at a Gap; pass the rest."""
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
