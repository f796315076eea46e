"""The log of a training: one JSON line for each epoch, and a picture of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clmer_model.training.pretrain import Report

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
