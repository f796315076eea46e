"""Options, tables and machine-readable rows, the same for every benchmark.

A benchmark makes a parser with ``make_parser``, fills ``Table`` objects row by row, and hands them to a ``Report``,
which prints them and, with ``--json``, writes every row as an object of one JSON array::

    {"benchmark": "clock", "table": "error", "gap_s": 0.25, "by": "CLMER", "after_0_s_ms": 1.9, ...}

Numbers are not rounded there; a value that was not measured is null, a dataclass (an interval) an object of its fields.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

MISSING = 2
"""Exit code of a benchmark that lacks something here; ``scripts/bench`` continues after it."""

Value = Any
"""A string, a number, None where nothing was measured, or a dataclass, which is printed by its ``__str__``."""


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark, ``--tiny`` and ``--json``.

    Args:
        doc: The docstring of the benchmark's module, which becomes the description.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="measure for seconds only, to show that the program works")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too; - for standard output")
    return parser


def report_missing(text: str) -> int:
    """Print what is missing to standard error, and return the exit code."""
    print(text, file=sys.stderr)
    return MISSING


class Table:
    """A table of figures, filled row by row.

    Args:
        name: Short name, kept in each row of the JSON.
        title: Title above the printed table.
        columns: Format of the values by column, such as ``p50_ms=".2f"``; the printed head is the name with spaces.

    Example::

        table = Table("speed", "Speed of the signal path", step="", p50_ms=".3f")
        table.add(step="push", p50_ms=0.21)
    """

    def __init__(self, name: str, title: str, **columns: str) -> None:
        self.name = name
        self.title = title
        self.columns = columns
        self.rows: list[dict[str, Value]] = []

    def add(self, **values: Value) -> None:
        """Add a row, with numbers of Python or NumPy; columns that are not named are None.

        Raises:
            ValueError: There is no such column.
        """
        if unknown := values.keys() - self.columns.keys():
            raise ValueError(f"expected columns {list(self.columns)}, got {sorted(unknown)}")
        self.rows.append({name: _plain(values.get(name)) for name in self.columns})

    def cells(self) -> list[list[str]]:
        """Return the printed head and rows."""
        head = [name.replace("_", " ") for name in self.columns]
        return [head, *([_cell(row[name], spec) for name, spec in self.columns.items()] for row in self.rows)]


class Report:
    """Prints tables, and writes their rows as JSON when its context ends.

    With ``--json -`` everything else goes to standard error.

    Args:
        benchmark: Name of the benchmark, kept in each row.
        json_path: Where the JSON goes; ``-`` for standard output, None for nowhere.
    """

    def __init__(self, benchmark: str, json_path: str | None) -> None:
        self._benchmark = benchmark
        self._json_path = json_path
        self._file = sys.stderr if json_path == "-" else sys.stdout
        self._rows: list[dict[str, Value]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._json_path is not None:
            text = json.dumps(self._rows, indent=1, allow_nan=False, default=dataclasses.asdict) + "\n"
            if self._json_path == "-":
                sys.stdout.write(text)
            else:
                Path(self._json_path).write_text(text, encoding="utf-8")

    def print(self, text: str) -> None:
        """Print a line."""
        print(text, file=self._file, flush=True)

    def show(self, *tables: Table, markdown: bool = False) -> None:
        """Print tables and keep their rows.

        Args:
            tables: The tables.
            markdown: Print them in Markdown; else drawn by rich.
        """
        for table in tables:
            self._rows += [{"benchmark": self._benchmark, "table": table.name, **row} for row in table.rows]
            if markdown:
                self.print(f"\n{table.title}\n\n{to_markdown(table.cells())}")
            else:
                self._draw(table)

    def _draw(self, table: Table) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        head, *rows = table.cells()
        drawn = RichTable(*head, title=table.title, title_justify="left", box=box.SQUARE)
        for row in rows:
            drawn.add_row(*map(Text, row))
        Console(file=self._file, width=140).print(drawn)


def to_markdown(cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])


def percentiles_ms(seconds: npt.ArrayLike, *percentiles: float) -> list[float | None]:
    """Return percentiles of times in ms, of the finite ones; None where there is none."""
    values = np.asarray(seconds, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return [None] * len(percentiles)
    return [float(value) for value in np.percentile(values, percentiles) * 1e3]


def _plain(value: Value) -> Value:
    """Return a value as JSON has it: no NumPy types, no NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _cell(value: Value, spec: str) -> str:
    if value is None:
        return "-"
    return format(value, spec) if isinstance(value, int | float) else str(value)
