"""The start of the service: everything is checked, then the model is loaded, then it is served.

To be read in this order: ``start_service``, the checks, the text that is printed at the start.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_server.archive.deletion import apply_retention
from clmer_server.logs import set_up_logging
from clmer_server.session.config import (
    SessionConfig,
    check_no_conflict,
    effective_preprocess,
    notch_text,
    session_configs,
)
from clmer_server.session.inference import ServedModel, check_device
from clmer_server.session.inputs import Inputs, find_inputs
from clmer_server.session.managed import PreparedRun, prepare_run
from clmer_server.session.recorder import try_recordings
from clmer_server.settings import ServeSettings
from clmer_server.web.auth import Access, access_text, plan_access
from clmer_server.web.service import ServicePlan, loop_factory, run_service
from clmer_server.web.uvicorn import open_listener
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.lsl.setup import set_up_lsl


def start_service(settings: ServeSettings, *, check_only: bool = False) -> None:
    """Check everything, load the model, and serve until a signal comes.

    Args:
        settings: Of the service.
        check_only: Whether to print that the settings hold instead of serving.

    Raises:
        ClmerError: Something that the settings ask for is missing or cannot be used.
    """
    set_up_logging(settings.log_level, settings.log_format)
    signal.signal(signal.SIGTERM, _exit)
    check_device(settings.device)
    if settings.replay is None or settings.lsl_config is not None:
        set_up_lsl(settings.lsl_config)
    with open_listener(settings.host, settings.port) as listener:
        checked = _check(settings)
        if check_only:
            served = _sources_text([config for config, _ in checked.sessions])
            print(f"the settings hold: {checked.artifact.meta.name} can be served, from {served}")
            return
        apply_retention(settings, time.time())
        plan = _prepare(settings, checked)
        notch = notch_text(checked.artifact.meta.preprocess, checked.preprocess)
        print(_start_up_text(plan, listener, notch), flush=True)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run_service(plan, listener))


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    """Exit at once, without an error: SIGTERM before the service runs and after it has ended."""
    raise SystemExit(0)


@dataclass(frozen=True)
class _Checked:
    """What the settings ask for, checked; nothing is open, loaded or made yet."""

    sessions: tuple[tuple[SessionConfig, Inputs], ...]
    access: Access
    artifact: ArtifactFile
    preprocess: PreprocessConfig
    claims: StreamClaims


def _check(settings: ServeSettings) -> _Checked:
    """Check whether the service could run, so that mistakes show at once, and with ``--check-config``."""
    configs = session_configs(settings)
    check_no_conflict(configs)
    access = plan_access(settings)
    if settings.record is not None:
        try_recordings(settings.record)
    artifact = find_artifact(settings.model, settings.model_sha256)  # read, not loaded
    preprocess = effective_preprocess(artifact.meta.preprocess, settings.notch)
    claims = StreamClaims()
    sessions = tuple((config, find_inputs(config, preprocess, claims)) for config in configs)
    return _Checked(sessions, access, artifact, preprocess, claims)


def _prepare(settings: ServeSettings, checked: _Checked) -> ServicePlan:
    """Load the model, and make the folders that sessions are recorded in."""
    model = ServedModel.load(checked.artifact, settings.device, checked.preprocess)
    sessions = tuple((config, prepare_run(config, inputs, model, settings)) for config, inputs in checked.sessions)
    return ServicePlan(settings, checked.access, model, checked.claims, sessions)


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
        *(line for config, prepared in plan.sessions for line in _session_lines(config, prepared)),
        *([f"notch      {notch}"] if notch else []),
        "Tell participants that their emotions are estimated. Ctrl-C ends the service.",
    ]
    return "\n".join(lines)


def _session_lines(config: SessionConfig, prepared: PreparedRun) -> list[str]:
    return [
        *([f"session    {config.name}"] if config.named else []),
        f"source     {_source_text(config)}",
        *([f"recording  {prepared.recording.folder.session}"] if prepared.recording else []),
        *([f"video      {prepared.video}: pictures of the face are kept"] if prepared.video else []),
        *(f"warning    {text}" for text in prepared.inputs.warnings),
    ]


def _sources_text(configs: Sequence[SessionConfig]) -> str:
    if not configs[0].named:
        return _source_text(configs[0])
    return "; ".join(f"{config.name}: {_source_text(config)}" for config in configs)


def _source_text(config: SessionConfig) -> str:
    if config.replay is not None:
        return f"replay of {config.replay}" + (f" with the face of {config.video}" if config.video else "")
    face = f"face stream {config.face_stream!r}" if config.face_stream else f"camera {config.face_camera or 'none'}"
    return f"live EEG stream {config.eeg!r}, {face}"


def _provenance(trained_on: str) -> str:
    if trained_on == "simulated":
        return "trained on simulated people: shows that the path works, says nothing about real ones"
    return f"trained on {trained_on}"
