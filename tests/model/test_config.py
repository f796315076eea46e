"""The named presets: one code for the real-time network and for the paper's layout."""

from __future__ import annotations

import math

import pytest
import torch

from clmer_model.config import (
    LABELS_VA4,
    PAPER,
    PAPER_WIDTHS,
    PRESETS,
    ClmerDims,
    ModalitySpec,
    affect,
    find_preset,
    modality_specs,
)
from clmer_model.network.clmer import Attention, Clmer, causal_mask
from clmer_model.network.encoder import ModalityEncoder
from clmer_streaming.config import PhysioConfig, PreprocessConfig, WindowConfig
from clmer_streaming.errors import ArtifactError, SettingsError
from tests.support.model_windows import SUBSETS, random_input, subset_masks

DEAP = (
    ModalitySpec("eeg", (40, 128), ()),
    ModalitySpec("landmarks", (1, 68, 3), ()),
    ModalitySpec("aus", (1, 17, 2), ()),
)
"""The shapes of the paper's largest data set: a second of 40 channels and one frame of the face."""


def model_of(name: str, seed: int = 0) -> tuple[Clmer, tuple[ModalitySpec, ...]]:
    preset = find_preset(name)
    specs = modality_specs(preset.preprocess)
    torch.manual_seed(seed)
    return Clmer(specs, 4, preset.dims).eval(), specs


@pytest.mark.parametrize(
    ("spec", "n_tokens", "n_parameters"), list(zip(DEAP, (18, 11, 4), (92608, 83136, 82880), strict=True))
)
def test_the_paper_preset_has_the_published_extractors(spec: ModalitySpec, n_tokens: int, n_parameters: int) -> None:
    """Tokens and parameters of each extractor are those of the authors' published settings at the shapes of DEAP."""
    encoder = ModalityEncoder(spec, PAPER.dims)
    tokens, valid = encoder(torch.randn(2, *spec.shape), torch.ones(2, spec.n_masked, dtype=torch.bool))
    assert tokens.shape == (2, n_tokens, 128)
    assert valid.shape == (2, n_tokens)
    assert sum(p.numel() for p in encoder.parameters()) == n_parameters


