"""Claims about the end of ``clmer predict``: what it says, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import eeg_like, stamps


def record(path: Path, x: FloatArray, sfreq: float = 128.0, true_hz: float | None = None, unit: str = "uV") -> Path:
    """Write a recording with one stream of EEG."""
    with XdfWriter(path) as xdf:
        spec = XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, sfreq, units=(unit,) * 14, source_id="E-1")
        xdf.write_samples(xdf.add_stream(spec), stamps(x.shape[1], true_hz or sfreq), x)
    return path


def predicted(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it says."""
    code = main(["predict", str(path), "--out", str(path.with_suffix(".jsonl")), *options])
    return code, capsys.readouterr().err


def test_a_recording_with_predictions_ends_with_their_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and nothing odd to tell."""
    path = record(tmp_path / "a.xdf", eeg_like(128 * 8))
    code, said = predicted(path, capsys)
    assert code == 0
    assert "valid; reasons: face_missing" in said
    assert "eeg 'EPOC'" not in said
    events = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert sum(event["valid"] for event in events) >= 10


def test_a_rate_too_low_is_told_and_nothing_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Declared 128 Hz, runs at 49.3 Hz: the cause stands at the end, and the exit code is 3."""
    code, said = predicted(record(tmp_path / "a.xdf", eeg_like(49 * 20), true_hz=49.3), capsys)
    assert code == 3
    assert "eeg 'EPOC': runs at 49.3 Hz, but the model needs a stream above 90 Hz" in said
    assert said.rstrip().endswith("nothing was predicted")


def test_a_recording_shorter_than_a_window_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a second of EEG: no valid window, and no word of ``reasons: none``."""
    code, said = predicted(record(tmp_path / "a.xdf", eeg_like(40)), capsys)
    assert code == 3
    assert "none" not in said
    assert "nothing was predicted" in said


@pytest.mark.parametrize(
    ("factor", "unit", "mend"),
    [(1e-6, "microvolts", "V"), (1e-3, "uV", "mV"), (1e-6, "mV", "V"), (1.0, "V", "uV"), (1.0, "mV", "uV")],
)
def test_a_unit_wrong_by_a_power_of_ten_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, unit: str, mend: str
) -> None:
    """Values in another unit than declared are the cause of flat or noisy channels, and the option that mends it."""
    path = record(tmp_path / "a.xdf", 1.5 * factor * (eeg_like(128 * 8) - 4200.0), unit=unit)
    code, said = predicted(path, capsys)
    assert f"say --eeg-unit {mend} if they are {mend}" in said
    assert code == 3
    code, said = predicted(path, capsys, "--eeg-unit", mend)
    assert (code, "--eeg-unit" in said) == (0, False)


def test_channels_that_are_dead_are_no_wrong_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros in every channel: nothing says that the unit is wrong."""
    code, said = predicted(record(tmp_path / "a.xdf", np.zeros((14, 128 * 8))), capsys)
    assert code == 3
    assert "--eeg-unit" not in said


def test_lost_samples_are_told_by_how_they_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a packet counter the number is an estimate, and says so."""
    path, x, t = tmp_path / "a.xdf", eeg_like(128 * 20), stamps(128 * 20)
    keep = (t < 110.0) | (t >= 111.0)
    with XdfWriter(path) as xdf:
        spec = XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0, units=("uV",) * 14)
        xdf.write_samples(xdf.add_stream(spec), t[keep], x[:, keep])
    code, said = predicted(path, capsys)
    assert code == 0
    assert "about 128 samples lost, by the stamps" in said
