"""Static description of a model: sizes of the network, modalities, presets and class labels.

Read in this order: ``ClmerDims`` (sizes), ``ModalitySpec`` (shape of one input), ``Preset`` (sizes with the settings
of their windows), then the labels and the valence and arousal that follow from them. No torch here.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clmer_streaming.config import CAP36_CH_NAMES, FurtherSeries, PreprocessConfig, SlotSeriesConfig, WindowConfig
from clmer_streaming.errors import ArtifactError, SettingsError
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS


@dataclass(frozen=True)
class ClmerDims:
    """Sizes of the network, kept in every checkpoint and artifact.

    The defaults are those of the ``default`` preset but for ``channel_tokens`` and ``linear_path``, and are made for
    real time on one CPU core.

    Raises:
        ArtifactError: The sizes contradict each other.

    Example::

        dims = ClmerDims(width=32, heads=4)
        assert ClmerDims.from_dict(dims.to_dict()) == dims
    """

    width: int = 64  # the paper's "token length" L: the width to which every modality's tokens are unified
    heads: int = 4  # attention heads; divides width
    cross_layers: int = 1  # cross-modal layers of each ordered pair
    self_layers: int = 1  # self-attention layers of each target
    feedforward: int = 2  # width of the feed-forward layers, in multiples of the layer's width
    conv_widths: tuple[int, int, int] = (32, 64, 128)  # of the encoder's three blocks
    signal_kernels: tuple[int, int, int] = (8, 3, 3)  # of the convolutions over a signal, in steps of its time axis
    signal_pools: tuple[int, int, int] = (16, 1, 1)  # by which the three blocks shorten a signal's time axis
    signal_power: bool = True  # a signal's first block gives log power; False: the same block as the others
    slot_kernel: int = 3  # slots; of the convolutions over a face series, which keep the time axis
    head_width: int = 128  # hidden width of the classifier's residual layer; 0: as wide as its input
    conv_dropout: float = 0.35  # after the encoder's first block
    dropout: float = 0.2  # in attention blocks and classifier
    layout: Literal["slots", "points"] = "slots"  # what the convolutions run over in a face series; see encoder.py
    positions: Literal["time", "index"] = "time"  # what the code of a token's place counts
    causal: bool = False  # no token reads a later one
    pooling: Literal["mean", "last"] = "mean"  # of a target's tokens
    channel_tokens: bool = False  # EEG's first block pools tokens of its channels; see ChannelTokenBlock
    linear_path: bool = False  # log band powers of signals have a linear way to the logits; see LinearPath

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArtifactError(
                expected="a token width that the number of heads divides",
                found=f"width {self.width}, heads {self.heads}",
                mend="choose for example width 64 and 4 heads",
            )
        if self.layout == "slots" and (self.causal or self.pooling == "last"):
            raise ArtifactError(
                expected="tokens that are all valid where a later one is hidden or the last one answers",
                found=f"layout slots, causal {self.causal}, pooling {self.pooling}",
                mend="choose layout points, or mean pooling without a causal mask",
            )
        if self.layout == "points" and (self.signal_power or self.channel_tokens):
            raise ArtifactError(
                expected="the same blocks for every modality in layout points",
                found=f"signal_power {self.signal_power}, channel_tokens {self.channel_tokens}, for signals alone",
                mend="switch them off, or choose layout slots",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain JSON values; optional fields are left out where they have their default value."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        defaults = _optional_fields()
        return {name: value for name, value in plain.items() if name not in defaults or value != defaults[name]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ClmerDims:
        """Return the sizes that ``to_dict`` wrote.

        Raises:
            ArtifactError: A field is missing, unknown or does not fit.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not names - set(_optional_fields()) <= set(plain) <= names:
            raise ArtifactError(
                expected=f"network sizes {sorted(names)}",
                found=f"{sorted(plain)}",
                mend="export the model again with this version of clmer",
            )
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(**sizes)


def _optional_fields() -> dict[str, Any]:
    """Return the default values of the fields that ``to_dict`` leaves out where they have them."""
    names = ("layout", "positions", "causal", "pooling", "channel_tokens", "linear_path")
    return {field.name: field.default for field in dataclasses.fields(ClmerDims) if field.name in names}


MODEL_MODALITIES = ("eeg", "landmarks", "aus")
"""The paper's three modalities: physiological signal, 3-D landmarks, action units (six ordered pairs)."""

_FACE_SERIES = ("landmarks", "aus", "gaze")  # on slots, as their names say
_LANDMARK_CHANNELS = tuple(f"LM{i:02d}_{axis}" for i in range(N_LANDMARKS) for axis in "XYZ")
_AU_CHANNELS = tuple(f"{au}_{kind}" for au in AU_NAMES for kind in "rc")


