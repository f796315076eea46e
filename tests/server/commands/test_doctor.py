"""Claims about ``clmer doctor``: what is missing is found, and said with what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clmer_model.artifact import find_artifact
from clmer_server.cli import main
from clmer_server.commands import doctor as doctor_module
from clmer_server.commands.doctor import (
    check_camera,
    check_clock,
    check_disk,
    check_eeg,
    check_gpu,
    check_model,
    check_network,
    check_port,
    check_python,
    duration_text,
    find_model,
    frame_rate,
)
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.loopback import Loopback, measure_loopback
from tests.conftest import has_gpu
from tests.support.face_pictures import swaying
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera


def doctor(folder: Path, *options: str | Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command as people do; return its exit code and each check by its name."""
    code = "import sys; from clmer_server.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "doctor", "--json", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stderr == ""
    checks: list[dict[str, Any]] = json.loads(done.stdout)["checks"]
    return done.returncode, {check["name"]: check for check in checks}


@pytest.mark.slow
@pytest.mark.lsl
def test_a_computer_with_a_headset_is_well(tmp_path: Path) -> None:
    """Nothing to mend: every check is there, and each is ok."""
    with headset("Epoc"):
        code, checks = doctor(tmp_path, "--camera", "none", "--port", "0", "--device", "cpu")
    assert code == 0
    assert set(checks) == {
        "python", "disk", "port", "open files", "device", "model", "lsl", "network", "clock", "eeg"
    }  # fmt: skip
    assert checks["eeg"]["found"].startswith("Epoc on ")
    well = {name for name, check in checks.items() if check["state"] == "ok"}
    assert well >= {"python", "port", "device", "model", "lsl", "eeg"}
    assert all(bool(check["mend"]) == (check["state"] != "ok") for check in checks.values())


def test_what_was_asked_for_and_is_missing_fails(tmp_path: Path) -> None:
    """Each by itself: the others are still looked at."""
    options = ("--model", "none.ts", "--camera", "none", "--lsl-config", "none.cfg", "--port", "0")
    code, checks = doctor(tmp_path, *options)
    assert code == 1
    assert [checks[name]["state"] for name in ("model", "lsl", "port")] == ["fail", "fail", "ok"]
    assert "none.ts" in checks["model"]["found"]
    assert "none.cfg" in checks["lsl"]["found"]
    assert "eeg" not in checks


@pytest.mark.slow
def test_a_platform_without_the_lsl_library_is_told_where_to_get_it(tmp_path: Path) -> None:
    """There pylsl cannot be imported; everything else is still looked at."""
    (tmp_path / "pylsl.py").write_text('raise RuntimeError("LSL binary library file was not found.")')
    code, checks = doctor(tmp_path, "--camera", "none", "--port", "0")
    assert code == 1
    assert checks["lsl"]["state"] == "fail"
    assert "mne-lsl" in checks["lsl"]["mend"]
    assert checks["model"]["state"] != "fail"


@pytest.mark.lsl
def test_every_line_tells_state_name_and_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each; what to do stands below."""
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--camera", "none", "--port", "0", "--model", "none.ts"]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("fail     model"))
    assert lines[at + 1].strip() == "-> check the path"


def test_a_busy_port_is_found() -> None:
    """Perhaps another service runs already."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check = check_port("127.0.0.1", taken.getsockname()[1])
    assert check.state == "fail"
    assert "--port" in check.mend


