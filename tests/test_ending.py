"""How a program ends at once, whatever it leaves behind: each in a Python of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

TIMEOUT_S = 30.0
AT_ONCE_S = 10.0  # far less than what is left behind would take, and enough for a busy machine

HEAD = """
import logging, multiprocessing, sys, threading, time
from clmer_server.ending import end_with

def work():
"""


def ended(*lines: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program whose work are these lines."""
    body = HEAD + "".join(f"    {line}\n" for line in lines) + "\nend_with(work)\n"
    return subprocess.run(
        [sys.executable, "-c", body],
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("last_line", "code"), [("return 0", 0), ("return 7", 7), ("sys.exit(2)", 2), ("raise SystemExit(130)", 130)]
)
def test_the_exit_code_is_that_of_the_program(last_line: str, code: int) -> None:
    done = ended(last_line)
    assert (done.returncode, done.stderr) == (code, "")


def test_an_error_ends_it_as_ever() -> None:
    """With its traceback, and no success."""
    done = ended("raise ValueError('odd')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: odd\n")


def test_what_was_said_is_written_out_first() -> None:
    """Output without a line's end, and a log that gathers its lines."""
    handler = "handlers.MemoryHandler(100, target=logging.StreamHandler())"
    log = ("from logging import handlers", f"logging.basicConfig(level='INFO', handlers=[{handler}])")
    done = ended(*log, "print('half a line', end='')", "logging.info('the last words')", "return 0")
    assert (done.stdout, done.stderr) == ("half a line", "the last words\n")


def test_a_thread_that_hangs_is_not_waited_for() -> None:
    """Python itself would wait for it: it is no daemon."""
    begin = time.monotonic()
    assert ended("threading.Thread(target=time.sleep, args=(600,)).start()", "return 0").returncode == 0
    assert time.monotonic() - begin < AT_ONCE_S


def test_a_child_process_that_hangs_is_ended() -> None:
    """Nothing of it stays behind."""
    hangs = "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,))"
    done = ended(hangs, "child.start()", "print(child.pid)", "return 0")
    assert done.returncode == 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(done.stdout), signal.SIGKILL)
        pytest.fail("the child was still there")


def test_output_that_nobody_reads_any_more_changes_nothing() -> None:
    """As of a program behind a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended("print('unread')", "return 3", stdout=writer).returncode == 3
    finally:
        os.close(writer)
