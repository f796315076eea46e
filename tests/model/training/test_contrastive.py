"""The contrastive loss and the views it compares."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from clmer_model.config import ClmerDims, ModalitySpec, find_preset, modality_spec
from clmer_model.network.encoder import ModalityEncoder
from clmer_model.training.augment import (
    AUGMENTATIONS,
    augmentation_of,
    drop,
    drop_modalities,
    keep_some_channels,
    stop_band,
)
from clmer_model.training.config import AugmentationConfig, PretrainConfig, recipe
from clmer_model.training.contrastive import (
    ContextSummary,
    ContrastiveLosses,
    ProjectionHead,
    batch_norm_frozen,
    default_negatives,
    nt_xent,
    past_tokens,
    temporal_loss,
)
from clmer_streaming.config import PhysioConfig, WindowConfig
from clmer_streaming.errors import SettingsError
from tests.support.model_windows import SMALL, SPECS, random_input
from tests.support.tiny_training import pretrain_encoder


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nt_xent_equals_the_value_worked_out_by_hand() -> None:
    """Two samples whose views coincide and which are at right angles: l = -log(e^5 / (e^5 + 2)) at tau 0.2."""
    first = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    second = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = -math.log(math.exp(5.0) / (math.exp(5.0) + 2.0))
    assert nt_xent(first, second, 0.2).item() == pytest.approx(expected, abs=1e-6)


def test_nt_xent_is_the_mean_over_both_directions() -> None:
    """On three random samples the loss equals equations 1 and 2 written out."""
    torch.manual_seed(3)
    first, second = torch.randn(3, 5), torch.randn(3, 5)
    z = [row / row.norm() for pair in zip(first, second, strict=True) for row in pair]
    terms = []
    for k in range(3):
        for a, b in ((2 * k, 2 * k + 1), (2 * k + 1, 2 * k)):
            others = sum(math.exp(float(z[a] @ z[c]) / 0.2) for c in range(6) if c != a)
            terms.append(-math.log(math.exp(float(z[a] @ z[b]) / 0.2) / others))
    assert nt_xent(first, second, 0.2).item() == pytest.approx(sum(terms) / 6, abs=1e-5)


@pytest.mark.parametrize("name", ["eeg", "landmarks", "aus"])
def test_views_are_drawn_anew(name: str) -> None:
    """Two views of one window differ, and the window itself is left alone."""
    x, mask = random_input(4)
    before = x[name].clone()
    rng = generator()
    first, _ = AUGMENTATIONS[name](x[name], mask[name], AugmentationConfig(), rng)
    second, _ = AUGMENTATIONS[name](x[name], mask[name], AugmentationConfig(), rng)
    assert not torch.equal(first, second)
    assert torch.equal(x[name], before)


def test_eeg_views_never_mix_channels() -> None:
    """A channel that is silent stays silent beside loud ones."""
    x = 10.0 * torch.randn(8, 14, 256, generator=generator(1))
    x[:, 5] = 0.0
    seen, _ = AUGMENTATIONS["eeg"](x, torch.ones(8, 14, dtype=torch.bool), AugmentationConfig(), generator())
    assert bool((seen[:, 5] == 0).all())
    assert bool((seen[:, 4] != 0).any())


def test_eeg_gain_is_one_factor_for_a_whole_channel() -> None:
    """Without noise, shift and blanks, a view is the window times one factor in 0.5-2 for each channel."""
    config = AugmentationConfig(eeg_jitter=0.0, eeg_shift=0, eeg_blank=0, eeg_band_stop=0.0)
    x = 10.0 * torch.randn(4, 14, 256, generator=generator(1))
    seen, _ = AUGMENTATIONS["eeg"](x, torch.ones(4, 14, dtype=torch.bool), config, generator())
    ratio = seen / x
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4)
    assert bool(((ratio > 0.499) & (ratio < 2.001)).all())


def test_eeg_shift_moves_all_channels_alike() -> None:
    """A ramp of sample numbers comes back shifted by up to the limit, with zeros where nothing was recorded."""
    config = AugmentationConfig(eeg_gain=(1.0, 1.0), eeg_jitter=0.0, eeg_blank=0, eeg_band_stop=0.0)
    x = torch.arange(1.0, 257.0).expand(16, 14, 256)
    seen, _ = AUGMENTATIONS["eeg"](x, torch.ones(16, 14, dtype=torch.bool), config, generator())
    shift = (torch.arange(1.0, 257.0) - seen)[seen > 0].view(-1)
    assert bool((shift.abs() <= config.eeg_shift).all())
    assert len(set(shift.tolist())) > 4
    assert torch.equal(seen[:, 0], seen[:, 13])


STILL = AugmentationConfig(
    eeg_gain=(1.0, 1.0), eeg_jitter=0.0, eeg_shift=0, eeg_blank=0, eeg_band_stop=0.5, channel_dropout=0.0,
    slot_dropout=0.0, landmark_scale=(1.0, 1.0), landmark_jitter=0.0, landmark_identity=(0.0, 0.0, 0.0),
    au_scale=(1.0, 1.0), au_jitter=0.0, au_offset=0.0, gaze_offset=0.0, gaze_jitter=0.0, slot_offset=0.0,
    slot_jitter=0.0,
)  # fmt: skip
"""Nothing but bands taken out, broad ones."""


def test_a_stopped_band_is_silent_in_all_channels_and_the_others_stay() -> None:
    """Of sines at every whole Hz, those within one band of at most the width asked for are gone; no other changes."""
    t = torch.arange(256) / 128.0
    comb = torch.stack([torch.sin(2 * torch.pi * hz * t) for hz in range(1, 64)]).sum(0)
    seen = stop_band(comb.expand(64, 14, 256), 0.25, generator())
    power = torch.fft.rfft(seen).abs()[..., 2:128:2] / 128.0
    left = power > 0.5
    assert torch.allclose(power, left.float(), atol=1e-3)
    assert torch.equal(left, left[:, :1].expand_as(left))
    n_gone = (~left[:, 0]).sum(1)
    assert 0 < int(n_gone.max()) <= 16
    assert len(set(n_gone.tolist())) > 4
    for sample in left[:, 0]:
        gone = (~sample).nonzero().squeeze(1)
        assert len(gone) == 0 or int(gone[-1] - gone[0]) == len(gone) - 1


def test_only_eeg_loses_a_band() -> None:
    """With every other strength at zero, EEG changes; faces, gaze and further series are left as they are."""
    x, mask = random_input(16)
    x["aus"] = x["aus"].clamp(0.0, 5.0)
    further = {"gsr": torch.ones(16, 1).bool(), "ecg": torch.ones(16, 2).bool()}
    given = {**x, "gsr": torch.rand(16, 1, 64), "ecg": torch.rand(16, 2, 256)}
    given = {**given, "gaze": torch.rand(16, 8, 2), "hog": torch.rand(16, 8, 9)}
    known = {**mask, **further, "gaze": mask["aus"], "hog": mask["aus"]}
    views = {name: augmentation_of(name, name in ("eeg", "gsr", "ecg")) for name in given}
    seen = {name: views[name](values, known[name], STILL, generator())[0] for name, values in given.items()}
    assert [name for name in given if not torch.allclose(seen[name], given[name], atol=1e-5)] == ["eeg"]


def test_a_short_series_is_never_shifted_or_blanked_away() -> None:
    """Sixty-four samples of skin conductance lose at most an eighth to a shift and a quarter to a blank stretch."""
    x = torch.ones(500, 1, 64)
    seen, _ = augmentation_of("gsr", True)(x, torch.ones(500, 1, dtype=torch.bool), AugmentationConfig(), generator())
    n_gone = (seen == 0).sum(2)
    assert 16 < int(n_gone.max()) <= 8 + 16


def test_action_units_keep_their_sign_and_scale() -> None:
    """Intensities stay within 0-5, presences are not touched, and absence stays where no neutral is off."""
    intensity = torch.tensor([0.0, 0.1, 2.5, 5.0]).repeat(5)[:17].expand(64, 8, 17)
    x = torch.stack([intensity, (intensity > 1).float()], dim=3)
    known = torch.ones(64, 8, dtype=torch.bool)
    seen, _ = AUGMENTATIONS["aus"](x, known, AugmentationConfig(), generator())
    assert bool(((seen[..., 0] >= 0) & (seen[..., 0] <= 5)).all())
    assert torch.equal(seen[..., 1], x[..., 1])
    level, _ = AUGMENTATIONS["aus"](x, known, AugmentationConfig(au_offset=0.0), generator())
    assert bool((level[..., 0][intensity == 0] == 0).all())


def test_another_neutral_is_the_same_in_all_slots() -> None:
    """The shift of a landmark, the offset of a unit, an angle or any value differ between samples, not over time."""
    config = AugmentationConfig(
        landmark_scale=(1.0, 1.0), landmark_jitter=0.0, au_scale=(1.0, 1.0), au_jitter=0.0, gaze_jitter=0.0,
        slot_jitter=0.0,
    )  # fmt: skip
    known = torch.ones(32, 8, dtype=torch.bool)
    for name, x in (
        ("landmarks", torch.randn(32, 1, 68, 3, generator=generator(1)).expand(-1, 8, -1, -1)),
        ("aus", torch.full((32, 8, 17, 2), 2.5)),
        ("gaze", torch.zeros(32, 8, 2)),
        ("hog", torch.randn(32, 8, 9, generator=generator(1))),
    ):
        shift = augmentation_of(name, False)(x, known, config, generator())[0][..., 0] - x[..., 0]
        assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-6)
        assert float(shift[:, 0].std()) > 0.04


def test_a_view_of_gaze_is_off_by_degrees() -> None:
    """Most angles move by less than 6 degrees, and one slot beside another by less than 5; two views of one differ."""
    x, known = 0.3 * torch.randn(500, 8, 2, generator=generator(1)), torch.ones(500, 8, dtype=torch.bool)
    rng = generator()
    first, second = (augmentation_of("gaze", False)(x, known, AugmentationConfig(), rng)[0] for _ in range(2))
    moved = torch.rad2deg((first - x).abs())
    assert float(moved.quantile(0.9)) < 6.0
    assert float((torch.rad2deg(first - x).diff(dim=1)).abs().quantile(0.99)) < 5.0
    assert not bool((first == second).any())


def test_a_view_of_unknown_values_does_not_depend_on_their_unit() -> None:
    """In other units the view is the same in those units; a value that never changes stays, and masks stay shut."""
    x, known = torch.randn(16, 4, 3, generator=generator(1)), torch.ones(16, 4, dtype=torch.bool)
    x[..., 2] = 7.0
    known[3] = False
    x[3] = math.nan
    units = torch.tensor([1e-3, 1e3, 1.0])
    view = augmentation_of("hog", False)
    seen, left = view(x, known, AugmentationConfig(), generator())
    other, _ = view(x * units, known, AugmentationConfig(), generator())
    assert torch.allclose(other[left], (seen * units)[left], rtol=1e-4)
    assert bool((seen[..., 2][left] == 7.0).all())
    assert not bool((seen[..., :2][left] == x[..., :2][left]).any())
    assert not bool((left & ~known).any())
    nothing, _ = view(x, torch.zeros_like(known), AugmentationConfig(), generator())
    assert nothing.shape == x.shape


def test_landmark_views_keep_the_face_recognisable() -> None:
    """Landmarks move by less than a tenth of the face's radius on average."""
    x = 5.0 * torch.randn(32, 8, 68, 3, generator=generator(1))
    radius = x.pow(2).sum(3).mean().sqrt()
    seen, _ = AUGMENTATIONS["landmarks"](x, torch.ones(32, 8, dtype=torch.bool), AugmentationConfig(), generator())
    assert float((seen - x).abs().mean()) < 0.1 * float(radius)


