"""The client, against a real service on a real port, and against a server that says what no service of today does."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

import clmer
from clmer_server.protocol.codes import PROTOCOL
from clmer_server.protocol.outbound import GapMessage, MarkerMessage, Preview, QualityMessage
from clmer_server.protocol.parts import VOLATILE_FIELDS, EmotionEvent
from tests.support.paths import RECORDING, ROOT
from tests.support.serving import Service, serving

WELCOME: dict[str, Any] = {
    "type": "welcome",
    "protocol": PROTOCOL,
    "session": "abc",
    "server": {"name": "clmer", "version": "9.0"},
    "model": {
        "id": "tiny",
        "sha256": "0",
        "config_hash": "0",
        "labels": ["low", "high"],
        "trained_on": "simulated",
        "runner": "torchscript",
        "device": "cpu",
    },
    "streams": [],
    "clock": {"lsl_time": 0.0, "unix_time": 0.0},
    "source": "live",
    "grid": {"window_s": 2.0, "hop_s": 0.5},
}
"""The first message of a service, of which fields that have a default are left out."""


def example(kind: str) -> dict[str, Any]:
    """Return a message of the service, as docs/protocol.md has it."""
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    start = text.index(f'{{"type": "{kind}"')
    message: dict[str, Any] = json.JSONDecoder().raw_decode(text, start)[0]
    return message


@contextlib.contextmanager
def saying(*messages: dict[str, Any], then: Callable[[ServerConnection], None] | None = None) -> Iterator[str]:
    """Run a server that welcomes a client, says what it is to say, and ends when the client does."""

    def handle(connection: ServerConnection) -> None:
        for message in (WELCOME, *messages):
            connection.send(json.dumps(message))
        if then is not None:
            then(connection)
        with contextlib.suppress(ConnectionClosed):
            for _ in connection:
                pass

    with serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol(PROTOCOL)]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def lasting(event: EmotionEvent) -> dict[str, Any]:
    """Return what is equal in every run of a recording."""
    return event.model_dump(mode="json", exclude=set(VOLATILE_FIELDS))


def test_a_client_gets_the_predictions(model: clmer.Model, lab: Path, tmp_path: Path) -> None:
    """A replay at full speed gives its client what ``predict`` gives, all of it; then the iteration ends."""
    with (
        serving(tmp_path, "--replay", RECORDING, "--speed", "max", "--device", "cpu") as service,
        clmer.connect(f"ws://{service.address}") as client,
    ):
        heard = [lasting(event) for event in client.predictions(timeout_s=60)]
        assert client.welcome.model.sha256 == model.sha256
        assert list(client.predictions()) == []
    assert heard == [lasting(event) for event in clmer.predict(lab / "session.xdf", model)]


def test_markers_are_placed_by_a_clock_of_ones_own(looping: Service) -> None:
    """A timer that counts from elsewhere is compared with the service's; every client hears of the marker."""

    def timer() -> float:
        return time.monotonic() + 1000.0

    with clmer.connect(f"ws://{looping.address}", timer=timer) as client:
        next(client.predictions())
        assert client.clock.offset_s == pytest.approx(-1000.0, abs=client.clock.uncertainty_s)
        assert client.clock.to_service(client.clock.to_client(5.0)) == pytest.approx(5.0)
        now = client.mark("now")
        then = client.mark("before", value=7, t=timer() - 0.5)
        assert now.uncertainty_s is not None
        assert 0 < now.uncertainty_s < 0.1
        assert then.t == pytest.approx(now.t - 0.5, abs=0.2)
        heard: dict[str, MarkerMessage] = {}
        for message in client.messages(["markers"], timeout_s=30):
            if isinstance(message, MarkerMessage) and message.source == "websocket":
                heard[message.label] = message
            if len(heard) == 2:
                break
    assert heard["before"].t == then.t
    assert heard["before"].value == 7


def test_marking_while_another_thread_iterates(looping: Service) -> None:
    """One thread reads the predictions, another one marks; neither waits for the other."""
    seqs: list[int] = []
    with clmer.connect(f"ws://{looping.address}") as client:
        reader = threading.Thread(target=lambda: seqs.extend(event.seq for event in client.predictions()))
        reader.start()
        ids = {client.mark(f"stimulus/{number}").id for number in range(20)}
        while len(seqs) < 3:
            time.sleep(0.05)
        client.close()
        reader.join(10)
    assert len(ids) == 20
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_other_topics(looping: Service) -> None:
    """What was not subscribed to is subscribed to when it is asked for, predictions among it."""
    with clmer.connect(f"ws://{looping.address}") as client:
        messages = client.messages(["quality"], timeout_s=30)
        quality = next(m for m in messages if isinstance(m, QualityMessage) and m.channels)
        assert len(quality.channels) == 14
        block = next(m for m in client.messages(["eeg.preview"], timeout_s=30) if isinstance(m, Preview))
        assert block.values.shape[0] == 36
        assert np.isfinite(block.values).all(1).sum() == 14
        assert next(client.predictions(timeout_s=30)).session == quality.session
        with pytest.raises(clmer.ServiceError, match="'weather'") as raised:
            next(client.messages(["weather"]))  # type: ignore[list-item]
        assert raised.value.code == "unknown_topic"


