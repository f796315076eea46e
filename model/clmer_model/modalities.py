"""What each modality of a window looks like to the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from clmer_streaming.config import FurtherSeries, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.errors import ArtefactError
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS

MODEL_MODALITIES = ("eeg", "landmarks", "aus")
"""The paper's three modalities: physiological signal, 3-D landmarks, action units. Six ordered pairs."""

_FACE_SERIES = ("landmarks", "aus", "gaze")  # on slots, as their names say
_LANDMARK_CHANNELS = tuple(f"LM{i:02d}_{axis}" for i in range(N_LANDMARKS) for axis in "XYZ")
_AU_CHANNELS = tuple(f"{au}_{kind}" for au in AU_NAMES for kind in "rc")


@dataclass(frozen=True)
class ModalitySpec:
    """Name, shape and channel names of one series of a window.

    ``signal`` series are (C, T) with a mask over C; ``slots`` series are (F, ...) with a mask over F.
    """

    name: str
    shape: tuple[int, ...]
    channels: tuple[str, ...]
    on_slots: bool = False  # of a further series: it lies on the face's slots; series of the face always do

    @property
    def kind(self) -> Literal["signal", "slots"]:
        """How the series and its mask are laid out."""
        return "slots" if self.on_slots or self.name in _FACE_SERIES else "signal"

    @property
    def n_masked(self) -> int:
        """Length of the mask: channels of a signal, slots of a series on slots."""
        return self.shape[0]

    @property
    def n_channels(self) -> int:
        """Values at one moment: EEG channels, or all numbers of one slot."""
        return self.shape[0] if self.kind == "signal" else math.prod(self.shape[1:])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values, the kind only where the name does not tell it."""
        plain = {"name": self.name, "shape": list(self.shape), "channels": list(self.channels)}
        return {**plain, "kind": self.kind} if self.on_slots else plain


def modality_spec(name: str, config: PreprocessConfig) -> ModalitySpec:
    """Return the specification of one modality under these settings.

    Raises:
        ArtefactError: The modality is not one that windows carry.
    """
    slots = config.window.face_slots
    match name:
        case "eeg":
            return ModalitySpec(name, (len(config.signal.ch_names), config.n_times), config.signal.ch_names)
        case "landmarks":
            return ModalitySpec(name, (slots, N_LANDMARKS, 3), _LANDMARK_CHANNELS)
        case "aus":
            return ModalitySpec(name, (slots, len(AU_NAMES), 2), _AU_CHANNELS)
        case "gaze":
            return ModalitySpec(name, (slots, 2), ("GAZE_X", "GAZE_Y"))
    series = config.further_of(name)
    if series is not None and series.name == name:
        return _further_spec(series, config)
    known = ("eeg", "landmarks", "aus", "gaze", *(series.name for series in config.further))
    raise ArtefactError(
        expected=f"modalities among {', '.join(known)}",
        found=repr(name),
        mend="export the model with modalities of this version of clmer",
    )


def _further_spec(series: FurtherSeries, config: PreprocessConfig) -> ModalitySpec:
    n_channels = len(series.ch_names)
    if isinstance(series, SlotSeriesConfig):
        return ModalitySpec(series.name, (config.window.face_slots, n_channels), series.ch_names, on_slots=True)
    return ModalitySpec(series.name, (n_channels, config.physio_times(series)), series.ch_names)


def modality_specs(config: PreprocessConfig) -> tuple[ModalitySpec, ...]:
    """Return the specification of every modality of the settings, in their order."""
    return tuple(modality_spec(name, config) for name in config.modalities)
