"""A session in this program: a recording that is replayed, or live streams, with one event for each window."""

from __future__ import annotations

import itertools
import math
import secrets
import threading
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, Unpack

from clmer.model import Model, as_model
from clmer.options import LiveOptions, LocalConfig, ReplayOptions, local_config
from clmer_server.protocol.outbound import Message, Notice, StreamStatusMessage
from clmer_server.protocol.parts import EmotionEvent, StreamEntry
from clmer_server.session.config import effective_preprocess, notch_text
from clmer_server.session.inference import InferenceThread, ServedModel, model_info
from clmer_server.session.inputs import find_inputs
from clmer_server.session.managed import SessionRun, prepare_run
from clmer_server.session.session import Session as _RunningSession
from clmer_server.session.session import SessionState
from clmer_server.session.sink import EventSink
from clmer_streaming.clock import local_clock
from clmer_streaming.errors import SettingsError
from clmer_streaming.lsl.resolve import StreamClaims
from clmer_streaming.types import Marker

MAX_WAITING_EVENTS = 256
"""Events of a replay that may wait to be read; then the replay waits."""

MAX_UNREAD_EVENTS = 20_000
"""Newest events of a live session that wait to be read: nearly three hours with the shipped model."""

STOP_TIMEOUT_S = 5.0
"""Seconds that the threads of a session, and then its recording, have to end."""

MARKER_SOURCE = "python"
"""The source of the markers of ``Session.mark``."""

_claims = StreamClaims()
"""The live streams of all sessions in this program: none takes those of another."""