def test_sessions_are_started_stopped_and_recorded(tmp_path: Path) -> None:
    """A session that a client starts with ``record`` is recorded; the predictions end with it, and begin anew."""
    options = ("--replay", RECORDING, "--loop", "--device", "cpu", "--record", "kept")
    with serving(tmp_path, *options) as service, clmer.connect(f"ws://{service.address}") as client:
        name = client.welcome.session
        assert [(one.name, one.state, one.recording) for one in client.sessions()] == [(name, "running", name)]
        with pytest.raises(clmer.ServiceError, match="runs already") as raised:
            client.start()
        assert raised.value.code == "session_running"
        client.stop()
        before = [event.seq for event in client.predictions()]
        client.start(participant="P03", consent_ref="page 9", record=True)
        assert next(client.predictions(timeout_s=30)).participant == "P03"
        assert client.sessions()[0].recording not in (None, name)
        client.stop(name)
        assert all(event.seq > max(before, default=-1) for event in client.predictions())
        with pytest.raises(clmer.ServiceError) as raised:
            client.stop("another")
        assert raised.value.code == "unknown_session"
    recordings = [clmer.Recording.open(path) for path in sorted((tmp_path / "kept").glob("*/session.xdf"))]
    assert sorted(recording.header["participant"] or "" for recording in recordings) == ["", "P03"]


def test_a_token_is_shown(tmp_path: Path) -> None:
    """A service that asks for one lets in who has it, over both protocols; the others hear why not. Its end is told."""
    token = "a-token-of-this-test"
    options = ("--replay", RECORDING, "--loop", "--device", "cpu", "--token", token)
    with serving(tmp_path, *options) as service:
        url = f"ws://{service.address}"
        with clmer.connect(url, token=token) as client:
            assert client.sessions()[0].name == client.welcome.session
        for given, code in ((None, "token_missing"), ("another-token-altogether", "token_wrong")):
            with pytest.raises(clmer.ServiceError) as raised:
                clmer.connect(url, token=given)
            assert raised.value.code == code
        with pytest.raises(clmer.ServiceError) as raised:
            clmer.connect(url, token=token, session="nobody")
        assert raised.value.code == "unknown_session"
        with clmer.connect(url, token=token) as client:
            predictions = client.predictions(timeout_s=60)
            next(predictions)
            service.end()
            list(predictions)
            with pytest.raises(clmer.ServiceError, match="connect again") as raised:
                client.mark("late")
            assert raised.value.code == "closed"
        with pytest.raises(clmer.ServiceError, match="start it: clmer-serve") as raised:
            clmer.connect(url)
        assert raised.value.code == "unreachable"


@pytest.mark.parametrize("url", ["127.0.0.1:8765", "http://127.0.0.1:8765", "ws://", "ws://127.0.0.1:8765/other"])
def test_an_address_that_is_none(url: str) -> None:
    """What cannot be the address of a service is refused before anything is tried."""
    with pytest.raises(clmer.SettingsError, match=r"for example ws://127\.0\.0\.1:8765"):
        clmer.connect(url)


def test_what_a_later_service_adds_is_passed_over() -> None:
    """Unknown types, and unknown fields at any depth, do no harm."""
    prediction = example("prediction")
    later = {**prediction, "mood": "blue", "modalities": {**prediction["modalities"], "gait": {"used": True}}}
    with saying({"type": "weather", "rain": True}, later) as url, clmer.connect(url) as client:
        event = next(client.predictions(timeout_s=10))
    assert event == EmotionEvent.model_validate(prediction)


def test_what_cannot_be_read_is_raised() -> None:
    """A field with another meaning is no prediction, and says so."""
    with saying({**example("prediction"), "t_end": "noon"}) as url, clmer.connect(url) as client:
        with pytest.raises(clmer.ServiceError, match="install the same version") as raised:
            next(client.predictions(timeout_s=10))
        assert raised.value.code == "bad_message"


def test_a_session_that_fails_is_raised() -> None:
    """With what its notice says, behind the predictions before it."""
    notice = {"type": "notice", "session": "abc", "code": "session_failed", "message": "the disk is gone"}
    bye = {"type": "bye", "reason": "session_failed", "retry_after_s": None}
    with saying(example("prediction"), notice, bye) as url, clmer.connect(url) as client:
        predictions = client.predictions(timeout_s=10)
        assert next(predictions).seq == 5
        with pytest.raises(clmer.ServiceError, match="the disk is gone") as raised:
            next(predictions)
        assert raised.value.code == "session_failed"


def test_a_service_that_dies_is_raised() -> None:
    """A connection that breaks without a word is no end of the predictions; those before it are there."""
    read = threading.Event()

    def die(connection: ServerConnection) -> None:
        read.wait(10)
        connection.socket.shutdown(socket.SHUT_RDWR)

    with saying(example("prediction"), then=die) as url, clmer.connect(url) as client:
        predictions = client.predictions(timeout_s=10)
        assert next(predictions).seq == 5
        read.set()
        with pytest.raises(clmer.ServiceError, match="connect again") as raised:
            next(predictions)
        assert raised.value.code == "closed"


def test_what_nobody_reads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest messages are kept; a gap tells how many went, and which predictions."""
    monkeypatch.setattr("clmer.messages.MAX_UNREAD", 10)
    said = [{**example("prediction"), "seq": seq} for seq in range(100)]
    with saying(*said, then=lambda connection: connection.close()) as url, clmer.connect(url) as client:
        client._reader.join(10)
        heard = list(client.messages())
    assert isinstance(heard[0], GapMessage)
    assert (heard[0].dropped, heard[0].from_seq, heard[0].to_seq) == (90, 0, 89)
    assert [message.seq for message in heard[1:] if isinstance(message, EmotionEvent)] == list(range(90, 100))


def test_silence_has_an_end() -> None:
    """Neither an answer nor a message is waited for longer than was said."""
    with saying() as url, clmer.connect(url, timeout_s=0.3) as client:
        with pytest.raises(clmer.ServiceError, match=r"none within 0\.3 s") as raised:
            client.start()
        assert raised.value.code == "timeout"
        with pytest.raises(clmer.ServiceError, match=r"none within 0\.2 s"):
            next(client.predictions(timeout_s=0.2))
