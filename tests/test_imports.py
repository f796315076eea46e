"""The rooms keep their order: server -> model -> streaming, never back; each heavy library has its place.

The source files are read, not imported, so that a violation is found in code that no test runs.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

ROOMS = {"clmer_streaming": "streaming", "clmer_model": "model", "clmer_server": "server", "clmer": "server"}
"""Package -> the source root that holds it."""


@dataclass(frozen=True)
class Import:
    """One imported name."""

    name: str  # dotted and absolute, the imported name included: "torch.nn"
    line: int
    in_function: bool
    type_checking: bool  # for the type checker alone

    @property
    def lazy(self) -> bool:
        """Whether importing the file does not import this."""
        return self.in_function or self.type_checking

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
    Rule(("clmer",), ("clmer/",)),
    Rule(("clmer_server",), ("clmer_server/", "clmer/")),
    Rule(("clmer_model",), ("clmer_model/", "clmer_server/", "clmer/")),
    Rule(
        ("clmer_model.training", "clmer_model.data"),
        (
            "clmer_model/training/",
            "clmer_model/data/",
            "clmer_model/__init__.py",
            "clmer_server/commands/",
            "clmer_server/archive/deletion.py",
        ),
    ),
    Rule(("torch",), ("clmer_model/",)),
    Rule(("torch.jit",), ("clmer_model/export.py", "clmer_model/runtime.py")),
    Rule(("pylsl",), ("clmer_streaming/lsl/",), lazy=True),
    Rule(("cv2", "mediapipe"), ("clmer_streaming/face/",), lazy=True),
    Rule(("mne",), ("clmer_server/archive/", "clmer_model/electrodes.py"), lazy=True),
    Rule(("edfio", "pyarrow"), ("clmer_server/archive/",), lazy=True),
    Rule(("sklearn", "torchmetrics"), ("clmer_model/training/",)),
    Rule(
        ("asyncio", "anyio", "fastapi", "uvicorn", "starlette", "pydantic", "pydantic_settings", "websockets"),
        ("clmer_server/", "clmer/"),
    ),
)

MAX_MODULES = 15
"""That a folder may hold; ``commands`` has one for each command."""


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether this is an ``if TYPE_CHECKING`` block."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def absolute(node: ast.ImportFrom, file: str) -> str:
    """Return the absolute name of the module of a ``from`` import in this file."""
    parents = file.split("/")[: -node.level] if node.level else []
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports(node: ast.AST, file: str, *, in_function: bool = False, type_checking: bool = False) -> Iterator[Import]:
    """Yield every import below a node, and each use of ``torch.jit`` as if it were one."""
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        if isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            names = [f"{absolute(child, file)}.{alias.name}" for alias in child.names]
        elif isinstance(child, ast.Attribute) and ast.unparse(child) == "torch.jit":
            names = ["torch.jit"]
        yield from (Import(name, getattr(child, "lineno", 0), in_function, type_checking) for name in names)
        inner = in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(child, file, in_function=inner, type_checking=type_checking or is_type_checking(child))


def violations(file: str, source: str) -> list[str]:
    """Return a line for each import in this source that breaks a rule.

    Args:
        file: The path below the room, with slashes: ``clmer_streaming/pipeline/filters.py``.
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
    """Yield every source file of the packages, with its path below its room."""
    for package, room in ROOMS.items():
        for path in sorted((ROOT / room / package).rglob("*.py")):
            yield path.relative_to(ROOT / room).as_posix(), path


def test_every_import_of_the_project_keeps_the_rule() -> None:
    """No room knows one above it, and no library is loaded where it does not belong."""
    files = list(source_files())
    assert {Path(file).parts[0] for file, _ in files} == set(ROOMS)
    assert [line for file, path in files for line in violations(file, path.read_text(encoding="utf-8"))] == []


