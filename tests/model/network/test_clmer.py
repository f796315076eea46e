"""The whole network: masks, gradients, scripting."""

from __future__ import annotations

import math

import pytest
import torch

from clmer_model.config import DEFAULT, ModalitySpec, modality_specs
from clmer_model.network.clmer import Attention, Clmer, CrossStack, TargetFusion, Unifier, sinusoid
from clmer_streaming.config import PreprocessConfig
from tests.support.model_windows import SMALL, SPECS, SUBSETS, random_input, small_model, subset_masks


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
    with pytest.raises(ValueError, match="a model needs a modality"):
        Clmer([], 4, SMALL)


@pytest.mark.parametrize("spec", modality_specs(PreprocessConfig(modalities=("eeg", "landmarks", "aus", "gaze"))))
def test_one_modality_alone_is_encoder_self_attention_and_classifier(spec: ModalitySpec) -> None:
    """Without a pair there is no cross-modal layer; what is masked still changes nothing, and the script is equal."""
    model = Clmer([spec], 4, SMALL).eval()
    assert not any(isinstance(module, CrossStack) for module in model.modules())
    x, mask = random_input(3, specs=[spec])
    mask[spec.name][:, 1] = False
    other = {spec.name: x[spec.name].clone()}
    other[spec.name][:, 1] = 1e6
    with torch.no_grad():
        assert torch.equal(model(x, mask), model(other, mask))
        assert torch.allclose(torch.jit.script(model)(x, mask), model(x, mask), atol=1e-6)
        nothing = {spec.name: torch.zeros_like(mask[spec.name])}
        assert bool(torch.isfinite(model(x, nothing)).all())


def test_temperature_softens_the_answer() -> None:
    """Logits are divided by the temperature."""
    model = small_model()
    x, mask = random_input(1)
    sharp = model(x, mask)
    model.temperature.fill_(2.0)
    assert torch.allclose(model(x, mask), sharp / 2.0, atol=1e-6)


def test_one_head_equals_the_equation() -> None:
    """With one head the layer is softmax(Q K^T / sqrt(d)) V, written out."""
    torch.manual_seed(0)
    layer = Attention(8, 1).eval()
    target, source = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    q = layer.query(target)
    k, v = layer.key_value(source).chunk(2, dim=2)
    expected = layer.out(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(8), dim=2) @ v)
    assert torch.allclose(layer(target, source, torch.ones(1, 5, dtype=torch.bool)), expected, atol=1e-6)


def test_three_modalities_make_six_ordered_pairs() -> None:
    """Every target has a stack of its own for each other modality."""
    targets = [TargetFusion(i, 3, SMALL) for i in range(3)]
    assert [(t.target, s) for t in targets for s in t.sources] == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert sum(len(t.cross) for t in targets) == 6


def test_invalid_tokens_are_not_read() -> None:
    """Changing a source's invalid token changes nothing; changing a valid one does."""
    torch.manual_seed(0)
    fusion = TargetFusion(0, 2, SMALL).eval()
    tokens = [torch.randn(1, 4, 16), torch.randn(1, 3, 16)]
    valid = [torch.ones(1, 4, dtype=torch.bool), torch.tensor([[True, True, False]])]
    before = fusion(tokens, valid)
    tokens[1][0, 2] = 100.0
    assert torch.equal(fusion(tokens, valid), before)
    tokens[1][0, 1] = 100.0
    assert not torch.equal(fusion(tokens, valid), before)


def test_an_absent_modality_is_a_constant() -> None:
    """Where no token is valid, all become the learnt one, whatever they held, and count as valid."""
    unifier = Unifier(16, 4, SMALL)
    valid = torch.zeros(1, 4, dtype=torch.bool)
    first, known = unifier(torch.randn(1, 4, 16), valid)
    second, _ = unifier(torch.full((1, 4, 16), float("nan")), valid)
    assert torch.equal(first, second)
    assert bool(known.all())


def test_positions_tell_time_not_token_number() -> None:
    """The middle of a window has the same code with 33 tokens as with 9."""
    assert torch.allclose(sinusoid(33, 16)[16], sinusoid(9, 16)[4], atol=1e-6)