def test_dropping_never_empties_nor_revives() -> None:
    """Dropped masks are part of the given mask, and rows that had an entry keep one."""
    mask = torch.rand(200, 8, generator=generator(1)) < 0.5
    kept = drop(mask, 0.9, generator())
    assert not bool((kept & ~mask).any())
    assert torch.equal(kept.any(1), mask.any(1))


def test_a_window_of_fewer_channels_is_that_of_a_smaller_cap() -> None:
    """What stays is referenced to its own mean, and the rest is hidden and 0; bad channels never come back."""
    potentials = torch.randn(300, 36, 64, generator=generator(1)) + 5.0
    mask = torch.rand(300, 36, generator=generator(2)) < 0.9
    mean = (potentials * mask.unsqueeze(2)).sum(1, keepdim=True) / mask.sum(1).view(-1, 1, 1)
    x = torch.where(mask.unsqueeze(2), potentials - mean, torch.zeros_like(potentials))
    seen, kept = keep_some_channels(x, mask, 1.0, 4, generator())
    assert not bool((kept & ~mask).any())
    assert not bool(seen[~kept].any())
    assert int(kept.sum(1).min()) == 4
    assert int((kept.sum(1) == mask.sum(1)).sum()) < 30
    assert set(kept.sum(1).tolist()) >= set(range(4, 30))
    of_kept = (potentials * kept.unsqueeze(2)).sum(1, keepdim=True) / kept.sum(1).view(-1, 1, 1)
    assert torch.allclose(seen[kept], (potentials - of_kept)[kept], atol=1e-5)


