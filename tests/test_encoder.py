"""The model's door and the encoders behind it."""

from __future__ import annotations

import pytest
import torch

from clmer_model.dims import ClmerDims
from clmer_model.door import ActionUnitDoor, LandmarkDoor, SignalDoor, signal_scale
from clmer_model.encoder import ModalityEncoder, masked_mean
from clmer_model.modalities import ModalitySpec
from clmer_streaming.errors import ArtefactError
from model_windows import SMALL, SPECS, random_input

EEG, LANDMARKS, AUS = SPECS


@pytest.mark.parametrize(("spec", "n_tokens"), [(EEG, 16), (LANDMARKS, 8), (AUS, 8)])
def test_encoders_turn_every_modality_into_tokens(spec: ModalitySpec, n_tokens: int) -> None:
    """One design serves all: EEG gives a token for 16 samples, a face series one for each slot."""
    encoder = ModalityEncoder(spec, SMALL).eval()
    x, mask = random_input(2)
    tokens, valid = encoder(x[encoder.name], mask[encoder.name])
    assert tokens.shape == (2, n_tokens, 16)
    assert valid.shape == (2, n_tokens)


@pytest.mark.parametrize("gain", [1e-3, 1.0, 1e3])
def test_eeg_scale_does_not_depend_on_the_amplifier(gain: float) -> None:
    """The same signal in volts or microvolts gives the same channels, but for the scale's own channel."""
    door = SignalDoor(EEG)
    x = 10.0 * torch.randn(2, 14, 256, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 14, dtype=torch.bool)
    assert torch.allclose(door(x, mask)[:, :-1], door(gain * x, mask)[:, :-1], atol=1e-5)


def test_eeg_scale_ignores_one_wild_channel() -> None:
    """The scale is the median over channels, so a loose electrode does not shrink the others."""
    x = torch.randn(1, 14, 256, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 14, dtype=torch.bool)
    calm = signal_scale(x, mask).item()
    x[0, 3] *= 1000
    assert signal_scale(x, mask).item() == pytest.approx(calm, rel=0.05)


def test_eeg_extremes_are_bounded() -> None:
    """Whatever comes in, the network sees values within its clips."""
    door = SignalDoor(EEG)
    x = 1e6 * torch.randn(1, 14, 256).pow(3)
    assert float(door(x, torch.ones(1, 14, dtype=torch.bool)).abs().max()) <= 8.0


def test_landmarks_do_not_depend_on_unit_or_place() -> None:
    """A face in millimetres, somewhere else, gives the same channels as in centimetres."""
    door = LandmarkDoor(LANDMARKS)
    x = torch.randn(2, 8, 68, 3)
    mask = torch.ones(2, 8, dtype=torch.bool)
    assert torch.allclose(door(x, mask), door(10.0 * x + 70.0, mask), atol=1e-4)


def test_action_units_become_shares_of_their_scale() -> None:
    """Intensity 5 and presence 1 both become 1; the last channel is the mask."""
    x = torch.tensor([5.0, 1.0]).expand(1, 8, 17, 2)
    mask = torch.tensor([[True] * 7 + [False]])
    channels = ActionUnitDoor(AUS)(x, mask)
    assert channels.shape == (1, 35, 8)
    assert torch.equal(channels[0, :, 0], torch.ones(35))
    assert torch.equal(channels[0, :, 7], torch.zeros(35))


def test_the_mean_of_tokens_leaves_out_invalid_ones() -> None:
    """The mean of 1, 2 and an invalid NaN is 1.5; of nothing it is zero."""
    tokens = torch.tensor([[[1.0], [2.0], [float("nan")]]]).repeat(2, 1, 1)
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(tokens, valid).flatten().tolist() == [1.5, 0.0]


def test_sizes_that_do_not_fit_are_refused() -> None:
    """Heads must divide the width."""
    with pytest.raises(ArtefactError, match="heads 5"):
        ClmerDims(width=64, heads=5)


def test_sizes_survive_json() -> None:
    """What is written is read back equal; an unknown field is refused."""
    assert ClmerDims.from_dict(SMALL.to_dict()) == SMALL
    with pytest.raises(ArtefactError, match="depth"):
        ClmerDims.from_dict({**SMALL.to_dict(), "depth": 3})
