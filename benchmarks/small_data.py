"""Little data: the network beside LDA, logistic regression and ExtraTrees, and without parts of its recipe.

Run with ``CLMER_TEST_DATA=FOLDER python -m benchmarks.small_data``; hours for everything, so ``--sets`` and
``--estimators`` choose. A result is kept for every set, estimator and seed, and only what is missing is trained.
Without the folder of sample recordings the simulated sets remain. Sets are EEG alone:

- ``hand_motion``: four motions of a hand, 8 unlabelled channels on a forearm, windows of 1 s, five folds by trial;
- ``eye_state``: eyes open or closed, 14 channels of an EPOC, windows of 1 s, a fold for every block of 9 s, as in
  ``benchmarks.eye_state``;
- ``simulated40``, ``simulated100``, ``simulated400``: so many trials of four simulated people of preset ``easy``, five
  folds by trial.

Every seed draws other folds (but for the blocks of ``eye_state``), the same for every estimator. Intervals are over
trials or blocks. Nothing is asserted.

In this order: the program, the sets, the estimators, and the tables.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.eye_state import CONFIG as EYE_CONFIG
from benchmarks.eye_state import FILE as EYE_FILE
from benchmarks.eye_state import block_folds, blocks_of, read_windows
from benchmarks.support.intervals import Difference, Figure, figure, paired
from benchmarks.support.report import Report, Table, make_parser, report_missing
from clmer_model.config import LABELS_VA4
from clmer_model.data.examples import Examples
from clmer_model.data.prepare import PrepareConfig, prepare_sessions
from clmer_model.data.simulated import PersonRecipe
from clmer_model.data.store import WindowStore, open_store
from clmer_model.predictor import limit_threads
from clmer_model.training.config import TrainConfig, for_store, recipe
from clmer_model.training.estimators import BASELINES, BaselineEstimator, Estimator, NetworkEstimator
from clmer_model.training.evaluate import Floats, Labels, accuracy, by_trial, confusion_by_unit
from clmer_model.training.splits import Rows, draw_folds
from clmer_streaming.config import PreprocessConfig, WindowConfig
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.trials import session_seconds
from clmer_streaming.xdf.reader import read_xdf
from scripts.release import simulated_store

SEEDS = (1, 2, 3)
BLOCK_S, GUARD_S = 9.0, 2.0
HAND_FILE = Path("xdf") / "hand_motion_4class_8ch_250Hz.xdf"
N_PEOPLE = 4  # of simulated sets
SIZES = (40, 100, 400)  # trials of simulated sets
NETWORK = "network"
T = TypeVar("T")


def main() -> int:
    """Train what is missing, print the tables; return the exit code."""
    args = options()
    limit_threads()
    if args.tiny:
        with tempfile.TemporaryDirectory() as folder:
            return run_benchmark(argparse.Namespace(**{**vars(args), "out": Path(folder)}))
    return run_benchmark(args)


def run_benchmark(args: argparse.Namespace) -> int:
    """Do what the options say; return the exit code."""
    folder = Path(os.environ.get("CLMER_TEST_DATA") or "nowhere")
    sets = {name: made for name in args.sets if (made := make_set(name, folder, args.out, args.block)) is not None}
    if not sets:
        return report_missing(f"no recordings: CLMER_TEST_DATA should name a folder with {HAND_FILE} and {EYE_FILE}")
    results: dict[str, Results] = {}
    for name, data in sets.items():
        results[name] = {
            who: [result_of(data, who, seed, args.out, args.steps) for seed in args.seeds] for who in args.estimators
        }
    with Report("small_data", args.json) as report:
        for name, found in results.items():
            report.show(score_table(sets[name], found), markdown=True)
    if args.picture:
        draw_curves(sets, results, args.picture)
    return 0


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    names = ("hand_motion", "eye_state", *(f"simulated{n}" for n in SIZES))
    parser.add_argument("--sets", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--out", type=Path, default=Path("build/small_data"), help="folder of results")
    parser.add_argument("--block", type=float, default=BLOCK_S, help="s, length of a block of eye_state")
    parser.add_argument("--steps", type=int, help="of every network, in place of what its recipe says")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw the learning curves of the simulated sets")
    args = parser.parse_args()
    if args.tiny:
        args.sets, args.estimators, args.seeds, args.steps = ("simulated40",), ["lda", NETWORK], (1,), 4
    return args


@dataclass(frozen=True, eq=False)
class SmallSet:
    """Windows of EEG with the folds in which they are tested."""

    name: str
    store: WindowStore  # trials are the units of the intervals
    unit: str  # what they are, in the plural
    blocks: tuple[tuple[Rows, Rows], ...] = ()  # training and test rows by block of time; none: folds by trial

    def folds(self, seed: int) -> list[tuple[Rows, Rows]]:
        """Return training and test rows of every fold; by trial, the seed draws them."""
        if self.blocks:
            return list(self.blocks)
        drawn = draw_folds(self.store, "trial", seed)
        return [(np.sort(np.concatenate([fold.train, fold.validation])), fold.test) for fold in drawn]


def make_set(name: str, samples: Path, out: Path, block_s: float = BLOCK_S) -> SmallSet | None:
    """Return a set by its name; None where its recording is not there.

    Args:
        name: As on the command line.
        samples: Folder of the sample recordings.
        out: Folder in which windows are kept.
        block_s: Length of the blocks of eye_state in seconds.
    """
    if name == "hand_motion":
        return _hand_motion(samples / HAND_FILE, out) if (samples / HAND_FILE).is_file() else None
    if name == "eye_state":
        return _eye_state(samples, block_s) if (samples / EYE_FILE).is_file() else None
    return _simulated(int(name.removeprefix("simulated")), out)


def _hand_motion(path: Path, out: Path) -> SmallSet:
    """Return the windows that ``clmer prepare`` makes of the recording and its markers (``0s``, ``0e``, ...)."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder)
        shutil.copyfile(path, lab / "motions.xdf")
        (markers,) = (stream for stream in read_xdf(path).streams if stream.type == "Markers")
        began = [str(word[0])[0] for word in markers.strings or () if str(word[0]).endswith("s")]
        rows = [("motions.xdf", f"{motion}s", f"{motion}e", f"motion{motion}") for motion in began]
        for table, lines in (
            ("manifest.csv", [("file", "participant"), ("motions.xdf", "P1")]),
            ("trials.csv", [("file", "start", "stop", "label"), *rows]),
        ):
            with (lab / table).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(lines)
        windows = PreprocessConfig(window=WindowConfig(window_s=1.0, hop_s=0.25), modalities=("eeg",))
        prepare_sessions(lab, out / "hand_motion", PrepareConfig(windows, every=1, own_channels=True), _unwatched)
    return SmallSet("hand_motion", open_store(out / "hand_motion"), "trials")


