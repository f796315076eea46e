"""Sessions: every window gives one event in order, and every end has its cause."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clmer_model.prediction import Prediction
from clmer_server.protocol.codes import UNEXPECTED, ByeReason, NoticeCode
from clmer_server.protocol.outbound import Bye, MarkerMessage, Message, Notice, StreamStatusMessage
from clmer_server.protocol.parts import EmotionEvent, SourceMode
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, Predict
from clmer_server.session.inputs import Inputs
from clmer_server.session.session import Session, SessionState, describe_error
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import RecordingError
from clmer_streaming.sources.transform import EegCorrections, TransformedSource
from clmer_streaming.types import Item, Marker, Source, StreamInfo, Window
from tests.support.session_parts import EEG, MODEL, STATUS, KeptSink, ListSource, eeg_items, predict_certain

HOP_S = PreprocessConfig().window.hop_s


class Run:
    """A session whose messages are kept in a list."""

    def __init__(
        self,
        inputs: Inputs,
        predict: Predict = predict_certain,
        messages: list[Message] | None = None,
        context: EventContext | None = None,
    ) -> None:
        self.sink = KeptSink(messages)
        self.messages = self.sink.messages
        self.inference = InferenceThread(predict)
        context = context or EventContext("abc", MODEL, inputs.mode)
        self.session = Session(context, inputs, PreprocessConfig(), self.inference, self.sink)

    @property
    def events(self) -> list[EmotionEvent]:
        return [message for message in self.messages if isinstance(message, EmotionEvent)]

    def of_type(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.messages if isinstance(message, kind)]


@contextmanager
def running(
    source: Source | Inputs,
    predict: Predict = predict_certain,
    mode: SourceMode = "replay",
    messages: list[Message] | None = None,
    context: EventContext | None = None,
) -> Iterator[Run]:
    inputs = source if isinstance(source, Inputs) else Inputs(mode, (source,))
    run = Run(inputs, predict, messages, context)
    run.inference.start()
    run.session.start()
    yield run
    run.session.stop(timeout_s=10)
    run.inference.stop(timeout_s=10)


class WaitingSource(ListSource):
    """Delivers its items, then stays until it is stopped, as a live source does."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        super().run(put, stop)
        stop.wait(timeout=10)


class BrokenSource(ListSource):
    """Delivers its items, then breaks."""

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        super().run(put, stop)
        raise RecordingError("a whole file", "half a file", "record it again")


def predict_never(windows: Sequence[Window]) -> list[Prediction]:
    raise MemoryError("no room")


def test_every_window_gives_one_event_in_order() -> None:
    """Ten seconds have about twenty grid points: seq counts on from 0 and t_end in hops, without a hole."""
    with running(ListSource(list(eeg_items(10.0)))) as run:
        run.session.wait()
    assert [event.seq for event in run.events] == list(range(len(run.events)))
    first = run.events[0].t_end
    assert [event.t_end for event in run.events] == [first + HOP_S * k for k in range(len(run.events))]
    assert len(run.events) >= 18
    assert first % HOP_S == 0


def test_the_end_of_a_replay_is_told_behind_its_last_event() -> None:
    """And the session has then ended, without having failed."""
    with running(ListSource(list(eeg_items(4.0)))) as run:
        run.session.wait()
    assert isinstance(run.messages[-1], Notice)
    assert run.messages[-1].code == "replay_ended"
    assert run.session.state is SessionState.ENDED
    assert run.session.failure is None


def test_how_a_recording_is_cut_changes_no_event() -> None:
    """Chunks of 4 and of 64 samples give the same bits, and the same answers."""
    found = []
    for chunk in (4, 64):
        with running(ListSource(list(eeg_items(6.0, chunk=chunk)))) as run:
            run.session.wait()
        found.append({event.t_end: (event.crc, event.valid, event.probs) for event in run.events})
    shared = found[0].keys() & found[1].keys()
    assert len(shared) >= 10
    assert all(found[0][t_end] == found[1][t_end] for t_end in shared)


def test_a_replay_skips_no_window_of_a_slow_model() -> None:
    """It is held back instead: the model is asked for each window alone."""
    sizes: list[int] = []

    def count(windows: Sequence[Window]) -> list[Prediction]:
        sizes.append(len(windows))
        return predict_certain(windows)

    with running(ListSource(list(eeg_items(10.0))), count) as run:
        run.session.wait()
    assert sizes == [1] * len(run.events)
    assert not any("overload_skipped" in event.reasons for event in run.events)


