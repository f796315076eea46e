"""How far a training is: bars on a terminal, lines in a log. Both go to the error stream, beside the scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from clmer_model.training.examples import Examples
    from clmer_model.training.train import TrainConfig

PEOPLE = "simulating people"
PEOPLE_LINES = 10  # of a log, at most, while people are simulated


class TrainingProgress(Protocol):
    """Is told how far a training is, and shows it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def people(self, made: Iterable[Examples], total: int) -> Iterable[Examples]:
        """Pass on each person's examples, of which there will be ``total``."""

    def show(self, line: dict[str, Any]) -> None:
        """Show a line of ``curves.jsonl``."""


def training_progress(console: Console, config: TrainConfig) -> TrainingProgress:
    """Return bars if the console is a terminal, else lines."""
    stages = stage_epochs(config)
    return Bars(console, stages) if console.is_terminal and not console.quiet else Lines(console, stages)


def stage_epochs(config: TrainConfig) -> dict[str, int]:
    """Return the epochs of each stage, in the order in which they come; those without any are left out."""
    contrast = {f"pretrain {name}": config.pretrain.epochs for name in config.preprocess.modalities}
    return {stage: epochs for stage, epochs in {**contrast, "fit": config.fit.epochs}.items() if epochs}


class Lines:
    """A line for each epoch, with all its losses.

    Args:
        console: Where they go.
        stages: The epochs of each stage.
    """

    def __init__(self, console: Console, stages: Mapping[str, int]) -> None:
        self._console, self._stages = console, stages

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave everything as it is."""

    def people(self, made: Iterable[Examples], total: int) -> Iterator[Examples]:
        """Pass on each person's examples, and say now and then how many there are."""
        for n, examples in enumerate(made, 1):
            yield examples
            if n * PEOPLE_LINES // total > (n - 1) * PEOPLE_LINES // total:
                _say(self._console, f"{PEOPLE}: {n} of {total}")

    def show(self, line: dict[str, Any]) -> None:
        """Print the line, but the scores of the test, which come as a table."""
        if line["stage"] in self._stages:
            values = {name: value for name, value in line.items() if name != "epoch"}
            _say(self._console, _text(values, f"epoch {line['epoch'] + 1} of {self._stages[line['stage']]}"))
        elif line["stage"] != "test":
            _say(self._console, _text(line))


class Bars:
    """A bar for each stage: epochs of all, losses, and the time that is left of this stage.

    Args:
        console: A terminal.
        stages: The epochs of each stage, in the order in which they come.
        clock: Seconds; tells the time that is left.
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
        """Leave the bars as they are."""
        self._bars.stop()

    def people(self, made: Iterable[Examples], total: int) -> Iterator[Examples]:
        """Pass on each person's examples, and move a bar."""
        task = self._bars.add_task(PEOPLE, total=total, losses="")
        yield from self._bars.track(made, total=total, task_id=task)

    def show(self, line: dict[str, Any]) -> None:
        """Move the bar of the line's stage; print what belongs to none, but the scores of the test."""
        stage = line["stage"]
        if stage in self._stages:
            self._move(stage, line)
        elif stage != "test":
            self._end_all()
            _say(self._console, _text(line))
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
        """Show the bar of the stage after this one, or of the first, before its first epoch is done."""
        names = list(self._stages)
        following = names[names.index(stage) + 1 :] if stage is not None else names
        if following:
            task = self._bars.add_task(following[0], total=self._stages[following[0]], losses="")
            self._bars.advance(task, 0)  # from here on its epochs are timed
            self._tasks[following[0]] = task

    def _end_all(self) -> None:
        """Take away bars of stages that were left out, and end those that stopped before their last epoch."""
        for task in self._bars.tasks:
            if task.completed:
                self._bars.update(task.id, total=task.completed)
            else:
                self._bars.update(task.id, visible=False)


def _losses(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {line[name]:.4f}" for name in ("loss", "validation") if name in line)


def _text(line: Mapping[str, Any], *first: str) -> str:
    values = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items() if k != "stage")
    return f"{line['stage']}: {', '.join([*first, *values])}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