def _unwatched(made: Iterable[T], total: int) -> Iterable[T]:
    return made


def _eye_state(samples: Path, block_s: float) -> SmallSet:
    """Return the windows of one second; blocks of time are their trials."""
    windows = read_windows(samples)
    block = blocks_of(windows, block_s)
    names = [str(number) for number in range(int(block.max()) + 1)]
    examples = Examples({"eeg": windows.x}, {"eeg": windows.mask}, windows.closed, np.zeros_like(block), block)
    folds = tuple((fold.train, fold.test) for fold in block_folds(windows, block_s, GUARD_S))
    return SmallSet("eye_state", _store(examples, ("open", "closed"), names, EYE_CONFIG), "blocks", folds)


def _store(
    examples: Examples, labels: Sequence[str], trials: Sequence[str], preprocess: PreprocessConfig
) -> WindowStore:
    return WindowStore(
        examples=examples,
        stimulus=np.full(len(examples), -1),
        labels=tuple(labels),
        people=("P1",),
        stimuli=(),
        trials=tuple(trials),
        preprocess=preprocess,
        key="eye_state",
        trained_on="EEG Eye State",
    )


def _simulated(n_trials: int, out: Path) -> SmallSet:
    """Return windows of EEG alone, of four people with a quarter of the trials each."""
    seconds = session_seconds(n_trials // N_PEOPLE)
    config = PreprocessConfig(modalities=("eeg",))
    people = [SimulationConfig(seconds, seed=1, preset="easy", participant=7000 + k) for k in range(N_PEOPLE)]
    recipes = [PersonRecipe(person, config, LABELS_VA4, every=4) for person in people]
    return SmallSet(f"simulated{n_trials}", simulated_store(recipes, out / "people"), "trials")


MakeEstimator = Callable[[WindowStore, int, int | None], Estimator]
"""Makes an estimator for the windows of a store, with a seed, and a number of steps in place of the recipe's."""


def network(**changes: Any) -> MakeEstimator:
    """Return a maker of the network as ``clmer train`` trains it.

    Args:
        **changes: ``steps`` in place of the recipe's number, or sizes in ``ClmerDims``.
    """
    own_steps = changes.pop("steps", None)

    def make(store: WindowStore, seed: int, steps: int | None) -> Estimator:
        config = for_store(recipe(), Path("unused"), store)
        n_steps = own_steps if steps is None else steps
        epochs = config.fit.epochs if n_steps is None else -(-n_steps // -(-len(store.examples) // config.fit.batch))
        config = dataclasses.replace(
            config,
            seed=seed,
            dims=dataclasses.replace(config.dims, **changes),
            fit=dataclasses.replace(config.fit, seed=seed, epochs=epochs),
        )
        return NetworkEstimator(config, report=lambda line: None)

    return make


def with_contrast(store: WindowStore, seed: int, steps: int | None) -> Estimator:
    """Return the network with two epochs of the contrastive stage before the labels."""
    made = network()(store, seed, steps)
    assert isinstance(made, NetworkEstimator)
    config: TrainConfig = made.config
    return dataclasses.replace(
        made, config=dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, epochs=2, seed=seed))
    )


