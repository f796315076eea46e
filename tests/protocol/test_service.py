"""The protocol over a real connection to the real service, which replays the bundled recording."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clmer_server.protocol.inbound import TYPES
from clmer_server.protocol.parts import TOPICS
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk
from tests.support.paths import RECORDING
from tests.support.protocol_client import ANSWERS, ProtocolClient, Told, client_of
from tests.support.serving import Service


@pytest.fixture
def client(service: Service) -> Iterator[ProtocolClient]:
    with client_of(service) as client:
        client.next("prediction")  # the replay has begun to deliver
        yield client


def synced(client: ProtocolClient, ahead_s: float) -> Told:
    """Compare clocks twice, with a client whose clock is ``ahead_s`` seconds ahead of the machine's."""
    first = client.ask(type="clock.sync", t0=time.monotonic() + ahead_s)
    previous = {"id": first["id"], "t3": time.monotonic() + ahead_s}
    return client.ask(type="clock.sync", t0=time.monotonic() + ahead_s, previous=previous)


def test_a_subscription_succeeds_in_part(client: ProtocolClient) -> None:
    """What there is is subscribed to; the rest is named with a code."""
    ack = client.ask(type="subscribe", topics=["quality", "weather"])
    assert ack["type"] == "ack"
    assert ack["topics"] == ["quality"]
    assert [(failed["topic"], failed["code"]) for failed in ack["failed"]] == [("weather", "unknown_topic")]


def test_the_first_subscription_takes_the_place_of_what_comes_unasked(client: ProtocolClient) -> None:
    """Only quality comes from then on, window by window; later subscriptions add to it."""
    client.ask(type="subscribe", topics=["quality"])
    kinds = [told["type"] for told in itertools.islice(client.messages(), 6)]
    assert set(kinds) == {"quality"}
    client.ask(type="subscribe", topics=["predictions"])
    told = list(itertools.islice(client.messages(), 6))
    assert {message["type"] for message in told} == {"quality", "prediction"}
    by_seq = [(message["seq"], message["t_end"]) for message in told]
    assert len(set(by_seq)) <= 4  # both speak of the same windows


def test_quality_names_every_channel_that_the_headset_has(client: ProtocolClient) -> None:
    """With what was measured of it, in the order of the model, which knows others beside those of an EPOC."""
    client.ask(type="subscribe", topics=["quality"])
    quality = client.until(lambda told: told["type"] == "quality" and bool(told["channels"]))
    known = client.welcome["model"]["eeg_ch_names"]
    assert len(known) == 36
    assert [channel["name"] for channel in quality["channels"]] == [name for name in known if name in EPOC_CH_NAMES]
    assert all(channel["sd_uv"] > 0 for channel in quality["channels"] if channel["good"])


def test_subscribing_to_status_tells_the_newest_at_once(client: ProtocolClient) -> None:
    """Also where nothing changes for long."""
    client.say(type="subscribe", id=1, topics=["status"])
    told = {client.next("stream.status")["source"] for _ in range(2)}
    assert told == {"eeg", "face"}


def test_previews_follow_each_other_without_a_hole(client: ProtocolClient) -> None:
    """Numbers grow by one; EEG goes on where the block before it ended; faces are 68 points."""
    client.ask(type="subscribe", topics=["eeg.preview", "face.preview"])
    blocks = list(itertools.islice(client.previews(), 60))
    eeg = [block for block in blocks if block.topic == "eeg.preview"]
    face = [block for block in blocks if block.topic == "face.preview"]
    model = client.welcome["model"]
    assert {block.values.shape[0] for block in eeg} == {len(model["eeg_ch_names"])}
    assert {block.values.shape for block in face} == {(68 * 3, 1)}
    assert {block.session for block in blocks} == {client.welcome["session"]}
    for topic in (eeg, face):
        numbers = [block.number for block in topic]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for before, after in itertools.pairwise(eeg):
        if after.t - before.t < 5:  # not where the recording begins again
            ends = before.t + before.values.shape[1] * before.interval_s
            assert after.t == pytest.approx(ends, abs=1e-3)
            assert after.interval_s == pytest.approx(1 / model["eeg_rate_hz"], rel=1e-3)


