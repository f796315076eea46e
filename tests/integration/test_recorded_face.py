"""Claims about a session with a live face beside a live headset: recorded, it gives the same answers again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clmer_server.cli import main
from clmer_streaming.face.layout import EXTRACTOR_ID
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.types import FaceSample, StreamInfo
from tests.support.face_pictures import swaying
from tests.support.face_player import face_player
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera
from tests.support.recorded import assert_same_answers, only_folder, predicted, predictions_of, read_until
from tests.support.serving import serving

pytestmark = pytest.mark.deep

N_BOTH = 6
"""Valid events from EEG and face that a session must have."""


def from_both(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the valid predictions that EEG and face gave together."""
    valid = [m for m in messages if m["type"] == "prediction" and m["valid"]]
    return [m for m in valid if m["modalities"]["eeg"]["used"] and m["modalities"]["face"]["used"]]


@contextlib.contextmanager
def a_camera() -> Iterator[list[str]]:
    """A network camera; the options that take it."""
    with network_camera(swaying(31)) as camera:
        yield ["--camera", camera.url]


@contextlib.contextmanager
def a_face_stream() -> Iterator[list[str]]:
    """A face from another computer; the options that take it."""
    with face_player("faces-recorded"):
        yield ["--face-stream", "faces-recorded"]


@pytest.fixture(scope="module", params=[a_camera, a_face_stream])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a live session that saw its participant's face and EEG."""
    folder = tmp_path_factory.mktemp("face")
    with (
        headset(),
        request.param() as face,
        serving(folder, *face, "--record", "rec", "--no-outlets") as service,
    ):
        read_until(service, lambda seen: len(from_both(seen)) >= N_BOTH)
        service.end()
    return only_folder(folder / "rec")


def test_the_face_is_in_the_recording(recording: Path) -> None:
    """Its samples and its announcement, and predictions of both modalities."""
    items = list(SessionReader(recording / "session.xdf").items())
    (info,) = (item for item in items if isinstance(item, StreamInfo) and item.kind == "face")
    assert info.extractor == EXTRACTOR_ID
    assert sum(isinstance(item, FaceSample) for item in items) > 60
    assert len(from_both(predictions_of(recording))) >= N_BOTH


@pytest.mark.parametrize("speed", ["max", "1"])
def test_replayed_at_any_speed_it_gives_the_same_answers(recording: Path, tmp_path: Path, speed: str) -> None:
    """Windows bit for bit, faces included; reasons, qualities and numbers, too."""
    assert_same_answers(predictions_of(recording), predicted(recording / "session.xdf", tmp_path, speed))


def test_verify_finds_no_difference(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every window and every answer, computed once more."""
    assert main(["verify", str(recording)]) == 0
    n = len(predictions_of(recording))
    said = capsys.readouterr().out
    assert f"{n} windows, {n} equal bit for bit; largest probability difference" in said
    assert "differs" not in said
