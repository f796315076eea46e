"""A session over all its runs: it waits, runs, ends or fails, and can be started again; its clients stay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import TypeVar

from clmer_server.hub import Hub
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode, RefusalError
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Bye, Notice, Welcome
from clmer_server.protocol.parts import TOPICS, ClockReading, Grid, ServerInfo, SourceMode
from clmer_server.session.config import SessionPlan, StartRequest
from clmer_server.session.run import PreparedRun, RunOpener, ServedModel, SessionRun, Site, prepare
from clmer_server.session.session import Session, SessionState, describe
from clmer_streaming.clock import local_clock
from clmer_streaming.errors import ClmerError
from clmer_streaming.types import INPUT_KINDS, Marker

_REQUESTS = ("marker", "clock.sync", "session.start", "session.stop")  # that can succeed in every session


class SessionRoom:
    """One session over all its runs. Called on the event loop.

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


logger = logging.getLogger(__name__)

THREADS_TIMEOUT_S = 1.0
"""How long the threads of a session have to end."""

LISTENERS_TIMEOUT_S = 1.0
"""How long recorder and outlets have to finish what waits for them."""

ResultT = TypeVar("ResultT")


class ManagedSession(SessionRoom):
    """Starts, stops and ends a session. Made and called on the event loop.

    Args:
        plan: What it is to do.
        site: What it shares with the others.
    """

    def __init__(self, plan: SessionPlan, site: Site) -> None:
        super().__init__(plan, site.model)
        self._site = site
        self._opener = RunOpener(plan.name, site, asyncio.get_running_loop(), self._on_over)
        self._starter: asyncio.Task[None] | None = None  # waits for the first client
        self._changing = asyncio.Lock()  # held while it starts or stops
        self._ending = False  # it is being ended for good
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_devices(self) -> bool:
        """Whether its headset and its camera are its own now: it runs, or begins with its first client."""
        return self.run is not None and self.state in (SessionState.RUNNING, SessionState.WAITING)

    def open(self, prepared: PreparedRun) -> None:
        """Open its first run, which then waits.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        self.run = self._opener.open(prepared, self._hub)

    def begin(self) -> None:
        """Start the run that waits, at once or with the first client, as the plan says."""
        if self.run is not None and self.plan.on_first_client:
            self._starter = asyncio.create_task(self._start_with_first_client(self.run))
        elif self.run is not None:
            self.run.session.start()

    async def start(self, request: StartRequest) -> None:
        """Start it, or start it again.

        Raises:
            RefusalError: It runs, or cannot start.
        """
        async with self._changing:
            if self.state is SessionState.RUNNING:
                raise RefusalError("session_running", f"the session {self.name} runs already; stop it first")
            plan = self.plan.asked_for(request)
            if self.run is not None and self.state is SessionState.WAITING and plan == self.plan:
                self.run.session.start()
                return
            await self._start_run(plan)

    async def stop(self) -> None:
        """Stop it; its clients stay.

        Raises:
            RefusalError: It does not run.
        """
        async with self._changing:
            if self.run is None or self.state not in (SessionState.RUNNING, SessionState.WAITING):
                raise RefusalError("session_not_running", f"the session {self.name} is {self.state}")
            await self._work(self.run.stop, THREADS_TIMEOUT_S)
            self._hub.renew()
            given_up = self.run.session.controls.give_up("the session has been stopped")
            for notice in (*given_up, self._notice(NoticeCode.SESSION_STOPPED, "has been stopped")):
                self.run.publish(notice)
            await self._work(self.run.close, LISTENERS_TIMEOUT_S)

    async def shut_down(self) -> None:
        """End it for good, within the two timeouts, whatever it is doing; what prepares to start does not."""
        self._ending = True
        if self._starter is not None:
            self._starter.cancel()
        if self.run is not None:
            await self._end(self.run)
        with contextlib.suppress(TimeoutError):  # a start that hangs is not waited for
            async with asyncio.timeout(THREADS_TIMEOUT_S), self._changing:
                pass

    def say_goodbye(self, bye: Bye) -> None:
        """Let ``bye`` be the last message to its clients."""
        self._hub.say_goodbye(bye)

    async def _start_run(self, plan: SessionPlan) -> None:
        before = self.run
        first_seq = None
        if before is not None:
            await self._end(before)
            first_seq = before.next_seq
        self._go_on()
        hub = Hub(session=self.name, earlier=self._hub) if self.state is SessionState.FAILED else self._hub
        run = await self._open_anew(plan, first_seq, hub)
        if self._ending:
            await self._end(run)
        self._go_on()
        hub.renew()
        self.plan, self._hub, self.run = plan, hub, run
        if before is not None:
            run.publish(self._notice(NoticeCode.SESSION_STARTED, "has been started again"))
        run.session.start()

    def _go_on(self) -> None:
        if self._ending:
            raise RefusalError("cannot_start", f"the service ends, and the session {self.name} with it")

    async def _open_anew(self, plan: SessionPlan, first_seq: int | None, hub: Hub) -> SessionRun:
        try:
            prepared = await self._work(lambda: prepare(plan, self._site, first_seq))
            if self._ending:
                await self._work(prepared.discard)
            self._go_on()
            return await self._work(lambda: self._opener.open(prepared, hub))
        except RefusalError:
            raise
        except Exception as error:
            if not isinstance(error, ClmerError):
                logger.exception("the session %s cannot start", self.name, extra={OF_SESSION: self.name})
            raise RefusalError("cannot_start", describe(error)) from error

    def _notice(self, code: NoticeCode, what: str) -> Notice:
        return Notice(session=self.name, code=code, message=f"The session {self.name} {what}.")

    def _on_over(self) -> None:
        task = asyncio.create_task(self._close_run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_run(self) -> None:
        """Close what belonged to a run that has ended by itself, so that its recording is whole."""
        async with self._changing:
            run = self.run
            if run is not None and run.session.state in (SessionState.ENDED, SessionState.FAILED):
                await self._end(run)

    async def _end(self, run: SessionRun) -> None:
        await self._work(run.stop, THREADS_TIMEOUT_S)
        await self._work(run.close, LISTENERS_TIMEOUT_S)

    async def _start_with_first_client(self, run: SessionRun) -> None:
        await self._hub.first_client.wait()
        run.session.start()

    async def _work(self, call: Callable[..., ResultT], *args: float) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._site.workers, call, *args)
