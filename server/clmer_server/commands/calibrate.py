"""``clmer calibrate``: measure a participant's neutral face or EEG at rest, and save it under a pseudonym."""

from __future__ import annotations

import argparse
import math
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from clmer_server.cli import INTERRUPTED
from clmer_server.logs import set_up_logging
from clmer_server.participants import neutral_file, save_neutral, save_rest
from clmer_server.settings import PARTICIPANTS_FOLDER
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError, SettingsError, StreamError
from clmer_streaming.face.extractor import Extractor
from clmer_streaming.pipeline.baseline import RestMeasurement
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.types import Item, RestBaseline, Source

HELP = "measure a participant's neutral face, or EEG at rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--participant", required=True, help="pseudonym, for example P01; never a name")
    parser.add_argument("--camera", default="0", help="index, device, URL or video file (default 0)")
    parser.add_argument(
        "--face-landmarker", type=Path, metavar="FILE", help="FaceLandmarker bundle (.task) to use instead of FaceMesh"
    )
    parser.add_argument("--rest", action="store_true", help="measure the EEG at rest instead of the neutral face")
    parser.add_argument("--eeg", help="of --rest: the EEG stream, live or recorded, as of clmer-serve (default auto)")
    parser.add_argument(
        "--recording", type=Path, metavar="FILE", help="of --rest: an XDF recording of the rest instead"
    )
    parser.add_argument("--model", help="of --rest: the model whose signal settings hold (default: the shipped one)")
    parser.add_argument("--seconds", type=float, help="how long to measure (default 3; of --rest 90, 60 to 120)")
    parser.add_argument("--timeout", type=float, default=60.0, help="s after which it gives up (default %(default)g)")
    parser.add_argument(
        "--participants", type=Path, default=PARTICIPANTS_FOLDER, help="folder of what is kept (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, save the result, and print its file; return the exit code."""
    set_up_logging("warning")
    neutral_file(args.participants, args.participant)  # so that a wrong pseudonym is reported before measuring
    if args.rest:
        return _measure_rest(args)
    if args.eeg or args.recording or args.model:
        raise SettingsError("--rest beside --eeg, --recording and --model", "none", "say what is to be measured")
    return _measure_face(args)


def _measure_rest(args: argparse.Namespace) -> int:
    from clmer_model.artifact import find_artifact
    from clmer_streaming.pipeline.baseline import USUAL_S

    config = find_artifact(args.model).meta.preprocess
    seconds = USUAL_S if args.seconds is None else args.seconds
    source = _eeg_source(args.eeg or "auto", args.recording, config)
    print(f"Rest with eyes open for {seconds:g} s: sit still, look at one point, until this ends.", flush=True)
    baseline = _measure_baseline(source, config, seconds, None if args.recording else seconds + args.timeout)
    path = save_rest(args.participants, args.participant, baseline)
    print(f"{path}: EEG at rest of {args.participant}, {baseline.seconds:g} s of it clean")
    return 0


def _eeg_source(eeg: str, recording: Path | None, config: PreprocessConfig) -> Source:
    """Return the source of an EEG stream (``auto``, its name or its properties), live or of a recording.

    Raises:
        RecordingError: The recording cannot be read.
        StreamError: The recording's EEG cannot feed the model, or LSL cannot be loaded.
        SettingsError: ``eeg`` cannot be parsed.
    """
    if recording is None:
        from clmer_streaming.lsl.setup import load_pylsl
        from clmer_streaming.lsl.sources import LslEegSource

        load_pylsl()
        return LslEegSource(eeg, config.signal)
    from clmer_streaming.sources.replay_streams import EegChoice

    if is_session_recording(recording):
        from clmer_streaming.sources.session_replay import SessionReplaySource

        return SessionReplaySource(recording, eeg=EegChoice(eeg), speed=math.inf, preprocess=config)
    from clmer_streaming.sources.replay import ReplaySource

    return ReplaySource(recording, eeg=EegChoice(eeg), speed=math.inf, signal=config.signal, extractor=config.extractor)


def _measure_baseline(
    source: Source, config: PreprocessConfig, seconds: float, timeout_s: float | None
) -> RestBaseline:
    """Return the resting baseline of a source's first ``seconds`` with EEG; None waits until the source ends.

    Raises:
        SettingsError: ``seconds`` is out of range.
        StreamError: There was too little clean EEG.
    """
    measurement, preprocessor, stop = RestMeasurement(config, seconds), Preprocessor(config), threading.Event()
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    baseline: RestBaseline | None = None

    def on_item(item: Item) -> None:
        nonlocal baseline
        if isinstance(item, RestBaseline):
            return  # of a recorded session, which is measured anew here
        for window in preprocessor.push(item):
            begun = measurement.begun or bool(window.mask["eeg"].any())
            if baseline is None and begun and measurement.push(window):
                baseline = measurement.result(window.t_end)
        if baseline is not None or time.monotonic() > deadline:
            stop.set()

    source.run(on_item, stop)
    if baseline is None:
        raise StreamError(
            expected=f"{seconds:g} s of EEG",
            found="a source that ended before, or kept silent",
            mend="see clmer streams and clmer inspect for what is there",
        )
    return baseline


def _measure_face(args: argparse.Namespace) -> int:
    from clmer_streaming.sources.camera import CameraSource

    seconds = max(args.seconds if args.seconds is not None else 3.0, 0.1)
    camera = CameraSource(args.camera, calibrate_s=seconds, extractor=Extractor.choose(args.face_landmarker))
    deadline = time.monotonic() + args.timeout
    stop = threading.Event()
    interrupted = _stop_on_signals(stop)

    def on_item(item: Item) -> None:
        if camera.calibrated is not None or time.monotonic() > deadline:
            stop.set()

    print(f"Look into {camera.info.name}, relaxed, mouth closed, until this ends ({seconds:g} s).", flush=True)
    camera.run(on_item, stop)
    if camera.calibrated is None:
        if interrupted.is_set():
            return INTERRUPTED
        raise RecordingError(
            expected=f"a face that holds still for {seconds:g} s",
            found=camera.report.reason or f"{camera.report.n_samples} frames, too few of them with a clear face",
            mend="sit before the camera in good light, and try again",
        )
    path = save_neutral(args.participants, args.participant, camera.calibrated)
    print(f"{path}: neutral face of {args.participant}, from {camera.calibrated.n_frames} frames")
    return 0


def _stop_on_signals(stop: threading.Event) -> threading.Event:
    """Set ``stop`` on SIGINT and SIGTERM; return an event that is set by the same signals alone."""
    interrupted = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        interrupted.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return interrupted
