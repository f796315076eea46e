"""Training of a model, from labelled windows, recorded or simulated, to a checkpoint.

``train`` is the whole recipe, read from top to bottom; ``train_model`` trains the network without any file. Below
them stand the constants of the normalizers and the log of a run.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from clmer_model.checkpoint import Checkpoint
from clmer_model.config import modality_specs
from clmer_model.conformal import ConformalSets
from clmer_model.data.examples import Examples
from clmer_model.data.sessions import UnlabelledWindows, unlabelled_windows
from clmer_model.network.clmer import EEG, Clmer
from clmer_model.network.encoder import ChannelTokenBlock, ModalityEncoder
from clmer_model.network.normalization import (
    FeatureNormalizer,
    LandmarkNormalizer,
    SignalNormalizer,
    signal_scale,
    unit_shape,
)
from clmer_model.predictor import choose_device
from clmer_model.training.augment import augment_landmarks, keep_some_channels
from clmer_model.training.calibrate import calibrate, cross_fit, held_out_logits
from clmer_model.training.config import AugmentationConfig, LogCallback, TrainConfig, recipe_of
from clmer_model.training.contrastive import pretrain
from clmer_model.training.distributed import rank, world_size
from clmer_model.training.evaluate import EVALUATION_BATCH, evaluate, trained_subsets
from clmer_model.training.fit import SupervisedStage
from clmer_model.training.optimizer import ResumeFile, ResumePoint, ResumeState
from clmer_model.training.splits import MIN_PEOPLE, Progress, SplitExamples, examples_key, load_split_examples
from clmer_streaming.errors import SettingsError

SPLIT_NAME, STORE_SPLIT_NAME = "unseen simulated people", "unseen people"


@dataclass(frozen=True)
class Run:
    """Files and callbacks of a training run."""

    out: Path  # folder of the checkpoint, the curves and, until the end, the resume file
    cache: Path  # folder in which each person's examples are kept
    show: LogCallback  # called with every line that goes to ``curves.jsonl``
    progress: Progress  # wraps the making of examples
    resume: bool = False  # continue an interrupted training in ``out``


def train(config: TrainConfig, run: Run) -> Checkpoint:
    """Train a model, split by people, and write its checkpoint, ``curves.jsonl`` and ``curves.png``.

    Its windows are those of a store that ``clmer prepare`` made of recordings, or of simulated people. Each of several
    ranks trains on its share of every batch, and the files of rank 0 are kept.

    Args:
        config: Settings of the training.
        run: Files and callbacks.

    Returns:
        The checkpoint, with scores on the test set.

    Raises:
        DatasetError: The store cannot be read.
        SettingsError: A setting is out of range, there is nothing to resume, or the run began with other windows.
        DeviceError: The device is unknown or absent.

    Example::

        config = dataclasses.replace(recipe(), n_people=8, n_trials=8)
        run = Run(Path("build/run"), Path("build/people"), show=print, progress=lambda people, n: people)
        checkpoint = train(config, run)
        export(checkpoint, Path("build/own.ts"))
    """
    _check_device(config, run)
    if rank() == 0:
        return _train(config, run)
    with tempfile.TemporaryDirectory() as folder:
        return _train(config, dataclasses.replace(run, out=Path(folder), show=lambda line: None))


def _train(config: TrainConfig, run: Run) -> Checkpoint:
    run.out.mkdir(parents=True, exist_ok=True)
    key = examples_key(config)
    resume_file = ResumeFile(run.out, _settings(config), key)
    start, n_lines = resume_file.read() if run.resume else (None, 0)
    data = load_split_examples(config, run.cache, run.progress)
    log = TrainingLog(run.out, run.show, n_lines)
    if start is None:
        log.report({"stage": "examples", **data.n_windows()})

    def save(state: ResumeState) -> None:
        resume_file.write(state, len(log.lines))

    if config.unlabelled is not None:
        more = unlabelled_windows(Path(config.unlabelled), config.preprocess, config.every)
        data = dataclasses.replace(data, unlabelled=more)
        log.report({"stage": "unlabelled", "recordings": len(more.files), "windows": len(more)})
    model, sets = train_model(config, data, log.report, ResumePoint(start, save))
    checkpoint = _checkpoint(config, key, data, model.cpu(), sets)
    for scores in checkpoint.scores.values():
        log.report({"stage": "test", **scores})
    draw_curves(log.lines, run.out / PICTURE_NAME)
    checkpoint.save(run.out)
    resume_file.remove()
    return checkpoint


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return everything that decides a run but its windows; the folder of a store does not identify its windows."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "store"}


def _checkpoint(
    config: TrainConfig, key: str, data: SplitExamples, model: Clmer, sets: ConformalSets | None
) -> Checkpoint:
    """Return the model with its scores on the test set, if there is one, and the settings that decided it."""
    majority = int(np.bincount(data.train.label, minlength=len(config.labels)).argmax())
    subsets = trained_subsets(model, config.fit.modality_dropout)
    split_name = SPLIT_NAME if config.store is None else STORE_SPLIT_NAME
    return Checkpoint(
        model=model,
        labels=config.labels,
        preprocess=config.preprocess,
        dims=config.dims,
        trained_on=config.trained_on,
        training=_recipe(config, key, data),
        scores={split_name: evaluate(model, data.test, majority, subsets, sets)} if len(data.test) else {},
        conformal=sets,
    )


def train_model(
    config: TrainConfig, data: SplitExamples, report: LogCallback, resume_point: ResumePoint | None = None
) -> tuple[Clmer, ConformalSets | None]:
    """Return a trained model and its prediction sets: by contrast, then the whole with labels, then calibrated.

    Args:
        config: The settings.
        data: The training set is fitted, the validation set chooses the epoch, the temperature and the network's share
            beside the linear path; the test set is not used. Without a validation set the last weights are kept, and
            folds of the training set calibrate them.
        report: Called with every line of the log.
        resume_point: The state to resume from, and the callback that saves the state of each epoch.

    Returns:
        The model, and its sets; None for them where there are too few trials to calibrate.
    """
    model = _fit(config, data, report, resume_point or ResumePoint())
    subsets = trained_subsets(model, config.fit.modality_dropout)
    if len(data.validation):
        held_out = {name: held_out_logits(model, data.validation, names) for name, names in subsets.items()}
    else:
        held_out = cross_fit(data.train, subsets, functools.partial(_fit_fold, config, data), config.seed)
    if not held_out:
        report({"stage": "calibrate", "temperature": 1.0})
        return model, None
    found, sets = calibrate(model, held_out)
    report({"stage": "calibrate", **found})
    return model, sets


def _fit(config: TrainConfig, data: SplitExamples, report: LogCallback, resume_point: ResumePoint) -> Clmer:
    """Return a trained model without calibration."""
    torch.manual_seed(config.seed)
    model = Clmer(modality_specs(config.preprocess), len(config.labels), config.dims)
    train = data.train
    x, mask = train.tensors()
    fit_normalizers(model, x, mask, config.fit.views, config.seed)
    groups = train.person if len(np.unique(train.person)) >= MIN_PEOPLE else train.trial
    fit_linear_paths(model, *_with_subsets(x, mask, np.stack([train.label, groups]), config))
    model.to(choose_device(config.device))
    if resume_point.start is None or resume_point.start.stage == "pretrain":
        pretrain(model, _with_unlabelled(x, mask, data.unlabelled), config.pretrain, report, resume_point)
    stage = SupervisedStage(model, train, data.validation, config.fit)
    if resume_point.start is not None and resume_point.start.stage == "fit":
        stage.restore(resume_point.start)
    while not stage.finished:
        report(stage.run_epoch())
        resume_point.save(stage.resume_state())
    stage.finish()
    return model


def _with_subsets(
    x: dict[str, Tensor], mask: dict[str, Tensor], label_and_group: npt.NDArray[np.int64], config: TrainConfig
) -> tuple[dict[str, Tensor], dict[str, Tensor], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return series, masks, classes and groups; behind the EEG once more as caps of fewer electrodes would measure it.

    Only where the supervised stage shows such caps, too.
    """
    views = config.fit.views
    label, group = label_and_group
    if views is None or not views.fewer_channels or EEG not in x:
        return x, mask, label, group
    rng = torch.Generator().manual_seed(config.seed)
    fewer_x, fewer_mask = keep_some_channels(x[EEG], mask[EEG], 1.0, views.least_channels, rng)
    eeg, known = torch.cat([x[EEG], fewer_x]), torch.cat([mask[EEG], fewer_mask])
    return {EEG: eeg}, {EEG: known}, np.tile(label, 2), np.tile(group, 2)