def test_a_share_of_the_windows_keeps_all_channels() -> None:
    """With a share of 0 nothing changes, and few channels are never made fewer than there are."""
    x, mask = torch.randn(400, 36, 8, generator=generator(1)), torch.ones(400, 36, dtype=torch.bool)
    for share, least, most in ((0.0, 0.0, 0.0), (0.5, 0.4, 0.6)):
        seen, kept = keep_some_channels(x, mask, share, 4, generator())
        fewer = kept.sum(1) < 36
        assert least <= float(fewer.float().mean()) <= most
        assert torch.equal(seen[~fewer], x[~fewer])
    seen, kept = keep_some_channels(x[:, :3], mask[:, :3], 1.0, 4, generator())
    assert torch.equal(seen, x[:, :3])
    assert bool(kept.all())


def test_modality_dropout_reaches_every_subset() -> None:
    """Every sample keeps a modality, some lose one or two, and every proper subset occurs."""
    _, mask = random_input(500)
    kept = drop_modalities(mask, 1.0, generator())
    present = torch.stack([kept[name].any(1) for name in ("eeg", "landmarks", "aus")], dim=1)
    assert {tuple(row) for row in present.int().tolist()} == {
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1),
    }  # fmt: skip


def test_pretraining_brings_views_of_one_window_together() -> None:
    """The contrastive loss falls clearly below that of a projection that knows nothing."""
    torch.manual_seed(0)
    encoder = ModalityEncoder(SPECS[2], SMALL)
    x, mask = torch.rand(96, 8, 17, 2, generator=generator(1)) * 3, torch.ones(96, 8, dtype=torch.bool)
    losses: list[float] = []
    config = PretrainConfig(epochs=15, batch=48, learning_rate=3e-3)
    pretrain_encoder(encoder, x, mask, config, lambda line: losses.append(line["loss"]))
    assert len(losses) == 15
    assert losses[-1] < losses[0] - 0.5


