"""Settings of the signal path: frozen, and saved in the model artifact, from which training and the service read them.

``PreprocessConfig`` holds all of them: ``SignalConfig`` for EEG, ``WindowConfig`` for the grid, and the further series.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from clmer_streaming.errors import ArtifactError
from clmer_streaming.face.layout import EXTRACTOR_ID

EPOC_CH_NAMES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
"""The 14 EEG channels of an Emotiv EPOC, in the headset's order."""

CAP36_CH_NAMES = (
    "Fp1", "Fp2", "AF7", "AF3", "AF4", "AF8", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6",
    "T7", "C3", "Cz", "C4", "T8", "TP9", "CP5", "CP1", "CP2", "CP6", "TP10",
    "P7", "P3", "Pz", "P4", "P8", "PO3", "PO4", "O1", "Oz", "O2",
)  # fmt: skip
"""36 electrodes from front to back: those of a usual cap of 32, of an EPOC, of the 10-20 system, and of a Muse."""

LEAST_REFERENCED = 3
"""Fewest EEG channels that are referenced to their mean: of one it is all, of two half of the other."""

PREPROCESSOR_ID = "clmer-preprocess-3"
"""Id of the signal path; it changes with any change of the windows it makes."""

EegCalibration: TypeAlias = Literal["none", "rest"]
"""How EEG is normalized: not at all, or by the participant's own EEG at rest."""


@dataclass(frozen=True)
class SignalConfig:
    """Channels, rate, filter and reference of the EEG that a model sees."""

    ch_names: tuple[str, ...] = EPOC_CH_NAMES
    sfreq: float = 128.0  # Hz, of the windows (paper, section on data preparation)
    band: tuple[float, float] = (4.0, 45.0)  # Hz, causal Butterworth band-pass (paper: DEAP, AMIGOS)
    filter_order: int = 2  # of the Butterworth prototype
    notch_hz: float | None = None  # Hz; None: no notch
    reference: str = "mean_good"  # "mean_good": mean of the good channels; "none"
    settle_s: float = 0.5  # s after a (re)start of the filter in which no window may begin
    max_bridge_s: float = 0.1  # s; longer losses end the segment
    min_share: float = 0.5  # of the channels, that a stream must have

    @property
    def least_channels(self) -> int:
        """How many of the channels a stream must have."""
        return max(1, math.ceil(self.min_share * len(self.ch_names)))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; ``min_share`` is left out where it has its default value."""
        plain = dataclasses.asdict(self)
        if self.min_share == SignalConfig.min_share:
            del plain["min_share"]
        return plain

    @property
    def signal_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of these settings."""
        return _hash(self.to_dict())


@dataclass(frozen=True)
class WindowConfig:
    """Length and hop of the windows, and how long one waits for a slow stream."""

    window_s: float = 2.0  # s
    hop_s: float = 0.5  # s
    face_slots: int = 8  # F, equal parts of the window
    max_lateness_s: float = 1.0  # s, plus the longest measured chunk of a stream
    min_face_quality: float = 0.3  # 0-1; frames below it count as no face


@dataclass(frozen=True)
class PhysioConfig:
    """A further signal of a window, such as ECG, skin conductance or respiration."""

    name: str  # of the series in a window, e.g. "ecg"
    ch_names: tuple[str, ...]
    sfreq: float  # Hz, of the windows
    band: tuple[float, float] | None = None  # Hz, causal Butterworth; from 0: a low-pass; None: unfiltered
    filter_order: int = 2  # of the Butterworth prototype
    settle_s: float = 0.5  # s after a (re)start of the filter in which no window may begin


@dataclass(frozen=True)
class SlotSeriesConfig:
    """A further series of numbers that come a few times a second or at odd times, averaged over the face's slots.

    Examples are HOG features, or the output of a user's own tracker.
    """

    name: str  # of the series in a window, e.g. "hog"
    ch_names: tuple[str, ...]


FurtherSeries: TypeAlias = PhysioConfig | SlotSeriesConfig
"""A series beside EEG and face: a signal with a rate of its own, or numbers on slots."""

_SOURCE_PREFIX = "physio-"


def physio_source(name: str) -> str:
    """Return the source key of the stream that gives a series, such as ``physio-ecg`` for ``ECG``."""
    return _SOURCE_PREFIX + name.lower()


def series_name(source: str) -> str:
    """Return the name of the series that a source key stands for; ``""`` where it stands for none."""
    return source.removeprefix(_SOURCE_PREFIX) if source.startswith(_SOURCE_PREFIX) else ""


