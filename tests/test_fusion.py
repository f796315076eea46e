"""Pairwise cross-modal attention."""

from __future__ import annotations

import math

import torch

from clmer_model.fusion import Attention, TargetFusion, Unifier, sinusoid
from model_windows import SMALL


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
