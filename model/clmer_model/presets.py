"""Named sizes of the network, and the windows they are made for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from clmer_model.dims import ClmerDims
from clmer_model.modalities import MODEL_MODALITIES
from clmer_streaming.config import PreprocessConfig, WindowConfig
from clmer_streaming.errors import SettingsError

PAPER_WIDTHS = {"deap-va9": 50, "deap-va2": 60, "deap-va4": 70, "amigos": 15}
"""The paper's best token length L of each task (its tables XI and XII). L is the tokens' width."""


@dataclass(frozen=True)
class Preset:
    """Sizes of the network and the settings of its windows; any set of modalities goes with either."""

    name: str
    dims: ClmerDims
    preprocess: PreprocessConfig

    def with_width(self, width: int | None) -> Preset:
        """Return the preset with another token width L; None keeps it.

        Raises:
            ArtefactError: The heads do not divide it.
        """
        return self if width is None else dataclasses.replace(self, dims=dataclasses.replace(self.dims, width=width))


DEFAULT = Preset("default", ClmerDims(eeg_bands=True), PreprocessConfig(modalities=MODEL_MODALITIES))
"""Made for real time on one CPU core.

EEG comes in by bands because EEG alone gained by it. With 29 simulated people to train on, forty others to ask, the
shipped settings without the contrastive stage and one run each, it reached an accuracy of 0.303, and 0.284 with filters
that mix the channels at once (four classes; the difference has a standard error of 0.005 over people); all modalities
together 0.367 and 0.361. With larger batches and shorter steps nothing was gained (0.285 and 0.288, two runs each).
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
"""The paper's layout: a second of signal with one frame of the face, landmarks as 68 tokens' worth of 3 values.

Heads, layers, causal mask, last-token pooling and dropout are not in the paper; they are the settings that its
authors published. Masked and last tokens of a face have no meaning in themselves, since its points have no order.
"""

PRESETS = {preset.name: preset for preset in (DEFAULT, PAPER)}


def find_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        SettingsError: There is none.
    """
    if name not in PRESETS:
        raise SettingsError(f"a preset among {', '.join(PRESETS)}", repr(name), "choose one of these")
    return PRESETS[name]
