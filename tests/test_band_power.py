"""EEG's front end by bands: filters that are what they are called, powers that compare, masks that hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from clmer_model.band_power import BANDS, KERNEL, POOL, SFREQ, BandPowerBlock, filter_bank
from clmer_model.clmer import Clmer
from clmer_model.dims import ClmerDims
from clmer_model.labels import LABELS_VA4
from clmer_model.modalities import ModalitySpec
from model_windows import SMALL, SPECS, random_input

BY_BANDS = dataclasses.replace(SMALL, eeg_bands=True)


def test_each_filter_hears_its_band_most() -> None:
    """A sine in the middle of a band passes with gain 2 there and louder than through any filter but a neighbour."""
    t = torch.arange(1024) / SFREQ
    middles = [sum(band) / 2 for band in BANDS]
    for k, hz in enumerate(middles):
        heard = torch.nn.functional.conv1d(torch.sin(2 * torch.pi * hz * t).view(1, 1, -1), filter_bank())[0]
        amplitude = heard.abs().amax(1)
        assert float(amplitude[k]) == pytest.approx(2.0, rel=0.1)
        assert int(amplitude.argmax()) == k
        assert all(float(amplitude[other]) < 0.2 for other in range(len(BANDS)) if abs(middles[other] - hz) > 6)


def test_twice_the_amplitude_adds_the_same_logarithm_in_every_band() -> None:
    """Before its mixing, the front end gives ln 4 more for a channel of twice the amplitude, whatever the rhythm."""
    block = BandPowerBlock(2, 8, 0.0).eval()
    x = torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(0))
    power = [torch.log(block.pool(block.bank(factor * 3.0 * x).square()) + block.floor) for factor in (1.0, 2.0)]
    assert torch.allclose(power[1] - power[0], torch.full_like(power[0], float(np.log(4.0))), atol=0.05)


def test_the_encoder_gives_a_token_for_every_pool() -> None:
    """256 samples are 8 tokens; further series and faces keep their own blocks."""
    model = Clmer((*SPECS, ModalitySpec("ecg", (1, 256), ("ECG",))), 4, BY_BANDS)
    eeg, _, _, ecg = model.modality_encoders()
    assert (eeg.n_tokens, ecg.n_tokens) == (256 // POOL, 16)
    assert isinstance(eeg.blocks[0], BandPowerBlock)
    assert not isinstance(ecg.blocks[0], BandPowerBlock)
    assert KERNEL % 2 == 1


def test_what_is_masked_is_not_heard_and_every_parameter_learns() -> None:
    """Noise in a masked channel changes no bit; a step reaches every parameter; the script is the same function."""
    torch.manual_seed(0)
    model = Clmer(SPECS, len(LABELS_VA4), BY_BANDS)
    x, mask = random_input(4)
    mask["eeg"][:, 3] = False
    other = {**x, "eeg": x["eeg"].clone()}
    other["eeg"][:, 3] = 1e6
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(other, mask))
        assert torch.allclose(torch.jit.script(model)(x, mask), model(x, mask), atol=1e-6)
    model.train()
    model(x, mask).square().sum().backward()
    assert [name for name, p in model.encoders[0].named_parameters() if p.grad is None or not p.grad.any()] == []


def test_sizes_with_bands_survive_json() -> None:
    """Files made before bands have no word of them, and are read as they were."""
    assert ClmerDims.from_dict(BY_BANDS.to_dict()) == BY_BANDS
    assert "eeg_bands" not in ClmerDims().to_dict()