def baseline(name: str) -> MakeEstimator:
    """Return a maker of a baseline."""
    return lambda store, seed, steps: BaselineEstimator(name, store.preprocess, len(store.labels), seed)


ESTIMATORS: Mapping[str, MakeEstimator] = {
    **{name: baseline(name) for name in BASELINES},
    NETWORK: network(),
    "42 steps": network(steps=42),
    "200 steps": network(steps=200),
    "without the linear path": network(linear_path=False),
    "without channel tokens": network(channel_tokens=False),
    "contrastive stage": with_contrast,
}
"""What is trained, by name; all but the first four are the network with one change."""


def result_of(data: SmallSet, who: str, seed: int, out: Path, steps: int | None = None) -> Plain:
    """Return probabilities of all windows by one estimator, from its file where there is one.

    Args:
        data: The windows.
        who: Name of the estimator.
        seed: Of folds and estimator.
        out: Folder of the results.
        steps: Of the network, in place of the recipe's.
    """
    unit = "" if steps is None else f"-{steps}"
    path = out / f"{data.name}-{len(data.folds(seed))}-{who.replace(' ', '_')}-{seed}{unit}.json"
    if not path.is_file():
        start = time.process_time()
        probs = np.zeros((len(data.store.examples), len(data.store.labels)))
        for number, (train, test) in enumerate(data.folds(seed), start=1):
            print(f"{data.name}, {who}, seed {seed}, fold {number}", file=sys.stderr, flush=True)
            examples = data.store.examples
            parts = (examples.take(train), examples.take(test[:0]), examples.take(test))
            estimator = ESTIMATORS[who](data.store, seed, steps)
            probs[test] = estimator.fit_predict(*parts, {"all": ("eeg",)}, lambda share: None)["all"]
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {"probs": np.round(probs, 5).tolist(), "cpu_s": round(time.process_time() - start, 1)}
        path.write_text(json.dumps(plain), encoding="utf-8")
    found: Plain = json.loads(path.read_text(encoding="utf-8"))
    return found


Plain = dict[str, Any]
Results = dict[str, list[Plain]]
"""The results of each estimator, one for each seed."""