def test_the_disk_is_measured_in_minutes_of_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is still to be made is looked at where it will be."""
    assert check_disk(tmp_path / "not" / "yet").found.endswith(f"of recording in {tmp_path}")
    free = check_disk(tmp_path)
    monkeypatch.setattr(doctor_module, "_RECORD_BYTES_PER_S", 1e18)
    assert (free.state, check_disk(tmp_path).state) == ("ok", "fail")
    assert [duration_text(minutes) for minutes in (3.2, 150.0)] == ["3 minutes", "2 hours"]


def test_a_folder_that_cannot_be_written_to_fails() -> None:
    """Not even the superuser can make a file there."""
    assert check_disk(Path("/proc")).state == "fail"


def test_python_and_its_packages_are_told() -> None:
    """Versions, for reports of faults."""
    check = check_python()
    assert check.state == "ok"
    assert "mediapipe 0.10.21" in check.found


@pytest.mark.parametrize(
    ("loopback", "address", "state", "words"),
    [
        (Loopback(0.002, 0.0), "192.0.2.7", "ok", "192.0.2.7"),
        (Loopback(0.51, 0.0), "192.0.2.7", "warning", "not by multicast"),
        (Loopback(0.002, 0.0), "", "warning", "no way to other computers"),
        (Loopback(0.002, 0.0), "127.0.0.1", "warning", "no way to other computers"),
        (Loopback(None), "192.0.2.7", "fail", "was not found"),
    ],
)
def test_the_network_is_judged_by_what_was_found(loopback: Loopback, address: str, state: str, words: str) -> None:
    """What will not work is named."""
    check = check_network(loopback, address)
    assert check.state == state
    assert words in check.found
    assert bool(check.mend) == (state != "ok")


@pytest.mark.lsl
def test_a_stream_of_this_computer_is_found_and_timed() -> None:
    """By another process, over real sockets; two clocks that are one differ by less than a millisecond."""
    loopback = measure_loopback()
    assert loopback.found_s is not None
    assert loopback.found_s < 2.0
    assert abs(loopback.correction_s) < 1e-3


def test_a_correction_that_is_off_is_a_warning() -> None:
    """So is one that could not be measured."""
    assert check_clock(Loopback(0.002, 2e-3)).state == "warning"
    assert "could not be measured" in check_clock(Loopback(0.002)).found


@pytest.mark.lsl
def test_two_headsets_are_a_warning_that_names_them() -> None:
    """The service would refuse to choose."""
    with headset("left", "L"), headset("right", "R"):
        check = check_eeg(PreprocessConfig())
    assert check.state == "warning"
    assert "left, right" in check.found


@pytest.mark.lsl
def test_without_eeg_nothing_fails() -> None:
    """It may come later."""
    assert check_eeg(PreprocessConfig()).state == "warning"


@pytest.mark.camera
def test_a_camera_that_is_not_there_fails_where_it_was_asked_for() -> None:
    """A session without a face is one that works."""
    with ThreadPoolExecutor() as pool:  # side by side: each waits for its face process
        asked, not_asked = pool.map(lambda requested: check_camera("/dev/video77", requested=requested), (True, False))
    assert (asked.state, not_asked.state) == ("fail", "warning")
    assert "/dev/video77" in asked.found
    assert "/dev/video77" in not_asked.found


@pytest.mark.camera
def test_a_camera_is_looked_through() -> None:
    """Opened by the face process: its frames are counted, and the face is seen."""
    with network_camera(swaying(200)) as camera:
        check = check_camera(camera.url, requested=True)
    assert check.state == "ok"
    assert check.found.endswith("with a face")


def test_frames_are_counted_by_their_stamps() -> None:
    """Five within a second are four a second; one is no rate."""
    assert frame_rate([0.0, 0.25, 0.5, 0.75, 1.0]) == 4.0
    assert frame_rate([1.0]) == 0.0


@pytest.mark.parametrize("device", ["cuda:77", "tpu"])
def test_a_device_that_is_not_there_fails(device: str) -> None:
    """With what to do about it."""
    check = check_gpu(device)
    assert (check.state, bool(check.mend)) == ("fail", True)


@pytest.mark.gpu
def test_a_gpu_is_named() -> None:
    """So that one sees which of several it is."""
    assert has_gpu()
    assert check_gpu("cuda").found.endswith("(cuda:0)")


def test_the_shipped_model_answers() -> None:
    """Its hash, its reference output, and how long a prediction takes."""
    check = check_model(find_artifact(), "cpu")
    assert check.state in ("ok", "warning")  # slow on a busy machine
    assert "reference output" in check.found
    assert not isinstance(find_model(None, None), type(check))
