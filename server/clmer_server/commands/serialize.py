"""``clmer serialize``: videos to numbers, in OpenFace's CSV columns and as XDF, on all cores."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import queue
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clmer_server.cli import error_text
from clmer_streaming.errors import ClmerError, RecordingError, SettingsError
from clmer_streaming.face.extractor import Extractor

if TYPE_CHECKING:
    from clmer_streaming.face.openface import Exported


HELP = "turn videos of faces into numbers: CSV in OpenFace's columns, and XDF"

Outcome: TypeAlias = "Exported | tuple[str, str, str]"
"""What came of a video; of a failure expected, found and what to do."""

_LOOK_S = 0.2  # s between two looks at the progress

_reports: Any = None  # of this worker process: the queue that its progress goes to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO", help="video files")
    parser.add_argument("--out", type=Path, required=True, help="folder for <stem>.csv and <stem>.xdf")
    parser.add_argument(
        "--face-landmarker", type=Path, metavar="FILE", help="FaceLandmarker bundle (.task) to use instead of FaceMesh"
    )
    parser.add_argument("--hog", action="store_true", help="add the aligned face's HOG to the XDF (scikit-image)")
    parser.add_argument("--again", action="store_true", help="do videos again whose files are there already")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)")


def run(args: argparse.Namespace) -> int:
    """Export every video; one that fails is told and does not hold up the others."""
    extractor = Extractor.choose(args.face_landmarker)
    videos = _to_do(args.videos, args.out, again=args.again)
    if args.jobs < 1:
        raise SettingsError("at least one process", f"--jobs {args.jobs}", "leave --jobs out")
    export = functools.partial(_export, out=args.out, hog=args.hog, extractor=extractor)
    failures = _export_all(videos, export, jobs=args.jobs) if videos else 0
    return ClmerError.exit_code if failures else 0


def _to_do(videos: Sequence[Path], out: Path, *, again: bool) -> list[Path]:
    """Return the videos whose files are not there yet.

    Raises:
        SettingsError: Two videos would be written to the same files, or there is no such folder.
    """
    from clmer_streaming.face.openface import export_paths

    twice = [stem for stem, n in Counter(video.stem for video in videos).items() if n > 1]
    if twice:
        raise SettingsError("videos with names of their own", f"several {twice[0]!r}", "give each its own --out folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"a folder at {out}", error.strerror or repr(error), "check --out") from error
    to_do = [video for video in videos if again or not all(path.is_file() for path in export_paths(video, out))]
    if len(to_do) < len(videos):
        print(f"{len(videos) - len(to_do)} of {len(videos)} are there already; --again does them anew", file=sys.stderr)
    return to_do


def _export_all(videos: Sequence[Path], export: Callable[[Path], Outcome], *, jobs: int) -> int:
    """Have videos exported in processes of their own; return how many failed."""
    context = multiprocessing.get_context("spawn")  # a forked child hangs in MediaPipe
    reports = context.Queue()
    n_workers = min(jobs, len(videos))
    with (
        ProcessPoolExecutor(n_workers, mp_context=context, initializer=_begin, initargs=(reports,)) as pool,
        _Bar(videos) as bar,
    ):
        futures = {pool.submit(export, video): video for video in videos}
        waiting = set(futures)
        failures = 0
        while waiting:
            done, waiting = wait(waiting, timeout=_LOOK_S)
            _drain(reports, bar.advance)
            failures += sum(not _tell(futures[future], future) for future in done)
    return failures


def _begin(reports: Any) -> None:
    """Prepare a worker process: one thread each, since there is a process for every core."""
    global _reports  # noqa: PLW0603 - a queue reaches the worker in no other way
    _reports = reports


def _export(video: Path, out: Path, hog: bool, extractor: Extractor) -> Outcome:
    """Export one video, in a worker process; errors travel as their parts."""
    from clmer_streaming.face.openface import export_video

    try:
        return export_video(video, out, hog=hog, progress=_reports.put, extractor=extractor)
    except ClmerError as error:
        return error.expected, error.found, error.mend


def _tell(video: Path, future: Future[Outcome]) -> bool:
    """Print what came of a video; False where nothing did."""
    try:
        result = future.result()
    except BrokenProcessPool:
        result = (f"faces of {video}", "a process that died over it", "convert the video, or leave it out")
    if isinstance(result, tuple):
        print(error_text(RecordingError(*result)), file=sys.stderr)
        return False
    share = result.n_faces / result.n_frames if result.n_frames else 0.0
    print(f"{video.name}: {result.n_frames} frames, a face in {share:.0%}")
    return True


def _drain(reports: Any, advance: Callable[[int], None]) -> None:
    try:
        while True:
            advance(reports.get_nowait())
    except queue.Empty:
        return


class _Bar:
    """A progress bar over the frames of all videos, on stderr where a person sees it."""

    def __init__(self, videos: Sequence[Path]) -> None:
        from rich.console import Console
        from rich.progress import Progress

        shown = sys.stderr.isatty()
        self._bar = Progress(console=Console(stderr=True), disable=not shown, transient=True)
        total = sum(_frame_count(video) for video in videos) if shown else 0
        self._task = self._bar.add_task("frames", total=total or None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, n: int) -> None:
        """Take note of further frames."""
        self._bar.advance(self._task, n)


def _frame_count(video: Path) -> int:
    """Return how many frames a video claims to have; 0 where it cannot be read."""
    from clmer_streaming.face.capture import Capture, CaptureSpec

    try:
        capture = Capture(CaptureSpec("file", str(video)))
    except ClmerError:
        return 0
    try:
        return capture.n_frames
    finally:
        capture.close()
