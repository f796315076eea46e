"""``clmer-serve``: the real-time service."""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_server.archive.deletion import keep_retention
from clmer_server.cli import LSL_CONFIG_HELP
from clmer_server.logs import set_up_logging
from clmer_server.session.config import SessionPlan, check_no_conflict, effective_preprocess, notch_text, plan_sessions
from clmer_server.session.inference import InferenceThread, check_device, load_predictor, model_card, model_info
from clmer_server.session.recorder import try_recordings
from clmer_server.session.run import FoundInputs, PreparedRun, ServedModel, find_inputs, prepare_run
from clmer_server.settings import ServeSettings, load_settings, settings_text
from clmer_server.web.auth import Access, access_text, plan_access
from clmer_server.web.service import ServicePlan, loop_factory, run_service
from clmer_server.web.uvicorn import open_listener
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.lsl.setup import set_up_lsl

HELP = "Serve emotion predictions over WebSocket, with a dashboard, from live EEG or a recording."

_OPTIONS = {
    "--host": "where to listen; anything but this machine itself is open to the network (default 127.0.0.1)",
    "--port": "port to listen at; 0 takes any free one (default 8765)",
    "--device": "where the model runs: auto, cpu, cuda or cuda:N (default auto)",
    "--model": "a shipped model's name or the path of a .ts or .onnx file (default: the shipped model)",
    "--model-sha256": "hash that the model file must have; needed for files that no manifest knows",
    "--eeg": "live EEG stream: its name, or properties as in type=EEG,hostname=lab2; auto takes the only one (default)",
    "--camera": "camera of the face: index, device, URL or video file; none goes without (default 0; a replay: none)",
    "--face-landmarker": "your FaceLandmarker file (.task), which finds the face's points as an extractor of its own",
    "--face-stream": "CLMER-Face stream, from clmer face-stream, by name or properties, instead of a camera",
    "--face-delay": "seconds from what the camera sees to its frame (default 0)",
    "--participant": "pseudonym of the participant, whose neutral face was measured by clmer calibrate",
    "--consent-ref": "where the participant's signed consent is filed; kept in the recording",
    "--participants": "folder of the neutral faces (default participants)",
    "--replay": "replay this XDF recording instead of live streams",
    "--video": "beside a replay: video of the face, or its CSV (OpenFace) or XDF (clmer serialize)",
    "--video-offset": "seconds from the first EEG sample to the video's first frame (default 0)",
    "--eeg-map": "names of EEG channels without labels, e.g. AF3=1,F7=2",
    "--eeg-unit": "unit of the EEG, V, mV or uV, in place of what the stream declares",
    "--eeg-delay": "seconds from the brain to the stamp of its sample, on top of what the stream declares (default 0)",
    "--notch": "filter the mains out at 50 or 60 Hz, or none; by default as the model was trained",
    "--physio": "further series of the model and their streams, e.g. ecg or ecg=Polar,gsr=Shimmer",
    "--speed": "of the replay: recorded seconds per second, or max, which begins at the first client (default 1)",
    "--lsl-config": LSL_CONFIG_HELP,
    "--record": "record each session in a folder of its own below this one",
    "--retention-days": "at the start, delete recorded sessions that are older (default: keep all)",
    "--side-streams": "other LSL streams to record: all, none, or names with commas (default all when recording)",
    "--purpose": "what it is for: demo, research, entertainment, medical or safety; kept in recordings",
    "--token": "what every client must show (better in CLMER_TOKEN; off this machine: default a new one, printed)",
    "--tls-cert": "certificate in PEM, for https and wss",
    "--tls-key": "its key in PEM, without a password",
    "--allow-origin": "pages elsewhere that may connect, e.g. https://lab.example, with commas",
    "--allow-host": "further names by which this machine is asked for, with commas",
    "--max-clients": "WebSockets at once (default 256)",
    "--max-clients-per-address": "of them, from one address (default 64)",
    "--max-message-rate": "messages that a client may send in a second; inf: any number (default 50)",
    "--log-level": "debug, info, warning or error (default warning)",
    "--log-format": "console, or json for one object a line (default console)",
}


