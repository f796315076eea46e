"""A skipped test is an unseen hole unless its reason is one of the agreed ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

CONFTEST = ROOT / "tests" / "conftest.py"


def run_pytest(folder: Path, source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over one test module beside this project's conftest."""
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  gpu: needs CUDA\n")
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    without = {key: value for key, value in os.environ.items() if key != "CLMER_TEST_DATA"}
    return subprocess.run(
        command, cwd=folder, env={**without, **environment}, capture_output=True, text=True, check=False
    )


def test_a_skip_for_an_agreed_reason_passes(tmp_path: Path) -> None:
    """Without sample data, tests that need it are skipped and the run is green."""
    run = run_pytest(tmp_path, "def test_a(sample_data): pass\n")
    assert run.returncode == 0, run.stdout
    assert "1 skipped" in run.stdout


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_a(): pytest.skip('too slow')\n",
        "import pytest\n@pytest.mark.skip(reason='broken')\ndef test_a(): pass\n",
        "import pytest\npytest.importorskip('no_such_library')\n",
        "import pytest\npytest.skip('not today', allow_module_level=True)\n",
    ],
    ids=["call", "marker", "import", "module"],
)
def test_a_skip_for_another_reason_fails_the_run(tmp_path: Path, source: str) -> None:
    """Every way of skipping is seen, and the run names the test and the reason."""
    run = run_pytest(tmp_path, source + "def test_b(): pass\n")
    assert run.returncode == 1, run.stdout
    assert "FORBIDDEN SKIP test_it.py" in run.stdout


def test_sample_data_that_is_there_must_be_used(tmp_path: Path) -> None:
    """Where the folder exists, claiming that it does not is an error."""
    source = "import pytest\ndef test_a(): pytest.skip('no-sample-data')\n"
    run = run_pytest(tmp_path, source, CLMER_TEST_DATA=str(tmp_path))
    assert run.returncode == 1, run.stdout


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    """A known fault marked xfail stays green."""
    run = run_pytest(tmp_path, "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_a(): assert False\n")
    assert run.returncode == 0, run.stdout
