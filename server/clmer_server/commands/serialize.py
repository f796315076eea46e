"""``clmer serialize``: write the faces of videos as CSV with OpenFace's columns and as XDF, on all cores."""

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
"""Result of a video: what was exported, or of an error ``expected``, ``found`` and ``mend``."""

_POLL_S = 0.2  # s between two updates of the progress bar

_progress_queue: Any = None  # in a worker process: the queue of the numbers of frames done


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
    """Export every video, and go on after one that fails; return an error code if any did."""
    extractor = Extractor.choose(args.face_landmarker)
    videos = _pending(args.videos, args.out, again=args.again)
    if args.jobs < 1:
        raise SettingsError("at least one process", f"--jobs {args.jobs}", "leave --jobs out")
    export = functools.partial(_export, out=args.out, hog=args.hog, extractor=extractor)
    failures = _export_all(videos, export, jobs=args.jobs) if videos else 0
    return ClmerError.exit_code if failures else 0


def _pending(videos: Sequence[Path], out: Path, *, again: bool) -> list[Path]:
    """Return the videos whose files are not there yet.

    Raises:
        SettingsError: Two videos would be written to the same files, or the folder cannot be created.
    """
    from clmer_streaming.face.openface import export_paths

    repeated = [stem for stem, n in Counter(video.stem for video in videos).items() if n > 1]
    if repeated:
        raise SettingsError(
            "videos with names of their own", f"several {repeated[0]!r}", "give each its own --out folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"a folder at {out}", error.strerror or repr(error), "check --out") from error
    pending = [video for video in videos if again or not all(path.is_file() for path in export_paths(video, out))]
    if len(pending) < len(videos):
        print(
            f"{len(videos) - len(pending)} of {len(videos)} are there already; --again does them anew", file=sys.stderr
        )
    return pending


def _export_all(videos: Sequence[Path], export: Callable[[Path], Outcome], *, jobs: int) -> int:
    """Export videos in worker processes; return how many failed."""
    context = multiprocessing.get_context("spawn")  # a forked child hangs in MediaPipe
    progress_queue = context.Queue()
    n_workers = min(jobs, len(videos))
    with (
        ProcessPoolExecutor(
            n_workers, mp_context=context, initializer=_set_progress_queue, initargs=(progress_queue,)
        ) as pool,
        _FrameBar(videos) as bar,
    ):
        futures = {pool.submit(export, video): video for video in videos}
        waiting = set(futures)
        failures = 0
        while waiting:
            done, waiting = wait(waiting, timeout=_POLL_S)
            _drain(progress_queue, bar.advance)
            failures += sum(not _print_outcome(futures[future], future) for future in done)
    return failures


def _set_progress_queue(progress_queue: Any) -> None:
    """Set the queue of progress in a worker process."""
    global _progress_queue  # noqa: PLW0603 - a queue reaches the worker in no other way
    _progress_queue = progress_queue


def _export(video: Path, out: Path, hog: bool, extractor: Extractor) -> Outcome:
    """Export one video, in a worker process; return an error as its parts, which can be pickled."""
    from clmer_streaming.face.openface import export_video

    try:
        return export_video(video, out, hog=hog, progress=_progress_queue.put, extractor=extractor)
    except ClmerError as error:
        return error.expected, error.found, error.mend


def _print_outcome(video: Path, future: Future[Outcome]) -> bool:
    """Print the result of a video; return whether it was exported."""
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


def _drain(progress_queue: Any, advance: Callable[[int], None]) -> None:
    try:
        while True:
            advance(progress_queue.get_nowait())
    except queue.Empty:
        return


class _FrameBar:
    """A progress bar over the frames of all videos, on stderr if that is a terminal."""

    def __init__(self, videos: Sequence[Path]) -> None:
        from rich.console import Console
        from rich.progress import Progress

        shown = sys.stderr.isatty()
        self._bar = Progress(console=Console(stderr=True), disable=not shown, transient=True)
        total = sum(_frame_count(video) for video in videos) if shown else 0
        self._task = self._bar.add_task("frames", total=total or None)

    def __enter__(self) -> _FrameBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, n: int) -> None:
        """Move the bar by ``n`` frames."""
        self._bar.advance(self._task, n)


def _frame_count(video: Path) -> int:
    """Return the number of frames that a video announces; 0 where it cannot be read."""
    from clmer_streaming.face.capture import Capture, CaptureSpec

    try:
        capture = Capture(CaptureSpec("file", str(video)))
    except ClmerError:
        return 0
    try:
        return capture.n_frames
    finally:
        capture.close()
