"""Presets ``default`` and ``paper``, a network like Husformer and variants of ``default``, trained alike and compared.

Run with ``python -m benchmarks.comparison --train``. It can be interrupted and resumed; a result is kept for each run,
and only what is missing is trained. Without ``--train`` it prints the tables of the runs that exist, in Markdown.
Simulated people of preset ``realistic`` are the training, validation and test set, disjoint. The validation set decides
each network's epoch and temperature, its learning rate where several are given (on the first seed), and between
variants of a network; the test set is predicted once. Nothing is asserted.

In this order: the program, the people and their windows, the networks, one training, and the tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from benchmarks.support.intervals import Figure, figure, paired
from benchmarks.support.networks import ChannelTokenClmer, HusformerLike
from benchmarks.support.report import Report, Table, make_parser, report_missing
from clmer_model.config import DEFAULT, LABELS_VA4, MODEL_MODALITIES, PAPER, PRESETS, ModalitySpec, modality_specs
from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.simulated import PersonRecipe, examples_of_people
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import limit_threads
from clmer_model.training.calibrate import MAX_TEMPERATURE, MIN_TEMPERATURE, N_TEMPERATURES
from clmer_model.training.config import FitConfig, PretrainConfig
from clmer_model.training.contrastive import pretrain
from clmer_model.training.evaluate import (
    Floats,
    accuracy,
    calibration_error,
    confusion_by_unit,
    macro_f1,
    predict_logits,
    scored_subsets,
)
from clmer_model.training.fit import SupervisedStage
from clmer_model.training.optimizer import ResumePoint
from clmer_model.training.splits import PeopleSplit, Progress, SplitExamples
from clmer_model.training.train import fit_linear_paths, fit_normalizers
from clmer_streaming.config import PREPROCESSOR_ID, PreprocessConfig
from clmer_streaming.simulation.config import SIMULATOR_ID, SimulationConfig
from clmer_streaming.simulation.trials import session_seconds

RATES = (1e-3,)
SEEDS = (1, 2, 3)
TINY_PEOPLE, TINY_TRIALS = (2, 1, 2), 4

Results = dict[str, list[dict[str, Any]]]
"""The results of each network, one for each seed."""


def main() -> int:
    """Train what is missing, print the tables; return the exit code."""
    args = options()
    if args.tiny:
        with tempfile.TemporaryDirectory() as folder:
            return run_benchmark(argparse.Namespace(**{**vars(args), "out": Path(folder)}))
    return run_benchmark(args)


def run_benchmark(args: argparse.Namespace) -> int:
    """Do what the options say; return the exit code."""
    cohort = Cohort(args.people[0], args.people[1], args.people[2], args.trials)
    runs = {
        name: [[Run(name, seed, rate, args.epochs, cohort=cohort) for rate in args.rates] for seed in args.seeds]
        for name in args.networks
    }
    data = cohort.data(args.out / "windows", _show_progress) if args.train else None
    results = {name: found for name in args.networks if (found := best_results(runs[name], data, args.out))}
    if not results:
        return report_missing(f"no results in {args.out} for these options; --train makes them")
    with Report("comparison", args.json) as report:
        report.show(*tables(results), markdown=True)
    return 0


def options() -> argparse.Namespace:
    """Read the command line."""
    default = Cohort()
    people = (default.n_train, default.n_validation, default.n_test)
    parser = make_parser(__doc__)
    parser.add_argument("--train", action="store_true", help="train what has no result yet")
    parser.add_argument("--out", type=Path, default=Path("build/comparison"), help="folder of results and windows")
    parser.add_argument("--networks", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--epochs", type=int, default=Run.epochs)
    parser.add_argument("--people", type=int, nargs=3, default=people, metavar="N", help="to train, to choose, to test")
    parser.add_argument("--trials", type=int, default=default.n_trials, help="of each person")
    args = parser.parse_args()
    if args.tiny:
        args.train, args.networks, args.seeds, args.epochs = True, [OURS, "like Husformer"], (1,), 1
        args.people, args.trials = TINY_PEOPLE, TINY_TRIALS
    return args


def best_results(runs: list[list[Run]], data: SplitExamples | None, out: Path) -> list[dict[str, Any]]:
    """Return a network's result for each seed, at the learning rate of least validation loss on the first seed.

    Args:
        runs: What may be trained, by seed and rate.
        data: The windows; None: return results that exist, and none for a network that lacks one.
        out: Folder of the results.
    """
    first = complete([_result(run, data, out) for run in runs[0]])
    if not first:
        return []
    best = min(range(len(first)), key=lambda i: float(first[i]["validation_loss"]))
    others = [_result(of_seed[best], data, out) for of_seed in runs[1:]]
    return complete([first[best], *others])


def complete(results: list[dict[str, Any] | None]) -> list[dict[str, Any]]:
    """Return the results if all of them exist, else none."""
    existing = [result for result in results if result is not None]
    return existing if len(existing) == len(results) else []


def _result(run: Run, data: SplitExamples | None, out: Path) -> dict[str, Any] | None:
    if data is not None:
        print(f"{run.contender}, seed {run.seed}, learning rate {run.rate:g}", file=sys.stderr, flush=True)
    return result_of(run, data, out)


def _show_progress(people: Iterable[Examples], n: int) -> Iterable[Examples]:
    for k, examples in enumerate(people, start=1):
        if k % 8 == 0 or k == n:
            print(f"windows of {k} of {n} people", file=sys.stderr, flush=True)
        yield examples


@dataclass(frozen=True)
class Cohort:
    """Simulated people and their sessions; the same numbers give the same windows on every machine."""

    n_train: int = 24
    n_validation: int = 8  # they decide learning rate, epoch and temperature, and between variants
    n_test: int = 16  # predicted once, at the end
    n_trials: int = 24  # of each person, 12 s each
    preset: str = "realistic"  # effect sizes; see the simulator
    first_person: int = 3000  # far from the people whom the shipped model was trained on
    seed: int = 1
    every: int = 4  # keep every fourth window of a trial, which then do not overlap

    def split(self) -> PeopleSplit:
        """Return the people's numbers in each set. They are simulated alike, so that their order may divide them."""
        numbers = tuple(range(self.first_person, self.first_person + self.n_train + self.n_validation + self.n_test))
        known = self.n_train + self.n_validation
        return PeopleSplit(numbers[: self.n_train], numbers[self.n_train : known], numbers[known:])

    def recipes(self) -> list[PersonRecipe]:
        """Return how each person's windows are made, with the signal settings of preset ``default``."""
        split = self.split()
        session = SimulationConfig(seconds=session_seconds(self.n_trials), seed=self.seed, preset=self.preset)
        return [
            PersonRecipe(dataclasses.replace(session, participant=person), WINDOWS, LABELS_VA4, self.every)
            for person in (*split.train, *split.validation, *split.test)
        ]

    def data(self, cache: Path, progress: Progress) -> SplitExamples:
        """Return everybody's windows by set; those that the cache lacks are simulated."""
        recipes = self.recipes()
        everybody = concatenate(list(progress(examples_of_people(recipes, cache), len(recipes))))
        split = self.split()
        train, validation, test = (
            everybody.of_people(people) for people in (split.train, split.validation, split.test)
        )
        return SplitExamples(split, train, validation, test)