_NO_SETTINGS = ("debug", "print_config", "check_config")
"""Options that are about this one call."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; one that is not given is left to environment, file and default."""
    for option, text in _OPTIONS.items():
        parser.add_argument(option, default=argparse.SUPPRESS, help=text)
    parser.add_argument("--loop", action="store_true", default=argparse.SUPPRESS, help="replay again and again")
    parser.add_argument(
        "--outlets",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="publish predictions and markers on LSL (default: in a live session)",
    )
    parser.add_argument(
        "--record-video",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="with --record: keep the camera's pictures, too, in face.avi (default: no picture is kept)",
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings in force as TOML, and end")
    parser.add_argument("--check-config", action="store_true", help="check everything but the model's answers, and end")


def run(args: argparse.Namespace) -> int:
    """Check everything, load the model, and serve until a signal comes."""
    settings = load_settings({name: value for name, value in vars(args).items() if name not in _NO_SETTINGS})
    if args.print_config:
        print(settings_text(settings))
        return 0
    set_up_logging(settings.log_level, settings.log_format)
    signal.signal(signal.SIGTERM, _end)
    check_device(settings.device)
    if settings.replay is None or settings.lsl_config is not None:
        set_up_lsl(settings.lsl_config)
    with open_listener(settings.host, settings.port) as listener:
        checked = _check(settings)
        if args.check_config:
            print(f"the settings hold: {checked.artifact.meta.name} can be served, from {_sources_text(checked.plans)}")
            return 0
        keep_retention(settings, time.time())
        plan = _prepare(settings, checked)
        notch = notch_text(checked.artifact.meta.preprocess, checked.preprocess)
        print(_start_up_text(plan, listener, notch), flush=True)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run_service(plan, listener))
    return 0


@dataclass(frozen=True)
class _Checked:
    """What the settings ask for, found to be there; nothing is open, loaded or made yet."""

    plans: tuple[SessionPlan, ...]
    access: Access
    artifact: ArtifactFile
    preprocess: PreprocessConfig
    claims: StreamClaims
    inputs: tuple[FoundInputs, ...]


def _check(settings: ServeSettings) -> _Checked:
    """Find out whether the service could run: mistakes show at once, and with ``--check-config``."""
    plans = plan_sessions(settings)
    check_no_conflict(plans)
    access = plan_access(settings)
    if settings.record is not None:
        try_recordings(settings.record)
    artifact = find_artifact(settings.model, settings.model_sha256)  # read, not loaded
    preprocess = effective_preprocess(artifact.meta.preprocess, settings.notch)
    claims = StreamClaims()
    inputs = tuple(find_inputs(plan, preprocess, claims) for plan in plans)
    return _Checked(plans, access, artifact, preprocess, claims, inputs)


def _prepare(settings: ServeSettings, checked: _Checked) -> ServicePlan:
    """Load the model, and make the folders that sessions are recorded in."""
    model = _load_model(settings, checked.artifact, checked.preprocess)
    runs = tuple(prepare_run(each, model) for each in checked.inputs)
    sessions = tuple(zip(checked.plans, runs, strict=True))
    return ServicePlan(settings, checked.access, model, checked.claims, sessions)


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    """End at once, without an error: what SIGTERM asks for before the service runs and after it has ended."""
    raise SystemExit(0)


def _load_model(settings: ServeSettings, artifact: ArtifactFile, preprocess: PreprocessConfig) -> ServedModel:
    predictor = load_predictor(artifact, settings.device)
    inference = InferenceThread(predictor.predict)
    inference.start()
    return ServedModel(model_info(artifact, predictor, preprocess), preprocess, inference, model_card(artifact))


def _start_up_text(plan: ServicePlan, listener: socket.socket, notch: str) -> str:
    settings, model = plan.settings, plan.model.info
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{listener.getsockname()[1]}"
    secure = "" if plan.access.tls is None else "s"
    lines = [
        f"dashboard  http{secure}://{address}/",
        f"websocket  ws{secure}://{address}/ws",
        *access_text(plan.access),
        f"model      {model.id} on {model.device}, {_provenance(model.trained_on)}",
        *([f"purpose    {settings.purpose}"] if settings.purpose else []),
        *(line for session, prepared in plan.sessions for line in _session_lines(session, prepared)),
        *([f"notch      {notch}"] if notch else []),
        "Tell participants that their emotions are estimated. Ctrl-C ends the service.",
    ]
    return "\n".join(lines)


def _session_lines(session: SessionPlan, prepared: PreparedRun) -> list[str]:
    return [
        *([f"session    {session.name}"] if session.one_of_several else []),
        f"source     {_source_text(session)}",
        *([f"recording  {prepared.recording.folder.session}"] if prepared.recording else []),
        *([f"video      {prepared.video}: pictures of the face are kept"] if prepared.video else []),
        *(f"warning    {text}" for text in prepared.inputs.warnings),
    ]


def _sources_text(plans: Sequence[SessionPlan]) -> str:
    if not plans[0].one_of_several:
        return _source_text(plans[0])
    return "; ".join(f"{plan.name}: {_source_text(plan)}" for plan in plans)


def _source_text(plan: SessionPlan) -> str:
    settings = plan.settings
    if settings.replay is not None:
        return f"replay of {settings.replay}" + (f" with the face of {settings.video}" if settings.video else "")
    face = f"face stream {settings.face_stream!r}" if settings.face_stream else f"camera {plan.camera or 'none'}"
    return f"live EEG stream {settings.eeg!r}, {face}"


def _provenance(trained_on: str) -> str:
    if trained_on == "simulated":
        return "trained on simulated people: shows that the path works, says nothing about real ones"
    return f"trained on {trained_on}"
