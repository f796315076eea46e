"""The real program, end to end: processes, sockets, the bundled recording and the shipped model."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from clmer_model.artifact import shipped_folder
from clmer_server.protocol.codes import PROTOCOL
from clmer_server.protocol.parts import VOLATILE_FIELDS
from tests.support.paths import RECORDING
from tests.support.serving import clean_environment, serving

SHUTDOWN_S = 5.0  # in every case

Json = dict[str, Any]


def command(*options: str | Path, program: str = "clmer_server") -> list[str]:
    return [sys.executable, "-m", program, *map(str, options)]


def messages_until(client: ClientConnection, kind: str, code: str | None = None) -> list[Json]:
    """Receive up to a message of this type, and of this code where one is given."""
    received: list[Json] = []
    while not received or (received[-1]["type"], received[-1].get("code", code)) != (kind, code):
        received.append(json.loads(client.recv(timeout=30)))
    return received


def predictions(messages: list[Json]) -> list[Json]:
    return [message for message in messages if message["type"] == "prediction"]


def lasting(event: Json) -> Json:
    """Return what must be equal in every run of one recording."""
    return {name: value for name, value in event.items() if name not in VOLATILE_FIELDS}


@dataclass
class Replay:
    """Everything a client received from one replay, and how the service then ended."""

    messages: list[Json]
    after_signal: list[Json]
    exit_code: int
    shutdown_s: float


def replay_at(speed: str, folder: Path) -> Replay:
    with serving(folder, "--replay", RECORDING, "--speed", speed) as service, service.connect() as client:
        messages = messages_until(client, "notice", "replay_ended")
        service.process.send_signal(signal.SIGTERM)
        after_signal = messages_until(client, "bye")
        return Replay(messages, after_signal, *service.end())


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Replay]:
    """Two runs of the bundled recording, side by side."""
    speeds = ("16", "max")
    with ThreadPoolExecutor() as pool:
        folders = [tmp_path_factory.mktemp(f"at_{speed}") for speed in speeds]
        return dict(zip(speeds, pool.map(replay_at, speeds, folders), strict=True))


@pytest.fixture
def at_16(replays: dict[str, Replay]) -> Replay:
    return replays["16"]


@pytest.fixture
def at_max(replays: dict[str, Replay]) -> Replay:
    return replays["max"]


def test_the_welcome_comes_first_and_names_what_answers(at_max: Replay) -> None:
    """Session, model and grid are known before the first prediction."""
    welcome = at_max.messages[0]
    assert (welcome["type"], welcome["protocol"], welcome["source"]) == ("welcome", PROTOCOL, "replay")
    assert welcome["model"]["trained_on"] == "simulated"
    assert welcome["session"] == predictions(at_max.messages)[0]["session"]


def test_probabilities_sum_to_one(at_16: Replay) -> None:
    """For every valid event, over the labels that the welcome names; the label is the most probable one."""
    valid = [event for event in predictions(at_16.messages) if event["valid"]]
    assert len(valid) >= 10
    for event in valid:
        assert list(event["probs"]) == at_16.messages[0]["model"]["labels"]
        assert sum(event["probs"].values()) == pytest.approx(1.0, abs=1e-6)
        assert event["label"] == max(event["probs"], key=event["probs"].__getitem__)


def test_events_lie_on_the_grid_without_a_hole(at_16: Replay) -> None:
    """``t_end`` is a multiple of the hop, one hop after the other, and ``seq`` counts them."""
    events, grid = predictions(at_16.messages), at_16.messages[0]["grid"]
    first = events[0]
    for k, event in enumerate(events):
        assert event["t_end"] % grid["hop_s"] == 0
        assert event["t_end"] == first["t_end"] + k * grid["hop_s"]
        assert event["t_start"] == event["t_end"] - grid["window_s"]
        assert event["seq"] == first["seq"] + k


def test_what_is_not_valid_has_no_numbers_but_reasons(at_max: Replay) -> None:
    """The first windows of a recording are such: its filter has not settled."""
    invalid = [event for event in predictions(at_max.messages) if not event["valid"]]
    assert invalid
    for event in invalid:
        assert event["reasons"]
        assert event["probs"] is event["label"] is event["confidence"] is None


def test_the_greatest_speed_loses_nothing(at_max: Replay) -> None:
    """The replay begins at its first client and is held back by it: every event from the first one, and no gap."""
    assert [event["seq"] for event in predictions(at_max.messages)] == list(range(len(predictions(at_max.messages))))
    assert "gap" not in {message["type"] for message in at_max.messages}


def test_the_speed_changes_no_event(at_16: Replay, at_max: Replay) -> None:
    """Two runs of one recording are equal but for the fields named in ``VOLATILE_FIELDS``."""
    whole = {event["seq"]: lasting(event) for event in predictions(at_max.messages)}
    slower = [lasting(event) for event in predictions(at_16.messages)]
    assert len(slower) > 60
    assert slower == [whole[event["seq"]] for event in slower]


def test_streams_are_told_as_they_become_live(at_max: Replay) -> None:
    """With the measured rate once it is known; the markers, too, though nothing waits for them."""
    statuses = [message for message in at_max.messages if message["type"] == "stream.status"]
    last = {status["source"]: status for status in statuses}
    states = {source: status["state"] for source, status in last.items()}
    assert states == {"eeg": "live", "face": "live", "markers": "live"}
    assert last["eeg"]["rate_hz"] == pytest.approx(last["eeg"]["nominal_rate_hz"], rel=0.01)


@pytest.mark.parametrize("speed", ["16", "max"])
def test_goodbye_is_the_last_word(speed: str, replays: dict[str, Replay]) -> None:
    """A signal ends the service without an error, in time."""
    replay = replays[speed]
    assert replay.after_signal[-1] == {"type": "bye", "reason": "shutdown", "retry_after_s": 2.0}
    assert replay.exit_code == 0
    assert replay.shutdown_s < SHUTDOWN_S


def test_predict_writes_what_the_service_sends(at_max: Replay, tmp_path: Path) -> None:
    """``clmer predict`` runs the same session: the file's lines equal the events of /ws."""
    out = tmp_path / "p.jsonl"
    code = "import sys; from clmer_server.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "predict", RECORDING, "--out", out],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert [lasting(event) for event in events] == [lasting(event) for event in predictions(at_max.messages)]
    assert done.stderr.startswith(f"{len(events)} windows, {sum(event['valid'] for event in events)} valid")


