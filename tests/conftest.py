"""Fixtures that several test modules share, and the rule about skips.

A test may be skipped for one of three reasons, each named by one word; a skip for any other reason fails the run,
so that nothing is left out unseen:

- ``gpu``: there is no CUDA device (tests marked ``gpu``);
- ``netns``: network namespaces cannot be made here (tests marked ``netns``);
- ``no-sample-data``: CLMER_TEST_DATA names no folder (tests that take ``sample_data``).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SKIP_REASONS = ("gpu", "netns", "no-sample-data")
"""Every reason for which a test may be skipped."""

_forbidden_skips: list[str] = []

_LSL_CONFIG = """\
[ports]
IPv6 = disable
PortRange = 128
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[log]
level = -2
"""


def pytest_configure(config: pytest.Config) -> None:
    """Give this run, and every process it starts, an LSL network of its own on this machine."""
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    path = Path(folder.name) / "lsl_api.cfg"
    path.write_text(_LSL_CONFIG.format(session_id=f"clmer-test-{os.getpid()}"))
    os.environ["LSLAPICFG"] = str(path)


def sample_data_folder() -> Path | None:
    """Return the folder that CLMER_TEST_DATA names, or None where there is none."""
    folder = os.environ.get("CLMER_TEST_DATA", "")
    return Path(folder) if folder and Path(folder).is_dir() else None


@pytest.fixture
def sample_data() -> Path:
    """The folder of sample recordings; the test is skipped, and says so, where there is none."""
    folder = sample_data_folder()
    if folder is None:
        pytest.skip("no-sample-data")
    return folder


@functools.cache
def has_gpu() -> bool:
    """Tell whether PyTorch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


@functools.cache
def has_network_namespaces() -> bool:
    """Tell whether this user can make network namespaces and join them."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip marked tests where the machine lacks what the marker stands for."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("gpu")
    if item.get_closest_marker("netns") and not has_network_namespaces():
        pytest.skip("netns")


def _note_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Remember a skip that the rule forbids."""
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if reason not in SKIP_REASONS:
        _forbidden_skips.append(f"{report.nodeid}: {reason!r} is not one of {', '.join(SKIP_REASONS)}")
    elif reason == "no-sample-data" and sample_data_folder() is not None:
        _forbidden_skips.append(f"{report.nodeid}: says no-sample-data, but CLMER_TEST_DATA names a folder")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at every test's outcome."""
    _note_skip(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Look at modules that skip themselves as a whole."""
    _note_skip(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped a test for a reason nobody agreed on."""
    if _forbidden_skips:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that failed the run."""
    for line in _forbidden_skips:
        terminalreporter.write_line(f"FORBIDDEN SKIP {line}", red=True)
