"""``clmer verify``: recompute recorded sessions and compare them with the recorded predictions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.archive.verify import Verdict, open_verifiable, recorded_model, save_verdict, verify_recording
from clmer_server.cli import error_text, progress_bar
from clmer_server.session.inference import check_device, load_predictor
from clmer_server.session.recorder import SESSION_FILE
from clmer_streaming.errors import ClmerError, RecordingError
from clmer_streaming.recording.reader import SessionReader

if TYPE_CHECKING:
    from clmer_model.predictor import Predictor


HELP = "recompute recorded sessions and compare every window and probability"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="recorded sessions, or folders of them")
    parser.add_argument("--model", help="path of the model that answered, where it is not a shipped one")
    parser.add_argument("--model-sha256", help="hash that this file must have")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Verify every session, also after one that cannot be read; return 1 if any differs, else 0 or an error code."""
    check_device(args.device)
    exit_code = 0
    predictors: dict[str, Predictor] = {}  # by hash, each loaded once
    for path in _sessions(args.paths):
        try:
            passed = _verify(path, args, predictors)
        except ClmerError as error:
            print(f"{path}: cannot be verified\n{error_text(error)}", file=sys.stderr)
            exit_code = error.exit_code
            continue
        exit_code = exit_code if passed else max(1, exit_code)
    return exit_code


def _sessions(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the given recordings, and those below the given folders.

    Raises:
        RecordingError: A folder holds none.
    """
    for path in paths:
        found = sorted(path.rglob(SESSION_FILE)) if path.is_dir() else [path]
        if not found:
            raise RecordingError(f"a {SESSION_FILE} below {path}", "none", "name the folder given to --record")
        yield from found


def _verify(path: Path, args: argparse.Namespace, predictors: dict[str, Predictor]) -> bool:
    """Verify one session, print and save the verdict, and return whether it passed."""
    reader = open_verifiable(path)
    artifact = recorded_model(reader, args.model, args.model_sha256)
    if artifact.sha256 not in predictors:
        predictors[artifact.sha256] = load_predictor(artifact, args.device)
    with progress_bar(f"verifying {path.parent.name}") as progress:
        verdict, limit = verify_recording(reader, artifact, predictors[artifact.sha256], progress)
    save_verdict(path, verdict)
    print("\n".join(_report(path, reader, verdict, limit)))
    return verdict.passed


def _report(path: Path, reader: SessionReader, verdict: Verdict, limit: float) -> Iterator[str]:
    yield (
        f"{path}: {verdict.n_windows} windows, {verdict.n_equal} equal bit for bit; "
        f"largest probability difference {verdict.largest:g}"
    )
    yield from (f"  note: {warning}" for warning in reader.summary.warnings)
    if verdict.n_shared:
        yield f"  note: {verdict.n_shared} shared a call of the model; here each is alone, up to {limit:g} is allowed"
    if verdict.n_unanswered:
        yield f"  note: {verdict.n_unanswered} windows at the end have no recorded answer"
    if verdict.n_missing_items:
        yield f"  differs: {verdict.n_missing_items} items are missing (slow disk, damage); the rest is not compared"
    if verdict.first is not None:
        yield f"  differs: {verdict.first}"
