"""``clmer predict``: write the predictions for a recording, computed by the same session as in the service.

Exit codes: 0 where there is a valid prediction, 3 where there is none, 2 after a mistake that is told in three lines.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError

from clmer_model.artifact import find_artifact
from clmer_server.cli import progress_bar
from clmer_server.logs import set_up_logging
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import Message, Notice, StreamStatusMessage
from clmer_server.protocol.parts import EmotionEvent
from clmer_server.session.config import SessionConfig, check_physio, effective_preprocess, notch_text
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, check_device, load_predictor, model_info
from clmer_server.session.inputs import Inputs, replay_inputs
from clmer_server.session.session import Session
from clmer_server.session.sink import EventSink
from clmer_server.settings import ServeSettings, add_options, settings_error
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.types import INPUT_KINDS

HELP = "write the predictions for a recording, one JSON object per line"

_OPTIONS = (
    "eeg",
    "eeg_map",
    "eeg_map_force",
    "eeg_rate",
    "eeg_unit",
    "eeg_delay",
    "physio",
    "video",
    "video_offset",
    "face_landmarker",
    "participant",
    "participants",
)
"""Options of ``clmer-serve`` that apply to a recording."""

NOTHING_PREDICTED = 3
"""Exit code where no prediction is valid."""

Progress = Callable[[float], None]
"""Function that is called with the seconds of the recording that are done."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", type=Path, help="XDF recording")
    parser.add_argument("--out", required=True, help="file for the predictions; - is the standard output")
    parser.add_argument("--model", help="a shipped model's name or the path of a .ts or .onnx file")
    parser.add_argument("--model-sha256", help="hash that the model file must have")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add_options(parser, {name: SessionConfig.model_fields[name] for name in _OPTIONS})
    parser.add_argument("--speed", default="max", help="recorded seconds per second, or max (default)")
    notch_help = ServeSettings.model_fields["notch"].description
    parser.add_argument("--notch", choices=("50", "60", "none"), help=notch_help)


class PredictionWriter:
    """Writes predictions as JSON lines and counts them.

    Args:
        out: File of the predictions.
        progress: Called with the seconds of the recording that are done.
    """

    def __init__(self, out: TextIO, progress: Progress) -> None:
        self._out = out
        self._progress = progress
        self._t_first: float | None = None
        self.n_windows = 0
        self.n_valid = 0
        self.reasons: Counter[str] = Counter()
        self._streams: dict[str, StreamStatusMessage] = {}  # by source, the latest status

    def publish(self, message: Message) -> None:
        """Write a prediction; print a warning about the recording; keep what is said of a stream."""
        if isinstance(message, EmotionEvent):
            self._out.write(encode(message) + "\n")
            self._count(message)
        elif isinstance(message, Notice) and message.code == "recording_warning":
            print(f"warning: {message.message}", file=sys.stderr)
        elif isinstance(message, StreamStatusMessage) and message.kind in INPUT_KINDS:
            self._streams[message.source] = message

    def _count(self, event: EmotionEvent) -> None:
        self.n_windows += 1
        self.n_valid += event.valid
        self.reasons.update(event.reasons)
        self._t_first = event.t_end if self._t_first is None else self._t_first
        self._progress(event.t_end - self._t_first)

    def __str__(self) -> str:
        """Return how many windows there are and how many are valid, the counts of reasons, and what streams say."""
        reasons = ", ".join(f"{reason} {n}" for reason, n in self.reasons.most_common())
        head = f"{self.n_windows} windows, {self.n_valid} valid" + (f"; reasons: {reasons}" if reasons else "")
        lines = [head, *(line for status in self._streams.values() if (line := stream_line(status)))]
        if not self.n_windows:
            lines.append(
                "the recording is shorter than a window, or no stream of it feeds the model; see clmer inspect"
            )
        return "\n".join(lines)


def stream_line(status: StreamStatusMessage) -> str:
    """Return what is odd about a stream and what was lost of it, as one line for people; "" where nothing is."""
    words = [status.reason] if status.reason else []
    if status.n_lost:
        words.append(f"{status.n_lost} samples lost, by the packet counter")
    if status.n_lost_estimated:
        words.append(f"about {status.n_lost_estimated} samples lost, by the stamps")
    if not status.n_samples:
        words.append("no sample was used")
    return f"{status.kind} {status.name!r}: {'; '.join(words)}" if words else ""


def run(args: argparse.Namespace) -> int:
    """Replay the recording, write its predictions, print their counts and what streams say; return the exit code."""
    config = _config(args)
    set_up_logging("critical")  # an error of the session is raised here, and not logged a second time
    check_device(args.device)
    artifact = find_artifact(args.model, args.model_sha256)
    preprocess = effective_preprocess(artifact.meta.preprocess, args.notch)
    check_physio(config.physio_streams(), preprocess)
    with progress_bar(f"reading {args.file.name}") as progress:
        inputs, duration_s = replay_inputs(config, preprocess, progress)
    if notch := notch_text(artifact.meta.preprocess, preprocess):
        print(f"warning: {notch}", file=sys.stderr)
    predictor = load_predictor(artifact, args.device)
    model = model_info(artifact, predictor, preprocess)
    context = EventContext(config.name, model, config.mode, inputs.participant)
    with _open(args.out) as out, progress_bar("predicting", duration_s) as progress:
        writer = PredictionWriter(out, progress)
        _replay(context, inputs, preprocess, InferenceThread(predictor.predict), writer)
    print(writer, file=sys.stderr)
    if writer.n_valid:
        return 0
    print("nothing was predicted", file=sys.stderr)
    return NOTHING_PREDICTED


def _config(args: argparse.Namespace) -> SessionConfig:
    """Return the configuration of the session that the options describe."""
    options = {name: value for name, value in vars(args).items() if name in _OPTIONS}
    try:
        return SessionConfig(replay=args.file, speed=args.speed, **options)
    except ValidationError as error:
        raise settings_error(error, mend="correct the option; see clmer predict --help") from error


def _replay(
    context: EventContext,
    inputs: Inputs,
    preprocess: PreprocessConfig,
    inference: InferenceThread,
    writer: PredictionWriter,
) -> None:
    """Run a session to its end; raise the error that it failed with."""
    session = Session(context, inputs, preprocess, inference, EventSink(writer.publish))
    inference.start()
    session.start()
    try:
        session.wait()
    finally:
        session.stop(timeout_s=1.0)
        inference.stop(timeout_s=1.0)
    if session.failure is not None:
        raise session.failure


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
