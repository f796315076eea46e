"""``clmer train``: a model from recordings or from simulated people. The defaults make the shipped ``clmer-va4``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_streaming.sources.simulation.config import PRESETS

if TYPE_CHECKING:
    from clmer_model.training.examples import Examples
    from clmer_model.training.train import TrainConfig

HELP = "train a model on recordings or on simulated people"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the recipe's default."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--cache", type=Path, help="folder in which examples are kept (OUT/examples)")
    parser.add_argument("--store", type=Path, help="windows of clmer prepare, in place of simulated people")
    parser.add_argument("--people", type=int, help="number of simulated people, all sides of the split")
    parser.add_argument("--trials", type=int, help="trials of each person")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="how strongly emotion shows")
    parser.add_argument("--epochs", type=int, help="epochs of the supervised stage")
    parser.add_argument("--pretrain-epochs", type=int, help="epochs of the contrastive stage; 0 leaves it out")
    parser.add_argument("--seed", type=int, help="of people, split, weights and batches")


def run(args: argparse.Namespace) -> int:
    """Train, and print the scores on people whom the model has not seen."""
    from rich.console import Console

    from clmer_model.training.train import train

    console = Console()
    config = config_from(args)
    checkpoint = train(config, args.out, args.cache or args.out / "examples", _printer(console), _progress(console))
    _print_scores(console, checkpoint.scores)
    console.print(f"checkpoint: {args.out}", highlight=False)
    return 0


def config_from(args: argparse.Namespace) -> TrainConfig:
    """Return the recipe that the options ask for."""
    from clmer_model.training.train import TrainConfig

    usual = TrainConfig() if args.store is None else _of_store(args.store)
    seed = usual.seed if args.seed is None else args.seed
    return dataclasses.replace(
        usual,
        n_people=usual.n_people if args.people is None else args.people,
        n_trials=usual.n_trials if args.trials is None else args.trials,
        sim_preset=args.preset or usual.sim_preset,
        seed=seed,
        pretrain=dataclasses.replace(
            usual.pretrain,
            seed=seed,
            epochs=usual.pretrain.epochs if args.pretrain_epochs is None else args.pretrain_epochs,
        ),
        fit=dataclasses.replace(usual.fit, seed=seed, epochs=usual.fit.epochs if args.epochs is None else args.epochs),
    )


def _of_store(folder: Path) -> TrainConfig:
    from clmer_model.training.store import open_store
    from clmer_model.training.train import TrainConfig

    store = open_store(folder)
    return TrainConfig(store=str(folder), trained_on=store.trained_on, preprocess=store.preprocess, labels=store.labels)


def _printer(console: Any) -> Any:
    def show(line: dict[str, Any]) -> None:
        if line["stage"] != "test":
            values = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items() if k != "stage")
            console.print(f"{line['stage']}: {', '.join(values)}", highlight=False)

    return show


def _progress(console: Any) -> Any:
    from rich.progress import track

    def progress(examples: Iterable[Examples], total: int) -> Iterable[Examples]:
        return track(examples, "simulating people", total=total, console=console)

    return progress


def _print_scores(console: Any, scores: Any) -> None:
    from rich.table import Table

    for split, subsets in scores.items():
        table = Table("modalities", "accuracy", "95 % interval", "balanced", "macro F1", "majority", title=split)
        for subset, values in subsets.items():
            low, high = values["interval"]
            numbers = [values[name] for name in ("balanced_accuracy", "macro_f1", "majority")]
            row = [subset, f"{values['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", *(f"{n:.3f}" for n in numbers)]
            table.add_row(*row)
        console.print(table)