def _with_unlabelled(
    x: dict[str, Tensor], mask: dict[str, Tensor], more: UnlabelledWindows | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    if more is None:
        return x, mask
    series = {name: torch.cat([x[name], torch.from_numpy(more.series[name])]) for name in x}
    return series, {name: torch.cat([mask[name], torch.from_numpy(more.mask[name])]) for name in mask}


def _fit_fold(config: TrainConfig, data: SplitExamples, train: Examples) -> Clmer:
    """Return a model that was trained on a part of the training set, without log and calibration."""
    nobody = train.take(np.empty(0, dtype=np.int64))
    part = dataclasses.replace(data, train=train, validation=nobody)
    return _fit(config, part, lambda line: None, ResumePoint())


def _check_device(config: TrainConfig, run: Run) -> None:
    device = choose_device(config.device)
    if (config.pretrain.mixed_precision or config.fit.mixed_precision) and device.type != "cuda":
        raise SettingsError("a CUDA device for mixed precision", config.device, "leave it out, or choose --device cuda")
    if world_size() > 1 and (run.resume or device.type != "cpu"):
        found = f"{world_size()} processes with device {config.device}, resume {run.resume}"
        raise SettingsError("one process, to resume or to train on CUDA", found, "start clmer train without torchrun")


def _recipe(config: TrainConfig, key: str, data: SplitExamples) -> dict[str, Any]:
    """Return what decided the model, as plain JSON values."""
    more = data.unlabelled
    unlabelled = {} if more is None else {"unlabelled": {"windows": len(more), "files": dict(more.files)}}
    return {
        **unlabelled,
        **recipe_of(config, key),
        "people": data.n_people(),
        "test_people": list(data.split.test),
        "windows": data.n_windows(),
        "processes": world_size(),
    }


MIN_LANDMARK_SD = 0.005  # of a coordinate, in the face's RMS radius (about half a millimetre)
MIN_BAND_SD = 1e-3  # of a log power; a constant one stays near 0
UNSEEN_LOGIT = 5.0  # by which a class without training windows lies below the least likely other one
MIN_FEATURE_SHARE = 1e-6  # of a number's mean: an SD below it is the rounding of float32


def fit_normalizers(
    model: Clmer, x: dict[str, Tensor], mask: dict[str, Tensor], augmentation: AugmentationConfig | None, seed: int
) -> None:
    """Set the constants of every normalizer from windows of the training set.

    Landmarks are augmented first, so that a face of a shape that no simulated person has stays within the range that is
    not clipped.

    Args:
        model: Its normalizers are changed in place.
        x: Series by modality, (n, ...).
        mask: Masks by modality, (n, ...).
        augmentation: Strengths for landmarks; None: no augmentation.
        seed: Of the augmentation.
    """
    rng = torch.Generator().manual_seed(seed)
    for encoder in model.modality_encoders():
        normalizer, name = encoder.door, encoder.name
        if isinstance(normalizer, SignalNormalizer):
            _fit_signal(normalizer, x[name], mask[name])
            block = encoder.blocks[0] if isinstance(encoder, ModalityEncoder) else None
            if isinstance(block, ChannelTokenBlock):
                _fit_bands(block, normalizer, x[name], mask[name])
        elif isinstance(normalizer, FeatureNormalizer):
            _fit_features(normalizer, x[name], mask[name])
        elif isinstance(normalizer, LandmarkNormalizer):
            shown = x[name] if augmentation is None else augment_landmarks(x[name], mask[name], augmentation, rng)[0]
            _fit_landmarks(normalizer, shown, mask[name])


def _fit_signal(normalizer: SignalNormalizer, x: Tensor, mask: Tensor) -> None:
    present = mask.any(1)
    if int(present.sum()) < 2:
        return
    x = torch.where(mask.unsqueeze(2), x, torch.zeros_like(x))
    level = signal_scale(x, mask)[present].log()
    normalizer.log_scale_mean.copy_(level.mean())
    normalizer.log_scale_sd.copy_(level.std().clamp_min(0.1))


def _fit_bands(block: ChannelTokenBlock, normalizer: SignalNormalizer, x: Tensor, mask: Tensor) -> None:
    """Set mean and SD of the log power of each band, over all measured channels and quarters of a second."""
    sums = torch.zeros(3, block.n_bands, dtype=torch.float64)
    with torch.no_grad():
        for first in range(0, len(x), EVALUATION_BATCH):
            part, known = x[first : first + EVALUATION_BATCH], mask[first : first + EVALUATION_BATCH]
            power = block.powers(normalizer(part, known))[known].double()  # (measured, bands, L)
            n = torch.full((block.n_bands,), power.size(0) * power.size(2), dtype=torch.float64)
            sums += torch.stack([n, power.sum((0, 2)), power.square().sum((0, 2))])
    if float(sums[0, 0]) < 2:
        return
    mean = sums[1] / sums[0]
    block.band_mean.copy_(mean)
    block.band_sd.copy_((sums[2] / sums[0] - mean.square()).clamp_min(MIN_BAND_SD**2).sqrt())


LINEAR_CS = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty that are tried, of scikit-learn's logistic regression."""

USUAL_C, C_FOLDS = 0.1, 3  # where there are too few groups to choose one; and folds of the choice


def fit_linear_paths(
    model: Clmer,
    x: dict[str, Tensor],
    mask: dict[str, Tensor],
    label: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
) -> None:
    """Set every linear path to the regularized logistic regression of its features on the classes.

    Its penalty is the one of the least cross-entropy over folds that share no group.

    Args:
        model: Its linear paths are changed in place.
        x: Series by modality, (n, ...).
        mask: Masks by modality, (n, ...).
        label: Classes (n,).
        group: Numbers (n,) of people, or of trials where people are few.
    """
    for name, path in zip(model.linear_names, model.linear_paths(), strict=True):
        with torch.no_grad():
            starts = range(0, len(label), EVALUATION_BATCH)
            parts = [(x[name][i : i + EVALUATION_BATCH], mask[name][i : i + EVALUATION_BATCH]) for i in starts]
            power = torch.cat([path.log_powers(*part) for part in parts])
            known = mask[name].unsqueeze(2)
            n = known.sum(0).clamp_min(1)
            mean = torch.where(known, power, torch.zeros_like(power)).sum(0) / n
            spread = torch.where(known, power - mean, torch.zeros_like(power)).square().sum(0) / n
            path.mean.copy_(mean)
            path.sd.copy_(spread.sqrt().clamp_min(MIN_BAND_SD))
            features = torch.cat([path.features(*part) for part in parts])
        present = mask[name].any(1).numpy()
        if len(np.unique(label[present])) < 2:
            continue
        values, truth = features.double().numpy()[present], label[present]
        regression = LogisticRegression(C=_best_c(values, truth, group[present]), max_iter=1000)
        regression.fit(values, truth)
        weight, bias = regression.coef_, regression.intercept_
        if len(regression.classes_) == 2:  # scikit-learn gives the second class alone
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        with torch.no_grad():
            path.out.weight.zero_()
            path.out.bias.fill_(float(bias.min()) - UNSEEN_LOGIT)
            path.out.weight[regression.classes_] = torch.from_numpy(weight).float()
            path.out.bias[regression.classes_] = torch.from_numpy(bias).float()


def _best_c(x: npt.NDArray[np.float64], label: npt.NDArray[np.int64], group: npt.NDArray[np.int64]) -> float:
    """Return the inverse penalty of the least cross-entropy over folds; the usual one where a fold lacks a class."""
    if len(np.unique(group)) < C_FOLDS:
        return USUAL_C
    folds = list(StratifiedGroupKFold(C_FOLDS).split(x, label, group))
    classes = np.unique(label)
    if any(len(np.unique(label[inner])) < len(classes) or not len(outer) for inner, outer in folds):
        return USUAL_C
    losses = dict.fromkeys(LINEAR_CS, 0.0)
    for c, (inner, outer) in itertools.product(LINEAR_CS, folds):
        regression = LogisticRegression(C=c, max_iter=1000).fit(x[inner], label[inner])
        losses[c] += float(log_loss(label[outer], regression.predict_proba(x[outer]), labels=classes)) * len(outer)
    return min(losses, key=lambda c: losses[c])


def _fit_features(normalizer: FeatureNormalizer, x: Tensor, mask: Tensor) -> None:
    """Set mean and SD of each number; one that never changes keeps an SD of 1, whatever its size."""
    values = x[mask].double()
    if len(values) < 2:
        return
    mean, sd = values.mean(0), values.std(0)
    constant = sd <= MIN_FEATURE_SHARE * mean.abs()
    normalizer.mean.copy_(mean)
    normalizer.sd.copy_(torch.where(constant | (sd == 0), torch.ones_like(sd), sd))


def _fit_landmarks(normalizer: LandmarkNormalizer, x: Tensor, mask: Tensor) -> None:
    shapes = unit_shape(x, mask)[mask]
    if len(shapes) < 2:
        return
    normalizer.template.copy_(shapes.mean(0))
    normalizer.scale.copy_(shapes.std(0).clamp_min(MIN_LANDMARK_SD))


CURVES_NAME = "curves.jsonl"
PICTURE_NAME = "curves.png"


class TrainingLog:
    """Writes each line of the training log to ``curves.jsonl`` as it comes.

    Args:
        folder: The run's folder.
        show: Called with every line, too.
        keep: Number of lines of an interrupted run that are kept; later lines are written again.
    """

    def __init__(self, folder: Path, show: LogCallback, keep: int = 0) -> None:
        self._path, self._show = folder / CURVES_NAME, show
        self.lines: list[dict[str, Any]] = []
        if keep:
            written = self._path.read_text(encoding="utf-8").splitlines()
            self.lines = [json.loads(line) for line in written[:keep]]
        self._path.write_text("".join(_text(line) for line in self.lines), encoding="utf-8")

    def report(self, line: dict[str, Any]) -> None:
        """Add a line."""
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_text(line))
        self._show(line)


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the losses over the epochs into a PNG: contrastive stage on the left, supervised stage on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for stage in dict.fromkeys(line["stage"] for line in lines if line["stage"].startswith("pretrain")):
        _plot(left, [line for line in lines if line["stage"] == stage], "loss", stage.removeprefix("pretrain "))
    fitted = [line for line in lines if line["stage"] == "fit"]
    for name in ("loss", "validation"):
        _plot(
            right,
            [line for line in fitted if name in line],
            name,
            {"loss": "training people", "validation": "validation people"}[name],
        )
    for axes, title in ((left, "contrastive stage"), (right, "with labels")):
        axes.set(title=title, xlabel="epoch", ylabel="loss")
        if axes.lines:
            axes.legend()
    figure.savefig(path)


def _plot(axes: Any, lines: Sequence[dict[str, Any]], name: str, label: str) -> None:
    if lines:
        axes.plot([line["epoch"] for line in lines], [line[name] for line in lines], marker=".", label=label)
