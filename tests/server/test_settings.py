"""Settings: who overrides whom, and what a mistake looks like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from clmer_server.settings import SETTINGS_FILE, is_loopback, load_settings
from clmer_streaming.errors import SettingsError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "HOST", "SPEED", "DEVICE", "MODEL"):
        monkeypatch.delenv(f"CLMER_{name}", raising=False)
    return tmp_path


def test_a_stronger_place_overrides_a_weaker_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default < file < environment < command line."""
    ports = [load_settings({}).port]
    (folder / SETTINGS_FILE).write_text("port = 1\n")
    ports.append(load_settings({}).port)
    monkeypatch.setenv("CLMER_PORT", "2")
    ports.append(load_settings({}).port)
    ports.append(load_settings({"port": "3"}).port)
    assert ports == [8765, 1, 2, 3]


def test_the_defaults_wait_for_a_live_stream_on_this_machine_alone() -> None:
    """Started without any option, nobody else in the network can listen."""
    settings = load_settings({})
    assert (settings.host, settings.eeg, settings.replay, settings.device) == ("127.0.0.1", "auto", None, "auto")
    assert settings.on_loopback


def test_no_camera_goes_with_everything() -> None:
    """``none`` is no camera: it stands beside a replay and beside a face stream."""
    for other in ({"replay": "a.xdf", "video": "a.mp4"}, {"face_stream": "F"}):
        assert load_settings({"camera": "none", **other}).camera == "none"


def test_the_greatest_speed_is_infinite() -> None:
    """``max`` is a word for people."""
    assert load_settings({"speed": "max"}).speed == math.inf
    assert load_settings({"speed": "8"}).speed == 8.0


@pytest.mark.parametrize(
    ("given", "expected", "found"),
    [
        ({"port": "http"}, "port", "'http'"),
        ({"speed": "0"}, "speed", "'0'"),
        ({"record_video": True}, "a folder to record in", "both"),
        ({"record_video": True, "record": "r", "camera": "none"}, "a camera of its own", "both"),
        ({"record_video": True, "record": "r", "face_stream": "F"}, "a camera of its own", "both"),
        ({"record_video": True, "record": "r", "replay": "a.xdf"}, "a camera of its own", "both"),
        ({"speed": "nan"}, "speed", "'nan'"),
        ({"device": "gpu"}, "device", "'gpu'"),
        ({"model_sha256": "abc"}, "model_sha256", "'abc'"),
        ({"colour": "red"}, "colour", "'red'"),
        ({"eeg": "Headset", "replay": "a.xdf"}, "either", "both"),
        ({"camera": "0", "replay": "a.xdf"}, "either a live face", "both"),
        ({"face_stream": "F", "replay": "a.xdf"}, "either a live face", "both"),
        ({"face_stream": "F", "camera": "0"}, "either a camera or a face stream", "both"),
        ({"video": "a.mp4"}, "a recording (replay) beside the video", "both"),
        ({"face_landmarker": "f.task", "face_stream": "F"}, "pixels (camera", "both"),
        ({"face_landmarker": "f.task", "camera": "none"}, "pixels (camera", "both"),
        ({"face_landmarker": "f.task", "replay": "a.xdf"}, "pixels (camera", "both"),
        ({"face_delay": "-1"}, "face_delay", "'-1'"),
        ({"participant": "../P01"}, "participant", "'../P01'"),
    ],
)
def test_a_mistake_names_the_setting_and_the_value(given: dict[str, Any], expected: str, found: str) -> None:
    """So that the user finds it without reading the code."""
    with pytest.raises(SettingsError) as caught:
        load_settings(given)
    assert expected in caught.value.expected
    assert found in caught.value.found


def test_an_unknown_name_in_the_file_is_refused(folder: Path) -> None:
    """A misspelt setting must not be ignored."""
    (folder / SETTINGS_FILE).write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="prot"):
        load_settings({})


def test_a_file_that_is_not_toml_is_refused(folder: Path) -> None:
    """With the place of the mistake."""
    (folder / SETTINGS_FILE).write_text("port is 1\n")
    with pytest.raises(SettingsError, match="line 1"):
        load_settings({})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("lab-pc", False)],
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    """Everything else is open to the network."""
    assert is_loopback(host) is loopback
