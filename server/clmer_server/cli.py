"""The command line: ``clmer COMMAND`` and ``clmer-serve``. Each command is imported only when it is chosen.

To be read in this order: the commands, the two programs, parsing, errors, and an option that several commands share.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, cast

from clmer_streaming.errors import ClmerError, SettingsError

COMMANDS = {
    "simulate": "make a recording of a simulated participant, or a data set of many",
    "inspect": "tell what is in XDF recordings, and what is wrong with them",
    "play": "publish the streams of an XDF recording on the LSL network",
    "predict": "write the predictions for a recording, one JSON object per line",
    "verify": "recompute recorded sessions and compare every window and probability",
    "session": "list, show, export and delete recorded sessions",
    "serialize": "turn videos of faces into numbers: CSV in OpenFace's columns, and XDF",
    "face-stream": "publish the face before a camera as a CLMER-Face stream",
    "calibrate": "measure a participant's neutral face",
    "streams": "list the streams on the network, and what the model can use",
    "doctor": "check this computer, and say what to mend",
    "prepare": "make training windows from recordings or arrays",
    "train": "train a model",
    "evaluate": "score a model on random windows, trials, unseen people and unseen stimuli",
    "export": "export a trained model for the service",
}
"""The commands of ``clmer``; their help stands here so that ``clmer --help`` need not import them."""

INTERRUPTED = 130
"""Exit code of a program that the user interrupted, as shells have it."""

PIPE_CLOSED = 141
"""Exit code of a program whose output nobody reads any more, as shells have it."""


class Command(Protocol):
    """A module in ``clmer_server.commands``."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


class _Parser(argparse.ArgumentParser):
    """A parser that reports mistakes as every other error: what was expected, what was found, what to do."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(expected="a valid command line", found=message, mend=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``clmer``; return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _exit_code(lambda: _run_command(arguments), debug="--debug" in arguments)


def serve_main(argv: Sequence[str] | None = None) -> int:
    """Run ``clmer-serve``; return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _exit_code(lambda: _run_serve(arguments), debug="--debug" in arguments)


def program() -> int:
    """Run ``clmer``; return its exit code, or end the process at once where ``torchrun`` started it.

    Gloo's threads may outlive the last step of a training, and abort the process when the interpreter is finalized:
    ``torchrun`` would report a training as failed whose results are there.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(main)
    return main()


def serve_program() -> NoReturn:
    """Run ``clmer-serve``, and end the process."""
    end_with(serve_main)


CHILD_TIMEOUT_S = 0.5
"""How long a child process that is still there may take to end."""


def end_with(run: Callable[[], int]) -> NoReturn:
    """Run a program that closes what it opens, and end the process with its exit code at once.

    Child processes that are still there are ended; logs and output are written out first.

    Args:
        run: Returns the exit code, or raises ``SystemExit``.
    """
    try:
        code = run()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        code = end.code
    for child in multiprocessing.active_children():
        child.kill()
        child.join(CHILD_TIMEOUT_S)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def _run_command(arguments: list[str]) -> int:
    from importlib.metadata import version

    parser = _Parser(prog="clmer", description="Emotion recognition from EEG and face for live experiments.")
    parser.add_argument("--version", action="version", version=f"clmer {version('clmer')}")
    _add_debug(parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    command = _load(chosen) if chosen in COMMANDS else None
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if command is not None and name == chosen:
            _add_debug(subparser)
            command.add_arguments(subparser)
    args = parser.parse_args(arguments)
    assert command is not None  # the parser refuses any other
    return command.run(args)


def _run_serve(arguments: list[str]) -> int:
    command = _load("serve")
    parser = _Parser(prog="clmer-serve", description=command.HELP)
    _add_debug(parser)
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def _load(name: str) -> Command:
    return cast(Command, importlib.import_module(f"clmer_server.commands.{name.replace('-', '_')}"))


def _add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error arose")


def _exit_code(run: Callable[[], int], *, debug: bool) -> int:
    """Return the exit code of ``run``; print errors on stderr, in three lines where the user can mend them."""
    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read our output has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush does not fail
        return PIPE_CLOSED
    except ClmerError as error:
        if debug:
            traceback.print_exc()
        print(error_text(error), file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"internal error: {type(error).__name__}: {_one_line(error)}; run with --debug", file=sys.stderr)
        return 1


def error_text(error: ClmerError) -> str:
    """Return the error's three lines; line breaks within a part become spaces."""
    parts = (("expected", error.expected), ("found", error.found), ("to do", error.mend))
    return "\n".join(f"{name + ':':9} {_one_line(part)}" for name, part in parts)


def _one_line(value: object) -> str:
    return " ".join(str(value).split())


LSL_CONFIG_HELP = "LSL configuration file (lsl_api.cfg), for networks without multicast; see docs/finding-streams.md"


def add_lsl_config(parser: argparse.ArgumentParser) -> None:
    """Declare the option; ``set_up_lsl`` takes it before anything else of LSL is called."""
    parser.add_argument("--lsl-config", type=Path, help=LSL_CONFIG_HELP)


@contextlib.contextmanager
def progress_bar(what: str, total: float = 1.0) -> Iterator[Callable[[float], None]]:
    """Show a progress bar on stderr if that is a terminal; yield the function that sets how much is done."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