def test_the_clock_of_a_client_is_found_within_its_uncertainty(client: ProtocolClient) -> None:
    """The client's clock is 1000 s ahead of the machine's monotonic one, which is the service's own."""
    reply = synced(client, ahead_s=1000.0)
    assert reply["type"] == "clock.reply"
    assert reply["t1"] <= reply["t2"]
    assert reply["n_exchanges"] == 1
    assert abs(reply["offset_s"] + 1000.0) <= reply["uncertainty_s"] < 0.5


def test_a_marker_of_the_clients_clock_is_placed_by_it(client: ProtocolClient) -> None:
    """One second ago by the client's clock is one second before the replay's present; the echo says how sure."""
    synced(client, ahead_s=500.0)
    now = client.ask(type="marker", label="now", t=time.monotonic() + 500.0, clock="client")["marker"]
    then = client.ask(type="marker", label="then", t=time.monotonic() + 499.0, clock="client")["marker"]
    assert 0.0 < now["uncertainty_s"] < 0.5
    assert then["t"] < now["t"] + 8 * 0.2  # of the replay's own time, which runs on at eight times the pace
    echo = client.next("marker", id=then["id"])
    assert (echo["t"], echo["label"], echo["source"]) == (then["t"], "then", "websocket")
    assert echo["uncertainty_s"] == then["uncertainty_s"]


def test_a_marker_is_told_to_everybody_with_the_windows_it_falls_in(service: Service, client: ProtocolClient) -> None:
    """The predictions of these numbers begin before it and end behind it."""
    with client_of(service, binary=True) as other:
        place = client.ask(type="marker", label="trial 7", value=7, clock="arrival")["marker"]
        heard, echo = other.next("marker", id=place["id"]), client.next("marker", id=place["id"])
        assert heard == echo
        assert (echo["label"], echo["value"], echo["uncertainty_s"]) == ("trial 7", 7.0, None)
        windows = echo["windows"]
        last = other.next("prediction", seq=windows["seq_last"])
        assert last["t_start"] <= echo["t"] < last["t_end"] == windows["t_end_last"]
        behind = other.next("prediction", seq=windows["seq_last"] + 1)
        assert behind["t_start"] > echo["t"]


def test_a_marker_on_the_lsl_clock_keeps_its_time(client: ProtocolClient) -> None:
    """In a replay, that is the recording's own time."""
    t = client.next("prediction")["t_end"]
    assert client.ask(type="marker", label="a", t=t, clock="lsl")["marker"]["t"] == t


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "marker", "label": "a", "t": 1.0, "clock": "client"}, "clock_not_synced"),
        ({"type": "marker", "label": "a", "t": 1.7e9, "clock": "lsl"}, "time_implausible"),
        ({"type": "marker", "label": "a", "t": 1.0}, "bad_field"),
        ({"type": "marker", "label": "a\nb"}, "bad_field"),
        ({"type": "clock.sync", "t0": 1.0, "previous": {"id": "never", "t3": 2.0}}, "clock_implausible"),
        ({"type": "subscribe", "topics": ["status"], "session": "elsewhere"}, "unknown_session"),
        ({"type": "subscribe", "topics": []}, "bad_field"),
        ({"type": "subscribe", "topics": ["status"], "max_hertz": 2}, "bad_field"),
        ({"type": "session.start"}, "session_running"),
        ({"type": "session.stop", "session": "elsewhere"}, "unknown_session"),
        ({"type": "calibration.start", "kind": "rest", "seconds": 5}, "bad_field"),
        ({"type": "calibration.stop", "kind": "rest"}, "calibration_not_running"),
        ({"type": "calibration.stop", "kind": "neutral"}, "calibration_not_running"),
        ({"type": "replay.control"}, "bad_field"),
        ({"type": "applause"}, "unknown_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["type"],
)
def test_what_cannot_be_done_is_answered_by_its_code(client: ProtocolClient, message: Told, code: str) -> None:
    """The connection goes on."""
    error = client.ask(**message)
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
    assert client.ask(type="hello", client="test")["type"] == "ack"


def test_a_replay_that_is_stopped_and_started_begins_at_its_beginning(client: ProtocolClient) -> None:
    """With the times of the recording; the numbers of its events go on."""
    items = itertools.islice(ReplaySource(RECORDING).items(), 50)
    first_t = next(item.t[0] for item in items if isinstance(item, Chunk))
    client.until(lambda told: told["type"] == "prediction" and told["t_end"] > first_t + 3.0)
    assert client.ask(type="session.stop")["type"] == "ack"
    assert client.ask(type="session.start")["type"] == "ack"
    before, again = [told for told in (*client.heard, client.next("prediction")) if told["type"] == "prediction"][-2:]
    assert 0.0 < again["t_end"] - first_t <= 0.5
    assert again["seq"] == before["seq"] + 1
    codes = [told["code"] for told in client.heard if told["type"] == "notice"]
    assert codes[-2:] == ["session_stopped", "session_started"]


