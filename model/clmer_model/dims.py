"""Sizes of the network, frozen and kept inside every checkpoint and artefact."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

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
    head_width: int = 128  # hidden width of the classifier's residual layer
    conv_dropout: float = 0.35  # after the encoder's first block
    dropout: float = 0.2  # in attention blocks and classifier

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width % 2:
            raise ArtefactError(
                expected="an even token width that the number of heads divides",
                found=f"width {self.width}, heads {self.heads}",
                mend="choose for example width 64 and 4 heads",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the sizes as plain JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ClmerDims:
        """Return the sizes that ``to_dict`` wrote.

        Raises:
            ArtefactError: A field is missing, unknown or does not fit.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(plain) != names:
            raise ArtefactError(
                expected=f"network sizes {sorted(names)}",
                found=f"{sorted(plain)}",
                mend="export the model again with this version of clmer",
            )
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        return cls(**sizes)
