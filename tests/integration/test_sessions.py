"""Several participants in one service: replays side by side, and the sessions over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from clmer_server.cli import main
from clmer_server.web.app import STATUS_OF_CODE
from tests.integration.test_serve import lasting, messages_until, predictions
from tests.support.protocol_client import client_of
from tests.support.serving import Service, serving

SECONDS = 20
SETTINGS = """
record = "recordings"
speed = "max"
max_sessions = 4

[[sessions]]
name = "left"
replay = "left.xdf"
record = false

[[sessions]]
name = "right"
replay = "right.xdf"
participant = "P02"
consent_ref = "folder 7, page 2"
"""

JSON = {"content-type": "application/json"}

Json = dict[str, Any]


@dataclass
class Lab:
    """A service with two replayed sessions, and what their clients received."""

    service: Service
    folder: Path
    received: dict[str, list[Json]]  # by session, up to the end of its replay

    def join(self, session: str) -> ClientConnection:
        return connect(f"ws://{self.service.address}/ws?session={session}", proxy=None)

    def ask(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, f"http://{self.service.address}/api/sessions{path}", json=body)

    def refused(self, method: str, path: str, body: Json | None = None) -> tuple[int, str]:
        answer = self.ask(method, path, body)
        assert answer.json().keys() == {"code", "message"}
        return answer.status_code, answer.json()["code"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The service while both replays run side by side, and after them."""
    folder = tmp_path_factory.mktemp("lab")
    for name, seed in (("left", "7"), ("right", "8")):
        words = ["simulate", "--out", str(folder / f"{name}.xdf"), "--seconds", str(SECONDS), "--seed", seed]
        assert main(words) == 0
    (folder / "clmer.toml").write_text(SETTINGS)
    with serving(folder) as service:
        lab = Lab(service, folder, {})
        with lab.join("left") as left, lab.join("right") as right, ThreadPoolExecutor() as pool:
            ends = {name: pool.submit(until_the_end, client) for name, client in (("left", left), ("right", right))}
            lab.received = {name: end.result() for name, end in ends.items()}
        yield lab


def until_the_end(client: ClientConnection) -> list[Json]:
    return messages_until(client, "notice", "replay_ended")


