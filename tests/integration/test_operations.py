"""What people who run the service look at: metrics, logs, settings, and systemd's notice."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import socket
import time
import tomllib
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clmer_server.cli import CHILD_TIMEOUT_S, serve_main
from clmer_server.logs import OF_SESSION, set_up_logging, without_secrets
from clmer_server.metrics import LoopLag, Metrics, Reading
from clmer_server.session.events import status_entry
from clmer_server.session.managed import SINK_TIMEOUT_S, THREADS_TIMEOUT_S
from clmer_server.settings import load_settings
from clmer_server.web.service import GOODBYE_TIMEOUT_S, READY, notify, run_in_background
from clmer_server.web.uvicorn import CLOSE_TIMEOUT_S
from clmer_streaming.errors import SettingsError
from tests.support.paths import RECORDING, ROOT
from tests.support.session_parts import STATUS, event

SHUTDOWN_S = 5.0
"""Within which the service ends, in every case."""

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a settings file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def samples(metrics: Metrics) -> Samples:
    """Return what a monitoring system reads: by name and labels the value."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def reading(*running: str) -> Reading:
    """Return what is read off a service with the sessions lab, which says the state of a stream, and abc."""
    streams = {"lab": (status_entry(STATUS),), "abc": ()}
    return Reading(streams, running, n_clients=2, n_dropped=3, n_evicted=1, loop_lag_s=0.25)


def test_events_are_counted_by_session_and_validity() -> None:
    metrics, good = Metrics(reading), event()
    for message in (good, good, good.model_copy(update={"valid": False, "reasons": ("gap", "face_missing")})):
        metrics.message(message)
    read, session = samples(metrics), good.session
    assert read["clmer_predictions_total", (("session", session), ("valid", "true"))] == 2
    assert read["clmer_predictions_total", (("session", session), ("valid", "false"))] == 1
    assert read["clmer_prediction_reasons_total", (("reason", "gap"), ("session", session))] == 1


def test_each_stage_of_the_latency_has_its_histogram() -> None:
    """What was not measured is not counted, never as 0."""
    metrics, good = Metrics(reading), event()
    latency = good.latency_ms.model_copy(update={"window": None, "publish": 30.0})
    metrics.message(good.model_copy(update={"latency_ms": latency}))
    read, session = samples(metrics), good.session
    name = "clmer_window_latency_seconds"
    assert read[f"{name}_sum", (("session", session), ("stage", "publish"))] == pytest.approx(0.03)
    assert read[f"{name}_bucket", (("le", "0.02"), ("session", session), ("stage", "publish"))] == 0
    assert read[f"{name}_bucket", (("le", "0.05"), ("session", session), ("stage", "publish"))] == 1
    assert (f"{name}_sum", (("session", session), ("stage", "window"))) not in read


def test_the_age_of_a_stream_is_that_of_the_newest_event_while_the_session_runs() -> None:
    """What the event does not know is not told, and a session that has stopped has no age."""
    running, good = ["abc"], event()
    metrics, name = Metrics(lambda: reading(*running)), "clmer_stream_age_seconds"
    of_eeg, of_face = ((("session", "abc"), ("source", source)) for source in ("eeg", "face"))
    face = good.modalities.face.model_copy(update={"age_ms": 40.0})
    metrics.message(good.model_copy(update={"modalities": good.modalities.model_copy(update={"face": face})}))
    assert (samples(metrics)[name, of_eeg], samples(metrics)[name, of_face]) == (0.25, 0.04)
    metrics.message(good)
    assert samples(metrics)[name, of_eeg] == 0.25
    assert (name, of_face) not in samples(metrics)
    running.clear()
    assert (name, of_eeg) not in samples(metrics)


def test_a_session_that_was_removed_is_forgotten() -> None:
    """Else every name that was ever given would be told for as long as the service runs."""
    there = {"abc": (), "other": ()}
    metrics, good = Metrics(lambda: replace(reading("abc", "other"), streams=there)), event()
    for session in ("abc", "other"):
        metrics.message(good.model_copy(update={"session": session}))
    told = {dict(labels).get("session") for _, labels in samples(metrics)}
    assert {"abc", "other"} <= told
    del there["abc"]
    assert {dict(labels).get("session") for _, labels in samples(metrics)} == told - {"abc"}


METRICS = (
    "clmer_window_latency_seconds",
    "clmer_predictions",
    "clmer_prediction_reasons",
    "clmer_stream_live",
    "clmer_stream_rate_hz",
    "clmer_stream_age_seconds",
    "clmer_stream_gaps",
    "clmer_stream_samples_lost",
    "clmer_stream_samples_lost_estimated",
    "clmer_ws_clients",
    "clmer_ws_dropped",
    "clmer_ws_evicted",
    "clmer_loop_lag_seconds",
    "clmer_gpu_memory_bytes",
)
"""Every family; a counter's samples end with ``_total``."""


def test_every_metric_of_the_manual_is_there_and_no_other() -> None:
    """docs/operations.md names them; on a GPU, the program's memory, too."""
    metrics = Metrics(lambda: replace(reading(), gpu_memory_bytes=1))
    families = {family.name: family.type for family in text_string_to_metric_families(metrics.render().decode())}
    assert sorted(families) == sorted(METRICS)
    manual = (ROOT / "docs" / "operations.md").read_text()
    for name, kind in families.items():
        full = f"{name}_total" if kind == "counter" else name
        assert full in manual or f"`_{full.removeprefix('clmer_stream_')}`" in manual, full


