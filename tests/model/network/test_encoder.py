"""The model's door and the encoders behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from clmer_model.config import LABELS_VA4, ClmerDims, ModalitySpec
from clmer_model.electrodes import electrode_positions
from clmer_model.network.clmer import Clmer
from clmer_model.network.encoder import (
    BANDS,
    KERNEL,
    POOL,
    SFREQ,
    ChannelTokenBlock,
    ModalityEncoder,
    filter_bank,
    masked_mean,
    position_polynomials,
)
from clmer_model.network.normalization import ActionUnitNormalizer, LandmarkNormalizer, SignalNormalizer, signal_scale
from clmer_streaming.errors import ArtifactError
from tests.support.model_windows import SMALL, SPECS, random_input

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
    door = SignalNormalizer(EEG)
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
    door = SignalNormalizer(EEG)
    x = 1e6 * torch.randn(1, 14, 256).pow(3)
    assert float(door(x, torch.ones(1, 14, dtype=torch.bool)).abs().max()) <= 8.0


def test_landmarks_do_not_depend_on_unit_or_place() -> None:
    """A face in millimetres, somewhere else, gives the same channels as in centimetres."""
    door = LandmarkNormalizer(LANDMARKS)
    x = torch.randn(2, 8, 68, 3)
    mask = torch.ones(2, 8, dtype=torch.bool)
    assert torch.allclose(door(x, mask), door(10.0 * x + 70.0, mask), atol=1e-4)


def test_action_units_become_shares_of_their_scale() -> None:
    """Intensity 5 and presence 1 both become 1; the last channel is the mask."""
    x = torch.tensor([5.0, 1.0]).expand(1, 8, 17, 2)
    mask = torch.tensor([[True] * 7 + [False]])
    channels = ActionUnitNormalizer(AUS)(x, mask)
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
    with pytest.raises(ArtifactError, match="heads 5"):
        ClmerDims(width=64, heads=5)


def test_sizes_survive_json() -> None:
    """What is written is read back equal; an unknown field is refused."""
    assert ClmerDims.from_dict(SMALL.to_dict()) == SMALL
    with pytest.raises(ArtifactError, match="depth"):
        ClmerDims.from_dict({**SMALL.to_dict(), "depth": 3})


BY_CHANNELS = dataclasses.replace(SMALL, channel_tokens=True, linear_path=True)
"""Of the small network, with tokens of channels and the linear path, as ``default`` has them."""


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


CAP = ("Fz", "Cz", "Pz", "C3", "C4", "muscle")
"""Five electrodes of the head, and one whose place nobody knows."""


def token_block(ch_names: Sequence[str] = CAP) -> ChannelTokenBlock:
    torch.manual_seed(0)
    return ChannelTokenBlock(electrode_positions(ch_names), 16, 4, 0.0).eval()


def normalized(n: int, n_channels: int, mask: Tensor | None = None) -> Tensor:
    """Return what the block gets, (n, 2C + 1, 256): channels, which of them are measured, and the level."""
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(n, n_channels, 256, generator=rng)
    known = torch.ones(n, n_channels, dtype=torch.bool) if mask is None else mask
    x = torch.where(known.unsqueeze(2), x, torch.zeros_like(x))
    level = torch.randn(n, 1, 1, generator=rng).expand(-1, 1, 256)
    return torch.cat([x, known.unsqueeze(2).expand_as(x).float(), level], dim=1)


def test_twice_the_amplitude_adds_the_same_logarithm_in_every_band() -> None:
    """Before its mixing, the block gives ln 4 more for a channel of twice the amplitude, whatever the rhythm."""
    block, x = token_block(), normalized(1, len(CAP))
    power = [block.powers(torch.cat([factor * 3.0 * x[:, :6], x[:, 6:]], dim=1)) for factor in (1.0, 2.0)]
    assert power[0].shape == (1, 6, len(BANDS), 256 // POOL)
    assert torch.allclose(power[1] - power[0], torch.full_like(power[0], float(np.log(4.0))), atol=0.05)


def test_the_order_of_the_electrodes_says_nothing() -> None:
    """The same signals at the same places in another order give the same tokens."""
    order = torch.tensor([4, 0, 3, 1, 2])
    one, other = token_block(CAP[:5]), token_block([CAP[i] for i in order])
    x = normalized(2, 5)
    moved = torch.cat([x[:, :5][:, order], x[:, 5:10][:, order], x[:, 10:]], dim=1)
    assert torch.allclose(one(x), other(moved), atol=1e-5)


def test_the_same_rhythm_at_another_place_is_another_token() -> None:
    """Alpha at Pz alone and at Fz alone differ; a channel that is hidden, whatever stands in it, changes nothing."""
    block = token_block(("Fz", "Pz", "Cz"))
    hidden = torch.tensor([[True, True, False]])
    x = normalized(1, 3, hidden)
    swapped = torch.cat([x[:, [1, 0, 2]], x[:, 3:]], dim=1)
    assert not torch.allclose(block(x), block(swapped), atol=1e-3)
    loud = x.clone()
    loud[:, 2] = 100.0
    assert torch.equal(block(x), block(loud))


def test_polynomials_are_those_of_the_place() -> None:
    """At the vertex x and y are near 0 and z is near 1; left and right differ in the sign of what is odd in x."""
    vertex, left, right, nowhere = position_polynomials(electrode_positions(["Cz", "C3", "C4", "muscle"]))
    one, x, y, z, xy, yz, zx, xx_yy, zz = vertex.tolist()
    assert (one, z) == pytest.approx((1.0, 1.0), abs=0.03)
    assert zz == pytest.approx(2.0, abs=0.1)
    assert [x, y, xy, yz, zx, xx_yy] == pytest.approx([0.0] * 6, abs=0.2)
    odd = [1, 4, 6]  # x, xy, zx
    even = [0, 2, 3, 5, 7, 8]
    assert torch.allclose(left[odd], -right[odd], atol=0.05)
    assert torch.allclose(left[even], right[even], atol=0.05)
    assert nowhere.tolist() == [1.0] + [0.0] * 8


def test_the_encoder_gives_a_token_for_every_pool() -> None:
    """256 samples are 8 tokens; further series and faces keep their own blocks."""
    model = Clmer((*SPECS, ModalitySpec("ecg", (1, 256), ("ECG",))), 4, BY_CHANNELS)
    eeg, _, _, ecg = model.modality_encoders()
    assert (eeg.n_tokens, ecg.n_tokens) == (256 // POOL, 16)
    assert isinstance(eeg.blocks[0], ChannelTokenBlock)
    assert not isinstance(ecg.blocks[0], ChannelTokenBlock)
    assert KERNEL % 2 == 1


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (EEG, ["blocks.0.own"]),
        (ModalitySpec("eeg", (1, 256), ("1",)), ["blocks.0.query"]),
        (ModalitySpec("eeg", (8, 256), tuple("01234567")), []),
    ],
)
def test_what_is_masked_is_not_heard_and_every_parameter_learns(spec: ModalitySpec, expected: list[str]) -> None:
    """Noise in a masked channel changes no bit; a step reaches every parameter; the script is the same function.

    The embedding of a channel is for those without a known place, and there is nothing to attend to in one channel.
    """
    torch.manual_seed(0)
    specs = (spec, *SPECS[1:])
    model = Clmer(specs, len(LABELS_VA4), BY_CHANNELS)
    torch.nn.init.normal_(model.classifier.out.weight)  # it starts at 0, where nothing behind it learns
    x, mask = random_input(4, specs=specs)
    mask["eeg"][1:, -1] = False
    other = {**x, "eeg": torch.where(mask["eeg"].unsqueeze(2), x["eeg"], torch.full_like(x["eeg"], 1e6))}
    model.eval()
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(other, mask))
        assert torch.allclose(torch.jit.script(model)(x, mask), model(x, mask), atol=1e-6)
    model.train()
    model(x, mask).square().sum().backward()
    still = [name for name, p in model.encoders[0].named_parameters() if p.grad is None or not p.grad.any()]
    assert still == expected


def test_a_new_network_answers_as_its_linear_path() -> None:
    """The last layer of the network starts at 0: what is trained begins at the linear path."""
    model = Clmer(SPECS, 4, BY_CHANNELS).eval()
    x, mask = random_input(3)
    (path,) = model.linear_paths()
    assert torch.equal(model(x, mask), path(x["eeg"], mask["eeg"]))


def test_sizes_with_channel_tokens_survive_json() -> None:
    """Sizes without them have no word of them."""
    assert ClmerDims.from_dict(BY_CHANNELS.to_dict()) == BY_CHANNELS
    assert not {"channel_tokens", "linear_path"} & set(ClmerDims().to_dict())