def test_a_live_session_skips_windows_of_a_late_model_and_says_so() -> None:
    """The model answers nothing for nine seconds of stream: four windows have a place, the others are skipped."""
    nine_seconds = threading.Event()

    def predict_late(windows: Sequence[Window]) -> list[Prediction]:
        nine_seconds.wait(timeout=10)
        return predict_certain(windows)

    class Watching(list[Message]):
        def append(self, message: Message) -> None:
            super().append(message)
            if isinstance(message, StreamStatusMessage) and message.n_samples > 9 * EEG.sfreq:
                nine_seconds.set()

    with running(ListSource(list(eeg_items(10.0))), predict_late, "live", messages=Watching()) as run:
        run.session.wait()
    skipped = ["overload_skipped" in event.reasons for event in run.events]
    assert skipped[:4] == [False] * 4
    assert all(skipped[4:14])
    assert [event.seq for event in run.events] == list(range(len(run.events)))
    assert not any(event.valid for event, was_skipped in zip(run.events, skipped, strict=True) if was_skipped)


def test_latencies_are_measured_in_a_live_session() -> None:
    """Window and total are there; they mean something only against stamps of now."""
    with running(ListSource(list(eeg_items(4.0))), mode="live") as run:
        run.session.wait()
    latency = run.events[-1].latency_ms
    assert latency.window is not None
    assert latency.total is not None
    assert latency.total >= latency.window


def test_a_stream_is_expected_before_it_is_found() -> None:
    """Without a headset the service says that it is connecting, and since when."""
    inputs = Inputs("live", (WaitingSource([]),), expected=(STATUS,))
    with running(inputs) as run:
        pass
    (status,) = run.of_type(StreamStatusMessage)
    assert isinstance(status, StreamStatusMessage)
    assert status.state == "connecting"
    assert status.since is not None
    assert status.delay_s is None


def test_a_stream_that_arrives_is_told_as_live() -> None:
    """The state and the measured rate go out as they become known."""
    with running(ListSource(list(eeg_items(4.0)))) as run:
        run.session.wait()
    statuses = [message for message in run.messages if isinstance(message, StreamStatusMessage)]
    assert statuses[-1].state == "live"
    assert statuses[-1].name == EEG.name
    assert statuses[-1].delay_s == 0.0
    assert statuses[-1].n_samples > 128


def test_the_delay_of_a_stream_is_told() -> None:
    """What the stream declares and what the settings add, in sum, of an input and of a stream beside it."""
    motion = StreamInfo("lsl:motion", "other", "Motion", ("X",), 64.0, delay_s=0.25)
    items = [motion, *(replace(item, delay_s=0.02) if item is EEG else item for item in eeg_items(4.0))]
    with running(TransformedSource(ListSource(items), EegCorrections(delay_s=0.04).apply)) as run:
        run.session.wait()
    statuses = [message for message in run.messages if isinstance(message, StreamStatusMessage)]
    assert {status.source: status.delay_s for status in statuses} == {"eeg": pytest.approx(0.06), "lsl:motion": 0.25}


@pytest.mark.parametrize(("mode", "code"), [("replay", "recording_warning"), ("live", "session_warning")])
def test_warnings_of_the_inputs_are_told(mode: SourceMode, code: str) -> None:
    """A person should know what was odd before believing the numbers; live, it is nothing of a recording."""
    inputs = Inputs(mode, (ListSource([]),), warnings=("The file was cut short.",))
    with running(inputs) as run:
        run.session.wait()
    assert run.messages[0] == Notice(code=NoticeCode(code), message="The file was cut short.")


def test_a_source_that_breaks_ends_the_session_with_its_cause() -> None:
    """Clients hear the cause, then goodbye, and nothing after it but events already on their way."""
    with running(BrokenSource(list(eeg_items(2.0)))) as run:
        run.session.wait()
    assert run.session.state is SessionState.FAILED
    assert isinstance(run.session.failure, RecordingError)
    notices = [message for message in run.messages if isinstance(message, Notice)]
    assert [(notice.code, notice.message) for notice in notices] == [
        ("session_failed", "expected a whole file, found half a file; record it again")
    ]
    assert run.of_type(Bye) == [Bye(reason=ByeReason.SESSION_FAILED)]