@dataclass(frozen=True)
class PreprocessConfig:
    """Everything that decides the bits of a window.

    Example::

        config = PreprocessConfig(window=WindowConfig(window_s=1.0, face_slots=1))
        assert PreprocessConfig.from_dict(config.to_dict()) == config
    """

    signal: SignalConfig = field(default_factory=SignalConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    modalities: tuple[str, ...] = ("eeg", "landmarks", "aus", "gaze")
    extractor: str = EXTRACTOR_ID
    preprocessor: str = PREPROCESSOR_ID
    physio: tuple[PhysioConfig, ...] = ()  # named in ``modalities`` too, if the model sees them
    eeg_calibration: EegCalibration = "none"  # "rest": the model learnt from EEG normalized by rest
    slot_series: tuple[SlotSeriesConfig, ...] = ()  # named in ``modalities`` too, if the model sees them

    @property
    def n_times(self) -> int:
        """Number of EEG samples of a window, T."""
        return round(self.signal.sfreq * self.window.window_s)

    def physio_times(self, series: PhysioConfig) -> int:
        """Return the number of samples that a window holds of a further signal."""
        return round(series.sfreq * self.window.window_s)

    @property
    def further(self) -> tuple[FurtherSeries, ...]:
        """All series beside EEG and face."""
        return (*self.physio, *self.slot_series)

    def further_of(self, name: str) -> FurtherSeries | None:
        """Return the further series of this name, in any case; None without one."""
        return next((series for series in self.further if series.name.lower() == name.lower()), None)

    def physio_of(self, name: str) -> PhysioConfig | None:
        """Return the further signal of this name, in any case; None without one."""
        series = self.further_of(name)
        return series if isinstance(series, PhysioConfig) else None

    def with_notch(self, notch_hz: float | None) -> PreprocessConfig:
        """Return these settings with a notch at ``notch_hz`` (None: without one), and so with another hash."""
        return dataclasses.replace(self, signal=dataclasses.replace(self.signal, notch_hz=notch_hz))

    def with_channels(self, ch_names: tuple[str, ...], min_share: float | None = None) -> PreprocessConfig:
        """Return these settings with other EEG channels; fewer than three are not referenced to their mean.

        Args:
            ch_names: The channels.
            min_share: Share of them that a stream must have; None keeps it.
        """
        reference = "none" if len(ch_names) < LEAST_REFERENCED else self.signal.reference
        share = self.signal.min_share if min_share is None else min_share
        signal = dataclasses.replace(self.signal, ch_names=ch_names, reference=reference, min_share=share)
        return dataclasses.replace(self, signal=signal)

    def with_further(self, series: Iterable[FurtherSeries]) -> PreprocessConfig:
        """Return these settings with further series, added as modalities behind the present ones."""
        new = tuple(series)
        return dataclasses.replace(
            self,
            modalities=(*self.modalities, *(one.name for one in new)),
            physio=(*self.physio, *(one for one in new if isinstance(one, PhysioConfig))),
            slot_series=(*self.slot_series, *(one for one in new if isinstance(one, SlotSeriesConfig))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values, without the fields of features that are not used.

        So the hash of settings does not change when a feature is added.
        """
        plain: dict[str, Any] = json.loads(json.dumps({**dataclasses.asdict(self), "signal": self.signal.to_dict()}))
        for name in ("physio", "slot_series"):
            if not plain[name]:
                del plain[name]
        if self.eeg_calibration == "none":
            del plain["eeg_calibration"]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> PreprocessConfig:
        """Return the settings that ``to_dict`` wrote.

        Raises:
            ArtifactError: A field is missing or unknown.
        """
        try:
            apart = ("signal", "window", "modalities", "physio", "slot_series")
            rest = {k: v for k, v in plain.items() if k not in apart}
            signal = dict(plain["signal"])
            signal.update(ch_names=tuple(signal["ch_names"]), band=tuple(signal["band"]))
            return cls(
                signal=SignalConfig(**signal),
                window=WindowConfig(**plain["window"]),
                modalities=tuple(plain["modalities"]),
                physio=tuple(_physio_from_dict(series) for series in plain.get("physio", ())),
                slot_series=tuple(_slots_from_dict(series) for series in plain.get("slot_series", ())),
                **rest,
            )
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                expected=f"signal settings with the fields of {cls.__name__}",
                found=f"{error} in {sorted(plain)}",
                mend="export the model again with this version of clmer",
            ) from error

    @property
    def config_hash(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON of these settings."""
        return _hash(self.to_dict())


def _hash(plain: dict[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _physio_from_dict(plain: dict[str, Any]) -> PhysioConfig:
    band = None if plain["band"] is None else tuple(plain["band"])
    return PhysioConfig(**{**plain, "ch_names": tuple(plain["ch_names"]), "band": band})


def _slots_from_dict(plain: dict[str, Any]) -> SlotSeriesConfig:
    return SlotSeriesConfig(**{**plain, "ch_names": tuple(plain["ch_names"])})
