"""``clmer evaluate``: score one model on four kinds of split side by side, so that leaks between them show."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_streaming.errors import DatasetError, SettingsError

if TYPE_CHECKING:
    from clmer_model.data.store import WindowStore
    from clmer_model.training.compare import Watch
    from clmer_model.training.config import LogCallback, TrainConfig
    from clmer_model.training.estimators import Estimator
    from clmer_model.training.splits import Split, SplitKind


HELP = "score a model and simple baselines on random windows, trials, unseen people and unseen stimuli"

PRESETS = ("default", "paper", "baselines")

SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1 (Eq. 10-13)",
    "macro_f1": "macro F1",
    "kappa": "kappa",
    "calibration_error": "calibration error (ECE)",
    "eq8_as_printed": "Eq. 8-9 as printed (may pass 1)",
    "eq8_over_all": "Eq. 8-9 over all samples",
}
"""Titles of the network's scores in the table, in its order."""


GUESSES = {"majority": "accuracy: majority", "prior": "accuracy: prior"}
"""Titles of the scores without any signal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("store", type=Path, help="folder that clmer prepare wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and the split files")
    parser.add_argument(
        "--preset", choices=PRESETS, default="default", help="a network and the baselines, or those alone (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, help="epochs of the supervised stage")
    parser.add_argument("--pretrain-epochs", type=int, help="epochs of the contrastive stage; 0 leaves it out")
    parser.add_argument("--folds", type=int, default=5, help="of each split, if there are as many groups (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="partitions into folds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of splits, weights and batches (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto, of the network (%(default)s)")
    parser.add_argument("--splits", type=Path, metavar="DIR", help="take the split files in this folder")


def run(args: argparse.Namespace) -> int:
    """Train and score every fold; print the tables, and write them as ``report.json``.

    Raises:
        SettingsError: An option is out of range.
        DatasetError: The store or a split file cannot be read, or there are no two classes.
    """
    from rich.console import Console

    from clmer_model.data.store import check_classes, open_store, write_json
    from clmer_model.predictor import choose_device
    from clmer_model.training.compare import REPORT_NAME, compare, make_report, summary

    for name, least in (("folds", 2), ("repeats", 1), ("epochs", 1), ("pretrain_epochs", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name.replace('_', '-')} of {least} or more", str(value), "raise it")
    choose_device(args.device)
    store = open_store(args.store)
    check_classes(store)
    splits = _read_splits(args.splits, store) if args.splits else _draw_splits(args, store)
    console = Console()
    config = None if args.preset == "baselines" else _config(args, store)
    log: list[dict[str, Any]] = []
    estimators = _estimators(config, store, args.seed, log.append)
    with _progress(console, list(estimators)) as watch:
        predictions = compare(store, splits, estimators, watch)
    report = make_report(store, summary(store, predictions, args.seed), config, args.seed)
    report["unmeasured"] = _unmeasured(store)
    report["calibration"] = _calibration(log)
    write_json(args.out / REPORT_NAME, report)
    _print(console, report)
    console.print(f"written: {args.out / REPORT_NAME}, {args.out / 'splits'}", highlight=False, soft_wrap=True)
    return 0


def _draw_splits(args: argparse.Namespace, store: WindowStore) -> dict[SplitKind, list[Split]]:
    """Return the folds of every split that can be computed, and write each into a file."""
    from clmer_model.data.store import write_json
    from clmer_model.training.splits import PROTOCOLS, draw_folds, reason_uncomputable, split_to_dict

    splits = {
        protocol: [
            split
            for repeat in range(1, args.repeats + 1)
            for split in draw_folds(store, protocol, args.seed, args.folds, repeat)
        ]
        for protocol in PROTOCOLS
        if not reason_uncomputable(store, protocol)
    }
    for protocol, folds in splits.items():
        for split in folds:
            write_json(args.out / "splits" / f"{protocol}-{split.number}.json", split_to_dict(split, store, args.seed))
    return splits


def _read_splits(folder: Path, store: WindowStore) -> dict[SplitKind, list[Split]]:
    from clmer_model.training.splits import split_from_dict

    splits: dict[SplitKind, list[Split]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"a split file {path}", str(error), "let clmer evaluate write it again") from error
        split = split_from_dict(plain, store, str(path))
        splits.setdefault(split.protocol, []).append(split)
    if not set(splits) - {"random"}:
        raise DatasetError(
            f"split files of trials, people or stimuli in {folder}",
            "random windows alone" if splits else "none",
            "random windows leak, and are not reported alone",
        )
    return {protocol: sorted(folds, key=lambda split: split.number) for protocol, folds in splits.items()}


def _config(args: argparse.Namespace, store: WindowStore) -> TrainConfig:
    from clmer_model.training.config import fit_epochs, recipe

    base = recipe(args.preset)
    pretrain = base.pretrain.epochs if args.pretrain_epochs is None else args.pretrain_epochs
    usual = fit_epochs(len(store.examples), base.fit.batch) if args.preset == "default" else base.fit.epochs
    epochs = usual if args.epochs is None else args.epochs
    return dataclasses.replace(
        base,
        store=str(args.store),
        trained_on=store.trained_on,
        seed=args.seed,
        preprocess=store.preprocess,
        labels=store.labels,
        pretrain=dataclasses.replace(base.pretrain, seed=args.seed, epochs=pretrain),
        fit=dataclasses.replace(base.fit, seed=args.seed, epochs=epochs),
        device=args.device,
    )


def _estimators(config: TrainConfig | None, store: WindowStore, seed: int, report: LogCallback) -> dict[str, Estimator]:
    """Return the baselines, then the network if there is one: the quick ones come first in every fold."""
    from clmer_model.training.compare import NETWORK
    from clmer_model.training.estimators import BASELINES, BaselineEstimator, NetworkEstimator

    found: dict[str, Estimator] = {
        name: BaselineEstimator(name, store.preprocess, len(store.labels), seed) for name in BASELINES
    }
    return found if config is None else {**found, NETWORK: NetworkEstimator(config, report)}


def _unmeasured(store: WindowStore) -> list[str]:
    """Return the modalities that were measured in no window."""
    return [name for name, mask in store.examples.mask.items() if not mask.any()]


def _calibration(log: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many networks were calibrated, and how many at an end of the grid of temperatures."""
    found = [line for line in log if line["stage"] == "calibrate"]
    return {"networks": len(found), "at_end_of_grid": sum(bool(line.get("at_end_of_grid")) for line in found)}