def test_the_paper_preset_has_the_published_fusion() -> None:
    """At L = 50 and nine classes it has the 2,923,509 parameters of 45 layers and the classifier, and known others.

    These are the map from 128 features to L of each modality, its absent token, and a norm of the source in each
    layer; it lacks the norm that closes each of the six stacks.
    """
    model = Clmer(DEAP, 9, PAPER.with_width(50).dims)
    n = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoders"))
    maps, absent, norms, closing = 3 * 128 * 50, 3 * 50, 30 * 2 * 50 + 15 * 2 * 100, 6 * 2 * 50
    assert n == 2_923_509 + maps + absent + norms - closing


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_parameter_of_a_preset_learns(name: str) -> None:
    """A batch with whole and absent modalities gives every parameter a gradient."""
    model, specs = model_of(name)
    x, mask = random_input(14, specs=specs)
    for row, subset in enumerate(SUBSETS):
        for modality in mask:
            mask[modality][row] = modality in subset
    model.train()
    torch.nn.init.normal_(model.classifier.out.weight)  # of ``default`` it starts at 0, where nothing behind it learns
    torch.nn.functional.cross_entropy(model(x, mask), torch.arange(14) % 4).backward()  # type: ignore[no-untyped-call]
    dead = [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert dead == (["encoders.0.blocks.0.own"] if name == "default" else [])  # for channels without a known place


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_scripted_preset_equals_the_module(name: str) -> None:
    """torch.jit.script gives the same logits within 1e-6 for every subset of modalities."""
    model, specs = model_of(name)
    scripted = torch.jit.script(model)
    x, mask = random_input(3, specs=specs)
    with torch.no_grad():
        for subset in (*SUBSETS, ()):
            known = subset_masks(mask, subset)
            assert torch.allclose(scripted(x, known), model(x, known), atol=1e-6)


@pytest.mark.parametrize("wild", [1e30, math.nan, math.inf])
def test_what_is_masked_cannot_change_the_paper_model(wild: float) -> None:
    """Whatever stands in a masked channel or an absent face, the logits are the same bits."""
    model, specs = model_of("paper")
    x, mask = random_input(2, specs=specs)
    mask["eeg"][:, [1, 6]] = False
    mask["aus"][:] = False
    before = model(x, mask)
    x["eeg"][:, [1, 6]] = wild
    x["aus"].fill_(wild)
    assert torch.equal(model(x, mask), before)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_any_series_go_through_a_preset(name: str) -> None:
    """Gaze and a user's own physiological series join by name; several slots of a face fit either layout."""
    own = PhysioConfig("gsr", ("GSR",), sfreq=32.0)
    config = PreprocessConfig(
        window=WindowConfig(window_s=2.0, face_slots=4),
        modalities=("eeg", "gsr", "gaze", "aus"),
        physio=(own,),
    )
    specs = modality_specs(config)
    model = Clmer(specs, 3, find_preset(name).dims).eval()
    assert model(*random_input(2, specs=specs)).shape == (2, 3)


def test_points_are_the_steps_of_the_paper_layout() -> None:
    """Action unit 4 of slot 1 is step 17 + 4, and its intensity and presence are the two channels."""
    spec = ModalitySpec("aus", (2, 17, 2), ())
    x = torch.zeros(1, 2, 17, 2)
    x[0, 1, 4] = torch.tensor([5.0, 1.0])
    steps = ModalityEncoder(spec, PAPER.dims).steps(x, torch.ones(1, 2, dtype=torch.bool))
    assert steps.shape == (1, 2, 34)
    assert steps.nonzero().tolist() == [[0, 0, 21], [0, 1, 21]]


def test_a_causal_token_reads_no_later_one() -> None:
    """Of as many tokens, the third reads three; of 3 more, six; of fewer, it reads by the same margin."""
    assert causal_mask(4, 4, torch.device("cpu")).sum(1).tolist() == [1, 2, 3, 4]
    assert causal_mask(3, 6, torch.device("cpu")).sum(1).tolist() == [4, 5, 6]
    assert causal_mask(4, 3, torch.device("cpu")).sum(1).tolist() == [2, 3, 3, 3]


def test_causal_attention_ignores_what_comes_later() -> None:
    """Changing the last token changes the last answer alone."""
    torch.manual_seed(0)
    layer = Attention(10, 5, causal=True).eval()
    tokens = torch.randn(1, 6, 10)
    valid = torch.ones(1, 6, dtype=torch.bool)
    before = layer(tokens, tokens, valid)
    tokens[0, 5] = 9.0
    after = layer(tokens, tokens, valid)
    assert torch.allclose(after[0, :5], before[0, :5], atol=1e-6)
    assert not torch.allclose(after[0, 5], before[0, 5], atol=1e-3)


def test_the_default_preset_says_nothing_of_the_layout() -> None:
    """Sizes without a word of layout are read as the default's; those of the paper come back equal."""
    assert not {"layout", "causal", "pooling", "positions"} & set(ClmerDims().to_dict())
    assert ClmerDims.from_dict(ClmerDims().to_dict()) == ClmerDims()
    assert ClmerDims.from_dict(PAPER.dims.to_dict()) == PAPER.dims


def test_every_token_length_of_the_paper_fits_its_heads() -> None:
    """The lengths that the paper chose are widths that five heads divide; 52 is refused."""
    for width in PAPER_WIDTHS.values():
        assert PAPER.with_width(width).dims.width == width
    with pytest.raises(ArtifactError, match="width 52, heads 5"):
        PAPER.with_width(52)


def test_sizes_that_would_leave_a_token_blind_are_refused() -> None:
    """A causal mask over slots that may be invalid, and log power for points, say what to choose instead."""
    with pytest.raises(ArtifactError, match="layout points"):
        ClmerDims(causal=True)
    with pytest.raises(ArtifactError, match="signal_power"):
        ClmerDims(layout="points")


def test_an_unknown_preset_is_refused() -> None:
    """The error lists the presets there are."""
    with pytest.raises(SettingsError, match="default, paper"):
        find_preset("large")


def test_quadrant_index_is_two_v_plus_a() -> None:
    """The index of a quadrant is 2V + A."""
    assert [LABELS_VA4.index(label) for label in ("LVLA", "LVHA", "HVLA", "HVHA")] == [0, 1, 2, 3]


def test_quadrants_give_the_probability_of_high() -> None:
    """With four classes valence and arousal are the summed probability of the high classes."""
    feeling = affect(LABELS_VA4, [0.1, 0.2, 0.3, 0.4])
    assert feeling.valence == pytest.approx(0.7)
    assert feeling.arousal == pytest.approx(0.6)


def test_two_classes_speak_of_one_dimension() -> None:
    """Labels of valence alone give no arousal."""
    feeling = affect(("LV", "HV"), [0.25, 0.75])
    assert feeling.valence == pytest.approx(0.75)
    assert feeling.arousal is None


def test_nine_classes_give_the_expected_bin_centre() -> None:
    """With three levels the value is a rating: all mass on high valence, medium arousal is (7.5, 4.5)."""
    labels = tuple(f"{v}V{a}A" for v in "LMH" for a in "LMH")
    probs = [1.0 if label == "HVMA" else 0.0 for label in labels]
    assert affect(labels, probs).valence == pytest.approx(7.5)
    assert affect(labels, probs).arousal == pytest.approx(4.5)
    even = affect(labels, [1 / 9] * 9)
    assert even.valence == pytest.approx((2.0 + 4.5 + 7.5) / 3)


@pytest.mark.parametrize("labels", [("moved", "angry", "nervous", "reproachful"), ("HV", "other"), ()])
def test_other_labels_have_no_valence(labels: tuple[str, ...]) -> None:
    """Labels that do not spell levels carry neither valence nor arousal."""
    feeling = affect(labels, [1 / max(len(labels), 1)] * len(labels))
    assert feeling.valence is None
    assert feeling.arousal is None