class Session:
    """Sources, signal path and model of one participant, in threads of this program; see ``replay`` and ``live``.

    It runs while its ``with`` block lasts. Iterating over it yields its events, each with the fields that
    ``prediction`` has in docs/protocol.md, as attributes. What a thread raises is raised where you iterate, or else
    at the end of the block.

    Example::

        import clmer

        with clmer.Session.replay("session.xdf") as session:
            for event in session:
                if event.valid:
                    print(event.t_end, event.label, event.valence)
                    break
    """

    def __init__(self, config: LocalConfig, model: Model) -> None:
        preprocess = effective_preprocess(model.preprocess, config.notch)
        self._inputs = find_inputs(config, preprocess, _claims)
        for warning in filter(None, (*self._inputs.warnings, notch_text(model.preprocess, preprocess))):
            warnings.warn(warning, stacklevel=3)
        info = model_info(model.artifact, model.predictor, preprocess)
        self._config = config
        self._model = ServedModel(info, preprocess, InferenceThread(model.predictor.predict), {})
        self._events = _EventQueue(live=config.mode == "live")
        self._streams: dict[str, StreamStatusMessage] = {}  # the newest, by source
        self._notices: deque[Notice] = deque(maxlen=100)
        self._marker_ids = (f"{MARKER_SOURCE}-{secrets.token_hex(4)}-{number}" for number in itertools.count(1))
        self._run: SessionRun | None = None  # None: it has not begun
        self._raised = False  # whether the failure was raised

    @classmethod
    def replay(
        cls,
        path: str | Path,
        model: Model | str | Path | None = None,
        *,
        speed: float | Literal["max"] = "max",
        record: str | Path | None = None,
        **options: Unpack[ReplayOptions],
    ) -> Self:
        """Return a session that replays a recording. It waits for you: no event is lost.

        Args:
            path: An XDF file: of any recorder, or a session that clmer recorded.
            model: A model, its name, or its path; None: the default one.
            speed: Recorded seconds per second; ``max``: as fast as possible.
            record: Folder below which the session is recorded, in a folder of its own.
            options: As of ``clmer.windows``.

        Raises:
            ClmerError: As of ``clmer.windows`` and ``clmer.load_model``.

        Example::

            with clmer.Session.replay("session.xdf", speed="max") as session:
                events = list(session)
            print(len(events), sum(event.valid for event in events))
        """
        return cls(local_config(replay=path, speed=speed, record=record, **options), as_model(model))

    @classmethod
    def live(
        cls,
        model: Model | str | Path | None = None,
        *,
        eeg: str = "auto",
        camera: int | str | None = None,
        record: str | Path | None = None,
        **options: Unpack[LiveOptions],
    ) -> Self:
        """Return a session of live streams; those that are not there yet are waited for, and looked for when lost.

        The newest 20,000 events wait to be read.

        Args:
            model: A model, its name, or its path; None: the default one.
            eeg: LSL stream of the EEG: its name, or properties as in ``type=EEG,hostname=lab2``; ``auto``: the only
                one that fits.
            camera: Of the face: index, device, URL or video file; None: none.
            record: Folder below which the session is recorded, in a folder of its own.
            options: ``eeg_map``, ``eeg_map_force``, ``eeg_rate``, ``eeg_unit``, ``eeg_delay``, ``notch``, ``physio``,
                ``face_stream``, ``face_delay``, ``face_landmarker``, ``participant``, ``participants``,
                ``consent_ref``, ``record_video``, ``side_streams``, ``outlets`` (here off by default): as of
                ``clmer-serve``.

        Raises:
            StreamError: This computer cannot receive LSL streams.
            SettingsError: There is no such option, or it cannot have this value.
            ArtifactError: There is no such model.

        Example::

            with clmer.Session.live(eeg="auto") as session:
                session.mark("baseline/start")
                for event in session:
                    print(event.t_end, event.valid, event.reasons)
                    if event.valid:
                        break
                print([(stream.name, stream.state, stream.rate_hz) for stream in session.status()])
        """
        options.setdefault("outlets", False)
        seen = "none" if camera is None else str(camera)
        return cls(local_config(eeg=eeg, camera=seen, record=record, **options), as_model(model))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Notices for people, oldest first, the newest 100: that a recording has failed, for example."""
        return tuple(self._notices)

    def status(self) -> list[StreamEntry]:
        """Return the newest status of every stream: name, state, measured rate, losses, and why it is silent."""
        return list(self._streams.values())

    def mark(self, label: str, value: float | None = None, t: float | None = None) -> Marker:
        """Mark an event of the experiment; it goes into the recording, and onto LSL where there are outlets.

        Args:
            label: What happened.
            value: A number beside it, if you like.
            t: When, in seconds of the LSL clock (``pylsl.local_clock()``); None: now.

        Returns:
            The marker; its ``t`` is of the recording where one is replayed.

        Raises:
            SettingsError: The session does not run, or a replay has not begun to deliver.
        """
        session = self._running()
        now = session.stream_time(local_clock() if t is None else t)
        if not math.isfinite(now):
            raise SettingsError(
                "a replay that has begun to deliver", "none yet", "mark within the loop over its events"
            )
        marker = Marker(now, next(self._marker_ids), label, value, MARKER_SOURCE)
        session.mark(marker)
        return marker

    def stop(self) -> None:
        """Stop the threads and close the recording; iteration ends. A second call does nothing."""
        self._events.close(discard=self._inputs.mode == "replay")
        if self._run is not None:
            self._run.session.stop(STOP_TIMEOUT_S)
            self._model.inference.stop(STOP_TIMEOUT_S)
            self._run.close(STOP_TIMEOUT_S)

    @property
    def recording(self) -> Path | None:
        """Path of the session's recording; None where it is not recorded."""
        plan = None if self._run is None else self._run.prepared.recording
        return None if plan is None else plan.folder.session

    def __enter__(self) -> Self:
        """Open the recording and the outlets, if there are to be any, and start the threads."""
        if self._run is not None:
            raise SettingsError("a session that has not begun", repr(self), "make another one")
        prepared = prepare_run(self._config, self._inputs, self._model, None)
        sink = EventSink(self._publish, on_end=self._events.close)
        self._run = SessionRun(prepared, self._model, 0, sink)
        self._model.inference.start()
        self._run.session.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the threads; raise what made the session fail, unless that has been done."""
        self.stop()
        if error is None:
            self._raise_failure()

    def __iter__(self) -> Iterator[EmotionEvent]:
        """Yield the events, oldest first, until the recording ends or the session is stopped.

        Raises:
            Exception: What made the session fail.
            SettingsError: The session has not begun: iterate within its block.
        """
        self._begun()
        while (event := self._events.get()) is not None:
            yield event
        self._raise_failure()

    def __repr__(self) -> str:
        """Return what it does."""
        state = SessionState.WAITING if self._run is None else self._run.session.state
        return f"<clmer.Session, {self._inputs.mode}, {state}>"

    def _begun(self) -> _RunningSession:
        """Return what runs or has run.

        Raises:
            SettingsError: It has not begun.
        """
        if self._run is None:
            raise SettingsError("a session that has begun", repr(self), "use it in a block: with ... as session:")
        return self._run.session

    def _running(self) -> _RunningSession:
        """Return what runs.

        Raises:
            SettingsError: It does not run.
        """
        session = self._begun()
        if not session.running:
            raise SettingsError("a session that runs", repr(self), "mark before its end")
        return session

    def _raise_failure(self) -> None:
        failure = None if self._run is None else self._run.session.failure
        if failure is not None and not self._raised:
            self._raised = True
            raise failure

    def _publish(self, message: Message) -> None:
        """Take a message of the session; called in its threads."""
        if isinstance(message, EmotionEvent):
            self._events.put(message)
        elif isinstance(message, StreamStatusMessage):
            self._streams[message.source] = message
        elif isinstance(message, Notice):
            self._notices.append(message)


class _EventQueue:
    """Events between the threads of a session and whoever iterates over it.

    Args:
        live: Whether a full queue drops its oldest event, or holds the session back.
    """

    def __init__(self, *, live: bool) -> None:
        self._blocking = not live
        self._events: deque[EmotionEvent] = deque(maxlen=MAX_UNREAD_EVENTS if live else None)
        self._closed = False
        self._changed = threading.Condition()

    def put(self, event: EmotionEvent) -> None:
        """Add an event; after ``close`` it is discarded."""
        with self._changed:
            if self._blocking:
                self._changed.wait_for(lambda: self._closed or len(self._events) < MAX_WAITING_EVENTS)
            if not self._closed:
                self._events.append(event)
                self._changed.notify_all()

    def get(self) -> EmotionEvent | None:
        """Wait for the next event and return it; None where none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._events))
            event = self._events.popleft() if self._events else None
            self._changed.notify_all()
            return event

    def close(self, *, discard: bool = False) -> None:
        """Accept no more events; those that wait are still returned unless ``discard`` is set."""
        with self._changed:
            self._closed = True
            if discard:
                self._events.clear()
            self._changed.notify_all()
