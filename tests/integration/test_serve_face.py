"""Claims about the service with a face: cameras that are there, that are not, and what is told of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.support.face_pictures import swaying, write_video
from tests.support.face_player import face_player
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera
from tests.support.paths import RECORDING
from tests.support.serving import Service, clean_environment, serving

WAIT_S = 60.0

Json = dict[str, Any]


def messages(service: Service) -> Iterator[Json]:
    """Yield what a client of the service receives."""
    with connect(f"ws://{service.address}/ws", proxy=None) as client:
        while True:
            yield json.loads(client.recv(WAIT_S))


def first(received: Iterator[Json], wanted: Callable[[Json], bool]) -> Json:
    """Return the next message that is wanted."""
    return next(message for message in received if wanted(message))


def face_status(message: Json, state: str) -> bool:
    """Tell whether a message says that the face stream is in this state."""
    return (message["type"], message.get("source"), message.get("state")) == ("stream.status", "face", state)


def uses(message: Json, eeg: bool, face: bool) -> bool:
    """Tell whether a message is a valid prediction from these modalities."""
    if message["type"] != "prediction" or not message["valid"]:
        return False
    modalities = message["modalities"]
    return (modalities["eeg"]["used"], modalities["face"]["used"]) == (eeg, face)


def test_a_camera_beside_a_headset_gives_events_of_both(tmp_path: Path) -> None:
    """Unplugged, the EEG goes on alone and the status says why; plugged in again, both are used again."""
    with headset(), network_camera(swaying(31)) as camera, serving(tmp_path, "--camera", camera.url) as service:
        received = messages(service)
        both = first(received, lambda message: uses(message, eeg=True, face=True))
        assert both["calibration"]["face"] in ("prior", "running")
        camera.plugged.clear()
        lost = first(received, lambda message: face_status(message, "stalled") and message["reason"] is not None)
        assert "gives no pictures" in lost["reason"]
        first(received, lambda message: uses(message, eeg=True, face=False))
        camera.plugged.set()
        first(received, lambda message: uses(message, eeg=True, face=True))


def test_a_camera_that_is_not_there_is_a_status_and_eeg_goes_on(tmp_path: Path) -> None:
    """``connecting``, with what to do, while events are valid by EEG."""
    with headset(), serving(tmp_path, "--camera", "63") as service:
        received = messages(service)
        status = first(
            received, lambda message: face_status(message, "connecting") and "plug it in" in message["reason"]
        )
        assert status["name"] == "camera 63"
        event = first(received, lambda message: uses(message, eeg=True, face=False))
        assert "face_missing" in event["reasons"]


@pytest.mark.deep
def test_frames_that_a_fast_camera_loses_are_told(tmp_path: Path) -> None:
    """The status of the face counts them while it is live; those that were looked at are not among them."""
    fast = network_camera(swaying(31), rate_hz=2000.0)
    with fast as camera, serving(tmp_path, "--eeg", "nobody", "--camera", camera.url) as service:
        status = first(messages(service), lambda message: face_status(message, "live") and message["n_dropped"] > 20)
    assert status["n_samples"] > 0


def test_a_face_alone_gives_events_until_its_video_ends(tmp_path: Path) -> None:
    """Without a headset the face is enough; the end of the file is told as the reason of the silence."""
    film = write_video(tmp_path / "face.avi", swaying(150))
    with serving(tmp_path, "--eeg", "nobody", "--camera", film) as service:
        received = messages(service)
        first(received, lambda message: uses(message, eeg=False, face=True))
        status = first(received, lambda message: face_status(message, "stalled"))
    assert status["reason"] == "face.avi has been played to its end"


@pytest.mark.deep
def test_a_face_stream_of_another_computer_is_used_by_its_name(tmp_path: Path) -> None:
    """Faces that arrive over LSL, at 30 Hz, give events of the face."""
    with face_player("faces-c"), serving(tmp_path, "--eeg", "nobody", "--face-stream", "faces-c") as service:
        received = messages(service)
        *_, event = (first(received, lambda message: uses(message, eeg=False, face=True)) for _ in range(6))
    assert event["modalities"]["face"]["fps"] == pytest.approx(30, abs=5)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--camera", "webcam"], "'webcam'"),
        (["--camera", "broken.mp4"], "cannot be opened"),
        (["--replay", RECORDING, "--video", "missing.mp4"], "missing.mp4"),
        (["--replay", RECORDING, "--video", "broken.mp4"], "cannot be opened"),
        (["--replay", RECORDING, "--video", "broken.csv"], "no column"),
        (["--replay", RECORDING, "--participant", "P99"], "No such file"),
        (["--face-landmarker", "broken.mp4"], "a file that is no such bundle"),
    ],
    ids=[
        "no-camera",
        "broken-camera",
        "no-video",
        "broken-video",
        "broken-csv",
        "unknown-participant",
        "broken-bundle",
    ],
)
def test_what_cannot_be_a_face_is_told_in_three_lines(tmp_path: Path, options: list[str | Path], found: str) -> None:
    """Before the service starts."""
    for name in ("broken.mp4", "broken.csv"):
        (tmp_path / name).write_bytes(b"no video\n" * 99)
    command = [sys.executable, "-m", "clmer_server", "--port", "0", *map(str, options)]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["expected", "found", "to do"]
    assert found in " ".join(lines[:2])
