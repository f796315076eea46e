"""The command line: quick help, and errors that a user can mend."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clmer_server.cli import COMMANDS, error_text, main, serve_main
from clmer_server.commands import predict
from clmer_streaming.errors import SettingsError

HEAVY = {
    "numpy",
    "scipy",
    "torch",
    "fastapi",
    "starlette",
    "uvicorn",
    "pylsl",
    "cv2",
    "mediapipe",
    "matplotlib",
    "rich",
}
"""Libraries that take long to import."""


def loaded_by(program: str, *arguments: str) -> tuple[set[str], str]:
    """Run a program of the command line; return the libraries that it has imported at its end, and all its output."""
    code = (
        "import json, sys\n"
        f"from clmer_server.cli import {program}\n"
        "try:\n"
        f"    {program}({list(arguments)!r})\n"
        "finally:\n"
        "    print()\n"
        "    print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}, done.stdout + done.stderr


def test_help_loads_nothing_heavy() -> None:
    """``clmer --help`` answers at once: no numpy, no torch, no web server is imported."""
    loaded, output = loaded_by("main", "--help")
    assert all(name in output for name in COMMANDS)
    assert not loaded & {*HEAVY, "pydantic"}


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--help"], "--max-message-rate"),
        (["--prot", "1"], "unrecognized arguments: --prot"),
        (["--port", "http"], "'http'"),
        (["--print-config"], "port = 8765"),
    ],
)
def test_the_service_answers_what_needs_no_service_before_it_loads_anything_heavy(
    arguments: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its help, a wrong option, a wrong value, the settings in force."""
    monkeypatch.chdir(tmp_path)  # holds no settings
    loaded, found = loaded_by("serve_main", *arguments)
    assert output in found
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["paint"], "'paint'"),
        ([], "COMMAND"),
        (["predict"], "--out"),
        (["predict", "a.xdf", "--out", "-", "--colour"], "--colour"),
        (["predict", "a.xdf", "--out", "-", "--speed", "quick"], "'quick'"),
    ],
)
def test_a_wrong_command_line_is_told_in_three_lines(
    arguments: list[str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was expected, what was found, what to do; exit code 2."""
    assert main(arguments) == SettingsError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["expected", "found", "to do"]
    assert found in lines[1]


def test_debug_shows_where_an_error_arose(capsys: pytest.CaptureFixture[str]) -> None:
    """The three lines still come last."""
    assert serve_main(["--debug", "--port", "http"]) == SettingsError.exit_code
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.splitlines()[-1].startswith("to do:")


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ours to mend, so the user is told how to report it."""

    def break_down(_: object) -> int:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(predict, "run", break_down)
    assert main(["predict", "a.xdf", "--out", "-"]) == 1
    assert capsys.readouterr().err == "internal error: RuntimeError: first line second line; run with --debug\n"


def test_an_interrupted_command_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells have it."""

    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "run", interrupt)
    assert main(["predict", "a.xdf", "--out", "-"]) == 130


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    """``clmer predict ... --out - | head`` ends quietly."""
    code = (
        "import sys\n"
        "from clmer_server.cli import main\n"
        "from clmer_server.commands import predict\n"
        "predict.run = lambda args: print('x' * 1_000_000) or 0\n"
        "sys.exit(main(['predict', 'a.xdf', '--out', '-']))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")


def test_an_error_has_three_lines_whatever_it_holds() -> None:
    """Line breaks within a part become spaces."""
    assert error_text(SettingsError("a\nb", "c", "d")) == "expected: a b\nfound:    c\nto do:    d"


def test_a_command_describes_itself_as_the_list_does() -> None:
    """The list is kept apart only so that it loads quickly."""
    assert COMMANDS["predict"] == predict.HELP


TIMEOUT_S = 30.0
AT_ONCE_S = 10.0  # far less than what is left behind would take, and enough for a busy machine

HEAD = """
import logging, multiprocessing, sys, threading, time
from clmer_server.cli import end_with

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
