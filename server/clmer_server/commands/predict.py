"""``clmer predict``: a recording through the same session as the service, into a file."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter, ValidationError

from clmer_model.artifact import find_artifact
from clmer_server.logs import set_up_logging
from clmer_server.participants import PARTICIPANTS_FOLDER, load_neutral
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.config import SessionConfig, check_physio, effective_preprocess, notch_text, parse_physio
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, check_device, load_predictor, model_info
from clmer_server.session.inputs import Inputs, replay_inputs
from clmer_server.session.pipeline import Delivery
from clmer_server.session.session import Session
from clmer_server.settings import Speed
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.extractor import Extractor

HELP = "write the predictions for a recording, one JSON object per line"

Progress = Callable[[float], None]
"""Is told how many seconds of the recording are done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, help="XDF recording")
    parser.add_argument("--out", required=True, help="file for the predictions; - is the standard output")
    parser.add_argument("--model", help="a shipped model's name or the path of a .ts or .onnx file")
    parser.add_argument("--model-sha256", help="hash that the model file must have")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--eeg-map", help="names of EEG channels without labels, e.g. AF3=1,F7=2")
    parser.add_argument("--eeg-unit", choices=("V", "mV", "uV"), help="unit of the EEG, in place of the declared one")
    parser.add_argument(
        "--eeg-delay", type=float, default=0.0, help="s from the brain to the stamp, on top of the declared delay"
    )
    parser.add_argument("--notch", choices=("50", "60", "none"), help="Hz; by default as the model was trained")
    parser.add_argument("--physio", help="further series of the model and their streams, e.g. ecg=Polar")
    parser.add_argument(
        "--video",
        type=Path,
        help="of the face beside the recording, or its CSV (OpenFace) or XDF (serialize)",
    )
    parser.add_argument(
        "--video-offset", type=float, default=0.0, help="s from the first EEG sample to its first frame"
    )
    parser.add_argument(
        "--face-landmarker", type=Path, metavar="FILE", help="FaceLandmarker bundle (.task) that reads the video"
    )
    parser.add_argument("--participant", help="pseudonym of the participant, who was calibrated")
    parser.add_argument("--participants", type=Path, default=PARTICIPANTS_FOLDER, help="folder of what is kept of them")
    parser.add_argument("--speed", default="max", help="recorded seconds per second, or max (default)")


class Report:
    """Writes predictions as they come and counts them.

    Args:
        out: Where the lines go.
        progress: Is told how far the recording has been read.
    """

    def __init__(self, out: TextIO, progress: Progress) -> None:
        self._out = out
        self._progress = progress
        self._first: float | None = None
        self.n_windows = 0
        self.n_valid = 0
        self.reasons: Counter[str] = Counter()

    def publish(self, message: Message) -> None:
        """Take one message of the session; only predictions are written."""
        if isinstance(message, EmotionEvent):
            self._out.write(encode(message) + "\n")
            self._count(message)
        elif isinstance(message, Notice) and message.code == "recording_warning":
            print(f"warning: {message.message}", file=sys.stderr)

    def _count(self, event: EmotionEvent) -> None:
        self.n_windows += 1
        self.n_valid += event.valid
        self.reasons.update(event.reasons)
        self._first = event.t_end if self._first is None else self._first
        self._progress(event.t_end - self._first)

    def __str__(self) -> str:
        """Return the summary."""
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.reasons.most_common()) or "none"
        return f"{self.n_windows} windows, {self.n_valid} valid; reasons: {reasons}"


def run(args: argparse.Namespace) -> int:
    """Replay the recording into the file and tell what came out."""
    speed = _speed(args.speed)
    set_up_logging("critical")  # what makes the session fail is raised here, and told once
    check_device(args.device)
    config = _config(args, speed)
    artifact = find_artifact(args.model, args.model_sha256)
    preprocess = effective_preprocess(artifact.meta.preprocess, args.notch)
    check_physio(config.physio, preprocess)
    inputs, duration_s = replay_inputs(config, preprocess)
    if notch := notch_text(artifact.meta.preprocess, preprocess):
        print(f"warning: {notch}", file=sys.stderr)
    predictor = load_predictor(artifact, args.device)
    model = model_info(artifact, predictor, preprocess)
    context = EventContext(config.session, model, config.mode, inputs.participant)
    with _open(args.out) as out, _progress_bar(duration_s) as progress:
        report = Report(out, progress)
        _replay(context, inputs, preprocess, InferenceThread(predictor.predict), report)
    print(report, file=sys.stderr)
    return 0


def _config(args: argparse.Namespace, speed: float) -> SessionConfig:
    """Return what the options say of the recording and its participant."""
    extractor = Extractor.choose(args.face_landmarker)
    return SessionConfig(
        session=secrets.token_hex(4),
        replay=args.file,
        eeg_map=args.eeg_map,
        eeg_unit=args.eeg_unit,
        eeg_delay_s=args.eeg_delay,
        physio=parse_physio(args.physio),
        speed=speed,
        video=args.video,
        video_offset_s=args.video_offset,
        extractor=extractor,
        neutral=load_neutral(args.participants, args.participant, extractor.id),
        participant=args.participant,
        participants=args.participants,
    )


def _replay(
    context: EventContext, inputs: Inputs, preprocess: PreprocessConfig, inference: InferenceThread, report: Report
) -> None:
    """Run a session to its end; raise what made it fail."""
    delivery = Delivery(report.publish, hand_over=lambda call: call())
    session = Session(context, inputs, preprocess, inference, delivery)
    inference.start()
    session.start()
    try:
        session.wait()
    finally:
        session.stop(timeout_s=1.0)
        inference.stop(timeout_s=1.0)
    if session.failure is not None:
        raise session.failure


def _speed(text: str) -> float:
    try:
        return TypeAdapter(Speed).validate_python(text)
    except ValidationError as error:
        raise SettingsError("a speed above 0, or max", repr(text), "e.g. --speed 8") from error


@contextlib.contextmanager
def _open(name: str) -> Iterator[TextIO]:
    if name == "-":
        yield sys.stdout
        return
    try:
        Path(name).touch()
    except OSError as error:
        raise SettingsError("an output file that can be written", f"{name}: {error.strerror}", "check --out") from error
    with Path(name).open("w", encoding="utf-8") as out:
        yield out


@contextlib.contextmanager
def _progress_bar(total_s: float) -> Iterator[Progress]:
    """Show a bar on stderr where a person sees it."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("predicting", total=total_s)
        yield lambda done_s: bar.update(task, completed=done_s)
