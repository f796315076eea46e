"""The protocol with a live session: a headset on the network, a camera, a recording."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clmer_server.cli import main
from clmer_server.protocol.inbound import TYPES
from clmer_streaming.clock import local_clock
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.types import Marker, StreamInfo
from tests.support.face_pictures import swaying
from tests.support.lsl_inlets import Inlets
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera
from tests.support.protocol_client import Told, client_of, exchange_clocks
from tests.support.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.lsl, pytest.mark.camera]

AHEAD_S = 1000.0
"""How far the client's clock is ahead of the machine's."""


REQUESTS: tuple[Told, ...] = (
    {"type": "hello", "client": "live"},
    {"type": "clock.sync", "t0": 1.0},
    {"type": "marker", "id": "arrived", "label": "block 1", "clock": "arrival"},
    {"type": "calibration.start", "kind": "neutral", "seconds": 60},
    {"type": "calibration.stop", "kind": "neutral"},
    {"type": "subscribe", "topics": ["predictions", "quality"], "max_hz": 1, "overflow": "latest", "smooth_s": 2},
    {"type": "unsubscribe", "topics": ["quality"]},
    {"type": "replay.control", "action": "resume"},
)
"""One of each type that leaves the session as it is."""

RESTART: tuple[Told, ...] = ({"type": "session.stop"}, {"type": "session.start", "participant": "P07", "record": False})
"""Those that do not."""


@dataclass(frozen=True)
class Seen:
    """What a live session said and left."""

    refused: Told
    sent_at: dict[str, float]  # s of the LSL clock, by id of a marker
    answers: dict[str, Told]
    echoes: dict[str, Told]
    outlet: list[tuple[float, list[Any]]]  # stamps and samples of CLMER-Markers
    predictions: dict[int, Told]
    calibration: dict[str, Told]  # what the service said, by step
    calibrated: Told  # a prediction behind it
    answers_of_each: dict[str, Told]  # to one request of each type, by the type
    wished: Told  # a prediction as another client wished it
    restarted: Told  # a prediction of the session's second run
    folder: Path

    def window_of(self, echo: Told) -> Told:
        """Return the last prediction whose window a marker falls in."""
        return self.predictions[echo["windows"]["seq_last"]]


def by_id(heard: Sequence[Told]) -> dict[str, Told]:
    """Return the echoes of markers by the client's own ids."""
    return {told["id"].rpartition("-")[2]: told for told in heard if told["type"] == "marker"}


