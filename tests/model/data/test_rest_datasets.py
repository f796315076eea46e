"""Data sets whose EEG is measured against rest: from the manifest's marker to windows of one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clmer_model.data.store import open_store
from clmer_server.cli import main
from clmer_streaming.pipeline.baseline import REST_SCALE_UV
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import EEG_INFO, eeg_like, stamps

SPECS = (
    XdfStreamSpec("Headset", "EEG", EEG_INFO.ch_names, 128.0, units=("microvolts",) * 14),
    XdfStreamSpec("Markers", "Markers", ("label",), 0.0, channel_format="string"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, one with ten times the EEG of the other, who rest from 2 s on and then see two clips."""
    folder = tmp_path_factory.mktemp("lab")
    for name, gain in (("small", 1.0), ("large", 10.0)):
        with XdfWriter(folder / f"{name}.xdf") as xdf:
            eeg, markers = (xdf.add_stream(spec) for spec in SPECS)
            t = stamps(90 * 128)
            xdf.write_samples(eeg, t, gain * (eeg_like(t.size) - 4200.0))
            said = {102.0: "rest", 170.0: "clip", 180.0: "end", 181.0: "clip", 189.0: "end"}
            xdf.write_samples(markers, np.array(list(said)), np.array(list(said.values()), dtype=object))
    rows = [f"{name}.xdf,clip,end,{label}\n" for name in ("small", "large") for label in ("calm", "moved")]
    (folder / "trials.csv").write_text("file,start,stop,label\n" + "".join(rows))
    return folder


def prepare(lab: Path, out: Path, rest: str, calibration: str = "rest") -> int:
    rows = [f"{name}.xdf,{name},{rest},60\n" for name in ("small", "large")]
    (lab / "manifest.csv").write_text("file,participant,rest_marker,rest_s\n" + "".join(rows))
    words = ["prepare", "--dataset", "sessions", "--root", str(lab), "--out", str(out)]
    return main([*words, "--modalities", "eeg,aus", "--eeg-calibration", calibration])


def sizes(out: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the standard deviation of each window, in order of size."""
    eeg = open_store(out).examples.series["eeg"]
    return np.sort(np.asarray(eeg, np.float64).std(axis=(1, 2)))


def test_against_rest_two_people_have_eeg_of_one_size(lab: Path, tmp_path: Path) -> None:
    """Without it, one of them has ten times the EEG of the other in every window."""
    assert prepare(lab, tmp_path / "plain", "rest", "none") == 0
    assert prepare(lab, tmp_path / "rest", "rest") == 0
    plain, rest = sizes(tmp_path / "plain"), sizes(tmp_path / "rest")
    assert plain[-1] / plain[0] > 8.0
    assert np.allclose(rest, REST_SCALE_UV, rtol=0.2)
    assert open_store(tmp_path / "rest").preprocess.eeg_calibration == "rest"


def test_without_a_rest_the_windows_are_left_out_and_counted(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that was not measured against rest is mixed in."""
    assert prepare(lab, tmp_path / "none", "") == 2
    assert "window" in capsys.readouterr().err


def test_a_marker_that_is_not_there_is_named(lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the file and the row of the manifest."""
    assert prepare(lab, tmp_path / "none", "resting") == 2
    said = capsys.readouterr().err
    assert "no marker 'resting' (manifest.csv, row 2)" in said
    assert "60 s of rest in small.xdf" in said
