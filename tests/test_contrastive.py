"""The contrastive loss and the views it compares."""

from __future__ import annotations

import math

import pytest
import torch

from clmer_model.contrastive import ProjectionHead, nt_xent
from clmer_model.encoder import ModalityEncoder
from clmer_model.training.pretrain import PretrainConfig
from clmer_model.training.views import VIEWS, ViewConfig, band_stopped, drop, drop_modalities, view_of
from model_windows import SMALL, SPECS, random_input
from tiny_training import pretrain_encoder


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
    first, _ = VIEWS[name](x[name], mask[name], ViewConfig(), rng)
    second, _ = VIEWS[name](x[name], mask[name], ViewConfig(), rng)
    assert not torch.equal(first, second)
    assert torch.equal(x[name], before)


def test_eeg_views_never_mix_channels() -> None:
    """A channel that is silent stays silent beside loud ones."""
    x = 10.0 * torch.randn(8, 14, 256, generator=generator(1))
    x[:, 5] = 0.0
    seen, _ = VIEWS["eeg"](x, torch.ones(8, 14, dtype=torch.bool), ViewConfig(), generator())
    assert bool((seen[:, 5] == 0).all())
    assert bool((seen[:, 4] != 0).any())


def test_eeg_gain_is_one_factor_for_a_whole_channel() -> None:
    """Without noise, shift and blanks, a view is the window times one factor in 0.5-2 for each channel."""
    config = ViewConfig(eeg_jitter=0.0, eeg_shift=0, eeg_blank=0, eeg_band_stop=0.0)
    x = 10.0 * torch.randn(4, 14, 256, generator=generator(1))
    seen, _ = VIEWS["eeg"](x, torch.ones(4, 14, dtype=torch.bool), config, generator())
    ratio = seen / x
    assert torch.allclose(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4)
    assert bool(((ratio > 0.499) & (ratio < 2.001)).all())


def test_eeg_shift_moves_all_channels_alike() -> None:
    """A ramp of sample numbers comes back shifted by up to the limit, with zeros where nothing was recorded."""
    config = ViewConfig(eeg_gain=(1.0, 1.0), eeg_jitter=0.0, eeg_blank=0, eeg_band_stop=0.0)
    x = torch.arange(1.0, 257.0).expand(16, 14, 256)
    seen, _ = VIEWS["eeg"](x, torch.ones(16, 14, dtype=torch.bool), config, generator())
    shift = (torch.arange(1.0, 257.0) - seen)[seen > 0].view(-1)
    assert bool((shift.abs() <= config.eeg_shift).all())
    assert len(set(shift.tolist())) > 4
    assert torch.equal(seen[:, 0], seen[:, 13])


STILL = ViewConfig(
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
    seen = band_stopped(comb.expand(64, 14, 256), 0.25, generator())
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
    views = {name: view_of(name, name in ("eeg", "gsr", "ecg")) for name in given}
    seen = {name: views[name](values, known[name], STILL, generator())[0] for name, values in given.items()}
    assert [name for name in given if not torch.allclose(seen[name], given[name], atol=1e-5)] == ["eeg"]


def test_a_short_series_is_never_shifted_or_blanked_away() -> None:
    """Sixty-four samples of skin conductance lose at most an eighth to a shift and a quarter to a blank stretch."""
    x = torch.ones(500, 1, 64)
    seen, _ = view_of("gsr", True)(x, torch.ones(500, 1, dtype=torch.bool), ViewConfig(), generator())
    n_gone = (seen == 0).sum(2)
    assert 16 < int(n_gone.max()) <= 8 + 16


def test_action_units_keep_their_sign_and_scale() -> None:
    """Intensities stay within 0-5, presences are not touched, and absence stays where no neutral is off."""
    intensity = torch.tensor([0.0, 0.1, 2.5, 5.0]).repeat(5)[:17].expand(64, 8, 17)
    x = torch.stack([intensity, (intensity > 1).float()], dim=3)
    known = torch.ones(64, 8, dtype=torch.bool)
    seen, _ = VIEWS["aus"](x, known, ViewConfig(), generator())
    assert bool(((seen[..., 0] >= 0) & (seen[..., 0] <= 5)).all())
    assert torch.equal(seen[..., 1], x[..., 1])
    level, _ = VIEWS["aus"](x, known, ViewConfig(au_offset=0.0), generator())
    assert bool((level[..., 0][intensity == 0] == 0).all())


def test_another_neutral_is_the_same_in_all_slots() -> None:
    """The shift of a landmark, the offset of a unit, an angle or any value differ between samples, not over time."""
    config = ViewConfig(
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
        shift = view_of(name, False)(x, known, config, generator())[0][..., 0] - x[..., 0]
        assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-6)
        assert float(shift[:, 0].std()) > 0.04


def test_a_view_of_gaze_is_off_by_degrees() -> None:
    """Most angles move by less than 6 degrees, and one slot beside another by less than 5; two views of one differ."""
    x, known = 0.3 * torch.randn(500, 8, 2, generator=generator(1)), torch.ones(500, 8, dtype=torch.bool)
    rng = generator()
    first, second = (view_of("gaze", False)(x, known, ViewConfig(), rng)[0] for _ in range(2))
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
    view = view_of("hog", False)
    seen, left = view(x, known, ViewConfig(), generator())
    other, _ = view(x * units, known, ViewConfig(), generator())
    assert torch.allclose(other[left], (seen * units)[left], rtol=1e-4)
    assert bool((seen[..., 2][left] == 7.0).all())
    assert not bool((seen[..., :2][left] == x[..., :2][left]).any())
    assert not bool((left & ~known).any())
    nothing, _ = view(x, torch.zeros_like(known), ViewConfig(), generator())
    assert nothing.shape == x.shape


def test_landmark_views_keep_the_face_recognisable() -> None:
    """Landmarks move by less than a tenth of the face's radius on average."""
    x = 5.0 * torch.randn(32, 8, 68, 3, generator=generator(1))
    radius = x.pow(2).sum(3).mean().sqrt()
    seen, _ = VIEWS["landmarks"](x, torch.ones(32, 8, dtype=torch.bool), ViewConfig(), generator())
    assert float((seen - x).abs().mean()) < 0.1 * float(radius)


def test_dropping_never_empties_nor_revives() -> None:
    """Dropped masks are part of the given mask, and rows that had an entry keep one."""
    mask = torch.rand(200, 8, generator=generator(1)) < 0.5
    kept = drop(mask, 0.9, generator())
    assert not bool((kept & ~mask).any())
    assert torch.equal(kept.any(1), mask.any(1))


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
