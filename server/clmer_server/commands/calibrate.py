"""``clmer calibrate``: a participant's neutral face, measured for 3 s and kept under a pseudonym."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from clmer_server.cli import INTERRUPTED
from clmer_server.logs import set_up_logging
from clmer_server.participants import PARTICIPANTS_FOLDER, neutral_file, save_neutral
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.extractor import Extractor
from clmer_streaming.types import Item

HELP = "measure a participant's neutral face"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--participant", required=True, help="pseudonym, for example P01; never a name")
    parser.add_argument("--camera", default="0", help="index, device, URL or video file (default 0)")
    parser.add_argument(
        "--face-landmarker", type=Path, metavar="FILE", help="FaceLandmarker bundle (.task) to use instead of FaceMesh"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to measure (default %(default)g)")
    parser.add_argument("--timeout", type=float, default=60.0, help="s after which it gives up (default %(default)g)")
    parser.add_argument(
        "--participants", type=Path, default=PARTICIPANTS_FOLDER, help="folder of the neutral faces (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, keep, and tell where."""
    from clmer_streaming.sources.camera import CameraSource

    set_up_logging("warning")
    neutral_file(args.participants, args.participant)  # mistakes show before anybody holds still
    extractor = Extractor.choose(args.face_landmarker)
    camera = CameraSource(args.camera, calibrate_s=max(args.seconds, 0.1), extractor=extractor)
    stop = threading.Event()
    deadline = time.monotonic() + args.timeout
    interrupted = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        interrupted.set()
        stop.set()

    def watch(item: Item) -> None:
        if camera.calibrated is not None or time.monotonic() > deadline:
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    print(f"Look into {camera.info.name}, relaxed, mouth closed, until this ends ({args.seconds:g} s).", flush=True)
    camera.run(watch, stop)
    if camera.calibrated is None:
        if interrupted.is_set():
            return INTERRUPTED
        raise RecordingError(
            expected=f"a face that holds still for {args.seconds:g} s",
            found=camera.report.reason or f"{camera.report.n_samples} frames, too few of them with a clear face",
            mend="sit before the camera in good light, and try again",
        )
    path = save_neutral(args.participants, args.participant, camera.calibrated)
    print(f"{path}: neutral face of {args.participant}, from {camera.calibrated.n_frames} frames")
    return 0