class RemainingTime:
    """Estimates how long a comparison will take, from what each estimator has done in how many seconds.

    Args:
        clock: Returns seconds.

    Example::

        remaining = RemainingTime(time.monotonic)
        remaining.add("network", 0.01)  # of all its work, since the last call
        remaining.seconds({"network"})
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._seconds: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def add(self, name: str, share: float) -> None:
        """Count a share of an estimator's work, on which the time since the last call was spent."""
        now = self._clock()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._done[name] = self._done.get(name, 0.0) + share
        self._last = now

    def seconds(self, names: Sequence[str]) -> float | None:
        """Return the seconds that these estimators still need; None while one of them has not begun."""
        if not all(self._done.get(name) for name in names):
            return None
        return sum(self._seconds[name] * max(0.0, 1.0 / self._done[name] - 1.0) for name in names)

    def total(self, names: Sequence[str]) -> float:
        """Return the seconds that these estimators have taken."""
        return sum(self._seconds.get(name, 0.0) for name in names)


FIRST_LINE_S, LINE_S = 20.0, 300.0
"""Seconds until the first line of progress and between lines, where the output is no terminal.

The first epoch of all takes longer than others; an estimate from it alone is not printed while more are soon to come.
"""


@contextlib.contextmanager
def _progress(console: Any, names: Sequence[str]) -> Iterator[Watch]:
    """Show the work of these estimators and the time that is left: a bar on a terminal, else lines."""
    from rich.progress import BarColumn, Progress, TextColumn

    remaining = RemainingTime(time.monotonic)
    next_line = FIRST_LINE_S
    bar = Progress(
        TextColumn("training"), BarColumn(), TextColumn("{task.fields[left]}"), console=console, transient=True
    )
    task = bar.add_task("training", total=1.0, left="")

    def watch(name: str, share: float) -> None:
        nonlocal next_line
        remaining.add(name, share)
        left, spent = remaining.seconds(names), remaining.total(names)
        if left is None:
            return
        done = spent / max(spent + left, 1e-9)
        bar.update(task, completed=done, left=f"{duration(left)} left")
        if not console.is_terminal and spent >= next_line:
            next_line = spent + LINE_S
            console.print(f"training: {done:.0%} done, {duration(left)} left", highlight=False)

    if console.is_terminal:
        with bar:
            yield watch
    else:
        yield watch


def duration(seconds: float) -> str:
    """Return a rough time in words, such as ``about 2 h 10 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {minutes} min" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min"


def _print(console: Any, report: Mapping[str, Any]) -> None:
    """Print the tables, the verdicts, and for each split the confusion matrix with scores by class."""
    splits = list(report["splits"].values())
    title = f"{report['preset']}, trained on {report['trained_on']}"
    if any(split.get("rows") for split in splits):
        console.print(_network_table(splits, title))
    console.print(_comparison_table(splits, title))
    over = sorted({row["interval_over"] for split in splits for row in _all_rows(split)})
    console.print(
        f"Scores of all windows, each tested once, ± SD over the folds; in brackets the 95 % interval over "
        f"{' or '.join(over)}.",
        highlight=False,
    )
    for line in _sentences(report):
        console.print(line, highlight=False)
    for split in splits:
        if "all" in split.get("rows", {}):
            _print_confusion(console, split, report["labels"])


def _sentences(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield whether the network beats the baselines, and what the tables do not show."""
    splits = list(report["splits"].values())
    for split in splits:
        yield from (verdict["sentence"] + "." for verdict in split.get("verdicts", {}).values())
    for split in splits:
        yield from (f"{split['title']}: {remark}." for remark in split.get("remarks", ()))
    rows = [row for split in splits for row in _all_rows(split)]
    if any(row["interval_over"] == "trials" for row in rows):
        yield "An interval over trials holds for further trials of these people; they are too few to speak for others."
    if report["unmeasured"]:
        yield f"Measured in no window: {', '.join(report['unmeasured'])}."
    if n := report["calibration"]["at_end_of_grid"]:
        yield (
            f"The temperature of {n} of {report['calibration']['networks']} networks lies at an end of its grid: their "
            "probabilities are not calibrated."
        )
    if report.get("recipe", {}).get("fit", {}).get("modality_dropout") == 0:
        yield (
            "EEG alone: by a network of its own. This recipe shows whole windows only, and what it makes of one "
            "without a face means nothing."
        )