def test_no_folder_is_crowded() -> None:
    """A folder holds at most fifteen modules, so that its contents are read at a glance."""
    folders = Counter(str(Path(file).parent) for file, path in source_files() if path.name != "__init__.py")
    crowded = {folder: n for folder, n in folders.items() if n > MAX_MODULES}
    assert crowded.keys() <= {"clmer_server/commands"}


def circles(uses: Mapping[str, Set[str]]) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or by way of others."""
    reach = {name: set(used) for name, used in uses.items()}
    for middle, beyond in reach.items():
        for used in reach.values():
            if middle in used:
                used.update(beyond)
    return sorted({tuple(sorted(o for o in used if name in reach[o])) for name, used in reach.items() if name in used})


def module_uses() -> dict[str, set[str]]:
    """Return for each module the modules that it imports outside functions, for the type checker alone included."""
    modules = {file.removesuffix(".py").replace("/", "."): path for file, path in source_files()}
    uses: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        file = name.replace(".", "/") + ".py"
        for item in imports(ast.parse(path.read_text(encoding="utf-8")), file):
            if item.in_function:
                continue
            module = item.name if item.name in modules else item.name.rpartition(".")[0]
            if module in modules and module != name:
                uses[name].add(module)
    return uses


def test_no_modules_import_each_other() -> None:
    """There is no circle of imports, those for the type checker alone included."""
    assert circles(module_uses()) == []


def test_a_planted_circle_is_found() -> None:
    """Three modules in a ring are one circle; who only uses them is not in it."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("clmer_streaming/pipeline/filters.py", "import clmer_model"),
        ("clmer_streaming/pipeline/filters.py", "def f():\n    from clmer_server.hub import Hub"),
        ("clmer_model/config.py", "from clmer_server import hub"),
        ("clmer_model/config.py", "from ..clmer_server import hub"),
        ("clmer_streaming/sources/replay.py", "def f():\n    import pylsl"),
        ("clmer_server/cli.py", "import clmer"),
        ("clmer_streaming/pipeline/filters.py", "def f():\n    import cv2"),
        ("clmer_streaming/lsl/sources.py", "import pylsl"),
        ("clmer_streaming/lsl/sources.py", "class Inlet:\n    import pylsl"),
        ("clmer_server/session/session.py", "def f():\n    import mediapipe as mp"),
        ("clmer_server/session/session.py", "from torch import nn"),
        ("clmer_streaming/pipeline/window.py", "def f():\n    import torch.nn.functional as F"),
        ("clmer_model/network/encoder.py", "import torch\nx = torch.jit.script"),
        ("clmer_model/network/encoder.py", "from torch.jit import Final"),
        ("clmer_model/network/encoder.py", "from torch import jit"),
        ("clmer_streaming/sources/replay.py", "import asyncio"),
        ("clmer_model/artifact.py", "from pydantic import BaseModel"),
        ("clmer_model/predictor.py", "from clmer_model import training"),
        ("clmer_model/predictor.py", "from .training.train import train"),
        ("clmer_server/web/app.py", "def f():\n    import pyarrow"),
        ("clmer_server/web/app.py", "def f():\n    from clmer_model.training.train import train"),
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
        ("clmer_server/session/session.py", "from clmer_model.predictor import Predictor\nimport asyncio"),
        ("clmer_model/runtime.py", "import torch\nnet = torch.jit.load"),
        ("clmer_model/network/encoder.py", "from torch import nn\nfrom clmer_streaming.types import Window"),
        ("clmer_streaming/lsl/sources.py", "def f():\n    import pylsl"),
        ("clmer_streaming/face/process.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cv2"),
        ("clmer_server/commands/train.py", "def run():\n    from clmer_model.training.train import train"),
        ("clmer_model/training/train.py", "from . import examples"),
        ("clmer_streaming/xdf/reader.py", "from ..errors import RecordingError"),
    ],
)
def test_a_proper_import_is_left_alone(file: str, source: str) -> None:
    """What the design allows is not reported."""
    assert violations(file, source) == []
