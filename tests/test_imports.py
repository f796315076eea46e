"""The rooms keep their order: server -> model -> streaming, never back; each heavy library has its place.

The source files are read, not imported, so that a violation is found in code that no test runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"clmer_streaming": "streaming", "clmer_model": "model", "clmer_server": "server"}
"""Package -> the source root that holds it."""


@dataclass(frozen=True)
class Import:
    """One imported name."""

    name: str  # dotted and absolute, the imported name included: "torch.nn"
    line: int
    lazy: bool  # within a function, or for the type checker alone

    def is_of(self, *modules: str) -> bool:
        """Tell whether this imports one of the modules, or from within one."""
        return any(self.name == module or self.name.startswith(f"{module}.") for module in modules)


@dataclass(frozen=True)
class Rule:
    """Which files may import some modules."""

    modules: tuple[str, ...]
    places: tuple[str, ...]  # path beginnings below a room
    lazy: bool = False  # and there inside functions only


RULES = (
    Rule(("clmer_server",), ("clmer_server/",)),
    Rule(("clmer_model",), ("clmer_model/", "clmer_server/")),
    Rule(
        ("clmer_model.training",),
        ("clmer_model/training/", "clmer_server/commands/", "clmer_server/archive/deletion.py"),
    ),
    Rule(("torch",), ("clmer_model/",)),
    Rule(("torch.jit",), ("clmer_model/export.py", "clmer_model/torchscript_runner.py")),
    Rule(
        ("pylsl", "cv2", "mediapipe"),
        (
            "clmer_streaming/clock.py",
            "clmer_streaming/sources/",
            "clmer_streaming/face/",
            "clmer_streaming/outlets.py",
        ),
        lazy=True,
    ),
    Rule(("mne", "edfio", "pyarrow"), ("clmer_server/archive/",), lazy=True),
    Rule(
        ("asyncio", "anyio", "fastapi", "uvicorn", "starlette", "pydantic", "pydantic_settings", "websockets"),
        ("clmer_server/",),
    ),
)


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether this is an ``if TYPE_CHECKING`` block."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def absolute(node: ast.ImportFrom, file: str) -> str:
    """Return the absolute name of the module of a ``from`` import in this file."""
    parents = file.split("/")[: -node.level] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports(node: ast.AST, file: str, *, lazy: bool = False) -> Iterator[Import]:
    """Yield every import below a node, and each use of ``torch.jit`` as if it were one."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(f"{absolute(child, file)}.{alias.name}", child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.Attribute) and ast.unparse(child) == "torch.jit":
            yield Import("torch.jit", child.lineno, lazy)
        inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(child)
        yield from imports(child, file, lazy=lazy or inner)


def violations(file: str, source: str) -> list[str]:
    """Return a line for each import in this source that breaks a rule.

    Args:
        file: The path below the room, with slashes: ``clmer_streaming/filters.py``.
        source: What the file holds.
    """
    lines = []
    for item in imports(ast.parse(source), file):
        for rule in RULES:
            if item.is_of(*rule.modules) and not (file.startswith(rule.places) and (item.lazy or not rule.lazy)):
                where = f"{'inside functions of ' if rule.lazy else ''}{', '.join(rule.places)}"
                lines.append(f"{file}:{item.line}: {item.name} belongs only in {where}")
                break
    return lines


def source_files() -> Iterator[tuple[str, Path]]:
    """Yield every source file of the three packages, with its path below its room."""
    for package, room in ROOMS.items():
        for path in sorted((ROOT / room / package).rglob("*.py")):
            yield path.relative_to(ROOT / room).as_posix(), path


def test_every_import_of_the_project_keeps_the_rule() -> None:
    """No room knows one above it, and no library is loaded where it does not belong."""
    files = list(source_files())
    assert {Path(file).parts[0] for file, _ in files} == set(ROOMS)
    assert [line for file, path in files for line in violations(file, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("clmer_streaming/filters.py", "import clmer_model"),
        ("clmer_streaming/filters.py", "def f():\n    from clmer_server.hub import Hub"),
        ("clmer_model/labels.py", "from clmer_server import hub"),
        ("clmer_model/labels.py", "from ..clmer_server import hub"),
        ("clmer_streaming/filters.py", "def f():\n    import cv2"),
        ("clmer_streaming/sources/lsl.py", "import pylsl"),
        ("clmer_streaming/sources/lsl.py", "class Inlet:\n    import pylsl"),
        ("clmer_server/session.py", "def f():\n    import mediapipe as mp"),
        ("clmer_server/session.py", "from torch import nn"),
        ("clmer_streaming/windows.py", "def f():\n    import torch.nn.functional as F"),
        ("clmer_model/encoder.py", "import torch\nx = torch.jit.script"),
        ("clmer_model/encoder.py", "from torch.jit import Final"),
        ("clmer_model/encoder.py", "from torch import jit"),
        ("clmer_streaming/sources/replay.py", "import asyncio"),
        ("clmer_model/artefact.py", "from pydantic import BaseModel"),
        ("clmer_model/predictor.py", "from clmer_model import training"),
        ("clmer_model/predictor.py", "from .training.train import train"),
        ("clmer_server/app.py", "def f():\n    import pyarrow"),
        ("clmer_server/app.py", "def f():\n    from clmer_model.training.train import train"),
    ],
)
def test_a_planted_violation_is_found(file: str, source: str) -> None:
    """Each way of breaking the rule is named with its file and line."""
    found = violations(file, source)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:{len(source.splitlines())}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("clmer_server/session.py", "from clmer_model.predictor import Predictor\nimport asyncio"),
        ("clmer_model/torchscript_runner.py", "import torch\nnet = torch.jit.load"),
        ("clmer_model/encoder.py", "from torch import nn\nfrom clmer_streaming.types import Window"),
        ("clmer_streaming/sources/lsl.py", "def f():\n    import pylsl"),
        ("clmer_streaming/face/process.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cv2"),
        ("clmer_server/commands/train.py", "def run():\n    from clmer_model.training.train import train"),
        ("clmer_model/training/train.py", "from . import examples"),
        ("clmer_streaming/xdf/reader.py", "from ..errors import RecordingError"),
    ],
)
def test_a_proper_import_is_left_alone(file: str, source: str) -> None:
    """What the design allows is not reported."""
    assert violations(file, source) == []
