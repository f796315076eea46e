"""Recordings: what is read from sessions of clmer, and from files of other recorders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import clmer
from clmer_streaming.xdf.reader import read_xdf


def test_a_file_of_another_recorder(lab: Path) -> None:
    """Its signals are those of the file, its markers have their words, and no predictions are stored in it."""
    recording = clmer.Recording.open(lab / "session.xdf")
    file = {stream.name: stream for stream in read_xdf(lab / "session.xdf").streams}
    eeg = file["EmotivDataStream-EEG"]
    assert recording.eeg is not None
    assert np.array_equal(recording.eeg.x, eeg.x)
    assert np.array_equal(recording.eeg.t, eeg.t_synced)
    assert (recording.eeg.ch_names, recording.eeg.sfreq, recording.eeg.unit) == (eeg.ch_names, 128.0, "microvolts")
    assert [stream.kind for stream in recording.streams] == ["eeg", "face", "markers"]
    assert len(recording.faces) == file["CLMER-Face"].t.size
    assert [face.t for face in recording.faces] == file["CLMER-Face"].t_synced.tolist()
    assert [marker.label for marker in recording.markers] == [row[0] for row in file["CLMER-Markers"].strings]
    assert recording.duration_s == pytest.approx(60, abs=0.1)
    assert len(recording.predictions) == 0
    assert recording.header == {}


def test_a_session_of_clmer(lab: Path, model: clmer.Model) -> None:
    """It has what was replayed into it, the predictions that clients got, and a first record."""
    original = clmer.Recording.open(lab / "session.xdf")
    recording = clmer.Recording.open(lab / "recordings" / "x" / "session.xdf")
    assert recording.eeg is not None
    assert original.eeg is not None
    assert np.array_equal(recording.eeg.x, original.eeg.x)
    assert np.array_equal(recording.eeg.t, original.eeg.t)
    assert [face.landmarks.tobytes() for face in recording.faces] == [f.landmarks.tobytes() for f in original.faces]
    assert [(marker.t, marker.label) for marker in recording.markers] == [(m.t, m.label) for m in original.markers]
    assert recording.header["model"]["sha256"] == model.sha256
    assert [event.crc for event in recording.predictions] == [w.crc for w in clmer.windows(lab / "session.xdf", model)]
    assert recording.predictions.labels == model.labels
    assert recording.duration_s == pytest.approx(60, abs=0.5)
    assert recording.warnings == ()


def test_a_session_is_verified(lab: Path) -> None:
    """The model is found by its hash; a file of another recorder has nothing to verify."""
    verdict = clmer.Recording.open(lab / "recordings" / "x" / "session.xdf").verify()
    assert (verdict.passed, verdict.n_windows, verdict.n_equal, verdict.largest) == (True, 120, 120, 0.0)
    with pytest.raises(clmer.RecordingError, match="a session that clmer recorded"):
        clmer.Recording.open(lab / "session.xdf").verify()


def test_what_is_not_there(lab: Path, tmp_path: Path) -> None:
    """A missing file, another format, and a stream that the file does not have are said to be such."""
    with pytest.raises(clmer.RecordingError, match="check the path"):
        clmer.Recording.open(tmp_path / "missing.xdf")
    (tmp_path / "text.xdf").write_text("no recording")
    with pytest.raises(clmer.RecordingError, match="XDF"):
        clmer.Recording.open(tmp_path / "text.xdf")
    with pytest.raises(clmer.SettingsError, match=r"eeg, face, markers\nfound:    'ecg'"):
        clmer.Recording.open(lab / "session.xdf").signal("ecg")
    with pytest.raises(clmer.SettingsError, match="markers NAME/start and NAME/end"):
        clmer.Recording.open(lab / "session.xdf").trials()
