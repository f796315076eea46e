"""``clmer inspect``: what is in a recording and what is wrong with it, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.errors import ClmerError
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

RECORDINGS = (
    "clock_resets.xdf",
    "eeg_header_no_samples.xdf",
    "empty_streams.xdf",
    "hand_motion_4class_8ch_250Hz.xdf",
    "minimal.xdf",
    "muse_5ch_256Hz_4streams_P001.xdf",
    "real16_openbci_125Hz_counter.xdf",
    "real16_truncated_midchunk_nofooter.xdf",
    "real8_openbci_250Hz_markers_otherhost.xdf",
    "twochannel_string_marker.xdf",
    "synthetic/corrupt_400B_in_middle.xdf",
    "synthetic/emotivlike_2hosts.xdf",
    "synthetic/emotivlike_killed.xdf",
)


def inspected(capsys: pytest.CaptureFixture[str], *paths: Path) -> list[dict[str, Any]]:
    """What ``--json`` says of each file."""
    capsys.readouterr()
    assert main(["inspect", "--json", *map(str, paths)]) == 0
    files: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["files"]
    return files


def codes(stream: dict[str, Any]) -> set[str]:
    return {fault["code"] for fault in stream["faults"]}


def session(path: Path, *, close: bool = True) -> Path:
    """Thirty seconds of EPOC EEG with a gap and clock offsets, markers, and a stream that is faulty throughout."""
    t = 100.0 + np.arange(3840) / 128
    t[1280:] += 2.0
    xdf = XdfWriter(path)
    eeg = xdf.add_stream(
        XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0, units=("uV",) * 14, source_id="e", hostname="lab")
    )
    xdf.write_samples(eeg, t, np.zeros((14, t.size)))
    for time in range(100, 130, 5):
        xdf.write_offset(eeg, float(time), -40.0 + 20e-6 * time)
    words = xdf.add_stream(XdfStreamSpec("Trials", "Markers", ("",), channel_format="string"))
    xdf.write_samples(words, [101.0, 102.0], ["a", "b"])
    odd = xdf.add_stream(XdfStreamSpec("odd", "EEG", ("Cz", ""), 100.0, units=("mmHg", "mmHg")))
    burst = 1.7e9 + np.repeat(np.arange(0, 40) / 4, 20) - np.tile([0.0] * 19 + [0.01], 40)
    xdf.write_samples(odd, burst, np.zeros((2, burst.size)))
    xdf.add_stream(XdfStreamSpec("silent", "PPG", ("x",), 64.0))
    xdf.boundary()
    unclosed = path.read_bytes()
    xdf.close()
    if not close:
        path.write_bytes(unclosed)
    return path


def test_every_figure_of_a_stream_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, rates, span, gap, offsets, drift and use, under the names that the command's page promises."""
    (file,) = inspected(capsys, session(tmp_path / "s.xdf"))
    eeg = file["streams"][0]
    assert (eeg["id"], eeg["name"], eeg["type"], eeg["source_id"], eeg["hostname"]) == (1, "EPOC", "EEG", "e", "lab")
    assert (eeg["channels"], eeg["labels"], eeg["unit"], eeg["format"]) == (14, list(EPOC_CH_NAMES), "uV", "float32")
    assert eeg["nominal_rate_hz"] == 128.0
    assert eeg["measured_rate_hz"] == pytest.approx(128.0, rel=1e-3)
    assert (eeg["samples"], eeg["gaps"]["number"], eeg["gaps"]["short_losses"]) == (3840, 1, 0)
    assert eeg["losses"] == {"counted": None, "estimated": 256}
    assert eeg["gaps"]["longest_s"] == pytest.approx(2.0 + 1 / 128, abs=1e-3)
    assert eeg["first_s"] == pytest.approx(60.002)
    assert eeg["span_s"] == pytest.approx(eeg["last_s"] - eeg["first_s"]) == pytest.approx(31.993, abs=1e-2)
    assert (eeg["clock"]["offsets"], eeg["clock"]["outliers"], eeg["clock"]["restarts"]) == (6, 0, 0)
    assert eeg["clock"]["drift_ppm"] == pytest.approx(20.0)
    assert (eeg["faults"], eeg["model"]) == ([], {"usable": True, "why": ""})
    assert file["bytes"] == (tmp_path / "s.xdf").stat().st_size
    assert file["readable_share"] == 1.0
    (warning,) = file["warnings"]
    assert warning.startswith("The stamps of 'odd' are Unix time, not LSL time; nothing in the file tells")


def test_every_fault_has_its_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One stream with everything wrong; one without samples; markers, of which nothing is asked."""
    (file,) = inspected(capsys, session(tmp_path / "s.xdf"))
    _, words, odd, silent = file["streams"]
    assert codes(odd) == {
        "backward_steps", "staircase", "wrong_rate", "no_labels", "unit_unknown", "unix_stamps", "no_clock_offsets",
    }  # fmt: skip
    assert codes(silent) == {"no_samples", "no_clock_offsets"}
    assert codes(words) == {"no_clock_offsets"}
    assert (words["model"], silent["model"]) == (None, None)
    assert odd["model"]["usable"] is False
    assert "--eeg-map" in odd["model"]["why"]


def test_a_recording_that_was_not_closed_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No footers: each stream says it; nothing else changes."""
    (file,) = inspected(capsys, session(tmp_path / "killed.xdf", close=False))
    assert all("no_footer" in codes(stream) for stream in file["streams"])
    assert file["readable_share"] == 1.0


