"""``clmer verify``: recorded sessions computed once more, and compared with what clients were told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_model.artifact import ArtifactFile, Manifest, find_artifact, shipped_folder
from clmer_server.archive.verify import CPU_LIMIT, CUDA_LIMIT, Verdict, Verifier, keep_verdict
from clmer_server.cli import error_text
from clmer_server.session.inference import check_device, load_predictor, model_info
from clmer_server.session.recorder import SESSION_FILE
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError, ClmerError, RecordingError
from clmer_streaming.recording.reader import SessionReader, is_session_recording

if TYPE_CHECKING:
    from clmer_model.predictor import Predictor


HELP = "recompute recorded sessions and compare every window and probability"

_HEADER_WORDS = {"session", "source", "model", "preprocess"}
"""What the first record must tell."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="recorded sessions, or folders of them")
    parser.add_argument("--model", help="path of the model that answered, where it is not a shipped one")
    parser.add_argument("--model-sha256", help="hash that this file must have")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N (default cpu)")


def run(args: argparse.Namespace) -> int:
    """Verify every session; one that cannot be read does not hold up the others. 1: something differs."""
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
    """Yield the recordings that were named, and those in the folders that were named.

    Raises:
        RecordingError: There is none in a folder.
    """
    for path in paths:
        found = sorted(path.rglob(SESSION_FILE)) if path.is_dir() else [path]
        if not found:
            raise RecordingError(f"a {SESSION_FILE} below {path}", "none", "name the folder given to --record")
        yield from found


def _verify(path: Path, args: argparse.Namespace, predictors: dict[str, Predictor]) -> bool:
    """Verify one session, print what came of it, and return whether all is equal."""
    if path.is_file() and not is_session_recording(path):
        raise RecordingError("a session that clmer recorded", f"{path}, another program's", "see clmer-serve --record")
    reader = SessionReader(path)
    if lacking := _HEADER_WORDS - reader.header.keys():
        raise RecordingError(
            "a session of clmer-serve", f"{path} without {sorted(lacking)}", "see clmer-serve --record"
        )
    artifact = _artifact(reader, args.model, args.model_sha256)
    if artifact.sha256 not in predictors:
        predictors[artifact.sha256] = load_predictor(artifact, args.device)
    predictor = predictors[artifact.sha256]
    on_cuda = "cuda" in (reader.header["model"]["device"] + str(predictor.device))
    limit = CUDA_LIMIT if on_cuda else CPU_LIMIT
    preprocess = PreprocessConfig.from_dict(reader.header["preprocess"])  # an option may have changed the model's
    model = model_info(artifact, predictor, preprocess)
    verdict = Verifier(model, preprocess, predictor.predict, limit).verify(reader)
    keep_verdict(path, verdict)
    print("\n".join(_report(path, reader, verdict, limit)))
    return verdict.passed


def _artifact(reader: SessionReader, model: str | None, sha256: str | None) -> ArtifactFile:
    """Return the model that answered in a session: the shipped one of its hash, or the one that was named.

    Raises:
        ArtifactError: It is not there, or the one that was named is another.
    """
    wanted = str(reader.header["model"]["sha256"])
    shipped = {digest: name for name, digest in Manifest.read(shipped_folder()).sha256.items()}
    if model is None and wanted not in shipped:
        raise ArtifactError(
            expected=f"the model {reader.header['model']['id']!r} with SHA-256 {wanted}",
            found="no shipped model with this hash",
            mend="name its file: --model PATH",
        )
    artifact = find_artifact(shipped[wanted] if model is None else model, sha256)
    if artifact.sha256 != wanted:
        raise ArtifactError(
            expected=f"the model that answered in {reader.path}, with SHA-256 {wanted}",
            found=f"{artifact.path} with SHA-256 {artifact.sha256}",
            mend="name the file of that model: --model PATH",
        )
    return artifact


def _report(path: Path, reader: SessionReader, verdict: Verdict, limit: float) -> Iterator[str]:
    yield (
        f"{path}: {verdict.n_windows} windows, {verdict.n_equal} equal bit for bit; "
        f"largest probability difference {verdict.largest:g}"
    )
    yield from (f"  note: {warning}" for warning in reader.survey.warnings)
    if verdict.n_shared:
        yield f"  note: {verdict.n_shared} shared a call of the model; here each is alone, up to {limit:g} is allowed"
    if verdict.n_unanswered:
        yield f"  note: {verdict.n_unanswered} windows at the end have no recorded answer"
    if verdict.n_missing_items:
        yield f"  differs: {verdict.n_missing_items} items are missing (slow disk, damage); the rest is not compared"
    if verdict.first is not None:
        yield f"  differs: {verdict.first}"
