"""A session of a service over all its runs: it waits, runs, ends or fails, and can be started again.

To be read in this order: what the sessions of a service share, preparing a run, one run, ``ManagedSession``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from clmer_server.hub import Hub
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode, RefusalError
from clmer_server.protocol.outbound import Message, Notice, Welcome
from clmer_server.protocol.parts import TOPICS, ClockReading, Grid, ServerInfo
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import ServedModel
from clmer_server.session.inputs import Inputs, find_inputs
from clmer_server.session.recorder import Recorder, RecordingPlan, plan_recording
from clmer_server.session.session import Session, SessionState, describe_error
from clmer_server.session.sink import EventSink, OutletFeed, ReplayHandOver, outlet_identity
from clmer_server.settings import ServeSettings, StartRequest
from clmer_streaming.clock import local_clock
from clmer_streaming.errors import ClmerError
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.types import INPUT_KINDS

logger = logging.getLogger(__name__)

THREADS_TIMEOUT_S = 1.0
"""How long the threads of a session have to end."""

SINK_TIMEOUT_S = 1.0
"""How long recording and outlets of a run have to finish what waits for them."""

_REQUESTS = ("marker", "clock.sync", "session.start", "session.stop")  # that can succeed in every session


@dataclass(frozen=True)
class SharedParts:
    """Objects that all sessions of a service share."""

    settings: ServeSettings
    model: ServedModel
    claims: StreamClaims  # of the live streams
    workers: Executor  # for what may wait: opening files, ending threads
    port: int = 0  # of the service
    count: Callable[[Message], None] = lambda message: None  # called with every message of every session once


@dataclass(frozen=True)
class PreparedRun:
    """Everything that was checked and made before a run starts."""

    context: EventContext
    inputs: Inputs
    recording: RecordingPlan | None = None
    outlets: bool = False
    video: Path | None = None  # file in which the camera's pictures are kept

    def discard(self) -> None:
        """Free what was made for a run that could not be opened: its streams, and its new folder."""
        self.inputs.leave()
        if self.recording is not None:
            self.recording.folder.discard()


def prepare_run(
    config: SessionConfig,
    inputs: Inputs,
    model: ServedModel,
    settings: ServeSettings | None,
    first_seq: int | None = None,
) -> PreparedRun:
    """Return a run of a session, and make the folder that it is recorded in.

    Args:
        config: The session.
        inputs: As ``find_inputs`` returns them; they are left where the folder cannot be made.
        model: The model.
        settings: Of the service; None: there is none.
        first_seq: Number of its first event, where it has run before; None: this is the first time.

    Raises:
        SettingsError: The folder cannot be made.
    """
    context = EventContext(config.name, model.info, inputs.mode, inputs.participant, first_seq or 0)
    folder_name = None if first_seq is None and not config.named else _recording_name(config.name)
    try:
        recording = plan_recording(config, context, model.preprocess, settings, folder_name)
    except Exception:
        inputs.leave()
        raise
    video = recording.folder.video if recording is not None and config.keeps_video else None
    outlets = inputs.mode == "live" if config.outlets is None else config.outlets
    return PreparedRun(context, inputs, recording, outlets, video)


def _recording_name(session: str) -> str:
    """Return a new name for a folder: the session's, the local time, and random digits."""
    return f"{session.replace('.', '_')[:32]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


class SessionRun:
    """One run of a session, with its recording and its outlets.

    Args:
        prepared: What was checked.
        model: The model.
        port: Of the service.
        sink: Where its events go; recording and outlets are attached here.

    Raises:
        ClmerError: The recording or the outlets cannot be opened.
    """

    def __init__(self, prepared: PreparedRun, model: ServedModel, port: int, sink: EventSink) -> None:
        self.prepared = prepared
        self.sink = sink
        context, inputs, recording = prepared.context, prepared.inputs, prepared.recording
        try:
            self.session = Session(context, inputs, model.preprocess, model.inference, sink)
            if prepared.outlets:
                sink.attach(outlets=OutletFeed(outlet_identity(context, port, model.preprocess), sink.notify))
            if recording is not None:  # last, so that no file is open where the outlets cannot be made
                blocking = inputs.mode == "replay"
                sink.attach(recorder=Recorder(recording, _read_clocks(), blocking=blocking, notify=sink.notify))
            if inputs.camera is not None and prepared.video is not None:
                inputs.camera.keep_video(prepared.video, self._notify_of_video)
            sink.start()
        except Exception:
            sink.close(SINK_TIMEOUT_S)
            prepared.discard()
            raise

    @property
    def next_seq(self) -> int:
        """Number of the event that comes next."""
        return self.prepared.context.first_seq if self.sink.next_seq is None else self.sink.next_seq

    def close(self, timeout_s: float) -> None:
        """Release the streams, and close recording and outlets, within ``timeout_s`` seconds."""
        self.prepared.inputs.leave()
        self.sink.close(timeout_s)

    def _notify_of_video(self, reason: str) -> None:
        text = f"The video has ended, the session goes on: {reason}. What was written so far can be seen."
        self.sink.notify(Notice(code=NoticeCode.VIDEO_FAILED, message=text))