def test_damage_is_said_of_its_stream_and_in_the_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes overwritten within the EEG's chunk: that stream is damaged, its samples are fewer than counted."""
    path = session(tmp_path / "s.xdf")
    data = bytearray(path.read_bytes())
    data[100_000:100_400] = b"\xaa" * 400
    path.write_bytes(data)
    (file,) = inspected(capsys, path)
    assert {"damaged_chunks", "footer_disagrees"} <= codes(file["streams"][0])
    assert not any("damaged_chunks" in codes(stream) for stream in file["streams"][1:])
    assert 0 < file["readable_share"] < 0.5
    assert any("damaged in 1 place" in warning for warning in file["warnings"])


def test_people_get_a_table_and_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names with brackets come as they are, each stream has its line, and the use for the model is said."""
    path = session(tmp_path / "s.xdf")
    with XdfWriter(tmp_path / "brackets.xdf") as xdf:
        xdf.add_stream(XdfStreamSpec("[red]cap[/red]", "EEG", ("Cz",), 10.0))
    assert main(["inspect", str(path), str(tmp_path / "brackets.xdf")]) == 0
    said = capsys.readouterr().out
    assert "128 / 128.00" in said
    assert "1, longest 2.01 s" in said
    assert "1 'EPOC': the model can use it." in said
    assert "1 '[red]cap[/red]': the model cannot use it: it has no samples." in said
    assert "100 % readable" in said


def test_a_file_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error is in the object and on stderr, in three lines; exit code 0, since something was readable."""
    path, none = session(tmp_path / "s.xdf"), tmp_path / "none.xdf"
    assert main(["inspect", "--json", str(none), str(path)]) == 0
    said = capsys.readouterr()
    first, second = json.loads(said.out)["files"]
    assert first["file"] == str(none)
    assert set(first["error"]) == {"expected", "found", "to_do"}
    assert second["streams"]
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["expected", "found", "to do"]


def test_nothing_readable_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the magic, or nothing at all: three lines and exit code 2."""
    (tmp_path / "magic.xdf").write_bytes(b"XDF:")
    (tmp_path / "empty.xdf").touch()
    for name in ("magic.xdf", "empty.xdf", "none.xdf"):
        assert main(["inspect", str(tmp_path / name)]) == ClmerError.exit_code
        assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["expected", "found", "to do"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_sample_recording_is_inspected(sample_data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON and as a table; a stream has a fault that its note names."""
    path = sample_data / "xdf" / name
    (file,) = inspected(capsys, path)
    found = set.union(*(codes(stream) for stream in file["streams"]))
    assert NOTED.get(name, set()) <= found
    assert 0.9 < file["readable_share"] <= 1.0
    assert main(["inspect", str(path)]) == 0


NOTED = {
    "clock_resets.xdf": {"clock_restarted", "wrong_rate"},
    "eeg_header_no_samples.xdf": {"no_samples", "no_labels"},
    "empty_streams.xdf": {"no_samples"},
    "hand_motion_4class_8ch_250Hz.xdf": {"backward_steps", "staircase", "no_labels", "unit_unknown"},
    "muse_5ch_256Hz_4streams_P001.xdf": {"no_samples"},
    "real16_openbci_125Hz_counter.xdf": {"backward_steps", "staircase", "no_labels", "unit_unknown"},
    "real16_truncated_midchunk_nofooter.xdf": {"no_footer", "no_labels"},
    "real8_openbci_250Hz_markers_otherhost.xdf": {"backward_steps", "no_labels"},
    "synthetic/corrupt_400B_in_middle.xdf": {"damaged_chunks", "footer_disagrees"},
    "synthetic/emotivlike_killed.xdf": {"no_footer"},
}
"""What the data's own note says is wrong."""


def test_every_recording_of_the_sample_data_is_listed(sample_data: Path) -> None:
    """A file that comes later is inspected, too, or this fails; the two that hold nothing are refused elsewhere."""
    found = {path.relative_to(sample_data / "xdf").as_posix() for path in (sample_data / "xdf").rglob("*.xdf")}
    assert found == {*RECORDINGS, "synthetic/empty.xdf", "synthetic/magic_only.xdf"}


def test_figures_of_a_recording_whose_truth_is_known(sample_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """127.94 Hz true, one dropout of 1.5 s, lost chunks of 1 %, a clock 5000 s behind; the model can use it."""
    (file,) = inspected(capsys, sample_data / "xdf" / "synthetic" / "emotivlike_2hosts.xdf")
    eeg = next(stream for stream in file["streams"] if stream["type"] == "EEG")
    assert eeg["measured_rate_hz"] == pytest.approx(127.94, abs=0.005)
    assert eeg["gaps"]["number"] == 1
    assert eeg["losses"] == {"counted": 220, "estimated": 0}
    assert eeg["gaps"]["longest_s"] == pytest.approx(1.5, abs=0.02)
    assert eeg["gaps"]["short_losses"] > 0
    assert eeg["clock"]["offset_s"] == pytest.approx(-5000.0, abs=0.01)
    assert eeg["model"]["usable"]