def matrices_of(data: SmallSet, runs: Sequence[Plain]) -> tuple[Floats, Floats]:
    """Return the confusion matrices of windows and of whole trials, by unit, summed over the seeds, (units, K, K)."""
    truth, unit, n_classes = data.store.examples.label, data.store.examples.trial, len(data.store.labels)
    of_windows: list[Floats] = []
    of_trials: list[Floats] = []
    for run in runs:
        probs = np.asarray(run["probs"])
        of_windows.append(confusion_by_unit(truth, probs.argmax(1), unit, n_classes))
        label, whole, first = by_trial(truth, probs, unit)
        of_trials.append(confusion_by_unit(label, whole.argmax(1), unit[first], n_classes))
    return np.sum(of_windows, axis=0), np.sum(of_trials, axis=0)


def log_loss_of(truth: Labels, runs: Sequence[Plain]) -> float:
    """Return the mean of the negative log-probability of the true class over windows and seeds."""
    parts = [np.asarray(run["probs"])[np.arange(len(truth)), truth] for run in runs]
    return float(-np.log(np.maximum(parts, 1e-6)).mean())


def best_baseline(data: SmallSet, results: Results) -> str | None:
    """Return the baseline that is right most often about windows; None where there is none."""
    named = [name for name in BASELINES if name in results]
    of_name = {name: float(accuracy(matrices_of(data, results[name])[0].sum(0))) for name in named}
    return max(of_name, key=lambda name: of_name[name]) if of_name else None


def difference(data: SmallSet, results: Results, ours: str = NETWORK) -> Difference | None:
    """Return the accuracy of windows by an estimator minus that by the best baseline, paired by trial or block."""
    best = best_baseline(data, results)
    if best is None or ours not in results:
        return None
    mine, theirs = (matrices_of(data, results[name])[0] for name in (ours, best))
    return paired(accuracy, mine, theirs)


def score_table(data: SmallSet, results: Results) -> Table:
    """Return the scores of each estimator on one set; brackets are intervals over trials or blocks."""
    best = best_baseline(data, results)
    title = f"{data.name}: {len(data.store.examples)} windows, {len(np.unique(data.store.examples.trial))} {data.unit}"
    columns = {"accuracy": "", "each_seed": "", "by_trial": "", "log_loss": ".3f", "minus_best": "", "cpu_s": ".0f"}
    table = Table(data.name, f"{title}; differences to {BASELINES.get(best or '', 'nothing')}", estimator="", **columns)
    for name, runs in results.items():
        windows, trials = matrices_of(data, runs)
        own = [float(accuracy(matrices_of(data, [run])[0].sum(0))) for run in runs]
        whole: Figure | str = "" if data.blocks else figure(accuracy, trials)
        table.add(
            estimator=BASELINES.get(name, name),
            accuracy=figure(accuracy, windows),
            each_seed=", ".join(f"{value:.3f}" for value in own),
            by_trial=whole,
            log_loss=log_loss_of(data.store.examples.label, runs),
            minus_best="" if name == best else difference(data, results, name),
            cpu_s=float(np.mean([run["cpu_s"] for run in runs])),
        )
    return table


def draw_curves(sets: Mapping[str, SmallSet], results: Mapping[str, Results], path: Path) -> None:
    """Draw the accuracy over the number of trials of the simulated sets, with intervals, into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    drawn = Canvas(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots()
    names = [name for name in results if name.startswith("simulated")]
    sizes = [len(np.unique(sets[name].store.examples.trial)) for name in names]
    for who in [*BASELINES, NETWORK]:
        if not all(who in results[name] for name in names):
            continue
        points = [figure(accuracy, matrices_of(sets[name], results[name][who])[0]) for name in names]
        spread = np.array([[p.value - p.low for p in points], [p.high - p.value for p in points]])
        axes.errorbar(sizes, [p.value for p in points], spread, marker="o", capsize=3, label=BASELINES.get(who, who))
    axes.axhline(1 / len(LABELS_VA4), color="grey", linestyle=":", label="chance")
    axes.set(
        xscale="log", xticks=sizes, xticklabels=list(map(str, sizes)), xlabel="trials", ylabel="accuracy of windows"
    )
    axes.minorticks_off()
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
