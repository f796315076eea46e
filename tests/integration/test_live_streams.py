"""Claims about the whole service and its live streams: what it says while one is missing, unusable, or returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pylsl
import pytest
from websockets.sync.client import ClientConnection

from clmer_streaming.face.extractor import Extractor
from clmer_streaming.face.layout import EXTRACTOR_ID
from tests.support.face_pictures import swaying, write_video
from tests.support.lsl_outlet import headset
from tests.support.serving import serving
from tests.support.task_bundle import write_bundle

pytestmark = pytest.mark.lsl

WAIT_S = 60.0
"""Generous: a stream is lost after five seconds, and found again within one."""


def messages(client: ClientConnection) -> Iterator[dict[str, Any]]:
    """Yield what the service says."""
    while True:
        yield json.loads(client.recv(WAIT_S))


def statuses(client: ClientConnection) -> Iterator[dict[str, Any]]:
    """Yield every status of the EEG stream."""
    for message in messages(client):
        yield from (s for s in message.get("streams", [message]) if s.get("kind") == "eeg")


@pytest.mark.slow
def test_the_whole_service_survives_a_headset_that_dies_and_returns_otherwise(tmp_path: Path) -> None:
    """Over the WebSocket: live, lost and why, live with what changed, and valid events again."""
    with serving(tmp_path, "--eeg", "service") as service, service.connect() as client:
        with headset("service"):
            assert next(s for s in statuses(client) if s["state"] == "live")["reason"] == ""
        lost = next(s for s in statuses(client) if s["state"] == "lost")
        assert lost["reason"] == "service is gone; waiting for it to come back"
        with headset("service", sensors=12, stamps="unix"):
            again = next(s for s in statuses(client) if s["state"] == "live")
            assert again["reason"] == "its stamps are Unix time: its samples are stamped when they arrive"
            event = next(m for m in messages(client) if m["type"] == "prediction" and m["valid"])
            assert event["modalities"]["eeg"]["channels_ok"] == 12


def test_the_status_says_what_is_there_instead(tmp_path: Path) -> None:
    """Clients and the dashboard read it, not only the log."""
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("Polar H10", "ECG", 1, 130.0, pylsl.cf_float32, "P-1"))
    with serving(tmp_path, "--eeg", "EPOC", "--camera", "none") as service, service.connect() as client:
        reason = next(s["reason"] for s in statuses(client) if "Polar H10 (ECG)" in s.get("reason", ""))
    assert reason.startswith("no EEG stream 'EPOC' found yet; on the network: ")
    del outlet


@pytest.mark.camera
def test_a_live_session_names_the_extractor_whose_face_it_cannot_use(tmp_path: Path) -> None:
    """The status of the face stream says which one made it and which one the model wants."""
    film = write_video(tmp_path / "face.avi", swaying(90))
    bundle = write_bundle(tmp_path / "face_landmarker.task")
    options = ("--eeg", "nobody", "--camera", film, "--face-landmarker", bundle)
    with serving(tmp_path, *options) as service, service.connect() as client:
        reason = next(m["reason"] for m in messages(client) if "made by extractor" in (m.get("reason") or ""))
    assert Extractor.choose(bundle).id in reason
    assert f"the model wants {EXTRACTOR_ID!r}" in reason
