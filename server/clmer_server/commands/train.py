"""``clmer train``: train a model on recordings or on simulated people.

The defaults make the shipped ``clmer-va4``. In reading order: the command, the recipe that its options give, and
``TrainingProgress``, which shows a training as bars on a terminal and as lines elsewhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from clmer_streaming.errors import SettingsError
from clmer_streaming.simulation.config import PRESETS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from clmer_model.data.examples import Examples
    from clmer_model.training.config import TrainConfig


HELP = "train a model on recordings or on simulated people"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those not given keep the values of the preset."""
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
    group.add_argument(
        "--unlabelled", type=Path, metavar="DIR", help="recordings for the contrastive stage, beside those of --store"
    )
    group.add_argument("--lambda-sample", type=float, help="weight of the loss between two views of a window")
    group.add_argument("--lambda-temporal", type=float, help="weight of the loss between past and future; 0: without")
    negatives_help = "what the temporal loss tells the future from (slots of a face: time; all else, and points: batch)"
    group.add_argument("--negatives", choices=("batch", "time"), help=negatives_help)
    group.add_argument("--epochs", type=int, help="epochs of the supervised stage")
    group.add_argument("--stop-after", type=int, help="epochs without a better validation loss that end the training")
    group.add_argument(
        "--freeze", action=argparse.BooleanOptionalAction, help="keep the pre-trained extractors as they are"
    )


def run(args: argparse.Namespace) -> int:
    """Train, write the checkpoint, and print the scores on people whom the model has not seen."""
    from rich.console import Console

    from clmer_model.training.distributed import process_group
    from clmer_model.training.train import Run, train

    with process_group() as is_first:
        console, config = Console(quiet=not is_first), config_from(args)
        with training_progress(Console(stderr=True, quiet=not is_first), config) as progress:
            run = Run(args.out, args.cache or args.out / "examples", progress.show, progress.people, args.resume)
            checkpoint = train(config, run)
    _print_scores(console, checkpoint.scores)
    if not checkpoint.scores:
        console.print(
            "scores: none; with fewer than five people all are trained on. clmer evaluate tells what it is worth"
        )
    console.print(f"checkpoint: {args.out}", highlight=False)
    return 0


UNLABELLED_EPOCHS = 2
"""Epochs of the contrastive stage with --unlabelled alone."""


def config_from(args: argparse.Namespace) -> TrainConfig:
    """Return the training settings of a preset with the options applied.

    Raises:
        SettingsError: There is no such preset, a weight is out of range, or --unlabelled has nothing to serve.
        DatasetError: The store cannot be read.
        ArtifactError: The preset's number of heads does not divide the width.
    """
    from clmer_model.data.store import open_store
    from clmer_model.training.config import for_store, recipe

    if args.unlabelled is not None and (args.store is None or args.pretrain_epochs == 0):
        found = "no --store" if args.store is None else "--pretrain-epochs 0"
        raise SettingsError("--unlabelled with --store and a contrastive stage", found, "leave --unlabelled out")
    base = recipe(args.preset, args.width)
    base = base if args.store is None else for_store(base, args.store, open_store(args.store))
    epochs = args.pretrain_epochs
    if args.unlabelled is not None and epochs is None and not base.pretrain.epochs:
        epochs = UNLABELLED_EPOCHS
    pretrain = {
        "epochs": epochs,
        "lambda_sample": args.lambda_sample,
        "lambda_temporal": args.lambda_temporal,
        "negatives": args.negatives,
    }
    fit = {"epochs": args.epochs, "stop_after": args.stop_after, "freeze_encoders": args.freeze}
    both = {"seed": args.seed, "mixed_precision": args.mixed_precision}
    unlabelled = None if args.unlabelled is None else str(args.unlabelled)
    top = {"n_people": args.people, "n_trials": args.trials, "sim_preset": args.sim_preset, "device": args.device}
    return dataclasses.replace(
        base,
        **_given_options({**top, "seed": args.seed, "unlabelled": unlabelled}),
        pretrain=dataclasses.replace(base.pretrain, **_given_options({**pretrain, **both})),
        fit=dataclasses.replace(base.fit, **_given_options({**fit, **both})),
    )


