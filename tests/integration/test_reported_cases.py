"""Claims on small recordings of situations that people report, by the commands that people use.

What the sample clock makes of the late ones is in ``tests/streaming/pipeline/test_lateness.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES


@pytest.fixture
def cases(sample_data: Path) -> Path:
    """The folder of the recordings."""
    return sample_data / "cases"


Capture = pytest.CaptureFixture[str]


class Predicted:
    """What ``clmer predict`` made of a recording: exit code, words, events."""

    def __init__(self, path: Path, out: Path, capsys: Capture, *options: str) -> None:
        self.code = main(["predict", str(path), "--out", str(out), *options])
        self.said = capsys.readouterr().err
        self.events = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        self.n_valid = sum(event["valid"] for event in self.events)


def inspected(path: Path, capsys: Capture) -> str:
    """Return the text that ``clmer inspect`` prints."""
    assert main(["inspect", str(path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("one_chunk_of_32_is_60ms_late", 35),
        ("hiccup_400ms_sample_by_sample", 35),
        ("ble_chunk32_expdelay_100ms", 55),
    ],
)
def test_late_samples_are_not_lost(cases: Path, tmp_path: Path, capsys: Capture, name: str, least: int) -> None:
    """All the windows that are possible, no gap, and no word of a loss."""
    made = Predicted(cases / f"{name}.xdf", tmp_path / "out.jsonl", capsys)
    assert (made.code, made.n_valid >= least) == (0, True)
    assert "lost" not in made.said
    told = inspected(cases / f"{name}.xdf", capsys)
    assert "128 / 128.00" in told
    assert "lost" not in told


def test_a_wrong_rate_in_chunks_of_50_is_told_and_mended(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """Declares 250 Hz, runs at 125: EEG at the true rate, in the same words from predict and inspect."""
    path = cases / "nominal250_true125_chunk50.xdf"
    made = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert (made.code, made.n_valid >= 54) == (0, True)
    assert "declares 250 Hz, runs at 125 Hz" in made.said
    told = inspected(path, capsys)
    assert "250 / 125.00" in told
    assert "declares 250 Hz, runs at 125 Hz" in told
    said = Predicted(path, tmp_path / "said.jsonl", capsys, "--eeg-rate", "125")
    assert said.n_valid >= 54
    assert "declares 250 Hz, taken as 125 Hz (--eeg-rate)" in said.said


def test_another_clock_is_told(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """Three streams in Unix time: said by predict and inspect, without a drift of half a century."""
    path = cases / "unix_three_streams_one_host.xdf"
    made = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert (made.code, made.n_valid >= 54) == (0, True)
    assert "'EEG', 'ACC', 'Mk' are Unix time, not LSL time" in made.said
    assert "'EEG', 'ACC', 'Mk' are Unix time, not LSL time" in inspected(path, capsys)


def test_16_labels_for_14_channels_are_refused(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """Nobody can know which is which, unless the numbers are said."""
    path = cases / "labels_16_of_14_shifted.xdf"
    refused = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert (refused.code, refused.events) == (2, [])
    assert "a label for each of the 14 channels" in refused.said
    assert "found:    16 labels" in refused.said
    assert "16 labels for 14 channels" in inspected(path, capsys)
    numbers = ",".join(f"{name}={k}" for k, name in enumerate(EPOC_CH_NAMES))
    mended = Predicted(path, tmp_path / "mended.jsonl", capsys, "--eeg-map", numbers)
    assert (mended.code, mended.n_valid >= 35) == (0, True)


def test_a_stream_of_another_type_works_by_its_name(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """Type "signal": not guessed, but named by inspect, and taken when it is asked for."""
    path = cases / "type_signal_openvibe.xdf"
    refused = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert refused.code == 2
    assert "--eeg NAME" in refused.said
    assert "it has to be named, --eeg openvibeSignal" in inspected(path, capsys)
    made = Predicted(path, tmp_path / "named.jsonl", capsys, "--eeg", "openvibeSignal")
    assert (made.code, made.n_valid >= 54) == (0, True)


def test_both_people_of_a_recording_are_reachable(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """A choice is demanded, with the list; either name gives that person's predictions."""
    path = cases / "two_participants.xdf"
    refused = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert refused.code == 2
    assert "--eeg EEG-P1 or --eeg EEG-P2" in refused.said
    people = [Predicted(path, tmp_path / f"{n}.jsonl", capsys, "--eeg", f"EEG-P{n}") for n in (1, 2)]
    assert [(made.code, made.n_valid >= 35) for made in people] == [(0, True)] * 2
    probs = [[event["probs"] for event in made.events if event["valid"]] for made in people]
    assert probs[0] != probs[1]


def test_values_in_volts_name_the_unit(cases: Path, tmp_path: Path, capsys: Capture) -> None:
    """Every channel seems flat, and the cause is said with its mend, which works."""
    path = cases / "volts_declared_microvolts.xdf"
    made = Predicted(path, tmp_path / "out.jsonl", capsys)
    assert made.code == 3
    assert "1,000,000 times too small for the unit 'microvolts'" in made.said
    assert "--eeg-unit V" in made.said
    mended = Predicted(path, tmp_path / "mended.jsonl", capsys, "--eeg-unit", "V")
    assert (mended.code, mended.n_valid >= 54) == (0, True)
    assert "--eeg-unit" not in mended.said