def test_projection_head_has_the_dimension_of_the_loss() -> None:
    """Summaries become vectors of 32 numbers."""
    assert ProjectionHead(16)(torch.zeros(4, 16)).shape == (4, 32)


BOTH = PretrainConfig(lambda_sample=0.7, lambda_temporal=1.0)
ALL_THREE = torch.ones(3, 4, dtype=torch.bool)
FURTHER = (PhysioConfig("ecg", ("ECG1", "ECG2"), 128.0, (0.5, 40.0)), PhysioConfig("gsr", ("GSR",), 32.0, (0.05, 3.0)))
SERIES = ["eeg", "ecg", "gsr", "landmarks", "aus", "gaze"]


def spec_of(preset: str, name: str) -> ModalitySpec:
    return modality_spec(name, dataclasses.replace(find_preset(preset).preprocess, physio=FURTHER))


def encoder_of(preset: str, name: str) -> ModalityEncoder:
    torch.manual_seed(0)
    return ModalityEncoder(spec_of(preset, name), find_preset(preset).dims)


def noise(encoder: ModalityEncoder, preset: str, n: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    spec = spec_of(preset, encoder.name)
    x = torch.randn(n, *spec.shape, generator=torch.Generator().manual_seed(seed)).abs()
    return x, torch.ones(n, spec.n_masked, dtype=torch.bool)


def test_negatives_of_the_batch_give_the_value_worked_out_by_hand() -> None:
    """Two samples at right angles, a prediction of length 2: l = -log(e^2 / (e^2 + 1)), for one step ahead."""
    tokens = torch.zeros(2, 2, 2)
    tokens[0, 1], tokens[1, 1] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    predicted = 2.0 * tokens[:, 1:]
    loss = temporal_loss(predicted, tokens, torch.ones(2, 2, dtype=torch.bool), 0, "batch")
    assert loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1)), abs=1e-6)


