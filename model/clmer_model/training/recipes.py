"""How each preset is trained."""

from __future__ import annotations

from clmer_model.presets import find_preset
from clmer_model.training.fit import FitConfig
from clmer_model.training.pretrain import PretrainConfig
from clmer_model.training.train import TrainConfig
from clmer_model.training.views import ViewConfig

PAPER_VIEWS = ViewConfig(
    eeg_shift=0,
    eeg_blank=0,
    eeg_band_stop=0.0,
    channel_dropout=0.0,
    slot_dropout=0.0,
    landmark_identity=(0.0, 0.0, 0.0),
    au_offset=0.0,
    gaze_offset=0.0,
    slot_offset=0.0,
)
"""The views that the paper names, scaling and jittering (section III-C), and nothing else.

It gives no strengths; these are ours, legal for each modality. Those that its authors published are not: a factor for
each time step with a mean of 2 is noise, and their strong view copies one channel over all others.
"""

PAPER_PRETRAIN = PretrainConfig(
    epochs=500,
    batch=64,
    learning_rate=3e-4,
    weight_decay=3e-4,
    views=PAPER_VIEWS,
    lambda_sample=0.7,
    lambda_temporal=1.0,
    sample_of="context",
)
"""The paper's contrastive stage (section IV). The weights of its losses are those that its authors published."""

PAPER_FIT = FitConfig(
    epochs=300,
    batch=64,
    learning_rate=1e-3,
    weight_decay=0.0,
    label_smoothing=0.0,
    max_gradient=0.8,
    modality_dropout=0.0,
    views=None,
    schedule="plateau",
    plateau_patience=20,
    plateau_factor=0.6,
    freeze_encoders=True,
)
"""The paper's supervised stage: Adam, lowered on a plateau of 20 epochs. Factor, clipping and frozen extractors are
those that its authors published."""


def recipe(preset: str = "default", width: int | None = None) -> TrainConfig:
    """Return how the preset of this name is trained; the default makes the shipped ``clmer-va4``.

    Args:
        preset: ``default`` or ``paper``.
        width: Another token width L.

    Raises:
        SettingsError: There is no such preset.
        ArtefactError: Its heads do not divide the width.
    """
    chosen = find_preset(preset).with_width(width)
    paper = chosen.name == "paper"
    return TrainConfig(
        preset=chosen.name,
        dims=chosen.dims,
        preprocess=chosen.preprocess,
        pretrain=PAPER_PRETRAIN if paper else PretrainConfig(),
        fit=PAPER_FIT if paper else FitConfig(),
    )