def test_without_a_headset_the_service_waits(tmp_path: Path) -> None:
    """It says so at /readyz and in the welcome, and an interrupt ends it with the shell's code for that."""
    with serving(tmp_path, "--eeg", "no such headset", "--camera", "none") as service:
        ready = service.get("/readyz")
        assert ready.status_code == 503
        (reason,) = ready.json()["reasons"]
        assert reason.startswith("eeg connecting: no EEG stream 'no such headset' found yet")
        with service.connect() as client:
            (stream,) = json.loads(client.recv(timeout=30))["streams"]
        assert (stream["source"], stream["state"], stream["rate_hz"]) == ("eeg", "connecting", None)
        assert service.get("/healthz").status_code == 200
        exit_code, shutdown_s = service.end(signal.SIGINT)
    assert exit_code == 130
    assert shutdown_s < SHUTDOWN_S


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things that cannot be served."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "empty.xdf").touch()
    (folder / "text.xdf").write_text("This is no recording.\n")
    (folder / "no_samples.xdf").write_bytes(b"XDF:")
    shutil.copy(shipped_folder() / "clmer-va4.ts", folder / "stranger.ts")
    (folder / "stranger.ts").write_bytes((folder / "stranger.ts").read_bytes() + b"\0")
    return folder


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--replay", "missing.xdf"], "missing.xdf"),
        (["--replay", "empty.xdf"], "empty.xdf"),
        (["--replay", "text.xdf"], "text.xdf"),
        (["--replay", "no_samples.xdf"], "no_samples.xdf"),
        (["--replay", RECORDING, "--model", "stranger.ts"], "stranger.ts"),
        (["--replay", RECORDING, "--model-sha256", "0" * 64], ""),
        (["--replay", RECORDING, "--device", "cuda:99"], "CUDA devices"),
        (["--replay", RECORDING, "--port", "{port}"], "in use"),
    ],
    ids=["missing", "empty", "text", "no-samples", "unknown-model", "wrong-hash", "no-cuda", "port"],
)
def test_what_cannot_be_served_is_told_in_three_lines(options: list[str | Path], found: str, broken: Path) -> None:
    """Before the service starts: what was expected, what was found, what to do; no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command(*(str(option).format(port=port) for option in ["--port", "0", *options])),
            cwd=broken,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in lines] == ["expected", "found", "to do"]
    assert found in lines[1]
    assert done.stdout == ""