def test_negatives_over_time_leave_out_the_present() -> None:
    """Of four tokens with t = 1, the scores of tokens 0, 2 and 3 are 1, 3 and 2: l = -log(e^3 / (e + e^3 + e^2))."""
    tokens = torch.tensor([[[1.0], [9.0], [3.0], [2.0]]])
    loss = temporal_loss(torch.ones(1, 1, 1), tokens, torch.ones(1, 4, dtype=torch.bool), 1, "time")
    expected = -math.log(math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(2)))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("negatives", ["batch", "time"])
def test_the_loss_is_equation_3_written_out(negatives: Any) -> None:
    """On random numbers it is the mean over steps ahead and samples of the equation's terms."""
    torch.manual_seed(2)
    predicted, tokens, last = torch.randn(3, 2, 5), torch.randn(3, 4, 5), 1
    terms = []
    for i in range(2):
        for n in range(3):
            z = tokens[:, last + 1 + i] if negatives == "batch" else tokens[n, [j for j in range(4) if j != last]]
            below = sum(math.exp(float(predicted[n, i] @ row)) for row in z)
            terms.append(-math.log(math.exp(float(predicted[n, i] @ tokens[n, last + 1 + i])) / below))
    loss = temporal_loss(predicted, tokens, ALL_THREE, last, negatives)
    assert loss.item() == pytest.approx(sum(terms) / 6, abs=1e-5)


@pytest.mark.parametrize("negatives", ["batch", "time"])
def test_invalid_slots_are_neither_predicted_nor_told_from(negatives: Any) -> None:
    """Whatever an invalid token holds, the loss is the same; with no valid one to come it is zero."""
    torch.manual_seed(2)
    predicted, tokens, valid = torch.randn(3, 2, 5), torch.randn(3, 4, 5), ALL_THREE.clone()
    valid[1, 2] = False
    before = temporal_loss(predicted, tokens, valid, 1, negatives)
    tokens[1, 2] = 50.0
    assert torch.equal(temporal_loss(predicted, tokens, valid, 1, negatives), before)
    assert temporal_loss(predicted, tokens, ~ALL_THREE, 1, negatives).item() == 0.0


@pytest.mark.parametrize(("preset", "name"), [("default", "eeg"), ("paper", "eeg")])
def test_a_prediction_has_no_gradient_from_later_samples(preset: str, name: str) -> None:
    """What is predicted after token t depends on samples of tokens up to t, and on none that comes later."""
    encoder = encoder_of(preset, name).train()
    context = ContextSummary(encoder.out_width, 2)
    x, mask = noise(encoder, preset)
    x.requires_grad_()
    _, predicted = context(*past_tokens(encoder, x, mask, 4))
    predicted.square().sum().backward()
    assert x.grad is not None
    now = 4 * encoder.stride
    assert bool((x.grad[..., now:] == 0).all())
    assert bool((x.grad[..., now - encoder.stride : now] != 0).any())