def end_of_windows(data: SplitExamples, whole: PreprocessConfig, part: PreprocessConfig) -> SplitExamples:
    """Return the same windows cut to their end, so that every network predicts the same moments.

    Args:
        data: Windows made with the settings ``whole``.
        whole: Their settings.
        part: Settings with a shorter window and one slot of the face, which becomes the mean of those it covers.
    """
    slots = round(whole.window.face_slots * part.window.window_s / whole.window.window_s)
    train, validation, test = (
        _cut(examples, part.n_times, slots) for examples in (data.train, data.validation, data.test)
    )
    return SplitExamples(data.split, train, validation, test)


def _cut(examples: Examples, n_times: int, slots: int) -> Examples:
    series, mask = dict(examples.series), dict(examples.mask)
    for name, values in examples.series.items():
        if name == "eeg":
            series[name] = np.ascontiguousarray(values[..., -n_times:])
        else:
            series[name], mask[name] = _mean_slot(values[:, -slots:], examples.mask[name][:, -slots:])
    return dataclasses.replace(examples, series=series, mask=mask)


def _mean_slot(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the mean of the valid slots (n, 1, ...) and whether there was one (n, 1)."""
    weight = valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
    total = np.where(weight, values, 0.0).sum(1, keepdims=True)
    mean = total / np.maximum(weight.sum(1, keepdims=True), 1)
    return mean.astype(np.float32), valid.any(1, keepdims=True)


WINDOWS = PreprocessConfig(modalities=MODEL_MODALITIES)
"""Windows of an EPOC, which every network can read."""

MIXED = dataclasses.replace(DEFAULT.dims, channel_tokens=False, linear_path=False)
"""Sizes of ``default``, whose filters mix the channels of EEG before their power is taken."""

Make = Callable[[Sequence[ModalitySpec], int], Clmer]
"""Makes an untrained network from its modalities and the number of classes."""


@dataclass(frozen=True)
class Contender:
    """A network, its windows, and whether a contrastive stage comes before the supervised one."""

    make: Make
    preprocess: PreprocessConfig = WINDOWS
    contrast: bool = False


def _default(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, DEFAULT.dims)


def _mixed(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, MIXED)


def _paper(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return Clmer(specs, n_classes, PAPER.dims)


def _husformer(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    """Return a network with all that training uses of a ``Clmer``: names, encoders, temperature, forward."""
    return cast(Clmer, HusformerLike(specs, n_classes))


def _linear_channels(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return ChannelTokenClmer(specs, n_classes, MIXED, power=False)


def _power_channels(specs: Sequence[ModalitySpec], n_classes: int) -> Clmer:
    return ChannelTokenClmer(specs, n_classes, MIXED, power=True)


OURS = "default"
"""The network that the others are compared with."""

CONTENDERS = {
    OURS: Contender(_default),
    "paper": Contender(_paper, PAPER.preprocess),
    "like Husformer": Contender(_husformer),
    "default, EEG mixed first": Contender(_mixed),
    "default on the paper's windows": Contender(_default, PAPER.preprocess),
    "default, channel tokens": Contender(_linear_channels),
    "default, channel tokens of log power": Contender(_power_channels),
    "default, contrastive stage first": Contender(_default, contrast=True),
    "paper, contrastive stage first": Contender(_paper, PAPER.preprocess, contrast=True),
}
"""All networks that can be trained, by name."""


@dataclass(frozen=True)
class Run:
    """Everything that decides a training; but for network and learning rate it is the same for all."""

    contender: str
    seed: int
    rate: float  # learning rate of all parameters
    epochs: int = 6
    batch: int = 64
    contrast_epochs: int = 10  # of contenders with a contrastive stage
    cohort: Cohort = field(default_factory=Cohort)

    def fit_config(self) -> FitConfig:
        """Return the settings of the supervised stage: augmentation, dropout and schedule of the shipped recipe."""
        return FitConfig(
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.rate,
            encoder_learning_rate=self.rate,
            seed=self.seed,
        )

    def plain(self) -> dict[str, Any]:
        """Return all that decides the result, as plain JSON values."""
        sizes = {preset.name: preset.dims.to_dict() for preset in PRESETS.values()}
        ids = {"simulator": SIMULATOR_ID, "preprocessor": PREPROCESSOR_ID, "presets": sizes}
        plain: dict[str, Any] = json.loads(json.dumps({**dataclasses.asdict(self), **ids}))
        return plain

    def path(self, out: Path) -> Path:
        """Return the file of the result; other settings give another file."""
        key = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:8]
        words = self.contender.replace(",", "").replace("'", "").replace(" ", "-")
        return out / f"{words}-rate{self.rate:g}-seed{self.seed}-{key}.json"


def result_of(run: Run, data: SplitExamples | None, out: Path) -> dict[str, Any] | None:
    """Return the result of a run: from its file, or by training, which writes the file.

    Args:
        run: What to train.
        data: The cohort's windows, as preset ``default`` has them; None: do not train, but return None.
        out: Folder of the results.
    """
    path = run.path(out)
    if not path.is_file():
        if data is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(train(run, data), indent=1), encoding="utf-8")
        unfinished.replace(path)
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plain


def train(run: Run, data: SplitExamples) -> dict[str, Any]:
    """Train, calibrate and predict; return the result as plain JSON values."""
    contender, config = CONTENDERS[run.contender], run.fit_config()
    if contender.preprocess != WINDOWS:
        data = end_of_windows(data, WINDOWS, contender.preprocess)
    start = time.process_time()
    torch.manual_seed(run.seed)
    model = contender.make(modality_specs(contender.preprocess), len(LABELS_VA4))
    examples = data.train.tensors()
    fit_normalizers(model, *examples, config.views, run.seed)
    if contender.make is _default:
        fit_linear_paths(model, *examples, data.train.label, data.train.person)
    if contender.contrast:
        pretrain(
            model, examples, PretrainConfig(epochs=run.contrast_epochs, seed=run.seed), lambda line: None, ResumePoint()
        )
    stage = SupervisedStage(model, data.train, data.validation, config)
    lines = []
    while not stage.finished:
        lines.append(stage.run_epoch())
    loss = stage.finish()
    return {
        "run": run.plain(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "windows": data.n_windows(),
        "people": dataclasses.asdict(data.split),
        "curve": [[round(line[name], 4) for name in ("loss", "validation")] for line in lines],
        "best_epoch": 1 + int(np.argmin([line["validation"] for line in lines])),
        "validation_loss": loss,
        "temperature": fit_temperature(model, data.validation),
        "validation": predictions_of(model, data.validation),
        "test": predictions_of(model, data.test),
        "cpu_s": round(time.process_time() - start, 1),
    }


def fit_temperature(model: Clmer, examples: Examples) -> float:
    """Set the temperature of the least cross-entropy on these windows, all subsets alike, and return it."""
    model.temperature.fill_(1.0)
    truth = torch.from_numpy(examples.label)
    logits = [predict_logits(model, examples, names) for names in scored_subsets(model).values()]
    grid = torch.logspace(math.log10(MIN_TEMPERATURE), math.log10(MAX_TEMPERATURE), N_TEMPERATURES)
    losses = [sum(F.cross_entropy(part / t, truth).item() for part in logits) for t in grid]
    best = float(grid[int(np.argmin(losses))])
    model.temperature.fill_(best)
    return best


def predictions_of(model: Clmer, examples: Examples) -> dict[str, Any]:
    """Return the confusion matrix of each person and the calibration error, by subset of modalities.

    Windows in which a subset has nothing measured are left out.
    """
    predictions = {}
    for subset, names in scored_subsets(model).items():
        known = np.any([examples.mask[name].any(1) for name in names], axis=0)
        part = examples.take(np.flatnonzero(known))
        probs = predict_logits(model, part, names).softmax(1).numpy()
        chosen = probs.argmax(1).astype(np.int64)
        matrices = confusion_by_unit(part.label, chosen, part.person, len(LABELS_VA4))
        predictions[subset] = {
            "people": np.unique(part.person).tolist(),
            "matrices": matrices.astype(int).tolist(),
            "calibration_error": round(calibration_error(part.label, probs), 4),
        }
    return predictions


MARGIN = 0.02
"""Accuracy that a network may lose against another and count as no worse; set before any training."""

SUBSETS = {"all": "all modalities", "eeg": "EEG alone", "face": "face alone"}
Part = Literal["validation", "test"]
PARTS: tuple[Part, ...] = ("validation", "test")


def tables(results: Results) -> list[Table]:
    """Return the tables of training, scores and differences."""
    found = [training_table(results)]
    for part in PARTS:
        found.append(score_table(results, part))
        if OURS in results:
            found.append(difference_table(results, OURS, part))
    return found


def training_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Return how each network was trained."""
    columns = {"learning_rate": "g", "best_epochs": "", "validation_losses": "", "cpu_s": ".0f"}
    table = Table("training", "Training, each seed", network="", **columns)
    for name, runs in results.items():
        table.add(
            network=name,
            learning_rate=runs[0]["run"]["rate"],
            best_epochs=", ".join(str(run["best_epoch"]) for run in runs),
            validation_losses=", ".join(f"{run['validation_loss']:.3f}" for run in runs),
            cpu_s=np.mean([run["cpu_s"] for run in runs]),
        )
    return table


def score_table(results: Mapping[str, Sequence[Mapping[str, Any]]], part: Part) -> Table:
    """Return the scores of each network; brackets are intervals over people."""
    columns = {**{f"{subset}_accuracy": "" for subset in SUBSETS}, "each_seed": "", "macro_f1": ".3f", "ece": ".3f"}
    table = Table(f"{part} scores", f"Scores on the {part} people", network="", parameters=",d", **columns)
    for name, runs in results.items():
        matrices = {subset: matrices_of(runs, part, subset) for subset in SUBSETS}
        table.add(
            network=name,
            parameters=runs[0]["parameters"],
            each_seed=", ".join(f"{accuracy(matrices_of([run], part, 'all').sum(0)):.3f}" for run in runs),
            macro_f1=macro_f1(matrices["all"].sum(0)),
            ece=np.mean([run[part]["all"]["calibration_error"] for run in runs]),
            **{f"{subset}_accuracy": figure(accuracy, of_people) for subset, of_people in matrices.items()},
        )
    return table


def difference_table(results: Mapping[str, Sequence[Mapping[str, Any]]], ours: str, part: Part) -> Table:
    """Return for each other network our accuracy minus its, in percentage points, paired by person.

    Raises:
        ValueError: The results are of different people.
    """
    title = f"{ours} minus others, accuracy in points on the {part} people; margin {100 * MARGIN:g} points"
    table = Table(f"{part} differences", title, network="", **dict.fromkeys(SUBSETS, ""), verdict="")
    for name, runs in results.items():
        if name != ours:
            _check_people([*results[ours], *runs], part)
            differences = {
                subset: paired(accuracy, matrices_of(results[ours], part, subset), matrices_of(runs, part, subset))
                for subset in SUBSETS
            }
            table.add(network=name, **differences, verdict=verdict(differences["all"]))
    return table


def matrices_of(results: Sequence[Mapping[str, Any]], part: Part, subset: str) -> Floats:
    """Return the confusion matrix of each person, summed over the seeds, (people, K, K)."""
    _check_people(results, part)
    total: Floats = np.sum([np.array(one[part][subset]["matrices"], dtype=np.float64) for one in results], axis=0)
    return total


def _check_people(results: Sequence[Mapping[str, Any]], part: Part) -> None:
    for subset in SUBSETS:
        people = [result[part][subset]["people"] for result in results]
        if any(one != people[0] for one in people):
            raise ValueError(f"expected the same people in every result, got {people}")


def verdict(difference: Figure) -> str:
    """Return in words what the difference shows against the margin."""
    if difference.low > 0:
        return "better"
    if difference.high < 0:
        return "worse" if difference.high < -MARGIN else "worse, perhaps by less than the margin"
    if difference.low > -MARGIN:
        return "no worse, within the margin"
    return "not decided"


if __name__ == "__main__":
    limit_threads()
    sys.exit(main())
