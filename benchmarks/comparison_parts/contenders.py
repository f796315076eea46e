"""The networks that are compared, and the windows that each is made for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from comparison_parts.channel_tokens import ChannelTokenClmer
from model_parts.husformer_like import HusformerLike

from clmer_model.config import DEFAULT, PAPER, ModalitySpec
from clmer_model.network.clmer import Clmer
from clmer_streaming.config import PreprocessConfig

MIXED = dataclasses.replace(DEFAULT.dims, eeg_bands=False)
"""Sizes of ``default``, whose filters mix the channels of EEG before their power is taken."""

Make = Callable[[Sequence[ModalitySpec], int], Clmer]
"""Makes an untrained network from its modalities and the number of classes."""


@dataclass(frozen=True)
class Contender:
    """A network, its windows, and whether a contrastive stage comes before the labels."""

    make: Make
    preprocess: PreprocessConfig = DEFAULT.preprocess
    contrast: bool = False

    @property
    def windows(self) -> str:
        """The windows in words."""
        window = self.preprocess.window
        return f"{window.window_s:g} s, {window.face_slots} of the face"


def _default(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, DEFAULT.dims)


def _mixed(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, MIXED)


def _paper(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, PAPER.dims)


def _husformer(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    """Return a network that has all that training asks of a ``Clmer``: names, encoders, temperature, forward."""
    return cast(Clmer, HusformerLike(specs, n_classes))


def _linear_channels(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return ChannelTokenClmer(specs, n_classes, MIXED, power=False)


def _power_channels(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return ChannelTokenClmer(specs, n_classes, MIXED, power=True)


OURS = "default"
"""The contender that the others are compared with."""

CONTENDERS = {
    OURS: Contender(_default),
    "paper": Contender(_paper, PAPER.preprocess),
    "like Husformer": Contender(_husformer),
    "default, EEG mixed first": Contender(_mixed),
    "default on the paper's windows": Contender(_default, PAPER.preprocess),
    "default, channel tokens": Contender(_linear_channels),
    "default, channel tokens of log power": Contender(_power_channels),
    "default, contrastive stage first": Contender(_default, contrast=True),
    "paper, contrastive stage first": Contender(_paper, PAPER.preprocess, contrast=True),
}
"""By name all that can be trained."""