@pytest.mark.parametrize("name", ["landmarks", "aus"])
def test_a_prediction_has_no_gradient_from_later_slots(name: str) -> None:
    """In the default preset the face is predicted over its slots, from those up to t alone."""
    encoder = encoder_of("default", name).train()
    context = ContextSummary(encoder.out_width, 2)
    x, mask = noise(encoder, "default")
    x.requires_grad_()
    _, predicted = context(*past_tokens(encoder, x, mask, 3))
    predicted.square().sum().backward()
    assert x.grad is not None
    assert bool((x.grad[:, 3:] == 0).all())
    assert bool((x.grad[:, 2] != 0).any())


def test_within_a_frame_only_earlier_points_are_convolved() -> None:
    """In the paper's layout the first two tokens of the action units come from the first sixteen units."""
    encoder = encoder_of("paper", "aus").eval()
    x, mask = noise(encoder, "paper")
    before, _ = past_tokens(encoder, x, mask, 2)
    x[:, :, 16:] += 1.0
    assert torch.equal(past_tokens(encoder, x, mask, 2)[0], before)
    x[:, :, 15:] += 1.0
    assert not torch.equal(past_tokens(encoder, x, mask, 2)[0], before)


def read_by_context(
    contrast: ContrastiveLosses, encoder: ModalityEncoder, batch: tuple[Tensor, Tensor], seed: int
) -> list[tuple[Tensor, Tensor]]:
    """Return what the summaries of both views were given when the losses of a batch were computed."""
    assert contrast.context is not None
    given: list[tuple[Tensor, Tensor]] = []
    hook = contrast.context.register_forward_pre_hook(lambda _, tokens: given.append(tokens))
    torch.manual_seed(seed)
    contrast.losses(encoder, batch, torch.Generator().manual_seed(seed))
    hook.remove()
    assert len(given) == 2
    return given


def later_part(encoder: ModalityEncoder, x: Tensor, n: int) -> Tensor:
    """Return the samples, slots or points after the first n tokens, one row for each, as a view of x."""
    if encoder.is_signal:
        return x.movedim(2, 0)[n * encoder.stride :]
    return (x.flatten(1, 2) if encoder.by_points and x.dim() == 4 else x).transpose(0, 1)[n * encoder.stride :]


IN_TIME = [(preset, name) for preset in ("default", "paper") for name in SERIES if (preset, name) != ("paper", "gaze")]
"""All but a single slot of gaze, which has no past; the frame of the paper's layout is cut between its points."""


@pytest.mark.parametrize(("preset", "name"), [pair for pair in IN_TIME if pair != ("paper", "landmarks")])
def test_the_context_reads_nothing_of_what_is_to_come(preset: str, name: str) -> None:
    """Through views and losses as they are trained: no gradient from raw samples after the cut, and no bit of them."""
    encoder = encoder_of(preset, name).train()
    contrast = ContrastiveLosses(encoder, dataclasses.replace(recipe(preset).pretrain, lambda_temporal=1.0))
    cuts = set()
    for seed in range(4):
        x, mask = noise(encoder, preset, seed=seed)
        x.requires_grad_()
        given = read_by_context(contrast, encoder, (x, mask), seed)
        n = given[0][0].size(1)
        torch.stack([tokens.square().sum() for tokens, _ in given]).sum().backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        assert not later_part(encoder, x.grad, n).any()
        assert x.grad.any()
        changed = x.detach().clone()
        later_part(encoder, changed, n).mul_(7.0).add_(1.0)
        again = read_by_context(contrast, encoder, (changed, mask), seed)
        assert all(torch.equal(*pair) for one in zip(given, again, strict=True) for pair in zip(*one, strict=True))
        cuts.add(n)
    assert len(cuts) > 1


def test_of_later_landmarks_of_a_frame_the_context_knows_centre_and_size() -> None:
    """In the paper's layout later points in another order, with the same centre and size, change nothing."""
    encoder = encoder_of("paper", "landmarks").train()
    scaled = dataclasses.replace(recipe("paper").pretrain.views, landmark_jitter=0.0)
    contrast = ContrastiveLosses(encoder, dataclasses.replace(recipe("paper").pretrain, views=scaled))
    x, mask = noise(encoder, "paper")
    given = read_by_context(contrast, encoder, (x, mask), 0)
    changed = x.clone()
    later = given[0][0].size(1) * encoder.stride
    changed[:, :, later:] = x[:, :, later:].flip(2)
    again = read_by_context(contrast, encoder, (changed, mask), 0)
    assert all(torch.allclose(one[0], other[0], atol=1e-5) for one, other in zip(given, again, strict=True))