def _all_rows(split: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tables = [split.get("rows", {}), *split.get("baselines", {}).values()]
    return [row for rows in tables for row in rows.values()]


def _network_table(splits: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Return the scores of the network and its controls."""
    from clmer_model.training.compare import NETWORK, ROWS

    table = _table(title, ["", *(split["title"] for split in splits)])
    if any(split["reason"] for split in splits):
        table.add_row("", *(split["reason"] for split in splits), end_section=True)
    rows = [_rows_of(split, NETWORK) for split in splits]
    for name, score in SCORES.items():
        table.add_row(score, *(_score_cell(of_split.get("all"), name) for of_split in rows))
    table.add_section()
    for row, words in ROWS.items():
        if any(row in of_split for of_split in rows):
            table.add_row(f"accuracy: {words}", *(_score_cell(of_split.get(row), "accuracy") for of_split in rows))
    return table


def _comparison_table(splits: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Return the network beside the baselines: balanced accuracy by window and by trial, controls, and guesses."""
    from clmer_model.training.compare import NETWORK, ROWS
    from clmer_model.training.estimators import BASELINES

    table = _table(f"{title}: balanced accuracy", ["", *(split["title"] for split in splits)])
    if any(split["reason"] for split in splits):
        table.add_row("", *(split["reason"] for split in splits), end_section=True)
    estimators = {NETWORK: "network", **BASELINES}
    for row, words in ROWS.items():
        if not any(row in _rows_of(split, name) for split in splits for name in estimators):
            continue
        table.add_row(words)
        for name, who in estimators.items():
            found = [_rows_of(split, name).get(row) for split in splits]
            if not any(found):
                continue
            table.add_row(f"  {who}", *(_score_cell(scores, "balanced_accuracy") for scores in found))
            if row in BY_TRIAL:
                of_trials = (scores and scores["by_trial"] for scores in found)
                table.add_row("    by trial", *(_score_cell(scores, "balanced_accuracy") for scores in of_trials))
        table.add_section()
    anyone = [next(iter(_all_rows(split)), None) for split in splits]
    for name, words in GUESSES.items():
        table.add_row(words, *(f"{row['mean'][name]:.3f}" if row else "" for row in anyone))
    table.add_section()
    table.add_row("windows, trials, people, folds", *(_count_cell(row) for row in anyone))
    return table


BY_TRIAL = ("all", "eeg")
"""Rows that are printed by trial, too; the controls are in the report alone."""


def _rows_of(split: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the rows of one estimator; none where the split was not computed."""
    from clmer_model.training.compare import NETWORK

    rows = split.get("rows") if name == NETWORK else split.get("baselines", {}).get(name)
    return rows or {}


def _table(title: str, columns: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    return table


def _score_cell(scores: Mapping[str, Any] | None, name: str) -> str:
    """Return a score with its spread and interval; nothing where there is none."""
    if scores is None:
        return ""
    spread = f" ± {scores['sd'][name]:.3f}" if "sd" in scores else ""
    text = f"{scores['mean'][name]:.3f}{spread}"
    if name not in scores["interval"]:
        return text
    low, high = scores["interval"][name]
    return f"{text}\n({low:.3f} to {high:.3f})"


def _count_cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    counts = (sum(row["n_windows"]), row["by_trial"]["n_trials"], row["n_people"], len(row["n_windows"]))
    return ", ".join(map(str, counts))


def _print_confusion(console: Any, split: Mapping[str, Any], labels: Sequence[str]) -> None:
    from clmer_model.training.evaluate import CLASS_SCORES

    scores = split["rows"]["all"]
    table = _table(f"{split['title']}: truth (row) and answer (column)", ["", *labels, *CLASS_SCORES])
    for label, counts in zip(labels, scores["confusion"], strict=True):
        of_class = scores["classes"][label]
        table.add_row(label, *map(str, counts), *(f"{of_class[name]:.3f}" for name in CLASS_SCORES))
    console.print(table)
