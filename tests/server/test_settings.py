"""Settings: who overrides whom, and what a mistake looks like."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from clmer_server.commands import serve
from clmer_server.session.config import SessionConfig, session_configs
from clmer_server.settings import (
    FILE_ONLY,
    SETTINGS_FILE,
    ServeSettings,
    SessionOptions,
    SharedOptions,
    is_loopback,
    load_settings,
    settings_text,
)
from clmer_server.web.sessions_api import NewSession
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


OPTIONS = {**SessionOptions.model_fields, **SharedOptions.model_fields}
"""Every option of a session."""

VALUES = {
    "eeg_unit": "mV",
    "eeg_delay": "0.5",
    "eeg_rate": "125",
    "face_delay": "0.5",
    "video_offset": "1.5",
    "speed": "4",
}
"""A value of each option that not every word can be, other than its default."""

WITH: dict[str, dict[str, Any]] = {
    "video": {"replay": "a.xdf"},
    "record_video": {"record": "r", "camera": "0"},
    "face_landmarker": {"camera": "0"},
}
"""Options that another one needs beside it."""


def value_of(name: str) -> str:
    """Return a value of an option other than its default, as a person writes it."""
    switch = bool in (OPTIONS[name].annotation, *get_args(OPTIONS[name].annotation))
    return VALUES.get(name, "true" if switch else "word")


def parsed(*arguments: str) -> dict[str, Any]:
    """Return what the command line of the service gives to the settings."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    given = vars(parser.parse_args(arguments))
    return {name: value for name, value in given.items() if name not in ("print_config", "check_config")}


def given_in(place: Literal["file", "environment", "command line"], name: str, folder: Path, monkeypatch: Any) -> Any:
    """Return the option of a session's configuration after it was given in one of the three places."""
    value, option, beside = value_of(name), f"--{name.replace('_', '-')}", WITH.get(name, {})
    if place == "command line":
        beside = {**beside, **parsed(option, *([] if value == "true" else [value]))}
    elif place == "environment":
        monkeypatch.setenv(f"CLMER_{name.upper()}", value)
    else:
        literal = value if value == "true" or value[0].isdigit() else repr(value)
        (folder / SETTINGS_FILE).write_text(f"{name} = {literal}\n")
    (config,) = session_configs(load_settings(beside))
    return getattr(config, name)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_a_session_follows_from_its_one_definition(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a help text and a line of the printed settings; file, environment and command line set it alike."""
    found = []
    for place in ("file", "environment", "command line"):
        with monkeypatch.context() as patch:
            found.append(given_in(place, name, folder, patch))
        (folder / SETTINGS_FILE).unlink(missing_ok=True)
    assert found == [found[0]] * 3
    assert found[0] != OPTIONS[name].default
    assert OPTIONS[name].description
    assert f"{name} " in settings_text(load_settings({}))


def test_every_option_of_the_service_has_a_help_text_and_a_place_on_the_command_line() -> None:
    """But for those of the file alone."""
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    listed = parser.format_help()
    for name, field in ServeSettings.model_fields.items():
        assert field.description
        assert (f"--{name.replace('_', '-')}" in listed) is (FILE_ONLY not in field.metadata)


def test_a_configuration_has_the_options_and_little_else() -> None:
    """Its own name, and what is known of it beside: nothing that a person could set."""
    assert SessionConfig.model_fields.keys() - OPTIONS.keys() == {"name", "named", "recorded", "needs_neutral"}


def test_a_session_over_http_names_no_path() -> None:
    """Its options are some of a session's, under the same names; a camera is a number there."""
    own = {"name", "camera", "record"}
    asked = NewSession.model_fields.keys() - own
    assert asked < SessionOptions.model_fields.keys()
    assert not asked & {"replay", "video", "record_video"}
    assert NewSession.model_fields["camera"].annotation == int | None
    assert all(
        Path not in (field.annotation, *get_args(field.annotation)) for field in NewSession.model_fields.values()
    )