def test_a_replay_can_be_held_and_goes_on(client: ProtocolClient) -> None:
    """While it is held the present of the recording stands still; not one window is left out."""
    before = client.next("prediction")["seq"]
    client.ask(type="replay.control", action="pause")
    held_at, times = time.monotonic(), []
    while time.monotonic() < held_at + 0.4:  # 3.2 s of the recording, did it go on
        times.append(client.ask(type="marker", label="a")["marker"]["t"])
    assert max(times) - min(times) < 1.0
    client.ask(type="replay.control", action="resume", speed=4)
    client.ask(type="replay.control", speed=8)
    seqs = [client.next("prediction")["seq"] for _ in range(4)]
    assert seqs == list(range(seqs[0], seqs[0] + 4))
    assert seqs[0] > before


def test_both_encodings_say_the_same(service: Service, client: ProtocolClient) -> None:
    """The same prediction, read from JSON and from MessagePack."""
    with client_of(service, binary=True) as other:
        assert (client.welcome["protocol"], other.welcome["protocol"]) == ("clmer.v1.json", "clmer.v1.msgpack")
        there = other.next("prediction")
        assert client.next("prediction", seq=there["seq"]) == there
        assert other.ask(type="subscribe", topics=["quality"])["topics"] == ["quality"]


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
FIELDS = st.sampled_from(
    [
        *(
            "id",
            "topics",
            "session",
            "max_hz",
            "overflow",
            "smooth_s",
            "smooth_windows",
            "label",
            "value",
            "t",
            "clock",
            "t0",
            "previous",
        ),
        *("kind", "seconds", "participant", "record", "speed", "token", "client", "odd"),
    ]
)
PLAUSIBLE = {
    "topics": st.lists(st.sampled_from([*TOPICS, "weather"]), max_size=4),
    "clock": st.sampled_from(["client", "lsl", "arrival"]),
    "overflow": st.sampled_from(["latest", "queue"]),
    "label": st.just("x"),
    "t": st.floats(0, 1e5),
    "t0": st.floats(0, 1e5),
    "previous": st.fixed_dictionaries({"id": st.integers(0, 3), "t3": st.floats(0, 1e5)}),
    "max_hz": st.floats(0.1, 100),
    "smooth_s": st.floats(0.1, 10),
    "smooth_windows": st.integers(2, 120),
    "kind": st.sampled_from(["neutral", "rest"]),
}
HARMLESS = [kind for kind in TYPES if kind not in ("session.stop", "replay.control")]  # these end the replay for others


@st.composite
def messages(draw: st.DrawFn) -> str:
    """Text that a client might send: nearly a message, or none at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=40))
    fields = draw(st.lists(FIELDS, unique=True, max_size=6))
    message = {name: draw(PLAUSIBLE.get(name, VALUES) | VALUES) for name in fields}
    message["type"] = draw(st.sampled_from(HARMLESS) | st.text(max_size=8))
    return json.dumps(message)


@pytest.fixture(scope="module")
def listener(service: Service) -> Iterator[ProtocolClient]:
    """A client of its own for the random messages."""
    with client_of(service) as client:
        yield client


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(messages(), min_size=1, max_size=12))
def test_whatever_is_said_gets_one_answer_each_and_breaks_nothing(listener: ProtocolClient, said: list[str]) -> None:
    """Answers in the order of the questions, each with a code from the list; the connection goes on."""
    for text in said:
        listener.say_text(text)
    listener.say(type="hello", id="end")
    answers = []
    for told in listener.messages():
        if told["type"] in ANSWERS:
            answers.append(told)
        if told.get("id") == "end" and told["type"] == "ack":
            break
    assert len(answers) == len(said) + 1


def test_after_all_this_the_predictions_have_no_hole(listener: ProtocolClient) -> None:
    """Every number follows the one before it."""
    listener.ask(type="subscribe", topics=["predictions"])
    seqs = [listener.next("prediction")["seq"] for _ in range(5)]
    assert seqs == list(range(seqs[0], seqs[0] + 5))
