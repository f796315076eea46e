"""The examples: every public name has one, and all of them run; so do those of docs/python.md, and the notebook."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import clmer
from tests.support.lsl_outlet import headset
from tests.support.paths import ROOT
from tests.support.serving import Service, clean_environment

ADDRESS = "ws://127.0.0.1:8765"
"""Where the service is in the examples."""

Run = Callable[[str, dict[str, object]], None]
"""Runs an example in a namespace."""

HEAVY = ("numpy", "torch", "pydantic", "websockets", "fastapi", "pandas", "pylsl", "cv2", "mediapipe")
"""What an import must not bring along."""


def examples_of(docstring: str | None) -> list[str]:
    """Return the code behind each ``Example::`` of a docstring."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    found = []
    for at, line in enumerate(lines):
        if line == "Example::":
            rest = lines[at + 1 :]
            end = next((i for i, text in enumerate(rest) if text and not text.startswith(" ")), len(rest))
            found.append(textwrap.dedent("\n".join(rest[:end])).strip() + "\n")
    return found


def documented() -> Iterator[tuple[str, str | None]]:
    """Yield every public name with its docstring, and the public methods of the classes defined for it."""
    for name in clmer.__all__:
        value = getattr(clmer, name)
        yield name, value.__doc__
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and isinstance(inspect.getdoc(member), str):
                    yield f"{name}.{attribute}", member.__doc__


EXAMPLES = [
    pytest.param(code, id=name, marks=[pytest.mark.lsl] if "Session.live(" in code else [])
    for name, text in documented()
    for code in examples_of(text)
]


@pytest.fixture
def run(lab: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Run:
    """Runs an example in a folder with the files that it names, beside a service and a headset where it needs them."""
    monkeypatch.chdir(lab)

    def run_code(code: str, namespace: dict[str, object]) -> None:
        if ADDRESS in code:
            service: Service = request.getfixturevalue("looping")
            code = code.replace(ADDRESS, f"ws://{service.address}")
        with headset() if "Session.live(" in code else nullcontext():
            exec(compile(code, "example", "exec"), namespace)

    return run_code


@pytest.mark.parametrize("name", clmer.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    """Each docstring holds at least one example, which uses the package."""
    assert any("clmer." in code for code in examples_of(getattr(clmer, name).__doc__))


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_examples_run(code: str, run: Run) -> None:
    """Each example works as it stands."""
    run(code, {"clmer": clmer, "time": time})


@pytest.mark.lsl
@pytest.mark.slow
def test_the_page_runs(run: Run) -> None:
    """The blocks of docs/python.md work one after the other."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == text.count("```python")
    namespace: dict[str, object] = {}
    for block in blocks:
        run(block, namespace)


def test_the_block_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From the root of the repository, as it stands there."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## From Python\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(ROOT)
    exec(block, {})
    assert "valence" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own parts among each other
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.name)
def test_the_notebooks_run(path: Path) -> None:
    """Each notebook runs from its first cell to its last, and is kept without what came of it."""
    import nbformat
    from nbclient import NotebookClient

    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [
        cell.id for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ] == []
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert "image/png" in notebook.cells[-1].outputs[-1].data
    assert "simulated" in notebook.cells[0].source
    assert "trained_on" in notebook.cells[-1].source


def test_the_program_for_stimuli_runs(looping: Service) -> None:
    """It marks each stimulus, and tells what was estimated meanwhile."""
    program = [sys.executable, str(ROOT / "examples" / "mark_stimuli.py"), "calm", "joy", "--seconds", "3"]
    url = f"ws://{looping.address}"
    ran = subprocess.run([*program, "--url", url], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == "model clmer-va4, trained on simulated data"
    assert re.search(r"^joy: mean valence 0\.\d\d, [1-3] windows$", ran.stdout, re.MULTILINE)


def test_the_import_is_lazy() -> None:
    """``import clmer`` takes less than 0.2 s, and loads nothing heavy."""
    code = f"import clmer, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=clean_environment(),
    )
    (cumulative_us,) = re.findall(r"\| +(\d+) \| clmer$", ran.stderr, re.MULTILINE)
    assert ran.stdout.strip() == "[]"
    assert int(cumulative_us) < 200_000


def test_names_are_public_and_complete() -> None:
    """What the package offers is what it lists, and an unknown name is said to be unknown."""
    assert set(clmer.__all__) <= set(dir(clmer))
    assert all(getattr(clmer, name).__name__ == name for name in clmer.__all__)
    with pytest.raises(AttributeError, match="'clmer' has no attribute 'predictor'"):
        clmer.predictor  # noqa: B018