def _read_clocks() -> tuple[float, float]:
    """Return one moment in seconds of the LSL clock and of the wall clock."""
    before, wall, after = local_clock(), time.time(), local_clock()
    return (before + after) / 2, wall


ResultT = TypeVar("ResultT")


class ManagedSession:
    """Starts, stops and ends a session; its clients stay. Made and called on the event loop.

    Args:
        config: What it does.
        shared: What it shares with the other sessions of the service.

    Attributes:
        config: What it does at its next start.
        run: The newest run; None before the first.
        hub: The clients that listen to it; a new one after a failure, which says goodbye to them.
    """

    def __init__(self, config: SessionConfig, shared: SharedParts) -> None:
        self.config = config
        self.run: SessionRun | None = None
        self.hub = Hub(session=config.name)
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._starter: asyncio.Task[None] | None = None  # waits for the first client
        self._changing = asyncio.Lock()  # held while it starts or stops
        self._ending = False  # it is being ended for good
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> str:
        """Name of the session in requests."""
        return self.config.name

    @property
    def state(self) -> SessionState:
        """State of the session."""
        return SessionState.WAITING if self.run is None else self.run.session.state

    @property
    def has_devices(self) -> bool:
        """Whether the session uses its headset and camera now: it runs, or starts with its first client."""
        return self.run is not None and self.state in (SessionState.RUNNING, SessionState.WAITING)

    @property
    def recording(self) -> str | None:
        """Name of the folder of its newest recording; None where that run is not recorded."""
        plan = self.run.prepared.recording if self.run is not None else None
        return plan.folder.path.name if plan is not None else None

    def welcome(self) -> Welcome:
        """Return the first message for a client that connects now."""
        model = self._shared.model
        controls = self.run.session.controls.capabilities if self.run is not None else ()
        return Welcome(
            session=self.name,
            server=ServerInfo(version=version("clmer")),
            model=model.info,
            streams=self.hub.streams,
            clock=ClockReading(lsl_time=local_clock(), unix_time=time.time()),
            capabilities=(*TOPICS, *_REQUESTS, *controls),
            source=self.config.mode,
            grid=Grid(window_s=model.preprocess.window.window_s, hop_s=model.preprocess.window.hop_s),
        )

    def running(self) -> Session:
        """Return the session that runs.

        Raises:
            RefusalError: It does not run.
        """
        if self.run is None or not self.run.session.running:
            raise RefusalError("session_not_running", f"expected a running session, found {self.name} {self.state}")
        return self.run.session

    def stream_time(self, t: float) -> float:
        """Return the session's stream time at ``t`` seconds of the LSL clock.

        Raises:
            RefusalError: It does not run, or has not begun to deliver.
        """
        stream_t = self.running().stream_time(t)
        if not math.isfinite(stream_t):
            raise RefusalError("session_not_running", f"expected data from the session {self.name}, found none yet")
        return stream_t

    def why_not_ready(self) -> list[str]:
        """Return why no predictions come; empty where they come, or begin with the first client."""
        streams = tuple(stream for stream in self.hub.streams if stream.kind in INPUT_KINDS)
        if self.run is None:
            return ["session waiting: it has not been started"]
        if self.run.session.failure is not None:
            return [f"session failed: {describe_error(self.run.session.failure)}"]
        running = self.state is SessionState.RUNNING
        if self.state is SessionState.WAITING or (running and any(s.state == "live" for s in streams)):
            return []
        silent = [f"{s.source} {s.state}: {s.reason or s.name}" for s in streams if s.state != "live"]
        return silent if running and silent else [f"session {self.state}"]

    def open(self, prepared: PreparedRun) -> None:
        """Open the first run, which then waits.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        self.run = self._open(prepared, self.hub)

    def begin(self) -> None:
        """Start the run that waits, at once or with the first client, as the configuration says."""
        if self.run is not None and self.config.starts_with_first_client:
            self._starter = asyncio.create_task(self._start_with_first_client(self.run))
        elif self.run is not None:
            self.run.session.start()

    async def start(self, request: StartRequest) -> None:
        """Start the session, again if it has ended.

        Raises:
            RefusalError: It runs, or cannot start.
        """
        async with self._changing:
            if self.state is SessionState.RUNNING:
                raise RefusalError("session_running", f"the session {self.name} runs already; stop it first")
            config = self.config.with_request(request)
            if self.run is not None and self.state is SessionState.WAITING and config == self.config:
                self.run.session.start()
                return
            await self._start_run(config)

    async def stop(self) -> None:
        """Stop the session; its clients stay connected.

        Raises:
            RefusalError: It does not run.
        """
        async with self._changing:
            if self.run is None or self.state not in (SessionState.RUNNING, SessionState.WAITING):
                raise RefusalError("session_not_running", f"the session {self.name} is {self.state}")
            await self._work(self.run.session.stop, THREADS_TIMEOUT_S)
            self.hub.renew()
            given_up = self.run.session.controls.give_up("the session has been stopped")
            for notice in (*given_up, self._notice(NoticeCode.SESSION_STOPPED, "has been stopped")):
                self.run.sink.publish(notice)
            await self._work(self.run.close, SINK_TIMEOUT_S)

    async def shut_down(self) -> None:
        """End the session for good in any state, within the two timeouts; cancel a start under way."""
        self._ending = True
        if self._starter is not None:
            self._starter.cancel()
        if self.run is not None:
            await self._end(self.run)
        with contextlib.suppress(TimeoutError):  # a start that hangs is not waited for
            async with asyncio.timeout(THREADS_TIMEOUT_S), self._changing:
                pass

    async def _start_run(self, config: SessionConfig) -> None:
        before = self.run
        first_seq = None
        if before is not None:
            await self._end(before)
            first_seq = before.next_seq
        self._check_not_ending()
        hub = Hub(session=self.name, earlier=self.hub) if self.state is SessionState.FAILED else self.hub
        run = await self._prepare_and_open(config, first_seq, hub)
        if self._ending:
            await self._end(run)
        self._check_not_ending()
        hub.renew()
        self.config, self.hub, self.run = config, hub, run
        if before is not None:
            run.sink.publish(self._notice(NoticeCode.SESSION_STARTED, "has been started again"))
        run.session.start()

    def _check_not_ending(self) -> None:
        if self._ending:
            raise RefusalError("cannot_start", f"the service ends, and the session {self.name} with it")

    async def _prepare_and_open(self, config: SessionConfig, first_seq: int | None, hub: Hub) -> SessionRun:
        try:
            prepared = await self._work(lambda: self._prepare(config, first_seq))
            if self._ending:
                await self._work(prepared.discard)
            self._check_not_ending()
            return await self._work(lambda: self._open(prepared, hub))
        except RefusalError:
            raise
        except Exception as error:
            if not isinstance(error, ClmerError):
                logger.exception("the session %s cannot start", self.name, extra={OF_SESSION: self.name})
            raise RefusalError("cannot_start", describe_error(error)) from error

    def _prepare(self, config: SessionConfig, first_seq: int | None) -> PreparedRun:
        shared = self._shared
        inputs = find_inputs(config, shared.model.preprocess, shared.claims)
        return prepare_run(config, inputs, shared.model, shared.settings, first_seq)

    def _open(self, prepared: PreparedRun, hub: Hub) -> SessionRun:
        """Open a run whose messages go to a hub; every notice names its session."""

        def publish(message: Message) -> None:
            named = message.model_copy(update={"session": self.name}) if isinstance(message, Notice) else message
            self._shared.count(named)
            hub.publish(named)

        live = prepared.inputs.mode == "live"
        hand_over = self._loop.call_soon_threadsafe if live else ReplayHandOver(self._loop, hub.wait_for_room)
        sink = EventSink(publish, hand_over, hub=hub, on_end=self._on_end)
        return SessionRun(prepared, self._shared.model, self._shared.port, sink)

    def _notice(self, code: NoticeCode, what: str) -> Notice:
        return Notice(session=self.name, code=code, message=f"The session {self.name} {what}.")

    def _on_end(self) -> None:
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
        await self._work(run.session.stop, THREADS_TIMEOUT_S)
        await self._work(run.close, SINK_TIMEOUT_S)

    async def _start_with_first_client(self, run: SessionRun) -> None:
        await self.hub.first_client.wait()
        run.session.start()

    async def _work(self, call: Callable[..., ResultT], *args: float) -> ResultT:
        return await self._loop.run_in_executor(self._shared.workers, call, *args)
