"""``clmer face-stream``: publish the face before a camera as a ``CLMER-Face`` stream on LSL, optionally its HOG."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from clmer_server.cli import add_lsl_config
from clmer_server.logs import set_up_logging
from clmer_server.participants import load_neutral
from clmer_server.settings import PARTICIPANTS_FOLDER
from clmer_streaming.face.extractor import Extractor
from clmer_streaming.types import Chunk, FaceSample, Item, StreamInfo

if TYPE_CHECKING:
    from clmer_streaming.sources.camera import CameraSource


HELP = "publish the face before a camera as a CLMER-Face stream"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--camera", default="0", help="index, device, URL or video file (default 0)")
    parser.add_argument("--name", default="CLMER-Face", help="name of the stream (default %(default)s)")
    parser.add_argument("--delay", type=float, default=0.0, help="s from what the camera sees to its frame (default 0)")
    parser.add_argument(
        "--face-landmarker", type=Path, metavar="FILE", help="FaceLandmarker bundle (.task) to use instead of FaceMesh"
    )
    parser.add_argument("--hog", action="store_true", help="publish the aligned face's HOG, too (scikit-image)")
    parser.add_argument("--hog-name", default="CLMER-HOG", help="name of that stream (default %(default)s)")
    parser.add_argument("--participant", help="pseudonym of the participant, whose neutral face was measured")
    parser.add_argument("--participants", type=Path, default=PARTICIPANTS_FOLDER, help="folder of the neutral faces")
    add_lsl_config(parser)


def run(args: argparse.Namespace) -> int:
    """Publish until a signal ends it or a video file is over; return the exit code."""
    from clmer_streaming.lsl.setup import set_up_lsl

    set_up_logging("warning")
    set_up_lsl(args.lsl_config)
    camera = _camera(args)
    publish = _publisher(camera, args)
    stop = _stop_on_signals()
    print(f"stream {args.name!r} of {camera.info.name}; only numbers leave this computer. Ctrl-C ends it.", flush=True)
    camera.run(publish, stop)
    report = camera.report
    print(f"{report.n_samples} frames published, {report.n_dropped} dropped")
    return 0


def _camera(args: argparse.Namespace) -> CameraSource:
    from clmer_streaming.sources.camera import CameraSource

    extractor = Extractor.choose(args.face_landmarker)
    neutral = load_neutral(args.participants, args.participant, extractor.id)
    hog = "hog" if args.hog else ""
    return CameraSource(args.camera, neutral=neutral, delay_s=args.delay, extractor=extractor, hog=hog)


def _publisher(camera: CameraSource, args: argparse.Namespace) -> Callable[[Item], None]:
    """Open the outlets; return the function that publishes an item of the camera."""
    from clmer_streaming.lsl.outlets import FaceOutlet, HogOutlet

    outlet = FaceOutlet(camera.info, args.name)
    hog_outlet = HogOutlet(camera.hog_info, args.hog_name) if args.hog else None

    def publish(item: Item) -> None:
        if isinstance(item, FaceSample):
            outlet.push(item)
        elif isinstance(item, Chunk) and hog_outlet is not None:
            hog_outlet.push(item)
        elif isinstance(item, StreamInfo) and item.kind == "face":
            print(f"{item.name} is open, {item.sfreq:g} Hz", flush=True)

    return publish


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop
