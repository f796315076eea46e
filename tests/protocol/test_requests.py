"""Requests over the wire that succeed, and those that must be refused: two replays, and what is made beside them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from clmer_server.hub import N_KEPT, SEND_QUEUE_CAPACITY
from tests.support.paths import RECORDING
from tests.support.protocol_client import PATIENCE_S, ProtocolClient, Told, client_of
from tests.support.serving import Service, serving

MAX_CLIENTS = 6
SETTINGS = f"""
speed = 8
loop = true
device = "cpu"
max_clients = {MAX_CLIENTS}

[[sessions]]
name = "main"
replay = "main.xdf"

[[sessions]]
name = "aside"
replay = "aside.xdf"
"""


@dataclass(frozen=True)
class Lab:
    """The service, and the recording of its second session, which a test may take away."""

    service: Service
    aside: Path

    def http(self, method: str, path: str = "", body: Told | None = None) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.request(method, f"http://{self.service.address}/api/sessions{path}", json=body)

    def dropped(self) -> int:
        """Return how many messages clients have lost so far."""
        return int(self.service.get("/healthz").json()["dropped"])

    @contextmanager
    def hanging(self) -> Iterator[Path]:
        """Put a pipe to which nobody writes in the place of the recording; yield where it is at the end."""
        pipe = self.aside.with_name("pipe")
        self.aside.unlink()
        os.mkfifo(self.aside)
        try:
            yield pipe
        finally:
            self.aside.rename(pipe)
            shutil.copy(RECORDING, self.aside)

    @contextmanager
    def headsets(self, *names: str) -> Iterator[None]:
        """Make live sessions that all ask for one headset; remove them at the end."""
        for name in names:
            assert self.http("POST", body={"name": name, "eeg": "source_id=A", "side_streams": "none"}).is_success
        try:
            yield
        finally:
            for name in names:
                self.http("POST", f"/{name}/stop")
                assert self.http("DELETE", f"/{name}").is_success


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two replays at eight times their pace, again and again."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("main", "aside"):
        shutil.copy(RECORDING, folder / f"{name}.xdf")
    (folder / "clmer.toml").write_text(SETTINGS)
    with serving(folder) as service:
        yield Lab(service, folder / "aside.xdf")


@pytest.fixture
def client(lab: Lab) -> Iterator[ProtocolClient]:
    with client_of(lab.service) as client:
        client.next("prediction")
        yield client


@pytest.fixture
def stopped(lab: Lab, client: ProtocolClient) -> Iterator[ProtocolClient]:
    """A client while the second session is stopped; at the end it runs again."""
    assert client.ask(type="session.stop", session="aside")["type"] == "ack"
    yield client
    if lab.http("GET", "/aside").json()["state"] != "running":
        assert lab.http("POST", "/aside/start").is_success


def code(answer: Told) -> str:
    assert (answer["type"], answer["fatal"]) == ("error", False)
    return str(answer["code"])


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_topic_that_was_left_comes_no_more(client: ProtocolClient) -> None:
    """The others go on."""
    client.ask(type="subscribe", topics=["predictions", "quality"])
    client.next("quality")
    assert client.ask(type="unsubscribe", topics=["quality"])["topics"] == ["quality"]
    assert {told["type"] for told in itertools.islice(client.messages(), 6)} == {"prediction"}


def test_fewer_predictions_a_second_come_without_a_gap(client: ProtocolClient) -> None:
    """At most two of the sixteen: what was asked to be left out is no loss."""
    client.ask(type="subscribe", topics=["predictions"], max_hz=2)
    seqs = [client.next("prediction")["seq"] for _ in range(3)]
    assert all(after - before > 1 for before, after in itertools.pairwise(seqs))
    assert "gap" not in {told["type"] for told in client.heard}


def test_a_mean_comes_beside_the_values_that_others_get(lab: Lab, client: ProtocolClient) -> None:
    """The same prediction for both, but for the mean, which is another one than the value."""
    with client_of(lab.service) as plain:
        plain.next("prediction")
        client.ask(type="subscribe", topics=["predictions"], smooth_s=4)
        smoothed = [client.until(lambda told: bool(told.get("valid"))) for _ in range(4)]
        for told in smoothed:
            mean = told["smoothed"]
            assert (mean["tau_s"], sum(mean["probs"].values())) == (4.0, pytest.approx(1.0))
        last = smoothed[-1]
        assert plain.next("prediction", seq=last["seq"]) == {**last, "smoothed": None}
        assert last["smoothed"]["probs"] != last["probs"]


def test_a_mean_over_windows_is_asked_for_in_place_of_one_over_time(client: ProtocolClient) -> None:
    """Of five predictions; both at once are refused, with the field that is wrong."""
    refused = client.ask(type="subscribe", topics=["predictions"], smooth_s=4, smooth_windows=5)
    assert (refused["type"], refused["code"]) == ("error", "bad_field")
    assert "smooth_s or smooth_windows" in refused["message"]
    client.ask(type="subscribe", topics=["predictions"], smooth_windows=5)
    told = client.until(lambda told: bool(told.get("smoothed")))
    mean = told["smoothed"]
    assert (mean["tau_s"], mean["n_windows"]) == (None, 5)
    assert sum(mean["probs"].values()) == pytest.approx(1.0)


def accounted_for(heard: list[Told]) -> list[int]:
    """Return the numbers of the predictions that came or were told to have gone, in order."""
    numbers = []
    for told in heard:
        if told["type"] == "prediction":
            numbers.append(told["seq"])
        elif told["type"] == "gap" and told["from_seq"] is not None:
            numbers += range(told["from_seq"], told["to_seq"] + 1)
    return numbers


def behind_the_last_gap(client: ProtocolClient) -> Counter[str]:
    """Return how many of its session's messages a client has heard since it was told that predictions went."""
    gaps = [i for i, told in enumerate(client.heard) if told["type"] == "gap" and told["from_seq"] is not None]
    assert {client.heard[i]["session"] for i in gaps} == {"aside"}
    return Counter(told["type"] for told in client.heard[gaps[-1] + 1 :] if told["type"] not in ("ack", "gap"))


def narrow_socket(service: Service) -> socket.socket:
    """Return a connection that holds little of what is not read."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = service.address.split(":")
    narrow.connect((host, int(port)))
    return narrow


def test_a_slow_client_that_wants_the_newest_alone_gets_it_and_hears_what_went(lab: Lab) -> None:
    """A replay at full speed does not wait for it. Behind the gap there is the newest of each topic alone."""
    with narrow_socket(lab.service) as narrow, lab.service.connect(query="?session=aside", sock=narrow) as connection:
        client = ProtocolClient(connection)
        client.ask(type="subscribe", topics=["predictions", "quality", "eeg.preview"], overflow="latest")
        n_before = len(client.heard)
        client.ask(type="replay.control", speed="max")
        eventually(lambda: lab.dropped() > 150)  # it reads nothing meanwhile, and all that the system holds is full
        with client_of(lab.service) as other:
            assert other.ask(type="replay.control", session="aside", action="pause", speed=8)["type"] == "ack"
        eventually(
            lambda: bool(client.ask(type="hello")) and behind_the_last_gap(client).keys() == {"prediction", "quality"}
        )
        n_behind = behind_the_last_gap(client).total()
        client.ask(type="replay.control", action="resume")
        assert n_behind < SEND_QUEUE_CAPACITY // 4  # the newest, and those that were on their way at the pause
        numbers = accounted_for(client.heard[n_before:])
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_a_replay_is_stopped_and_started_again_by_a_client(lab: Lab, client: ProtocolClient) -> None:
    """Who listens to it from another session hears of both, and its numbers go on."""
    assert client.ask(type="subscribe", session="aside", topics=["predictions"])["topics"] == ["predictions"]
    before = client.next("prediction", session="aside")["seq"]
    assert client.ask(type="session.stop", session="aside")["type"] == "ack"
    assert lab.http("GET", "/aside").json()["state"] == "stopped"
    assert client.ask(type="subscribe", session="aside", topics=["predictions"])["type"] == "ack"  # it may come back
    answer = client.ask(type="session.start", session="aside", participant="P7", consent_ref="page 3")
    assert answer["type"] == "ack"
    after = client.next("prediction", session="aside", participant="P7")
    assert after["seq"] > before
    notices = [told["code"] for told in client.heard if told["type"] == "notice" and told["session"] == "aside"]
    assert notices == ["session_stopped", "session_started"]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "session.stop"},
        {"type": "marker", "label": "a"},
        {"type": "calibration.start", "kind": "rest"},
        {"type": "calibration.stop", "kind": "rest"},
        {"type": "replay.control", "action": "resume"},
    ],
    ids=lambda message: str(message["type"]),
)
def test_a_session_that_does_not_run_says_so(stopped: ProtocolClient, message: Told) -> None:
    assert code(stopped.ask(session="aside", **message)) == "session_not_running"


def test_a_session_is_not_recorded_where_there_is_no_folder(stopped: ProtocolClient) -> None:
    """And it has not been started."""
    assert code(stopped.ask(type="session.start", session="aside", record=True)) == "recording_off"
    assert code(stopped.ask(type="session.stop", session="aside")) == "session_not_running"


def test_a_session_whose_recording_is_damaged_cannot_start_until_it_is_whole(lab: Lab, stopped: ProtocolClient) -> None:
    """The message says why; nothing of the failure stays."""
    lab.aside.write_bytes(b"no recording")
    try:
        answer = stopped.ask(type="session.start", session="aside")
    finally:
        shutil.copy(RECORDING, lab.aside)
    assert code(answer) == "cannot_start"
    assert "aside.xdf" in answer["message"]
    assert stopped.ask(type="session.start", session="aside")["type"] == "ack"


def test_a_start_that_hangs_holds_up_no_other_session(lab: Lab, stopped: ProtocolClient) -> None:
    """Its recording is a pipe to which nobody writes. It goes on when it can, and is not started twice meanwhile."""
    with client_of(lab.service) as other, lab.headsets("spare"), lab.hanging() as pipe:
        stopped.say(type="session.start", id="hangs", session="aside")
        eventually(lambda: code(other.ask(type="session.start", session="aside")) == "session_running")
        assert other.ask(type="session.start", session="spare")["type"] == "ack"
        assert lab.http("DELETE", "/aside").json()["code"] == "session_running"
        assert lab.http("POST", "/aside/stop").json()["code"] == "session_not_running"
        assert lab.http("GET", "/aside").json()["state"] == "stopped"
    eventually(lambda: opened(pipe))
    assert stopped.until(lambda told: told.get("id") == "hangs")["type"] == "ack"
    assert lab.http("GET", "/aside").json()["state"] == "running"


def opened(pipe: Path) -> bool:
    """Open a pipe that somebody waits to read, and close it; False where nobody does."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def test_a_headset_that_another_session_has_is_not_taken(lab: Lab, client: ProtocolClient) -> None:
    """The second one is told who has it; where both ask at once, one of them gets it."""
    with lab.headsets("one", "two"), client_of(lab.service) as other:
        assert client.ask(type="session.start", session="one")["type"] == "ack"
        answer = client.ask(type="session.start", session="two")
        assert code(answer) == "device_in_use"
        assert "one" in answer["message"]
        assert client.ask(type="session.stop", session="one")["type"] == "ack"
        for asking, name in ((client, "one"), (other, "two")):
            asking.say(type="session.start", id="both", session=name)
        answers = [asking.until(lambda told: told.get("id") == "both") for asking in (client, other)]
        assert sorted(answer["type"] for answer in answers) == ["ack", "error"]


def test_a_replay_has_no_face_to_measure(client: ProtocolClient) -> None:
    """Its camera was that of another day."""
    assert code(client.ask(type="calibration.start", kind="neutral")) == "not_supported"


def test_a_marker_whose_name_was_used_before_has_an_id_of_its_own(client: ProtocolClient) -> None:
    """Two answers, two echoes."""
    places = [client.ask(type="marker", id="same", label=label)["marker"]["id"] for label in "ab"]
    assert len(set(places)) == 2

    def echoes() -> list[tuple[str, str]]:
        mine = {"type": "marker", "source": "websocket"}.items()
        return [(told["id"], told["label"]) for told in client.heard if mine <= told.items()]

    client.until(lambda told: len(echoes()) == 2)
    assert echoes() == list(zip(places, "ab", strict=True))


def resumed(lab: Lab, after_seq: int) -> Iterator[Told]:
    """Yield what a client hears behind its welcome that has all predictions up to a number."""
    with client_of(lab.service, f"?session=aside&after_seq={after_seq}") as client:
        yield from (told for told in client.messages() if told["type"] in ("prediction", "gap"))


def test_a_client_that_comes_back_goes_on_where_it_was(lab: Lab, client: ProtocolClient) -> None:
    """What came meanwhile comes as it was sent, then what follows."""
    client.ask(type="subscribe", session="aside", topics=["predictions"])
    sent = [client.next("prediction") for _ in range(6)]
    again = list(itertools.islice(resumed(lab, sent[0]["seq"]), 8))
    assert again[:5] == sent[1:]
    assert [told["seq"] for told in again] == [sent[0]["seq"] + 1 + k for k in range(8)]