def alone(recording: Path, folder: Path) -> list[Json]:
    """Return the events of a recording that nothing else runs beside."""
    out = folder / "alone.jsonl"
    assert main(["predict", str(recording), "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_each_replay_gives_the_events_that_it_gives_alone(lab: Lab, tmp_path: Path) -> None:
    """All of them, from the first one; only the participant is said beside, and the session's own name."""
    for name, participant in (("left", None), ("right", "P02")):
        events = predictions(lab.received[name])
        assert {event["session"] for event in events} == {name}
        expected = [lasting(event) for event in alone(lab.folder / f"{name}.xdf", tmp_path)]
        assert [lasting(event) for event in events] == [{**event, "participant": participant} for event in expected]
        assert len(events) > SECONDS
        assert any(event["valid"] for event in events)


def test_a_client_that_names_no_session_gets_the_first_one(lab: Lab) -> None:
    """As in a service that has no other."""
    with lab.service.connect() as client:
        assert json.loads(client.recv(timeout=30))["session"] == "left"


def test_a_client_that_names_an_unknown_session_is_refused_before_the_handshake(lab: Lab) -> None:
    with pytest.raises(InvalidStatus) as caught:
        lab.join("nobody")
    assert caught.value.response.status_code == 404
    assert json.loads(caught.value.response.body or b"")["code"] == "unknown_session"


def test_sessions_are_listed_the_default_one_first(lab: Lab) -> None:
    """With what they do, and why no predictions come."""
    left, right, *_ = lab.ask("GET", "").json()
    assert (left["name"], left["default"], left["participant"], left["recording"]) == ("left", True, None, None)
    assert (right["name"], right["default"], right["participant"], right["source"]) == ("right", False, "P02", "replay")
    assert lab.ask("GET", "/left").json()["name"] == "left"
    assert lab.service.get("/healthz").json()["sessions"].keys() >= {"left", "right"}


def test_a_session_that_is_started_again_counts_on_and_its_clients_stay(lab: Lab) -> None:
    """Its second recording is one of its own, keeps whose it is, and verifies."""
    first = predictions(lab.received["right"])
    with lab.join("right") as client:
        until_the_end(client)
        earlier = lab.ask("GET", "/right").json()["recording"]
        started = lab.ask("POST", "/right/start", {"participant": "P03", "consent_ref": "page 3"})
        assert (started.status_code, started.json()["participant"]) == (200, "P03")
        again = until_the_end(client)
        assert lab.ask("POST", "/right/start", {"record": False}).json()["recording"] is None
        until_the_end(client)
    events = predictions(again)
    assert [event["seq"] for event in events] == [event["seq"] + len(first) for event in first]
    assert [event["crc"] for event in events] == [event["crc"] for event in first]
    assert {event["participant"] for event in events} == {"P03"}
    folder = lab.folder / "recordings" / started.json()["recording"]
    assert folder.name != earlier
    assert main(["verify", str(folder)]) == 0


def test_a_live_session_is_made_started_stopped_and_removed(lab: Lab) -> None:
    """It waits for its headset, says why it is silent, and a client of it hears what becomes of it."""
    made = lab.ask("POST", "", {"name": "new.1", "eeg": "source_id=nobody", "participant": "P9", "record": False})
    assert (made.status_code, made.json()["state"]) == (201, "waiting")
    assert lab.refused("POST", "/new.1/stop") == (409, "session_not_running")
    with lab.join("new.1") as client:
        started = lab.ask("POST", "/new.1/start").json()
        assert (started["state"], started["ready"], started["recording"]) == ("running", False, None)
        assert "no EEG stream 'source_id=nobody' found yet" in started["reasons"][0]
        assert any(
            reason.startswith("new.1: eeg connecting") for reason in lab.service.get("/readyz").json()["reasons"]
        )
        assert lab.refused("POST", "/new.1/start") == (409, "session_running")
        assert lab.refused("DELETE", "/new.1") == (409, "session_running")
        assert lab.ask("POST", "/new.1/stop").json()["state"] == "stopped"
        messages_until(client, "notice", "session_stopped")
        assert lab.ask("DELETE", "/new.1").status_code == 204
        assert messages_until(client, "bye")[-1]["reason"] == "session_removed"
    assert lab.refused("GET", "/new.1") == (404, "unknown_session")


def test_every_notice_names_its_session(lab: Lab) -> None:
    """One client hears two sessions: what ends, what is stopped, what starts again, and what is given up by it."""
    assert lab.ask("POST", "", {"name": "guest", "eeg": "source_id=nobody", "record": False}).status_code == 201
    with client_of(lab.service) as client:
        assert lab.ask("POST", "/guest/start").status_code == 200
        assert client.ask(type="subscribe", session="guest", topics=["status"])["failed"] == []
        assert client.ask(type="calibration.start", session="guest", kind="rest")["type"] == "ack"
        assert lab.ask("POST", "/guest/stop").status_code == 200
        client.next("notice", code="session_stopped")
        assert lab.ask("POST", "/guest/start").status_code == 200
        assert lab.ask("POST", "/guest/stop").status_code == 200
        assert lab.ask("DELETE", "/guest").status_code == 204
        client.next("notice", code="session_ended")
        assert lab.ask("POST", "/left/start").status_code == 200
        client.next("notice", code="replay_ended")
        heard = [(told["session"], told["code"]) for told in client.heard if told["type"] == "notice"]
    assert heard[heard.index(("guest", "calibration_failed")) :] == [
        ("guest", "calibration_failed"),
        ("guest", "session_stopped"),
        ("guest", "session_started"),
        ("guest", "session_stopped"),
        ("guest", "session_ended"),
        ("left", "session_started"),
        ("left", "replay_ended"),
    ]
    assert {session for session, _ in heard} == {"left", "guest"}


def test_two_sessions_cannot_have_one_headset_at_a_time(lab: Lab) -> None:
    """One after the other they can; nor can there be two of one name, or more than the settings allow."""
    for name in ("one", "two"):
        assert lab.ask("POST", "", {"name": name, "eeg": "source_id=A"}).status_code == 201
    assert lab.refused("POST", "", {"name": "ONE"}) == (409, "session_exists")
    assert lab.refused("POST", "", {"name": "three"}) == (409, "too_many_sessions")
    assert lab.ask("POST", "/one/start").status_code == 200
    assert lab.refused("POST", "/two/start") == (409, "device_in_use")
    assert lab.ask("POST", "/one/stop").status_code == 200
    assert lab.ask("POST", "/two/start").status_code == 200
    assert lab.ask("POST", "/two/stop").status_code == 200
    assert [lab.ask("DELETE", f"/{name}").status_code for name in ("one", "two")] == [204, 204]


@pytest.mark.parametrize(
    ("request_line", "body", "status", "code"),
    [
        ("GET /nobody", None, 404, "unknown_session"),
        ("POST /nobody/start", None, 404, "unknown_session"),
        ("DELETE /left", None, 409, "session_default"),
        ("POST ", {"name": "../x"}, 422, "bad_request"),
        ("POST ", {"name": ".."}, 422, "bad_request"),
        ("POST ", {"name": "x" * 65}, 422, "bad_request"),
        ("POST ", {"name": "x", "replay": "/etc/passwd"}, 422, "bad_request"),
        ("POST ", {"name": "x", "camera": "/dev/video0"}, 422, "bad_request"),
        ("POST ", {"name": "x", "record": "/tmp"}, 422, "bad_request"),
        ("POST ", {"name": "x", "participant": "../P01"}, 422, "bad_request"),
        ("POST ", {"name": "x", "eeg": "starts-with(name,'E')"}, 422, "bad_field"),
        ("POST ", {"name": "x", "eeg": "colour=red"}, 422, "bad_field"),
        ("POST ", {"name": "x", "camera": 0, "face_stream": "F"}, 422, "bad_field"),
        ("POST /left/start", {"consent_ref": "two\nlines"}, 422, "bad_request"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(
    lab: Lab, request_line: str, body: Json | None, status: int, code: str
) -> None:
    """No path, no device name and no expression of a client is taken."""
    method, path = request_line.split(" ")
    assert lab.refused(method, path, body) == (status, code)
    assert STATUS_OF_CODE[code] == status


def test_errors_of_http_have_the_same_form(lab: Lab) -> None:
    """A method that an address does not know, an address that nobody knows, bodies that are no JSON."""
    assert lab.refused("DELETE", "") == (405, "method_not_allowed")
    assert lab.refused("GET", "/left/nothing") == (404, "not_found")
    with httpx.Client(trust_env=False) as client:
        broken = [
            client.post(f"http://{lab.service.address}/api/sessions", content=content, headers=JSON)
            for content in (b"{", b"\xff\xfe\xfa", b"[" * 60_000)
        ]
        wrong = client.put(f"http://{lab.service.address}/api/sessions/left")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET")
    assert [(answer.status_code, answer.json()["code"]) for answer in broken] == [(422, "bad_request")] * 3


def test_the_sessions_are_described_for_programs(lab: Lab) -> None:
    """Every field of what is sent and answered has its sentence."""
    described = lab.service.get("/openapi.json").json()
    assert described["paths"]["/api/sessions/{name}/start"].keys() == {"post"}
    for name in ("NewSession", "StartSession", "SessionStatus"):
        fields = described["components"]["schemas"][name]["properties"]
        assert [field for field, about in fields.items() if not about.get("description")] == []
