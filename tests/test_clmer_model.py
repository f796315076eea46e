"""The whole network: masks, gradients, scripting."""

from __future__ import annotations

import math

import pytest
import torch

from clmer_model.clmer import Clmer
from clmer_model.fusion import CrossStack
from clmer_model.modalities import modality_specs
from clmer_model.presets import DEFAULT
from clmer_streaming.config import PreprocessConfig
from model_windows import SMALL, SPECS, SUBSETS, random_input, small_model, subset_masks


def test_logits_have_a_column_for_each_class() -> None:
    """Three windows and four classes give (3, 4) float32."""
    logits = small_model()(*random_input(3))
    assert logits.shape == (3, 4)
    assert logits.dtype == torch.float32


def test_the_default_model_keeps_its_size() -> None:
    """The default preset has at most 1.1 million parameters."""
    model = Clmer(SPECS, 4, DEFAULT.dims)
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_100_000


def test_every_parameter_learns() -> None:
    """A batch with whole and absent modalities gives every parameter a gradient."""
    model = small_model().train()
    x, mask = random_input(14)
    for row, subset in enumerate(SUBSETS):
        for name in mask:
            mask[name][row] = name in subset
    torch.nn.functional.cross_entropy(model(x, mask), torch.arange(14) % 4).backward()  # type: ignore[no-untyped-call]
    dead = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert dead == []


@pytest.mark.parametrize("subset", [*SUBSETS, ()], ids="+".join)
def test_every_subset_gives_finite_logits(subset: tuple[str, ...]) -> None:
    """Any modalities may be absent, even all."""
    x, mask = random_input(2)
    assert bool(small_model()(x, subset_masks(mask, subset)).isfinite().all())


@pytest.mark.parametrize("subset", [*SUBSETS[:-1], ()], ids="+".join)
@pytest.mark.parametrize("wild", [1e30, math.nan, math.inf, -math.inf])
def test_an_absent_modality_cannot_change_the_logits(subset: tuple[str, ...], wild: float) -> None:
    """Whatever stands in masked modalities, the logits are the same bits."""
    model = small_model()
    x, mask = random_input(2)
    mask = subset_masks(mask, subset)
    before = model(x, mask)
    for name in x:
        if name not in subset:
            x[name].fill_(wild)
    assert torch.equal(model(x, mask), before)


@pytest.mark.parametrize("wild", [1e30, math.nan, math.inf])
@pytest.mark.parametrize("name", ["eeg", "landmarks", "aus"])
def test_masked_channels_and_slots_cannot_change_the_logits(name: str, wild: float) -> None:
    """Whatever stands in a masked channel or slot, the logits are the same bits."""
    model = small_model()
    x, mask = random_input(2)
    mask[name][:, [1, 6]] = False
    before = model(x, mask)
    x[name][:, [1, 6]] = wild
    assert torch.equal(model(x, mask), before)


@pytest.mark.parametrize("name", ["eeg", "landmarks", "aus"])
def test_the_model_knows_what_is_masked(name: str) -> None:
    """Zeros that were measured are not the same as values that were not."""
    model = small_model()
    x, mask = random_input(1)
    x[name][:, 2] = 0.0
    before = model(x, mask)
    mask[name][:, 2] = False
    assert not torch.equal(model(x, mask), before)


def test_windows_do_not_see_each_other() -> None:
    """A window's logits in a batch equal those of the window alone within 1e-6."""
    model = small_model()
    x, mask = random_input(8)
    together = model(x, mask)
    for i in range(8):
        alone = model({k: v[i : i + 1] for k, v in x.items()}, {k: v[i : i + 1] for k, v in mask.items()})
        assert torch.allclose(alone[0], together[i], atol=1e-6)


@pytest.mark.parametrize("subset", [*SUBSETS, ()], ids="+".join)
def test_the_scripted_module_equals_the_module(subset: tuple[str, ...]) -> None:
    """torch.jit.script gives the same logits within 1e-6 for every subset."""
    model = small_model()
    scripted = torch.jit.script(model)
    x, mask = random_input(3)
    mask = subset_masks(mask, subset)
    with torch.no_grad():
        assert torch.allclose(scripted(x, mask), model(x, mask), atol=1e-6)


def test_modalities_are_not_fixed() -> None:
    """Two modalities make two pairs, four make twelve; one is refused."""
    x, mask = random_input(2, specs=modality_specs(PreprocessConfig()))
    for names, pairs in ((("eeg", "aus"), 2), (("eeg", "landmarks", "aus", "gaze"), 12)):
        model = Clmer(modality_specs(PreprocessConfig(modalities=names)), 4, SMALL).eval()
        assert model(x, mask).shape == (2, 4)
        stacks = [name for name, module in model.named_modules() if isinstance(module, CrossStack)]
        assert len(stacks) == pairs
    with pytest.raises(ValueError, match="two modalities"):
        Clmer(SPECS[:1], 4, SMALL)


def test_temperature_softens_the_answer() -> None:
    """Logits are divided by the temperature."""
    model = small_model()
    x, mask = random_input(1)
    sharp = model(x, mask)
    model.temperature.fill_(2.0)
    assert torch.allclose(model(x, mask), sharp / 2.0, atol=1e-6)