def _given_options(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


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


_PEOPLE = "simulating people"
_PEOPLE_LINES = 10  # largest number of lines about them


class TrainingProgress(Protocol):
    """Display of a training's progress; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def people(self, made: Iterable[Examples], total: int) -> Iterable[Examples]:
        """Yield each person's examples, and show how many of ``total`` people are done."""

    def show(self, line: dict[str, Any]) -> None:
        """Show a line of the training's log ``curves.jsonl``."""


def training_progress(console: Console, config: TrainConfig) -> TrainingProgress:
    """Return the display for a console: bars on a terminal, else lines."""
    stages = stage_epochs(config)
    return BarProgress(console, stages) if console.is_terminal and not console.quiet else LineProgress(console, stages)


def stage_epochs(config: TrainConfig) -> dict[str, int]:
    """Return the number of epochs of each stage, in order; stages without epochs are left out."""
    contrast = {f"pretrain {name}": config.pretrain.epochs for name in config.preprocess.modalities}
    return {stage: epochs for stage, epochs in {**contrast, "fit": config.fit.epochs}.items() if epochs}


class LineProgress:
    """Progress as lines: one for each epoch, with all its losses.

    Args:
        console: Console that is printed to.
        stages: Number of epochs of each stage.
    """

    def __init__(self, console: Console, stages: Mapping[str, int]) -> None:
        self._console, self._stages = console, stages

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""

    def people(self, made: Iterable[Examples], total: int) -> Iterator[Examples]:
        """Yield each person's examples; print from time to time how many people are done."""
        for n, examples in enumerate(made, 1):
            yield examples
            if n * _PEOPLE_LINES // total > (n - 1) * _PEOPLE_LINES // total:
                _print_line(self._console, f"{_PEOPLE}: {n} of {total}")

    def show(self, line: dict[str, Any]) -> None:
        """Print a line of the log, unless it holds the test scores, which are printed as a table."""
        if line["stage"] in self._stages:
            values = {name: value for name, value in line.items() if name != "epoch"}
            _print_line(
                self._console, _line_text(values, f"epoch {line['epoch'] + 1} of {self._stages[line['stage']]}")
            )
        elif line["stage"] != "test":
            _print_line(self._console, _line_text(line))


class BarProgress:
    """Progress as bars: one for each stage, with its epochs, losses and remaining time.

    Args:
        console: Console of a terminal.
        stages: Number of epochs of each stage, in order.
        clock: Returns seconds, for the remaining time.
    """

    def __init__(
        self, console: Console, stages: Mapping[str, int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._stages = console, stages
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            speed_estimate_period=math.inf,
            get_time=clock,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the display; the bars stay visible."""
        self._bars.stop()

    def people(self, made: Iterable[Examples], total: int) -> Iterator[Examples]:
        """Yield each person's examples, and move a bar."""
        task = self._bars.add_task(_PEOPLE, total=total, losses="")
        yield from self._bars.track(made, total=total, task_id=task)

    def show(self, line: dict[str, Any]) -> None:
        """Move the bar of the line's stage; print a line of no stage, unless it holds the test scores."""
        stage = line["stage"]
        if stage in self._stages:
            self._move(stage, line)
        elif stage != "test":
            self._end_all()
            _print_line(self._console, _line_text(line))
        if stage == "examples":
            self._begin_next(None)

    def _move(self, stage: str, line: dict[str, Any]) -> None:
        done, losses = line["epoch"] + 1, _losses(line)
        if stage in self._tasks:
            self._bars.update(self._tasks[stage], completed=done, losses=losses)
        else:
            self._end_all()
            self._tasks[stage] = self._bars.add_task(stage, total=self._stages[stage], completed=done, losses=losses)
        if done == self._stages[stage]:
            self._begin_next(stage)

    def _begin_next(self, stage: str | None) -> None:
        """Show the bar of the stage after this one, or of the first one, before its first epoch is done."""
        names = list(self._stages)
        following = names[names.index(stage) + 1 :] if stage is not None else names
        if following:
            task = self._bars.add_task(following[0], total=self._stages[following[0]], losses="")
            self._bars.advance(task, 0)  # from here on its epochs are timed
            self._tasks[following[0]] = task

    def _end_all(self) -> None:
        """Hide the bars of skipped stages, and complete those of stages that stopped early."""
        for task in self._bars.tasks:
            if task.completed:
                self._bars.update(task.id, total=task.completed)
            else:
                self._bars.update(task.id, visible=False)


def _losses(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {line[name]:.4f}" for name in ("loss", "validation") if name in line)


def _line_text(line: Mapping[str, Any], *first: str) -> str:
    values = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items() if k != "stage")
    return f"{line['stage']}: {', '.join([*first, *values])}"


def _print_line(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