def test_points_of_later_slots_are_not_read() -> None:
    """In layout points with several slots, the past ends with the slot in which it is cut."""
    windows = dataclasses.replace(find_preset("paper").preprocess, window=WindowConfig(window_s=1.0, face_slots=4))
    encoder = ModalityEncoder(modality_spec("landmarks", windows), find_preset("paper").dims).eval()
    x, mask = torch.randn(2, 4, 68, 3), torch.ones(2, 4, dtype=torch.bool)
    before, _ = past_tokens(encoder, x, mask, 10)
    x[:, 2:] += 1.0
    assert torch.equal(past_tokens(encoder, x, mask, 10)[0], before)
    x[:, 1] *= 2.0
    assert not torch.equal(past_tokens(encoder, x, mask, 10)[0], before)


@pytest.mark.parametrize(("preset", "name"), IN_TIME)
def test_faces_in_slots_are_told_from_other_times_and_all_else_from_other_samples(preset: str, name: str) -> None:
    """So it is by preset and modality, unless somebody chooses."""
    encoder = encoder_of(preset, name)
    slots = preset == "default" and name in ("landmarks", "aus", "gaze")
    assert default_negatives(encoder) == ("time" if slots else "batch")
    assert ContrastiveLosses(encoder, BOTH).negatives == default_negatives(encoder)
    for chosen in ("batch", "time"):
        assert ContrastiveLosses(encoder, dataclasses.replace(BOTH, negatives=chosen)).negatives == chosen


def test_without_a_temporal_loss_views_may_move_in_time() -> None:
    """Only where something is predicted do shift and stopped band have no place."""
    encoder = encoder_of("default", "eeg")
    assert ContrastiveLosses(encoder, PretrainConfig()).views == AugmentationConfig()
    assert ContrastiveLosses(encoder, BOTH).views == dataclasses.replace(
        AugmentationConfig(), eeg_shift=0, eeg_band_stop=0.0
    )


def test_a_past_as_long_as_the_window_is_the_window() -> None:
    """All tokens of the past are the encoder's own."""
    encoder = encoder_of("default", "eeg").eval()
    x, mask = noise(encoder, "default")
    tokens, valid = encoder(x, mask)
    past, known = past_tokens(encoder, x, mask, encoder.n_tokens)
    assert torch.equal(past, tokens)
    assert torch.equal(known, valid)


def test_the_summary_does_not_read_invalid_tokens() -> None:
    """Changing an invalid token, even to NaN, changes neither summary nor predictions."""
    torch.manual_seed(0)
    context = ContextSummary(16, 2).eval()
    tokens, valid = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    valid[0, 1] = False
    before = context(tokens, valid)
    tokens[0, 1] = math.nan
    after = context(tokens, valid)
    assert torch.allclose(after[0], before[0], atol=1e-6)
    assert torch.allclose(after[1], before[1], atol=1e-6)


@pytest.mark.parametrize("sample_of", ["tokens", "context"])
def test_both_losses_reach_every_parameter(sample_of: Any) -> None:
    """The weighted sum of Eq. 4 gives the encoder, the summary and the head a gradient."""
    encoder = ModalityEncoder(SPECS[2], SMALL).train()
    contrast = ContrastiveLosses(encoder, PretrainConfig(lambda_sample=0.7, lambda_temporal=1.0, sample_of=sample_of))
    rng = torch.Generator().manual_seed(0)
    x, mask = torch.rand(16, 8, 17, 2, generator=rng), torch.ones(16, 8, dtype=torch.bool)
    losses = contrast.losses(encoder, (x, mask), rng)
    total = contrast.weighted_sum(losses)
    assert total.item() == pytest.approx(0.7 * losses["sample"].item() + losses["temporal"].item(), rel=1e-6)
    total.backward()  # type: ignore[no-untyped-call]
    owners = {"encoder": encoder, "contrast": contrast}
    named = [(f"{owner}.{name}", p) for owner, module in owners.items() for name, p in module.named_parameters()]
    assert [name for name, p in named if p.grad is None] == []


