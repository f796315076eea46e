"""Sizes of the network, frozen and kept inside every checkpoint and artefact."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from clmer_streaming.errors import ArtefactError


@dataclass(frozen=True)
class ClmerDims:
    """Sizes of the network. The defaults are the ``default`` preset, made for real time on one CPU core."""

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
    eeg_bands: bool = False  # EEG's first block gives log power by channel and band; see band_power.py

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArtefactError(
                expected="a token width that the number of heads divides",
                found=f"width {self.width}, heads {self.heads}",
                mend="choose for example width 64 and 4 heads",
            )
        if self.layout == "slots" and (self.causal or self.pooling == "last"):
            raise ArtefactError(
                expected="tokens that are all valid where a later one is hidden or the last one answers",
                found=f"layout slots, causal {self.causal}, pooling {self.pooling}",
                mend="choose layout points, or mean pooling without a causal mask",
            )
        if self.layout == "points" and (self.signal_power or self.eeg_bands):
            raise ArtefactError(
                expected="the same blocks for every modality in layout points",
                found=f"signal_power {self.signal_power}, eeg_bands {self.eeg_bands}, which are for signals alone",
                mend="switch them off, or choose layout slots",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain JSON values; what a preset may leave as it is by default has no word then."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        usual = _optional_fields()
        return {name: value for name, value in plain.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ClmerDims:
        """Return the sizes that ``to_dict`` wrote.

        Raises:
            ArtefactError: A field is missing, unknown or does not fit.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not names - set(_optional_fields()) <= set(plain) <= names:
            raise ArtefactError(
                expected=f"network sizes {sorted(names)}",
                found=f"{sorted(plain)}",
                mend="export the model again with this version of clmer",
            )
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(**sizes)


def _optional_fields() -> dict[str, Any]:
    """Return the fields that ``to_dict`` leaves out where they have these values."""
    names = ("layout", "positions", "causal", "pooling", "eeg_bands")
    return {field.name: field.default for field in dataclasses.fields(ClmerDims) if field.name in names}
