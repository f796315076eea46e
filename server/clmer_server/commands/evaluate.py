"""``clmer evaluate``: score one model on four kinds of split side by side, so that leaks between them show."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_streaming.errors import DatasetError, SettingsError

if TYPE_CHECKING:
    from clmer_model.data.store import WindowStore
    from clmer_model.training.compare import Estimator
    from clmer_model.training.config import TrainConfig
    from clmer_model.training.splits import Split, SplitKind


HELP = "score a model on random windows, trials, unseen people and unseen stimuli"

PRESETS = ("default", "paper", "neighbours")

SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1 (Eq. 10-13)",
    "macro_f1": "macro F1",
    "kappa": "kappa",
    "calibration_error": "calibration error (ECE)",
    "eq8_as_printed": "Eq. 8-9 as printed (may pass 1)",
    "eq8_over_all": "Eq. 8-9 over all samples",
    "majority": "baseline: majority",
    "prior": "baseline: prior",
}
"""Titles of the scores in the table, in its order."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("store", type=Path, help="folder that clmer prepare wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and the split files")
    parser.add_argument(
        "--preset", choices=PRESETS, default="default", help="a network, or nearest neighbours (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, help="epochs of the supervised stage")
    parser.add_argument("--pretrain-epochs", type=int, help="epochs of the contrastive stage; 0 leaves it out")
    parser.add_argument("--shuffles", type=int, default=5, help="how often each split is drawn (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of splits, weights and batches (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or auto, of the network (%(default)s)")
    parser.add_argument("--splits", type=Path, metavar="DIR", help="take the split files in this folder")


def run(args: argparse.Namespace) -> int:
    """Train and score every split and shuffle; print the table, and write it as ``report.json``.

    Raises:
        SettingsError: An option is out of range.
        DatasetError: The store or a split file cannot be read.
    """
    from rich.console import Console

    from clmer_model.data.store import open_store, write_json
    from clmer_model.predictor import choose_device
    from clmer_model.training.compare import REPORT_NAME, compare, make_report, summary

    for name, least in (("shuffles", 1), ("epochs", 1), ("pretrain_epochs", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise SettingsError(f"--{name.replace('_', '-')} of {least} or more", str(value), "raise it")
    choose_device(args.device)
    store = open_store(args.store)
    splits = _read_splits(args.splits, store) if args.splits else _draw_splits(args, store)
    console = Console()
    config = None if args.preset == "neighbours" else _config(args, store)
    predictions = compare(store, splits, _estimator(config, store), _progress(console))
    report = make_report(store, summary(store, predictions, args.seed), config, args.seed)
    write_json(args.out / REPORT_NAME, report)
    _print(console, report)
    console.print(f"written: {args.out / REPORT_NAME}, {args.out / 'splits'}", highlight=False, soft_wrap=True)
    return 0


def _draw_splits(args: argparse.Namespace, store: WindowStore) -> dict[SplitKind, list[Split]]:
    """Return every split that can be computed, and write each into a file."""
    from clmer_model.data.store import write_json
    from clmer_model.training.splits import PROTOCOLS, draw_split, reason_uncomputable, split_to_dict

    splits = {
        protocol: [draw_split(store, protocol, shuffle, args.seed) for shuffle in range(1, args.shuffles + 1)]
        for protocol in PROTOCOLS
        if not reason_uncomputable(store, protocol)
    }
    for protocol, shuffles in splits.items():
        for split in shuffles:
            write_json(args.out / "splits" / f"{protocol}-{split.shuffle}.json", split_to_dict(split, store, args.seed))
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
    return splits


def _config(args: argparse.Namespace, store: WindowStore) -> TrainConfig:
    from clmer_model.training.config import recipe

    base = recipe(args.preset)
    pretrain = base.pretrain.epochs if args.pretrain_epochs is None else args.pretrain_epochs
    epochs = base.fit.epochs if args.epochs is None else args.epochs
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


def _estimator(config: TrainConfig | None, store: WindowStore) -> Estimator:
    from clmer_model.training.compare import NeighborEstimator, NetworkEstimator

    if config is None:
        return NeighborEstimator(len(store.labels), store.preprocess)
    return NetworkEstimator(config, report=lambda line: None)


def _progress(console: Any) -> Any:
    from rich.progress import track

    def progress(splits: Iterable[Split]) -> Iterable[Split]:
        return track(splits, "training", console=console, transient=True)

    return progress


def _print(console: Any, report: Mapping[str, Any]) -> None:
    """Print the scores, the controls, and for each split the confusion matrix with the scores of each class."""
    from clmer_model.training.compare import ROWS

    splits = list(report["splits"].values())
    table = _table(
        f"{report['preset']}, trained on {report['trained_on']}", ["", *(split["title"] for split in splits)]
    )
    for name, title in SCORES.items():
        table.add_row(title, *(_score_cell(split, "all", name) for split in splits))
    table.add_section()
    for row, title in ROWS.items():
        table.add_row(f"accuracy: {title}", *(_score_cell(split, row, "accuracy") for split in splits))
    table.add_section()
    table.add_row("windows, people in the tests", *(_count_cell(split) for split in splits))
    console.print(table)
    console.print(
        "Mean ± SD over the shuffles; in brackets the 95 % interval over the people of all, where there are several.",
        highlight=False,
    )
    if report.get("recipe", {}).get("fit", {}).get("modality_dropout") == 0:
        console.print(
            "EEG alone: by a network of its own. This recipe shows whole windows only, and what it makes of one "
            "without a face means nothing.",
            highlight=False,
        )
    for split in splits:
        if not split["reason"]:
            _print_confusion(console, split, report["labels"])


def _table(title: str, columns: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    return table


def _score_cell(split: Mapping[str, Any], row: str, name: str) -> str:
    if split["reason"]:
        return str(split["reason"]) if (row, name) == ("all", "accuracy") else ""
    if row not in split["rows"]:
        return "-"
    scores = split["rows"][row]
    text = f"{scores['mean'][name]:.3f} ± {scores['sd'][name]:.3f}"
    if name not in scores["interval"]:
        return text
    low, high = scores["interval"][name]
    return f"{text}\n({low:.3f} to {high:.3f})"


def _count_cell(split: Mapping[str, Any]) -> str:
    if split["reason"]:
        return ""
    scores = split["rows"]["all"]
    return f"{sum(scores['n_windows'])}, {scores['n_people']}"


def _print_confusion(console: Any, split: Mapping[str, Any], labels: Sequence[str]) -> None:
    from clmer_model.training.evaluate import CLASS_SCORES

    scores = split["rows"]["all"]
    table = _table(f"{split['title']}: truth (row) and answer (column)", ["", *labels, *CLASS_SCORES])
    for label, counts in zip(labels, scores["confusion"], strict=True):
        of_class = scores["classes"][label]
        table.add_row(label, *map(str, counts), *(f"{of_class[name]:.3f}" for name in CLASS_SCORES))
    console.print(table)
