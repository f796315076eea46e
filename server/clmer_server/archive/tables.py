"""Tables and the files that they are written to: CSV, TSV and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from clmer_streaming.errors import SettingsError

Cell: TypeAlias = str | float | int | bool | None
"""One value; None where nothing was measured."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Cell]]) -> Table:
        """Return a table of one or more rows, which all have the same keys."""
        names = tuple(rows[0])
        return cls(names, tuple(tuple(row[name] for name in names) for row in rows))


def write_csv(table: Table, path: Path) -> None:
    """Write a table as R and pandas read it: numbers in full, TRUE and FALSE, nothing where nothing was measured."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([_text(cell, "") for cell in row] for row in table.rows)


def tsv_text(table: Table, *, head: bool = True) -> str:
    """Return a table as BIDS wants it: tabs, ``n/a`` for what is missing, no tab or line break within a cell."""
    lines = [table.columns] if head else []
    rows = [[" ".join(_text(cell, "n/a").split()) or "n/a" for cell in row] for row in table.rows]
    return "".join("\t".join(row) + "\n" for row in (*lines, *rows))


def write_gzip(text: str, path: Path) -> None:
    """Write text compressed; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(buffer.getvalue())


def check_parquet() -> None:
    """Find out whether Parquet can be written.

    Raises:
        SettingsError: The library for it is not there.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "pyarrow, which writes Parquet", str(error), 'pip install -c constraints.txt -e ".[parquet]", or take csv'
        ) from error


def write_parquet(table: Table, path: Path) -> None:
    """Write a table with a type for each column: text, whole numbers, numbers, or true and false.

    Raises:
        SettingsError: The library for it is not there.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    columns = zip(*table.rows, strict=True)
    arrays = [pyarrow.array(cells, type=_type(pyarrow, cells)) for cells in columns]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(table.columns)), path)


def _type(pyarrow: Any, cells: Sequence[Cell]) -> Any:
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {bool} and kinds:
        return pyarrow.bool_()
    if kinds <= {int} and kinds:
        return pyarrow.int64()
    return pyarrow.string() if str in kinds else pyarrow.float64()


def _text(cell: Cell, missing: str) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return missing
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    return repr(cell) if isinstance(cell, float) else str(cell)