@dataclass(frozen=True)
class ModalitySpec:
    """Name, shape and channel names of one series of a window.

    ``signal`` series are (C, T) with a mask over C; ``slots`` series are (F, ...) with a mask over F.

    Example::

        spec = modality_spec("eeg", PreprocessConfig())
        spec.shape, spec.n_masked  # (14, 256), 14
    """

    name: str
    shape: tuple[int, ...]
    channels: tuple[str, ...]
    on_slots: bool = False  # of a further series: it lies on the face's slots; series of the face always do

    @property
    def kind(self) -> Literal["signal", "slots"]:
        """Layout of the series and its mask."""
        return "slots" if self.on_slots or self.name in _FACE_SERIES else "signal"

    @property
    def n_masked(self) -> int:
        """Length of the mask: channels of a signal, slots of a series on slots."""
        return self.shape[0]

    @property
    def n_channels(self) -> int:
        """Number of values at one moment: EEG channels, or all numbers of one slot."""
        return self.shape[0] if self.kind == "signal" else math.prod(self.shape[1:])

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; ``kind`` is left out where the name implies it."""
        plain = {"name": self.name, "shape": list(self.shape), "channels": list(self.channels)}
        return {**plain, "kind": self.kind} if self.on_slots else plain


def modality_spec(name: str, config: PreprocessConfig) -> ModalitySpec:
    """Return the specification of one modality under these settings.

    Raises:
        ArtifactError: The modality is not one that windows carry.
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
    raise ArtifactError(
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


PAPER_WIDTHS = {"deap-va9": 50, "deap-va2": 60, "deap-va4": 70, "amigos": 15}
"""The paper's best token length L for each task (tables XI and XII). L is the width of a token."""


@dataclass(frozen=True)
class Preset:
    """Sizes of the network and the settings of its windows, usable with any set of modalities.

    Example::

        preset = find_preset("paper").with_width(60)
    """

    name: str
    dims: ClmerDims
    preprocess: PreprocessConfig

    def with_width(self, width: int | None) -> Preset:
        """Return the preset with another token width L; None keeps the width.

        Raises:
            ArtifactError: The number of heads does not divide the width.
        """
        return self if width is None else dataclasses.replace(self, dims=dataclasses.replace(self.dims, width=width))


LEAST_SHARE = 0.1
"""Share of the electrodes of preset ``default`` that a cap must have: four of 36, as many as a Muse has."""

DEFAULT = Preset(
    "default",
    ClmerDims(channel_tokens=True, linear_path=True),
    PreprocessConfig(modalities=MODEL_MODALITIES).with_channels(CAP36_CH_NAMES, LEAST_SHARE),
)
"""The preset for real time on one CPU core: log powers of EEG bands by channel and place, and a linear path beside.

With 24 simulated people to train on and sixteen others to test, three runs each, EEG alone reached an accuracy of 0.300
and 0.273 with filters that mix the channels at once (four classes; difference 0.027, 95 % interval 0.010 to 0.044); all
modalities together 0.370 and 0.356 (``benchmarks/RESULTS.md``). Larger batches with shorter steps gained nothing.
"""

PAPER = Preset(
    "paper",
    ClmerDims(
        width=PAPER_WIDTHS["amigos"],
        heads=5,
        cross_layers=5,
        self_layers=5,
        feedforward=4,
        signal_kernels=(8, 8, 8),
        signal_pools=(2, 2, 2),
        signal_power=False,
        head_width=0,
        dropout=0.1,
        layout="points",
        positions="index",
        causal=True,
        pooling="last",
    ),
    PreprocessConfig(window=WindowConfig(window_s=1.0, face_slots=1), modalities=MODEL_MODALITIES),
)
"""The paper's layout: one second of signal with one frame of the face, landmarks as 68 tokens of 3 values.

Heads, layers, causal mask, last-token pooling and dropout are not in the paper; they are the settings of the code that
its authors published. The points of a face have no order, so that its causal mask and its last token mean nothing.
"""

PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER)}


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        SettingsError: There is no such preset.
    """
    if name not in PRESETS:
        raise SettingsError(f"a preset among {', '.join(PRESETS)}", repr(name), "choose one of these")
    return PRESETS[name]


LABELS_VA4 = ("LVLA", "LVHA", "HVLA", "HVHA")
"""Quadrants of valence and arousal; the index is ``2 * V + A`` with V, A in 0 (low), 1 (high)."""

BIN_CENTRES = {"L": 2.0, "M": 4.5, "H": 7.5}
"""Centres of the rating bins [1, 3), [3, 6), [6, 9] of the nine-class scheme (paper, section on DEAP)."""

_LABEL = re.compile(r"(?:(?P<V>[LMH])V)?(?:(?P<A>[LMH])A)?")


@dataclass(frozen=True, slots=True)
class Affect:
    """Valence and arousal; None where the labels say nothing of a dimension."""

    valence: float | None
    arousal: float | None


def affect(labels: Sequence[str], probs: Sequence[float]) -> Affect:
    """Return valence and arousal of a distribution over classes.

    With two levels (low, high) the value is P(high), 0 to 1. With three levels it is the expected bin centre on the
    rating scale, 1 to 9.

    Args:
        labels: Class names in the model's order, such as ``LVHA``.
        probs: Their probabilities, which sum to one.

    Example::

        affect(LABELS_VA4, [0.25, 0.25, 0.0, 0.5])  # Affect(valence=0.5, arousal=0.75)
    """
    return Affect(valence=_dimension(labels, probs, "V"), arousal=_dimension(labels, probs, "A"))


def _dimension(labels: Sequence[str], probs: Sequence[float], name: str) -> float | None:
    matches = [_LABEL.fullmatch(label) for label in labels]
    levels = [match.group(name) if match else None for match in matches]
    if not levels or None in levels:
        return None
    weighted = list(zip([str(level) for level in levels], probs, strict=True))
    if "M" in levels:
        return sum(BIN_CENTRES[level] * p for level, p in weighted)
    return sum(p for level, p in weighted if level == "H")
