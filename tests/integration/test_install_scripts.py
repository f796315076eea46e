"""The installation says what is missing in one line, mends what broke off, and does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPTS = ROOT / "scripts"


def make_program(folder: Path, name: str, script: str) -> Path:
    """Write a shell script that can be run by its name."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def find_python(path: Path, python: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``scripts/find-python`` with nothing but ``path`` to look in."""
    environment = {"PATH": str(path), "PYTHON": python}
    command = ["/bin/sh", str(SCRIPTS / "find-python")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_running_python_is_accepted() -> None:
    """An interpreter of the right version is printed as one absolute path."""
    found = find_python(Path("/nonexistent"), sys.executable)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_absolute()
    assert found.stderr == ""


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ('echo "version 3.9"', "is 3.9"),
        ('echo "no-venv 3.11"', "apt-get install python3.11-venv"),
        ("echo 'command not found' >&2; exit 127", "does not run"),
    ],
    ids=["old", "without venv", "broken"],
)
def test_a_named_python_that_cannot_serve_is_refused(tmp_path: Path, script: str, complaint: str) -> None:
    """PYTHON= is never replaced by another one: one line says what is wrong with it."""
    program = make_program(tmp_path, "python3.11", script)
    found = find_python(tmp_path, str(program))
    assert found.returncode == 1
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert complaint in found.stderr
    assert str(program) in found.stderr


def test_a_shim_that_fails_does_not_hide_a_python_that_works(tmp_path: Path) -> None:
    """The search goes on behind a name that cannot be run."""
    make_program(tmp_path / "shims", "python3.11", "exit 127")
    make_program(tmp_path / "real folder", "python3.12", f'exec "{sys.executable}" "$@"')
    path = os.pathsep.join([str(tmp_path / "shims"), str(tmp_path / "real folder")])
    found = find_python(Path(path))
    assert found.returncode == 0, found.stderr


def test_without_any_python_one_line_says_what_to_do(tmp_path: Path) -> None:
    """The line names what is needed and what was met."""
    make_program(tmp_path, "python3", 'echo "version 3.13"')
    found = find_python(tmp_path)
    assert found.returncode == 1
    assert len(found.stderr.splitlines()) == 1
    assert "3.11 or 3.12" in found.stderr
    assert f"only 3.13 ({tmp_path}/python3)" in found.stderr


def test_uv_is_asked_when_there_is_no_python(tmp_path: Path) -> None:
    """A Python that uv brings is used like any other."""
    make_program(tmp_path, "uv", f'[ "$1 $2" = "python install" ] && echo getting >&2 || echo "{sys.executable}"')
    found = find_python(tmp_path)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).is_absolute()


@pytest.mark.parametrize("name", ["find-python", "install", "check", "test", "test-deep", "weights", "bench"])
def test_the_scripts_are_plain_shell(name: str) -> None:
    """Every script is readable by /bin/sh, which need not be bash."""
    parsed = subprocess.run(["/bin/sh", "-n", str(SCRIPTS / name)], capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr


STANDING_IN_FOR_PYTHON = """
case "$*" in
    *ensurepip*) echo "good $0" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install "*) echo "$*" >>"$PIP_CALLS"; exit "${PIP_FAILS:-0}" ;;
    "-m pip "* | *system_packages.py | *cv2*) ;;
    *) exec "$REAL_PYTHON" "$@" ;;
esac
"""
"""A Python whose pip installs nothing and keeps a list of what it was asked for."""


class Checkout:
    """A checkout with nothing in it but what ``scripts/install`` reads."""

    def __init__(self, root: Path) -> None:
        self.root = root / "with a space"
        (self.root / "scripts").mkdir(parents=True)
        for name in ("install", "find-python"):
            shutil.copy(SCRIPTS / name, self.root / "scripts" / name)
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "constraints.txt").write_text("torch==2.13.0\n")
        self.python = make_program(root / "bin", "python3.11", STANDING_IN_FOR_PYTHON)
        make_program(root / "bin", "df", 'printf "header\\nfs 0 0 %s 0%% /\\n" "${FREE_KB:-8000000}"')
        self.calls = root / "calls"

    def install(self, **environment: str) -> list[str]:
        """Run ``scripts/install`` and return what pip was asked for by it."""
        self.calls.write_text("")
        fixed = {"PATH": f"{self.python.parent}:/usr/bin:/bin", "REAL_PYTHON": sys.executable}
        command = ["/bin/sh", str(self.root / "scripts" / "install")]
        run = subprocess.run(
            command,
            env={**fixed, "PIP_CALLS": str(self.calls), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.stderr = run.stderr
        assert (run.returncode == 0) == (not {"PIP_FAILS", "FREE_KB"} & set(environment)), run.stderr
        return self.calls.read_text().splitlines()


def test_a_second_installation_does_nothing(tmp_path: Path) -> None:
    """As long as the project's files stay as they are, pip is not even started."""
    checkout = Checkout(tmp_path)
    assert checkout.install() == ["-m pip install -c constraints.txt -e .[dev]"]
    assert checkout.install() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_into_what_is_there(tmp_path: Path, name: str) -> None:
    """A new dependency reaches an environment without making it anew."""
    checkout = Checkout(tmp_path)
    checkout.install()
    (checkout.root / ".venv" / "kept").touch()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")
    assert len(checkout.install()) == 1
    assert (checkout.root / ".venv" / "kept").exists()


def test_an_installation_that_broke_off_starts_anew(tmp_path: Path) -> None:
    """What a failed run left behind is never taken for a working environment."""
    checkout = Checkout(tmp_path)
    checkout.install(PIP_FAILS="1")
    (checkout.root / ".venv" / "left over").touch()
    assert len(checkout.install()) == 1
    assert not (checkout.root / ".venv" / "left over").exists()


def test_too_little_disk_is_said_before_anything_is_made(tmp_path: Path) -> None:
    """The line names what is needed and what was found."""
    checkout = Checkout(tmp_path)
    assert checkout.install(FREE_KB="2097152") == []
    assert "about 4 GB" in checkout.stderr
    assert "2.0 GB" in checkout.stderr
    assert not (checkout.root / ".venv").exists()


def test_a_moved_checkout_gets_a_new_environment(tmp_path: Path) -> None:
    """Its old place is written into the scripts of the environment."""
    checkout = Checkout(tmp_path)
    checkout.install()
    checkout.root = checkout.root.rename(tmp_path / "elsewhere")
    assert len(checkout.install()) == 1


def test_a_wheel_index_for_torch_is_used_first_and_remembered(tmp_path: Path) -> None:
    """TORCH_INDEX decides the build of the pinned version, once; another index replaces the build."""
    checkout = Checkout(tmp_path)
    first = checkout.install(TORCH_INDEX="https://example.org/cpu")
    assert "--index-url https://example.org/cpu torch==2.13.0" in first[0]
    assert "-e .[dev]" in first[1]
    assert checkout.install(TORCH_INDEX="https://example.org/cpu") == []
    assert checkout.install() == []
    again = checkout.install(TORCH_INDEX="https://example.org/cuda")
    assert "--force-reinstall" in again[0]