def test_a_past_leaves_the_running_statistics_alone() -> None:
    """Only whole windows decide what batch normalisation knows in evaluation mode."""
    encoder = encoder_of("default", "eeg").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items() if "running" in name}
    with batch_norm_frozen(encoder):
        past_tokens(encoder, *noise(encoder, "default"), 2)
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())
    encoder(*noise(encoder, "default"))
    assert not all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


def test_pretraining_learns_what_follows() -> None:
    """On ramps of different slopes, the temporal loss falls clearly below that of a summary that knows nothing."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    encoder = ModalityEncoder(SPECS[2], SMALL)
    slope = 0.4 * torch.rand(96, 1, 17, 1, generator=rng)
    x = (torch.arange(8.0).view(1, 8, 1, 1) * slope).expand(-1, -1, -1, 2).contiguous()
    lines: list[dict[str, Any]] = []
    config = dataclasses.replace(BOTH, epochs=12, batch=48, learning_rate=3e-3, negatives="batch")
    pretrain_encoder(encoder, x, torch.ones(96, 8, dtype=torch.bool), config, lines.append)
    assert lines[-1]["temporal"] < lines[0]["temporal"] - 0.5
    assert lines[-1]["sample"] < lines[0]["sample"]


def test_a_modality_with_one_token_has_no_future() -> None:
    """Gaze of one slot is trained by the sample loss alone."""
    spec = ModalitySpec("gaze", (1, 2), ("GAZE_X", "GAZE_Y"))
    contrast = ContrastiveLosses(ModalityEncoder(spec, ClmerDims()), BOTH)
    assert contrast.context is None


def test_weights_that_leave_nothing_to_learn_are_refused() -> None:
    """Both zero, a negative one, or a summary that nothing trains."""
    for wrong in ({"lambda_sample": 0.0}, {"lambda_sample": -1.0}, {"sample_of": "context"}):
        with pytest.raises(SettingsError, match="lambda_temporal"):
            PretrainConfig(**wrong)


@pytest.mark.parametrize("name", [name for name in SERIES if name != "gsr"])  # which has one channel
def test_no_view_copies_one_channel_over_all(name: str) -> None:
    """Channels that are all different stay all different in every view."""
    spec = spec_of("default", name)
    x = 0.5 + 4.0 * torch.rand(8, *spec.shape, generator=torch.Generator().manual_seed(5))
    rng = torch.Generator().manual_seed(0)
    view = augmentation_of(name, spec.kind == "signal")
    for _ in range(5):
        seen, _ = view(x, torch.ones(8, spec.n_masked, dtype=torch.bool), AugmentationConfig(), rng)
        channels = seen if spec.kind == "signal" else seen.flatten(2).transpose(1, 2)
        for sample in channels:
            rows = sample[:, sample.abs().amax(0) > 0]
            assert len(torch.unique(rows, dim=0)) == len(rows)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("name", SERIES)
def test_views_differ_from_epoch_to_epoch(preset: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample has other views in each of three epochs, be it a single slot, and with the paper's views, too."""
    spec = spec_of(preset, name)
    x = torch.rand(1, *spec.shape, generator=torch.Generator().manual_seed(5)).repeat(4, *[1] * len(spec.shape))
    drawn: list[Tensor] = []
    usual = augmentation_of(name, spec.kind == "signal")

    def remembered(*given: Any) -> tuple[Tensor, Tensor]:
        seen, known = usual(*given)
        drawn.append(seen)
        return seen, known

    monkeypatch.setitem(AUGMENTATIONS, name, remembered)
    config = PretrainConfig(epochs=3, batch=4, views=recipe(preset).pretrain.views)
    pretrain_encoder(ModalityEncoder(spec, SMALL), x, torch.ones(4, spec.n_masked, dtype=torch.bool), config, print)
    views = torch.cat(drawn)
    assert len(views) == 3 * 2 * 4
    assert len(torch.unique(views.flatten(1), dim=0)) == len(views)
