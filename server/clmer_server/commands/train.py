"""``clmer train``: a model from recordings or from simulated people. The defaults make the shipped ``clmer-va4``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_streaming.sources.simulation.config import PRESETS

if TYPE_CHECKING:
    from clmer_model.training.train import TrainConfig

HELP = "train a model on recordings or on simulated people"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what is not given keeps the preset's recipe."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the curves")
    parser.add_argument("--cache", type=Path, help="folder in which examples are kept (OUT/examples)")
    parser.add_argument("--store", type=Path, help="windows of clmer prepare, in place of simulated people")
    parser.add_argument("--resume", action="store_true", help="go on where the interrupted training in OUT was")
    _add_people(parser.add_argument_group("simulated people"))
    _add_network(parser.add_argument_group("network"))
    _add_stages(parser.add_argument_group("stages"))


def _add_people(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--people", type=int, help="number of simulated people, all sides of the split")
    group.add_argument("--trials", type=int, help="trials of each person")
    group.add_argument("--sim-preset", choices=sorted(PRESETS), help="how strongly emotion shows")
    group.add_argument("--seed", type=int, help="of people, split, weights and batches")


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--preset", default="default", help="default (for real time) or paper (the paper's layout)")
    group.add_argument("--width", type=int, help="width of a token, the paper's token length L")
    group.add_argument("--device", help="cpu, cuda, cuda:N or auto")
    group.add_argument("--mixed-precision", action="store_true", help="bfloat16 where it is safe; needs CUDA")


def _add_stages(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--pretrain-epochs", type=int, help="epochs of the contrastive stage; 0 leaves it out")
    group.add_argument("--lambda-sample", type=float, help="weight of the loss between two views of a window")
    group.add_argument("--lambda-temporal", type=float, help="weight of the loss between past and future; 0: without")
    told_from = "what the temporal loss tells the future from (slots of a face: time; all else, and points: batch)"
    group.add_argument("--negatives", choices=("batch", "time"), help=told_from)
    group.add_argument("--epochs", type=int, help="epochs of the supervised stage")
    group.add_argument("--stop-after", type=int, help="epochs without a better validation loss that end the training")
    group.add_argument(
        "--freeze", action=argparse.BooleanOptionalAction, help="keep the pre-trained extractors as they are"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print the scores on people whom the model has not seen."""
    from rich.console import Console

    from clmer_model.training.ranks import joined
    from clmer_model.training.train import Run, train
    from clmer_server.commands.train_progress import training_progress

    with joined() as is_first:
        console, config = Console(quiet=not is_first), config_from(args)
        with training_progress(Console(stderr=True, quiet=not is_first), config) as progress:
            run = Run(args.out, args.cache or args.out / "examples", progress.show, progress.people, args.resume)
            checkpoint = train(config, run)
    _print_scores(console, checkpoint.scores)
    console.print(f"checkpoint: {args.out}", highlight=False)
    return 0


def config_from(args: argparse.Namespace) -> TrainConfig:
    """Return the recipe that the options ask for.

    Raises:
        SettingsError: There is no such preset, or a weight is out of range.
        ArtefactError: The preset's heads do not divide the width.
    """
    from clmer_model.training.recipes import recipe

    usual = recipe(args.preset, args.width)
    usual = usual if args.store is None else _of_store(usual, args.store)
    pretrain = {
        "epochs": args.pretrain_epochs,
        "lambda_sample": args.lambda_sample,
        "lambda_temporal": args.lambda_temporal,
        "negatives": args.negatives,
    }
    fit = {"epochs": args.epochs, "stop_after": args.stop_after, "freeze_encoders": args.freeze}
    both = {"seed": args.seed, "mixed_precision": args.mixed_precision}
    top = {"n_people": args.people, "n_trials": args.trials, "sim_preset": args.sim_preset, "device": args.device}
    return dataclasses.replace(
        usual,
        **_given({**top, "seed": args.seed}),
        pretrain=dataclasses.replace(usual.pretrain, **_given({**pretrain, **both})),
        fit=dataclasses.replace(usual.fit, **_given({**fit, **both})),
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _of_store(usual: TrainConfig, folder: Path) -> TrainConfig:
    from clmer_model.training.store import open_store

    store = open_store(folder)
    return dataclasses.replace(
        usual, store=str(folder), trained_on=store.trained_on, preprocess=store.preprocess, labels=store.labels
    )


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
