"""Every benchmark runs in small and gives rows that a program can read, or says what it lacks."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

FILES = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}

TABLES = {
    "pipeline": {"push", "predict"},
    "model": {"speed"},
    "clock": {"error", "lateness"},
    "comparison": {"training", "validation scores", "validation differences", "test scores", "test differences"},
    "faces": {"steps", "videos"},
    "server": {"broadcast", "flood", "ready"},
    "streams": {"windows", "playing", "replay"},
    "small_data": {"simulated40"},
}
"""The tables of the benchmarks that need no sample recordings."""

SLOW = {"comparison", "faces", "small_data", "streams"}  # more than five seconds on a busy machine
DEEP = {"server"}


def run(name: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark from the repository root, without a GPU."""
    own = {key: value for key, value in os.environ.items() if key != "CLMER_TEST_DATA"}
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", "--tiny", *options]
    variables = {**own, "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def rows_of(done: subprocess.CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    """Return the rows on standard output, all of this benchmark."""
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert {row["benchmark"] for row in rows} == {name}
    return rows


def has_rivals() -> bool:
    return all(importlib.util.find_spec(module) is not None for module in ("mne_lsl", "mne", "pyxdf"))


def marked(name: str) -> Any:
    marks = [pytest.mark.slow] if name in SLOW else [pytest.mark.deep] if name in DEEP else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [marked(name) for name in TABLES])
def test_a_benchmark_runs_in_small(name: str) -> None:
    """It ends with code 0, or 2 and a line that names what is missing; its JSON has every table with figures."""
    done = run(name, "--json", "-")
    if name == "streams" and not has_rivals():
        assert done.returncode == 2, done.stderr
        assert "not installed" in done.stderr.splitlines()[-1]
    else:
        assert done.returncode == 0, done.stderr
    rows = rows_of(done, name)
    assert {row["table"] for row in rows} == TABLES[name]
    for table in TABLES[name]:
        figures = [value for row in rows if row["table"] == table for value in row.values()]
        assert any(isinstance(value, int | float | dict) for value in figures), table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["eye_state", "appearance_cues"])
def test_a_benchmark_of_recordings_runs_in_small(name: str, sample_data: Path, tmp_path: Path) -> None:
    """With the sample recordings there are rows in the named file, and tables on standard output."""
    out = tmp_path / "rows.json"
    done = run(name, "--json", str(out), CLMER_TEST_DATA=str(sample_data))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {row["benchmark"] for row in json.loads(out.read_text(encoding="utf-8"))} == {name}


@pytest.mark.parametrize(
    ("name", "said"),
    [("eye_state", "CLMER_TEST_DATA"), ("appearance_cues", "CLMER_TEST_DATA")],
)
def test_a_benchmark_that_lacks_something_says_so(name: str, said: str) -> None:
    """It ends with code 2 and one line, and prints nothing else."""
    done = run(name)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line


def test_every_benchmark_is_run_here() -> None:
    """A new one must be added to this file; ``gpu`` has one of its own."""
    assert {*TABLES, "eye_state", "appearance_cues", "gpu"} == FILES
