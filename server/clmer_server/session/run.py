"""One run of a session, from its start to its end; a session that is started again has another one."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from clmer_server.hub import Hub
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.parts import EmotionEvent, ModelInfo
from clmer_server.session.config import SessionPlan, check_physio
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread
from clmer_server.session.inputs import Inputs, live_inputs, replay_inputs
from clmer_server.session.outlets import OutletFeed, outlet_identity
from clmer_server.session.pipeline import Delivery, ReplayHandOver, live_hand_over
from clmer_server.session.recorder import Recorder, RecordingPlan, plan_recording
from clmer_server.session.session import Session
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.resolve import Claim, StreamClaims
from clmer_streaming.types import Item


class Listener(Protocol):
    """Something that hears every message in a thread of its own."""

    def start(self) -> None:
        """Begin to listen."""

    def message(self, message: Message) -> None:
        """Take a message to the clients; never waits."""

    def close(self, timeout_s: float) -> None:
        """Finish what waits, for ``timeout_s`` seconds at most."""


@dataclass(frozen=True)
class Listeners:
    """The recorder and the outlets of one session."""

    recorder: Recorder | None = None
    outlets: Listener | None = None

    def start(self) -> None:
        """Let them begin."""
        for listener in self._all():
            listener.start()

    def item(self, item: Item) -> None:
        """Take an item before the preprocessor gets it."""
        if self.recorder is not None:
            self.recorder.item(item)

    def also(self, publish: Callable[[Message], None]) -> Callable[[Message], None]:
        """Return a ``publish`` that tells them, too."""

        def publish_to_all(message: Message) -> None:
            publish(message)
            for listener in self._all():
                listener.message(message)

        return publish_to_all

    def close(self, timeout_s: float) -> None:
        """Let them finish what waits, for ``timeout_s`` seconds at most, the recorder first."""
        deadline = time.monotonic() + timeout_s
        for listener in self._all():
            listener.close(max(0.0, deadline - time.monotonic()))

    def _all(self) -> tuple[Listener, ...]:
        return tuple(listener for listener in (self.recorder, self.outlets) if listener is not None)


def both_clocks() -> tuple[float, float]:
    """Return one moment in seconds of the LSL clock and of the wall clock."""
    before, wall, after = local_clock(), time.time(), local_clock()
    return (before + after) / 2, wall


GIVEN_UP_TIMEOUT_S = 1.0
"""How long recorder and outlets of a run that cannot begin have to close."""


@dataclass(frozen=True)
class ServedModel:
    """The model that answers all sessions of a service."""

    info: ModelInfo
    preprocess: PreprocessConfig
    inference: InferenceThread
    card: dict[str, Any]  # the artifact's own description, as plain JSON values


@dataclass(frozen=True)
class FoundInputs:
    """A session whose streams, files and words have been checked."""

    plan: SessionPlan
    inputs: Inputs
    claim: Claim


@dataclass(frozen=True)
class PreparedRun:
    """Everything that was checked and made before a session starts."""

    context: EventContext
    inputs: Inputs
    recording: RecordingPlan | None
    outlets: bool
    claim: Claim
    video: Path | None = None  # where the camera's pictures are kept

    def discard(self) -> None:
        """Free what was made for a run that could not be opened: its streams, and its new folder."""
        self.claim.leave()
        if self.recording is not None:
            self.recording.folder.discard()


def find_inputs(plan: SessionPlan, preprocess: PreprocessConfig, claims: StreamClaims) -> FoundInputs:
    """Check what a session asks for; opens neither stream nor camera.

    Args:
        plan: The session.
        preprocess: The signal settings of the model.
        claims: The live streams of all sessions.

    Raises:
        ClmerError: A file, a stream or a camera is named that cannot be used.
    """
    config = plan.config()
    check_physio(config.physio, preprocess)
    if config.replay is not None:
        inputs = replay_inputs(config, preprocess)[0]
        return FoundInputs(plan, inputs, claims.join(plan.name, ()))
    claim = claims.join(plan.name, [text for text in (config.eeg, config.face_stream) if text])
    try:
        return FoundInputs(plan, live_inputs(config, preprocess, claim), claim)
    except Exception:
        claim.leave()
        raise


def prepare_run(found: FoundInputs, model: ServedModel, first_seq: int | None = None) -> PreparedRun:
    """Return a run of a session, and make the folder that it is recorded in.

    Args:
        found: The session.
        model: What answers it.
        first_seq: Number of its first event, where it has run before; None: this is the first time.

    Raises:
        SettingsError: The folder cannot be made.
    """
    plan, mode = found.plan, found.inputs.mode
    context = EventContext(plan.name, model.info, mode, found.inputs.participant, first_seq or 0)
    name = None if first_seq is None and not plan.one_of_several else _recording_name(plan.name)
    try:
        recording = plan_recording(plan.settings, context, model.preprocess, name)
    except Exception:
        found.claim.leave()
        raise
    video = recording.folder.video if recording is not None and plan.keeps_video else None
    outlets = mode == "live" if plan.settings.outlets is None else plan.settings.outlets
    return PreparedRun(context, found.inputs, recording, outlets, found.claim, video)


def _recording_name(session: str) -> str:
    """Return a new name for a folder: the session's, the local time, and what no other run has."""
    return f"{session.replace('.', '_')[:32]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