def test_clients_and_streams_are_read_when_they_are_asked_for() -> None:
    read = samples(Metrics(reading))
    stream = (("session", "lab"), ("source", STATUS.source))
    assert read["clmer_ws_clients", ()] == 2
    assert read["clmer_ws_dropped_total", ()] == 3
    assert read["clmer_ws_evicted_total", ()] == 1
    assert read["clmer_loop_lag_seconds", ()] == 0.25
    assert read["clmer_stream_live", stream] == float(STATUS.state == "live")
    assert read["clmer_stream_gaps_total", stream] == STATUS.n_gaps
    assert ("clmer_gpu_memory_bytes", ()) not in read


def test_a_loop_that_is_held_up_shows_its_lag() -> None:
    async def held_up() -> float:
        lag = LoopLag()
        async with run_in_background(lag.run()):
            await asyncio.sleep(0)  # the watch has begun
            time.sleep(0.8)  # nothing else may run
            while not lag.seconds:
                await asyncio.sleep(0.01)
        return lag.seconds

    assert asyncio.run(held_up()) >= 0.2


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer GEHEIM",
        "subprotocols clmer.v1.json, clmer.bearer.GEHEIM, other",
        "GET /ws?token=GEHEIM&max_hz=1",
        'received {"type": "hello", "token": "GEHEIM"}',
        "camera rtsp://user:GEHEIM@10.0.0.7/live",
    ],
)
def test_no_token_or_password_reaches_the_log(text: str) -> None:
    assert "GEHEIM" not in without_secrets(text)
    assert "***" in without_secrets(text)


def test_a_log_in_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        set_up_logging("info", "json")
        try:
            raise ValueError("two\nlines of token=no secret, ?token=GEHEIM")
        except ValueError:
            logging.getLogger("clmer").exception("session %s has failed", "lab", extra={OF_SESSION: "lab"})
        logging.getLogger("uvicorn").warning("of no session")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    line, other = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["session"], "session" in json.loads(other)) == ("lab", False)
    assert (told["level"], told["logger"], told["message"]) == ("error", "clmer", "session lab has failed")
    assert "ValueError: two\nlines" in told["traceback"]
    assert "GEHEIM" not in line


def test_printed_settings_are_a_file_that_gives_the_same_settings(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--port", "0", "--speed", "max", "--replay", 'a "b".xdf', "--purpose", "research", "--loop"]
    assert serve_main([*given, "--print-config"]) == 0
    printed = capsys.readouterr().out
    settings = load_settings({"port": "0", "speed": "max", "replay": 'a "b".xdf', "purpose": "research", "loop": True})
    (empty_folder / "clmer.toml").write_text(printed)
    assert load_settings({}) == settings
    assert tomllib.loads(printed)["speed"] == "max"
    assert math.isinf(settings.speed)
    assert "# model is not set" in printed


def test_settings_are_checked_without_serving(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_main(["--port", "0", "--replay", str(RECORDING), "--check-config"]) == 0
    assert "the settings hold: clmer-va4 can be served, from replay of" in capsys.readouterr().out
    assert serve_main(["--port", "0", "--replay", "nowhere.xdf", "--check-config"]) == SettingsError.exit_code
    assert "nowhere.xdf" in capsys.readouterr().err


def test_a_certificate_or_a_folder_that_cannot_be_used_does_not_pass_the_check(
    empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it leave a trace: the folder of the recordings is made when there is something to record."""
    check = ["--port", "0", "--replay", str(RECORDING), "--check-config"]
    (empty_folder / "notes.txt").write_text("")
    for options, said in (
        (["--tls-cert", "notes.txt", "--tls-key", "notes.txt"], "a certificate in PEM"),
        (["--record", "notes.txt"], "notes.txt, which is no folder"),
        (["--record", "notes.txt/below"], "no folder"),
        (["--record", "x" * 300 + "/below"], "File name too long"),  # not even asked about, as below a closed folder
    ):
        assert serve_main([*check, *options]) == SettingsError.exit_code
        assert said in capsys.readouterr().err
    assert serve_main([*check, "--record", "new/recordings"]) == 0
    assert [path.name for path in empty_folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("purpose", ["workplace", "education"])
def test_a_forbidden_purpose_is_refused_with_its_law(empty_folder: Path, purpose: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings({"purpose": purpose})
    assert "Article 5(1)(f)" in refused.value.expected


def test_systemd_hears_that_the_service_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not notify(READY)  # nobody listens: no error either
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        assert notify(READY)
        assert manager.recv(64) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify(READY)


def test_the_unit_of_systemd_agrees_with_the_program() -> None:
    """It waits for READY=1, leaves mistakes in the settings alone, and waits longer than the program takes to end."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]  # systemd's names are written in both cases
    unit.read_string((ROOT / "examples" / "systemd" / "clmer.service").read_text())
    service = unit["Service"]
    assert (service["Type"], READY) == ("notify", "READY=1")
    assert service["Restart"] == "on-failure"
    assert int(service["RestartPreventExitStatus"]) == SettingsError.exit_code
    longest_s = GOODBYE_TIMEOUT_S + THREADS_TIMEOUT_S + SINK_TIMEOUT_S + CLOSE_TIMEOUT_S + CHILD_TIMEOUT_S
    assert longest_s < SHUTDOWN_S < float(service["TimeoutStopSec"])
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
