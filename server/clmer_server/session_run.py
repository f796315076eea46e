"""One run of a session, from its start to its end; a session that is started again has another one."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clmer_server.delivery import Delivery
from clmer_server.events import EventContext
from clmer_server.inference import InferenceThread
from clmer_server.inputs import Inputs, live_inputs, replay_inputs
from clmer_server.listeners import Listeners, both_clocks
from clmer_server.outlet_feed import OutletFeed, outlet_identity
from clmer_server.preprocessing import check_physio
from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.protocol.parts import ModelInfo
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.recorder import Recorder
from clmer_server.recording_plan import RecordingPlan, plan_recording
from clmer_server.session import Session
from clmer_server.session_plan import SessionPlan
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.sources.stream_claims import Claim, StreamClaims
from clmer_streaming.types import Item

GIVEN_UP_TIMEOUT_S = 1.0
"""How long recorder and outlets of a run that cannot begin have to close."""


@dataclass(frozen=True)
class ServedModel:
    """The model that answers all sessions of a service."""

    info: ModelInfo
    preprocess: PreprocessConfig
    inference: InferenceThread
    card: dict[str, Any]  # the artefact's own description, as plain JSON values


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