def test_a_model_that_breaks_ends_the_session_with_its_cause() -> None:
    """The threads end, too: nobody waits for an answer that never comes."""
    with running(ListSource(list(eeg_items(20.0))), predict_never) as run:
        run.session.wait()
    assert isinstance(run.session.failure, MemoryError)
    assert describe_error(run.session.failure) == f"MemoryError: {UNEXPECTED}"


def test_an_answer_that_fits_no_message_is_logged_and_told_without_its_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a participant shows is neither in the log nor with clients that did not ask for it."""

    def predict(windows: Sequence[Window]) -> list[Prediction]:
        wrong: Any = {"LVLA": "probably 0.8125"}
        return [replace(answer, probs=wrong) for answer in predict_certain(windows)]

    with running(ListSource(list(eeg_items(4.0))), predict) as run:
        run.session.wait()
    (told,) = (message for message in run.messages if isinstance(message, Notice) and message.code == "session_failed")
    assert told.message == f"ValidationError: {UNEXPECTED}"
    assert "EmotionEvent" in caplog.text
    assert "probs" in caplog.text
    assert "0.8125" not in caplog.text


def test_a_stop_ends_a_live_session_at_once() -> None:
    """Without a word to the clients: that is the service's to say."""
    with running(WaitingSource(list(eeg_items(1.0))), mode="live") as run:
        run.session.stop(timeout_s=10)
        run.session.wait()
    assert run.session.state is SessionState.STOPPED
    assert run.of_type(Bye) == []


def test_a_session_that_was_stopped_does_not_start() -> None:
    """A client that comes during a shutdown starts nothing."""
    run = Run(Inputs("replay", (ListSource([]),)))
    run.session.stop(timeout_s=1)
    run.session.start()
    assert run.session.state is SessionState.STOPPED
    assert run.messages == []


@pytest.mark.parametrize(("replay", "mode"), [(None, "live"), (Path("a.xdf"), "replay")])
def test_a_configuration_can_be_sent_to_another_process(replay: Path | None, mode: str) -> None:
    """It is plain values: pickling gives an equal one."""
    config = SessionConfig(name="abc", replay=replay, speed=float("inf"))
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.mode == mode


def test_a_marker_of_a_client_takes_its_place_among_the_items() -> None:
    """It is observed, as a recorder does, and told to the clients, like one from a stream."""
    arrived = threading.Event()

    class Watching(list[Message]):
        def append(self, message: Message) -> None:
            super().append(message)
            if isinstance(message, MarkerMessage):
                arrived.set()

    run = Run(Inputs("live", (WaitingSource([]),)), messages=Watching())
    run.session.start()
    run.session.mark(Marker(1000.5, "m-1", "stimulus", 3.0, "client"))
    assert arrived.wait(timeout=10)
    run.session.stop(timeout_s=10)
    (told,) = run.of_type(MarkerMessage)
    assert isinstance(told, MarkerMessage)
    assert (told.t, told.id, told.label, told.value, told.source) == (1000.5, "m-1", "stimulus", 3.0, "client")
    assert [item.id for item in run.sink.items if isinstance(item, Marker)] == ["m-1"]


def test_a_session_counts_on_from_an_earlier_run() -> None:
    """So that a number stands for one event of a session, however often it was started."""
    context = EventContext("abc", MODEL, "replay", participant="P01", first_seq=7)
    with running(ListSource(list(eeg_items(4.0))), context=context) as run:
        run.session.wait()
    assert [event.seq for event in run.events] == list(range(7, 7 + len(run.events)))
    assert {event.participant for event in run.events} == {"P01"}


def test_an_event_that_cannot_be_published_ends_the_session_with_its_cause() -> None:
    """Nobody would miss it else: the model has answered, and the next window comes."""

    class Full(list[Message]):
        def append(self, message: Message) -> None:
            if isinstance(message, EmotionEvent):
                raise OSError("no space left")
            super().append(message)

    with running(ListSource(list(eeg_items(4.0))), messages=Full()) as run:
        run.session.wait()
    assert isinstance(run.session.failure, OSError)
