"""From labelled windows, recorded or simulated, to a checkpoint: the whole recipe, read from top to bottom."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clmer_model.checkpoint import Checkpoint
from clmer_model.config import modality_specs
from clmer_model.network.clmer import Clmer
from clmer_model.network.normalization import (
    FeatureNormalizer,
    LandmarkNormalizer,
    SignalNormalizer,
    signal_scale,
    unit_shape,
)
from clmer_model.predictor import choose_device
from clmer_model.training.augment import landmark_view
from clmer_model.training.config import Report, TrainConfig, ViewConfig, recipe_of
from clmer_model.training.contrastive import pretrain
from clmer_model.training.distributed import n_ranks, rank
from clmer_model.training.evaluate import evaluate, fit_temperature, trained_subsets
from clmer_model.training.fit import Fitting
from clmer_model.training.optimizer import Keeper, ResumeFile, ResumeState
from clmer_model.training.splits import Progress, Sides, examples_key, make_sides
from clmer_streaming.errors import SettingsError

CURVES_NAME = "curves.jsonl"
PICTURE_NAME = "curves.png"


class Curves:
    """Writes each line into ``curves.jsonl`` as it comes.

    Args:
        folder: The run's folder.
        show: Is told every line, too.
        keep: Number of lines of an interrupted run that stay; what it wrote after them is written again.
    """

    def __init__(self, folder: Path, show: Report, keep: int = 0) -> None:
        self._path, self._show = folder / CURVES_NAME, show
        self.lines: list[dict[str, Any]] = []
        if keep:
            written = self._path.read_text(encoding="utf-8").splitlines()
            self.lines = [json.loads(line) for line in written[:keep]]
        self._path.write_text("".join(_text(line) for line in self.lines), encoding="utf-8")

    def report(self, line: dict[str, Any]) -> None:
        """Add a line."""
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(_text(line))
        self._show(line)


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the losses over the epochs into a PNG: of the contrastive stage on the left, with labels on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for stage in dict.fromkeys(line["stage"] for line in lines if line["stage"].startswith("pretrain")):
        _plot(left, [line for line in lines if line["stage"] == stage], "loss", stage.removeprefix("pretrain "))
    fitted = [line for line in lines if line["stage"] == "fit"]
    for name in ("loss", "validation"):
        _plot(right, fitted, name, {"loss": "training people", "validation": "validation people"}[name])
    for axes, title in ((left, "contrastive stage"), (right, "with labels")):
        axes.set(title=title, xlabel="epoch", ylabel="loss")
        if axes.lines:
            axes.legend()
    figure.savefig(path)


def _plot(axes: Any, lines: Sequence[dict[str, Any]], name: str, label: str) -> None:
    if lines:
        axes.plot([line["epoch"] for line in lines], [line[name] for line in lines], marker=".", label=label)


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


MIN_LANDMARK_SD = 0.005  # of a coordinate, in the face's RMS radius (about half a millimetre)
MIN_FEATURE_SHARE = 1e-6  # of a number's mean: an SD below it is the rounding of float32


def fit_normalizers(
    model: Clmer, x: dict[str, Tensor], mask: dict[str, Tensor], views: ViewConfig | None, seed: int
) -> None:
    """Set the normalisation constants of every door from windows of the training people.

    Landmarks are taken as the views show them: a face of a shape that no simulated person has then stays within
    the range that the door lets through. Without views, they are taken as they are.
    """
    rng = torch.Generator().manual_seed(seed)
    for encoder in model.modality_encoders():
        door, name = encoder.door, encoder.name
        if isinstance(door, SignalNormalizer):
            _fit_signal(door, x[name], mask[name])
        elif isinstance(door, FeatureNormalizer):
            _fit_features(door, x[name], mask[name])
        elif isinstance(door, LandmarkNormalizer):
            seen = x[name] if views is None else landmark_view(x[name], mask[name], views, rng)[0]
            _fit_landmarks(door, seen, mask[name])


def _fit_features(door: FeatureNormalizer, x: Tensor, mask: Tensor) -> None:
    """Set mean and SD of each number; one that never changes keeps an SD of 1, whatever its size."""
    seen = x[mask].double()
    if len(seen) < 2:
        return
    mean, sd = seen.mean(0), seen.std(0)
    still = sd <= MIN_FEATURE_SHARE * mean.abs()
    door.mean.copy_(mean)
    door.sd.copy_(torch.where(still | (sd == 0), torch.ones_like(sd), sd))


def _fit_signal(door: SignalNormalizer, x: Tensor, mask: Tensor) -> None:
    present = mask.any(1)
    if int(present.sum()) < 2:
        return
    x = torch.where(mask.unsqueeze(2), x, torch.zeros_like(x))
    level = signal_scale(x, mask)[present].log()
    door.log_scale_mean.copy_(level.mean())
    door.log_scale_sd.copy_(level.std().clamp_min(0.1))


def _fit_landmarks(door: LandmarkNormalizer, x: Tensor, mask: Tensor) -> None:
    shapes = unit_shape(x, mask)[mask]
    if len(shapes) < 2:
        return
    door.template.copy_(shapes.mean(0))
    door.scale.copy_(shapes.std(0).clamp_min(MIN_LANDMARK_SD))


SPLIT_NAME, STORE_SPLIT_NAME = "unseen simulated people", "unseen people"


@dataclass(frozen=True)
class Run:
    """Where a training leaves what it makes, and whom it tells."""

    out: Path  # folder of the checkpoint, the curves and, until the end, the snapshot
    cache: Path  # folder in which each person's examples are kept
    show: Report  # is told every line that goes to ``curves.jsonl``
    progress: Progress  # wraps the making of examples
    resume: bool = False  # go on where an interrupted training in ``out`` was


def train(config: TrainConfig, run: Run) -> Checkpoint:
    """Train a model, split by people, and write its checkpoint, ``curves.jsonl`` and ``curves.png``.

    Its windows are those of a store that ``clmer prepare`` made of recordings, or of simulated people. Of several
    processes each does the same on its share of every batch, and the first one's files are kept.

    Raises:
        DatasetError: The store cannot be read.
        SettingsError: A setting is out of range, or there is nothing to resume, or it began with other windows.
        DeviceError: The device is unknown or absent.
    """
    _check_device(config, run)
    if rank() == 0:
        return _train(config, run)
    with tempfile.TemporaryDirectory() as folder:
        return _train(config, dataclasses.replace(run, out=Path(folder), show=lambda line: None))


def _train(config: TrainConfig, run: Run) -> Checkpoint:
    run.out.mkdir(parents=True, exist_ok=True)
    key = examples_key(config)
    snapshots = ResumeFile(run.out, _settings(config), key)
    start, n_lines = snapshots.read() if run.resume else (None, 0)
    sides = make_sides(config, run.cache, run.progress)
    curves = Curves(run.out, run.show, n_lines)
    if start is None:
        curves.report({"stage": "examples", **sides.n_windows()})

    def keep(snapshot: ResumeState) -> None:
        snapshots.write(snapshot, len(curves.lines))

    model = train_model(config, sides, curves.report, Keeper(start, keep)).cpu()
    checkpoint = _checkpoint(config, key, sides, model)
    (scores,) = checkpoint.scores.values()
    curves.report({"stage": "test", **scores})
    draw_curves(curves.lines, run.out / PICTURE_NAME)
    checkpoint.save(run.out)
    snapshots.remove()
    return checkpoint


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return all that decides a run but its windows: the folder of a store says nothing of what is in it."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "store"}


def _checkpoint(config: TrainConfig, key: str, sides: Sides, model: Clmer) -> Checkpoint:
    """Return the model with its scores on the test side, and with what decided it."""
    majority = int(np.bincount(sides.train.label, minlength=len(config.labels)).argmax())
    subsets = trained_subsets(model, config.fit.modality_dropout)
    split_name = SPLIT_NAME if config.store is None else STORE_SPLIT_NAME
    return Checkpoint(
        model=model,
        labels=config.labels,
        preprocess=config.preprocess,
        dims=config.dims,
        trained_on=config.trained_on,
        training=_recipe(config, key, sides),
        scores={split_name: evaluate(model, sides.test, majority, subsets)},
    )


def train_model(config: TrainConfig, sides: Sides, report: Report, keeper: Keeper | None = None) -> Clmer:
    """Return a model whose extractors were trained by contrast, then all of it with labels, then calibrated.

    Args:
        config: The recipe.
        sides: Its training side teaches, its validation side chooses the epoch and the temperature; the test side is
            not looked at.
        report: Is told every line of the log.
        keeper: From where to go on; is given what each epoch has reached.
    """
    keeper = keeper or Keeper()
    torch.manual_seed(config.seed)
    model = Clmer(modality_specs(config.preprocess), len(config.labels), config.dims)
    x, mask = sides.train.tensors()
    fit_normalizers(model, x, mask, config.fit.views, config.seed)
    model.to(choose_device(config.device))
    if keeper.start is None or keeper.start.stage == "pretrain":
        pretrain(model, (x, mask), config.pretrain, report, keeper)
    fitting = Fitting(model, sides.train, sides.validation, config.fit)
    if keeper.start is not None and keeper.start.stage == "fit":
        fitting.restore(keeper.start)
    while not fitting.finished:
        report(fitting.run_epoch())
        keeper.keep(fitting.snapshot())
    fitting.finish()
    subsets = trained_subsets(model, config.fit.modality_dropout)
    report({"stage": "calibrate", "temperature": fit_temperature(model, sides.validation, subsets)})
    return model


def _check_device(config: TrainConfig, run: Run) -> None:
    device = choose_device(config.device)
    if (config.pretrain.mixed_precision or config.fit.mixed_precision) and device.type != "cuda":
        raise SettingsError("a CUDA device for mixed precision", config.device, "leave it out, or choose --device cuda")
    if n_ranks() > 1 and (run.resume or device.type != "cpu"):
        found = f"{n_ranks()} processes with device {config.device}, resume {run.resume}"
        raise SettingsError("one process, to resume or to train on CUDA", found, "start clmer train without torchrun")


def _recipe(config: TrainConfig, key: str, sides: Sides) -> dict[str, Any]:
    """Return what decided the model, as plain JSON values."""
    return {
        **recipe_of(config, key),
        "people": sides.n_people(),
        "test_people": list(sides.split.test),
        "windows": sides.n_windows(),
        "processes": n_ranks(),
    }