def test_a_client_that_comes_back_too_late_is_told_what_it_missed(lab: Lab, client: ProtocolClient) -> None:
    """From the number that it named to the oldest one that is kept."""
    client.ask(type="replay.control", session="aside", speed="max")
    client.ask(type="subscribe", session="aside", topics=["predictions"])
    client.until(lambda told: told["type"] == "prediction" and told["seq"] > N_KEPT + 20)
    client.ask(type="replay.control", session="aside", speed=8)
    gap, first, second = itertools.islice(resumed(lab, 3), 3)
    assert (gap["from_seq"], gap["reason"], gap["session"]) == (4, "not_kept", "aside")
    assert gap["to_seq"] - gap["from_seq"] + 1 == gap["dropped"] == gap["topics"]["predictions"]
    assert (first["seq"], second["seq"]) == (gap["to_seq"] + 1, gap["to_seq"] + 2)


def test_a_number_that_has_not_come_yet_brings_nothing_back(lab: Lab) -> None:
    """The next prediction is a new one."""
    told = next(resumed(lab, 10**9))
    assert told["type"] == "prediction"


@pytest.mark.parametrize("number", ["", "-1", "x", "1.5", "9" * 17])
def test_what_is_no_number_is_refused_before_the_handshake(lab: Lab, number: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        lab.service.connect(query=f"?after_seq={number}")
    response = caught.value.response
    assert (response.status_code, json.loads(response.body or b"")["code"]) == (400, "bad_field")


def test_a_client_beyond_the_number_is_refused_before_the_handshake(lab: Lab) -> None:
    """When one leaves there is room again."""
    with contextlib.ExitStack() as stack:
        with pytest.raises(InvalidStatus) as caught:
            for _ in range(MAX_CLIENTS + 1):
                stack.enter_context(lab.service.connect())
        response = caught.value.response
        content: dict[str, Any] = json.loads(response.body or b"")
        assert (response.status_code, content["code"]) == (503, "too_many_connections")
    eventually(lambda: lab.service.get("/healthz").json()["clients"] == 0)
    with client_of(lab.service) as client:
        assert client.welcome["session"] == "main"
