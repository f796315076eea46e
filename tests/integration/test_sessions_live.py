"""Two headsets, two sessions: what befalls one is not noticed by the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pylsl
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.lsl_outlet import Headset, headset
from tests.support.serving import Service, serving

SETTINGS = """
[[sessions]]
name = "left"
eeg = "source_id=LEFT"
face_stream = "Left face"

[[sessions]]
name = "right"
eeg = "source_id=RIGHT"
record = false

[[sessions]]
name = "spare"
eeg = "auto"
"""
WAIT_S = 60.0

Json = dict[str, Any]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "clmer.toml").write_text(SETTINGS)
    with serving(folder) as service:
        yield service


def join(service: Service, session: str) -> ClientConnection:
    return connect(f"ws://{service.address}/ws?session={session}", proxy=None)


def ask(service: Service, method: str, path: str) -> Json:
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer: Json = client.request(method, f"http://{service.address}/api/sessions/{path}").json()
        return answer


def receive(client: ClientConnection) -> Json:
    message: Json = json.loads(client.recv(WAIT_S))
    return message


def until(client: ClientConnection, **wanted: Any) -> list[Json]:
    """Receive up to a message with these fields."""
    received = [receive(client)]
    while any(received[-1].get(name) != value for name, value in wanted.items()):
        received.append(receive(client))
    return received


def poison(name: str) -> pylsl.StreamOutlet:
    """Publish a stream that is named as a face and is none: the session that asked for it cannot go on."""
    return pylsl.StreamOutlet(pylsl.StreamInfo(name, "MoCap", 3, 0.0, pylsl.cf_float32, "poison"))


def test_a_session_that_loses_its_headset_and_fails_is_not_noticed_by_the_other(service: Service) -> None:
    """The other's events go on without a hole, its client hears of nothing; the failed one starts again."""
    with headset("EPOC", "LEFT") as left_headset, headset("EPOC", "RIGHT"), ThreadPoolExecutor() as pool:
        with join(service, "left") as left, join(service, "right") as right:
            before = until(left, type="prediction", valid=True)
            until(right, type="prediction", valid=True)
            spare = ask(service, "GET", "spare")
            assert spare["reasons"] == ["eeg connecting: every EEG stream that fits 'auto' is another session's"]
            failure = pool.submit(lose_and_fail, left_headset, left)
            heard = []
            while not failure.done():
                heard.append(receive(right))
            told = failure.result()
            heard += until(right, type="prediction", valid=True)
            right.send(json.dumps({"type": "subscribe", "id": 1, "session": "left", "topics": ["predictions"]}))
            assert until(right, type="error")[-1]["code"] == "session_not_running"
        assert told[-2]["code"] == "session_failed"
        assert "CLMER-Face" in told[-2]["message"]
        events = [message for message in heard if message["type"] == "prediction"]
        assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))
        assert [event["t_end"] for event in events] == [events[0]["t_end"] + 0.5 * k for k in range(len(events))]
        assert all(event["valid"] for event in events)
        assert {message["type"] for message in heard} <= {"prediction", "stream.status"}
        assert {message["session"] for message in heard} == {"right"}
        assert any(reason.startswith("left: session failed") for reason in service.get("/readyz").json()["reasons"])
        starts_again(service, [*before, *told])


def lose_and_fail(left_headset: Headset, left: ClientConnection) -> list[Json]:
    """Kill the headset, wait until that is said, then let the session fail; return what its client heard."""
    left_headset.kill()
    told = until(left, type="stream.status", source="eeg", state="stalled")
    outlet = poison("Left face")
    told += until(left, type="bye", reason="session_failed")
    del outlet
    return told


def starts_again(service: Service, told: list[Json]) -> None:
    """Start the failed session with a new headset; its events count on."""
    last = max(message["seq"] for message in told if message["type"] == "prediction")
    with headset("EPOC", "LEFT"):
        assert ask(service, "POST", "left/start")["state"] == "running"
        with join(service, "left") as left:
            events = [m for m in until(left, type="prediction", valid=True) if m["type"] == "prediction"]
    assert events[0]["seq"] > last
