"""Further series of a data set: what the recordings have of them, as signal settings.

Signals (ECG, skin conductance, respiration) have a rate of their own; other numbers (HOG, a user's own tracker) lie on
the slots of the face.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clmer_streaming.config import FurtherSeries, PhysioConfig, SlotSeriesConfig
from clmer_streaming.errors import DatasetError, RecordingError, SettingsError
from clmer_streaming.xdf.description import StreamDescription
from clmer_streaming.xdf.scan import read_in_order

USUAL: dict[str, tuple[float, tuple[float, float]]] = {
    "ecg": (128.0, (0.5, 40.0)),  # as the monitors of wards show it (IEC 60601-2-27)
    "ppg": (64.0, (0.5, 8.0)),  # a pulse of 30 to 240 per minute and its shape
    "gsr": (32.0, (0.05, 3.0)),  # responses of the skin; its slow level is taken out
    "resp": (32.0, (0.1, 2.0)),  # 6 to 120 breaths per minute
}
"""Rate in Hz and band in Hz of the series whose names are known."""

_SAME_AS = {"eda": "gsr", "bvp": "ppg", "respiration": "resp", "breath": "resp"}
_TAKEN = ("eeg", "landmarks", "aus", "gaze")
_NYQUIST_SHARE = 0.8  # of half a stream's rate: the upper edge of a usual band in a slow stream
_SHORTEST_SETTLE_S, _LONGEST_SETTLE_S = 0.5, 10.0  # s


@dataclass(frozen=True)
class SlotRequest:
    """A series on slots that is asked for.

    Raises:
        SettingsError: Its name belongs to another modality.
    """

    name: str
    stream: str  # name or type of the stream that gives it

    def __post_init__(self) -> None:
        _refuse_taken(self.name)


@dataclass(frozen=True)
class SeriesRequest:
    """A signal that is asked for.

    Raises:
        SettingsError: Its name belongs to another modality, or its rate is not known.
    """

    name: str
    stream: str  # name or type of the stream that gives it
    sfreq: float | None = None  # Hz, of the windows; None: the usual one
    band: tuple[float, float] | None = None  # Hz; None: the usual one, or unfiltered where none is usual

    def __post_init__(self) -> None:
        _refuse_taken(self.name)
        if self.sfreq is None and self.usual is None:
            known = ", ".join([*USUAL, *_SAME_AS])
            mend = f"give its rate: --physio-rate {self.name}=32, or put it on slots: --slots"
            raise SettingsError(f"a series among {known}, or one with a rate", repr(self.name), mend)

    @property
    def usual(self) -> tuple[float, tuple[float, float]] | None:
        """Rate and band of series of this name."""
        name = self.name.lower()
        return USUAL.get(_SAME_AS.get(name, name))


Request: TypeAlias = SeriesRequest | SlotRequest
"""A further series that is asked for, of either kind."""


def _refuse_taken(name: str) -> None:
    if name.lower() in _TAKEN:
        raise SettingsError("a name of its own for a further series", repr(name), "name it e.g. ecg, gsr or tracker")


def declare_series(requests: Sequence[Request], recordings: Sequence[Path]) -> tuple[FurtherSeries, ...]:
    """Return the settings of each series; its channels are those of the first recording that has its stream.

    Args:
        requests: What is asked for.
        recordings: XDF files; those that cannot be read are passed over here.

    Raises:
        DatasetError: No recording has a series' stream, or nothing tells the channels of one apart.
    """
    found: dict[str, StreamDescription] = {}
    for path in recordings:
        if len(found) == len(requests):
            break
        for request in requests:
            stream = None if request.name in found else _find(path, request)
            if stream is not None:
                found[request.name] = stream
    for request in requests:
        if request.name not in found:
            option = "--slots" if isinstance(request, SlotRequest) else "--physio"
            raise DatasetError(
                expected=f"a stream of samples with the name or type {request.stream!r} in one of the recordings",
                found="none",
                mend=f"clmer inspect shows what they have; then {option} {request.name}=STREAM",
            )
    return tuple(_settings(request, found[request.name]) for request in requests)


def _find(path: Path, request: Request) -> StreamDescription | None:
    """Return the stream of a recording that a request means; only slots take one without a rate."""
    try:
        entries = read_in_order(path)
    except RecordingError:
        return None
    for entry in entries:
        if not isinstance(entry, StreamDescription) or entry.channel_format == "string":
            continue
        if not entry.sfreq and isinstance(request, SeriesRequest):
            continue
        if request.stream.lower() in (entry.name.lower(), entry.type.lower()):
            return entry
    return None


def _settings(request: Request, stream: StreamDescription) -> FurtherSeries:
    if isinstance(request, SlotRequest):
        return SlotSeriesConfig(request.name, _channels(request, stream))
    return signal_settings(request, _channels(request, stream), stream.sfreq)


def signal_settings(request: SeriesRequest, ch_names: tuple[str, ...], stream_hz: float = math.inf) -> PhysioConfig:
    """Return the settings of a signal: what is asked for, else what is usual.

    Args:
        request: What is asked for.
        ch_names: Its channels.
        stream_hz: Rate of its stream, which a usual band is narrowed to.
    """
    sfreq, band = request.usual or (request.sfreq or stream_hz, None)
    if request.band is not None:
        band = request.band
    elif band is not None:
        band = (band[0], min(band[1], _NYQUIST_SHARE * stream_hz / 2))
    low = 0.0 if band is None else band[0]
    settle_s = min(max(_SHORTEST_SETTLE_S, 0.5 / low), _LONGEST_SETTLE_S) if low else _SHORTEST_SETTLE_S
    return PhysioConfig(request.name, ch_names, request.sfreq or sfreq, band, settle_s=settle_s)


def _channels(request: Request, stream: StreamDescription) -> tuple[str, ...]:
    if not any(stream.ch_names):
        return usual_channels(request.name, len(stream.ch_names))
    if len(set(stream.ch_names) - {""}) < len(stream.ch_names):
        raise DatasetError(
            expected=f"a label of its own for each channel of {stream.name!r}, for the series {request.name}",
            found=", ".join(repr(name) for name in stream.ch_names),
            mend="label the channels where the stream is made",
        )
    return stream.ch_names


def usual_channels(name: str, n: int) -> tuple[str, ...]:
    """Return names for channels that nobody has labelled, such as GSR, or TRACKER1 and TRACKER2."""
    return (name.upper(),) if n == 1 else tuple(f"{name.upper()}{i}" for i in range(1, n + 1))