def holds_all(heard: Sequence[Told]) -> bool:
    """Tell whether all echoes are there, a window behind the last one, and the end of the calibration."""
    echoes, newest = by_id(heard), max(told["seq"] for told in heard if told["type"] == "prediction")
    done = any(told.get("code") == "calibration_done" for told in heard)
    return done and len(echoes) == 4 and newest > echoes["m2"]["windows"]["seq_last"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """A session of some ten seconds, in which a client marks by its own clock and measures the neutral face."""
    folder = tmp_path_factory.mktemp("live")
    camera = network_camera(swaying(31))
    with headset(), camera as shown, serving(folder, "--camera", shown.url, "--record", "kept") as service:
        with client_of(service) as client, client_of(service) as other, Inlets("CLMER-Markers") as inlets:
            client.until(lambda told: told["type"] == "prediction" and told["modalities"]["face"]["used"])
            answers_of_each = {request["type"]: other.ask(**request) for request in REQUESTS}
            wished = other.until(lambda told: bool(told.get("smoothed")))
            calibration = {"start": client.ask(type="calibration.start", kind="neutral", seconds=1)}
            calibration["again"] = client.ask(type="calibration.start", kind="neutral")
            refused = client.ask(type="replay.control", action="pause")
            exchange_clocks(client, AHEAD_S)
            sent_at, answers = {}, {}
            for number in range(3):
                sent_at[f"m{number}"] = now = local_clock()
                request = {"id": f"m{number}", "label": f"trial {number}", "t": now + AHEAD_S, "clock": "client"}
                answers[f"m{number}"] = client.ask(type="marker", **request)
            client.until(lambda told: holds_all(client.heard))
            calibrated = client.until(
                lambda told: told["type"] == "prediction" and told["calibration"]["face"] == "explicit"
            )
            inlets.wait_for({"CLMER-Markers": 4})
            answers_of_each |= {request["type"]: client.ask(**request) for request in RESTART}
            restarted = client.next("prediction", participant="P07")
        service.end(signal.SIGTERM)
        (session,) = (folder / "kept").iterdir()
        heard = client.heard[: client.heard.index(restarted)]
        calibration |= {told["code"]: told for told in heard if told["type"] == "notice"}
        yield Seen(
            refused,
            sent_at,
            answers,
            by_id(heard),
            inlets.samples["CLMER-Markers"],
            {told["seq"]: told for told in heard if told["type"] == "prediction"},
            calibration,
            calibrated,
            answers_of_each,
            wished,
            restarted,
            session,
        )


def test_a_marker_of_the_clients_clock_is_where_it_happened(seen: Seen) -> None:
    """On the same machine the truth is known; it lies within the uncertainty, which is small."""
    for name, at in seen.sent_at.items():
        place = seen.answers[name]["marker"]
        assert abs(place["t"] - at) <= place["uncertainty_s"] < 0.2


def test_the_echo_names_the_windows_that_hold_the_marker(seen: Seen) -> None:
    """The last of them begins before it; the next one behind it."""
    for echo in seen.echoes.values():
        last = seen.window_of(echo)
        assert last["t_start"] <= echo["t"] < last["t_end"] == echo["windows"]["t_end_last"]
        assert seen.predictions[last["seq"] + 1]["t_start"] > echo["t"]


def test_markers_are_on_the_network_for_other_programs(seen: Seen) -> None:
    """With the corrected time as their stamp."""
    heard = {sample[0]: t for t, sample in seen.outlet}
    assert {label: t for label, t in heard.items() if label.startswith("trial")} == pytest.approx(
        {f"trial {number}": seen.echoes[f"m{number}"]["t"] for number in range(3)}, abs=1e-6
    )


def test_markers_are_recorded_with_their_uncertainty(seen: Seen) -> None:
    """As items, behind the announcement of their source; the session still verifies."""
    items = list(SessionReader(seen.folder / "session.xdf").items())
    kept = {item.id: item for item in items if isinstance(item, Marker)}
    for echo in seen.echoes.values():
        marker = kept[echo["id"]]
        assert (marker.t, marker.label, marker.uncertainty_s) == (echo["t"], echo["label"], echo["uncertainty_s"])
    announced = [item.source for item in items if isinstance(item, StreamInfo) and item.kind == "markers"]
    assert announced == ["websocket"]
    assert main(["verify", str(seen.folder)]) == 0


def test_a_live_session_cannot_be_held(seen: Seen) -> None:
    """Its time is that of the participant."""
    assert (seen.refused["type"], seen.refused["code"]) == ("error", "not_a_replay")


def test_every_type_of_request_is_answered_by_a_live_session(seen: Seen) -> None:
    """And acted upon, but for the one that only a replay can."""
    assert seen.answers_of_each.keys() == set(TYPES)
    answers = {kind: told.get("code", told["type"]) for kind, told in seen.answers_of_each.items()}
    others = {"clock.sync": "clock.reply", "replay.control": "not_a_replay"}
    assert answers == {kind: others.get(kind, "ack") for kind in TYPES}
    assert seen.answers_of_each["subscribe"]["topics"] == ["predictions", "quality"]


def test_a_live_client_gets_the_mean_that_it_asked_for(seen: Seen) -> None:
    """Beside the values that everybody gets."""
    assert seen.wished["smoothed"]["tau_s"] == 2.0
    assert seen.predictions[seen.wished["seq"]] == {**seen.wished, "smoothed": None}


def test_a_live_session_is_stopped_and_started_again_for_the_next_participant(seen: Seen) -> None:
    """Its clients stay; the numbers of its events go on."""
    assert seen.restarted["seq"] > max(seen.predictions)
    assert seen.calibration.keys() >= {"session_stopped", "session_started", "session_warning"}


def test_the_neutral_face_is_measured_while_the_session_runs(seen: Seen) -> None:
    """Once at a time; its end is told, and predictions say what the face is measured against."""
    assert seen.calibration["start"]["type"] == "ack"
    assert seen.calibration["again"]["code"] == "calibration_running"
    assert "frames" in seen.calibration["calibration_done"]["message"]
    assert seen.calibrated["calibration"]["face"] == "explicit"


def test_latencies_are_split_by_stage(seen: Seen) -> None:
    """Every stage of a live window has its number, and together they are no more than the whole."""
    answered = [told for told in seen.predictions.values() if told["batch"]]
    both = [told for told in answered if all(told["modalities"][name]["used"] for name in ("eeg", "face"))]
    assert both
    for told in both:
        latency = told["latency_ms"]
        assert None not in latency.values()
        assert 0 <= latency["model"] + latency["publish"] <= latency["total"] - latency["window"] + 1e-6
        assert latency["acquire"] < 5000
        assert latency["face"] < 5000