class SessionRun:
    """A session with its recorder and its outlets.

    Args:
        prepared: What was checked.
        model: What answers.
        port: Of the service.
        way: Of its messages to the clients; ``observe`` of it is not used.

    Raises:
        ClmerError: The recording or the outlets cannot be opened.
    """

    def __init__(self, prepared: PreparedRun, model: ServedModel, port: int, way: Delivery) -> None:
        self.prepared = prepared
        self.next_seq = prepared.context.first_seq  # of the event that comes next
        self._way = way
        self._closing = threading.Lock()  # taken by the one who closes, and kept
        self._closed = threading.Event()  # everything is closed, or has had its time
        delivery = replace(way, publish=self.publish, observe=self._observe)
        self._listeners = Listeners()
        try:
            self.session = Session(prepared.context, prepared.inputs, model.preprocess, model.inference, delivery)
            self._listeners = self._open_listeners(model, port)
            self._keep_video()
            self._listeners.start()
        except Exception:
            self._listeners.close(GIVEN_UP_TIMEOUT_S)
            prepared.discard()
            raise

    def publish(self, message: Message) -> None:
        """Give a message to clients, recorder and outlets; behind ``close`` it comes too late."""
        if self._closing.locked():
            return
        self._listeners.also(self._way.publish)(message)
        if isinstance(message, EmotionEvent):
            self.next_seq = message.seq + 1

    def stop(self, timeout_s: float) -> None:
        """End the session without a word, within ``timeout_s`` seconds."""
        self.session.stop(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Let recorder and outlets finish, and free its streams: once; who comes later waits for that.

        Within ``timeout_s`` seconds, either way.
        """
        if not self._closing.acquire(blocking=False):
            self._closed.wait(timeout_s)
            return
        try:
            self.prepared.claim.leave()
            self._listeners.close(timeout_s)
            self._listeners = Listeners()  # nobody sees the outlets of a session that is over
        finally:
            self._closed.set()

    def _observe(self, item: Item) -> None:
        self._listeners.item(item)

    def _open_listeners(self, model: ServedModel, port: int) -> Listeners:
        plan, blocking = self.prepared.recording, self.prepared.inputs.mode == "replay"
        recorder = outlets = None
        if self.prepared.outlets:
            outlets = OutletFeed(outlet_identity(self.prepared.context, port, model.preprocess), self._tell)
        if plan is not None:  # last, so that no file is open where another listener cannot be made
            recorder = Recorder(plan, both_clocks(), blocking=blocking, tell=self._tell)
        return Listeners(recorder, outlets)

    def _keep_video(self) -> None:
        camera, video = self.prepared.inputs.camera, self.prepared.video
        if camera is not None and video is not None:
            camera.keep_video(video, self._tell_of_video)

    def _tell_of_video(self, reason: str) -> None:
        text = f"The video has ended, the session goes on: {reason}. What was written so far can be seen."
        self._tell(Notice(code=NoticeCode.VIDEO_FAILED, message=text))

    def _tell(self, message: Message) -> None:
        self._way.hand_over(lambda: self._way.publish(message))


@dataclass(frozen=True)
class Site:
    """What all sessions of a service share."""

    model: ServedModel
    claims: StreamClaims
    workers: Executor  # for what may wait: opening files, ending threads
    port: int = 0
    count: Callable[[Message], None] = lambda message: None  # hears every message of every session once


def prepare(plan: SessionPlan, site: Site, first_seq: int | None) -> PreparedRun:
    """Check what a session asks for, and make the folder that it is recorded in.

    Args:
        plan: The session.
        site: What it shares with the others.
        first_seq: Number of its first event, where it has run before; None: this is the first time.

    Raises:
        ClmerError: It asks for what cannot be had, or the folder cannot be made.
    """
    return prepare_run(find_inputs(plan, site.model.preprocess, site.claims), site.model, first_seq)


@dataclass(frozen=True)
class RunOpener:
    """Opens the runs of one session."""

    session: str  # its name
    site: Site
    loop: asyncio.AbstractEventLoop  # on which its messages are published
    over: Callable[[], None]  # called there, behind the last message of a run that ended by itself

    def open(self, prepared: PreparedRun, hub: Hub) -> SessionRun:
        """Open a run, which then waits; its messages go to a hub.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        live = prepared.inputs.mode == "live"
        hand_over = live_hand_over(self.loop) if live else ReplayHandOver(self.loop, hub.room)
        way = Delivery(self._publish_to(hub), hand_over, sink=hub, over=self.over)
        return SessionRun(prepared, self.site.model, self.site.port, way)

    def _publish_to(self, hub: Hub) -> Callable[[Message], None]:
        """Return a ``publish`` that counts messages, and has every notice name its session."""

        def publish(message: Message) -> None:
            named = message.model_copy(update={"session": self.session}) if isinstance(message, Notice) else message
            self.site.count(named)
            hub.publish(named)

        return publish
