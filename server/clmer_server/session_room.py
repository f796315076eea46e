"""A session as its clients see it: what they are told of it, and what they may ask of it while it runs."""

from __future__ import annotations

import math
import time
from importlib.metadata import version

from clmer_server.hub import Hub
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Welcome
from clmer_server.protocol.parts import TOPICS, ClockReading, Grid, ServerInfo, SourceMode
from clmer_server.rooms import RefusalError
from clmer_server.session import Session
from clmer_server.session_plan import SessionPlan
from clmer_server.session_run import ServedModel, SessionRun
from clmer_server.session_state import SessionState, describe
from clmer_streaming.clock import local_clock
from clmer_streaming.types import INPUT_KINDS, Marker

_REQUESTS = ("marker", "clock.sync", "session.start", "session.stop")  # that can succeed in every session


class SessionRoom:
    """A ``Room``: one session over all its runs. Called on the event loop.

    Args:
        plan: What it is to do.
        model: What answers.

    Attributes:
        plan: What it is to do at its next start.
        run: The newest run; None before the first.
    """

    def __init__(self, plan: SessionPlan, model: ServedModel) -> None:
        self.plan = plan
        self.run: SessionRun | None = None
        self._model = model
        self._hub = Hub(session=plan.name)

    @property
    def name(self) -> str:
        """By which clients ask for it."""
        return self.plan.name

    @property
    def hub(self) -> Hub:
        """The clients that listen to it; a new one behind a failure, which said goodbye to them."""
        return self._hub

    @property
    def state(self) -> SessionState:
        """What it is doing."""
        return SessionState.WAITING if self.run is None else self.run.session.state

    @property
    def source(self) -> SourceMode:
        """Whether its data is live or read from a recording."""
        return "live" if self.plan.settings.replay is None else "replay"

    @property
    def recording(self) -> str | None:
        """Name of the folder of its newest recording; None where that run is not recorded."""
        plan = self.run.prepared.recording if self.run is not None else None
        return plan.folder.path.name if plan is not None else None

    def welcome(self) -> Welcome:
        """Return the first message for a client that connects now."""
        window = self._model.preprocess.window
        return Welcome(
            session=self.name,
            server=ServerInfo(version=version("clmer")),
            model=self._model.info,
            streams=self._hub.streams,
            clock=ClockReading(lsl_time=local_clock(), unix_time=time.time()),
            capabilities=(*TOPICS, *_REQUESTS, *(self.run.session.controls.capabilities if self.run else ())),
            source=self.source,
            grid=Grid(window_s=window.window_s, hop_s=window.hop_s),
        )

    def mark(self, marker: Marker) -> None:
        """Take a marker into the session.

        Raises:
            RefusalError: It does not run.
        """
        self._running().mark(marker)

    def stream_time(self, t: float) -> float:
        """Return when ``t`` seconds of the LSL clock is for the session.

        Raises:
            RefusalError: It does not run, or has not begun to deliver.
        """
        stream_t = self._running().stream_time(t)
        if not math.isfinite(stream_t):
            raise RefusalError("session_not_running", f"expected data from the session {self.name}, found none yet")
        return stream_t

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Begin to measure the participant at rest.

        Raises:
            RefusalError: This session cannot, does not run, or does so already.
        """
        self._running().controls.calibrate(kind, seconds)

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up.

        Raises:
            RefusalError: None runs.
        """
        self._running().controls.stop_calibration(kind)

    def control_replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Hold a replay or let it go on, and set its speed.

        Raises:
            RefusalError: The session is live, or does not run.
        """
        self._running().controls.replay(action, speed)

    def _running(self) -> Session:
        if self.run is None or not self.run.session.running:
            raise RefusalError("session_not_running", f"expected a running session, found {self.name} {self.state}")
        return self.run.session

    def why_not_ready(self) -> list[str]:
        """Return why no predictions come; empty where they come, or begin with the first client."""
        streams = tuple(stream for stream in self._hub.streams if stream.kind in INPUT_KINDS)
        if self.run is None:
            return ["session waiting: it has not been started"]
        if self.run.session.failure is not None:
            return [f"session failed: {describe(self.run.session.failure)}"]
        running = self.state is SessionState.RUNNING
        if self.state is SessionState.WAITING or (running and any(s.state == "live" for s in streams)):
            return []
        silent = [f"{s.source} {s.state}: {s.reason or s.name}" for s in streams if s.state != "live"]
        return silent if running and silent else [f"session {self.state}"]
