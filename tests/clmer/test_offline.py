"""Windows and predictions of recordings: those of ``clmer predict``, to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import clmer
from clmer.options import LiveOptions, LocalConfig, ReplayOptions
from clmer_server.cli import main
from clmer_server.protocol.parts import VOLATILE_FIELDS
from tests.support.recorded import predicted


def lasting(event: dict[str, Any]) -> dict[str, Any]:
    """Return what is equal in every run of a recording."""
    return {name: value for name, value in event.items() if name not in VOLATILE_FIELDS}


@pytest.fixture(scope="module")
def said(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What ``clmer predict`` says of the example."""
    return [lasting(event) for event in predicted(lab / "session.xdf", tmp_path_factory.mktemp("said"))]


def test_windows_are_those_of_the_command(model: clmer.Model, lab: Path, said: list[dict[str, Any]]) -> None:
    """Times, reasons and CRCs of all windows are equal, with the model and without loading one."""
    for windows in (clmer.windows(lab / "session.xdf", model), clmer.windows(str(lab / "session.xdf"))):
        assert [window.crc for window in windows] == [event["crc"] for event in said]
        assert [window.t_end for window in windows] == [event["t_end"] for event in said]


def test_predictions_are_those_of_the_command(model: clmer.Model, lab: Path, said: list[dict[str, Any]]) -> None:
    """Every field that can be equal is."""
    predictions = clmer.predict(lab / "session.xdf", model)
    assert [lasting(event.model_dump(mode="json")) for event in predictions] == said
    assert predictions.labels == model.labels
    assert len(predictions) == 120


def test_windows_of_a_recorded_session_are_those_it_had(model: clmer.Model, lab: Path) -> None:
    """The recording of a replay gives the windows of the file that was replayed."""
    first = clmer.windows(lab / "session.xdf", model)
    again = clmer.windows(lab / "recordings" / "x" / "session.xdf", model)
    assert [window.crc for window in again] == [window.crc for window in first]


def test_options_are_those_of_the_command(model: clmer.Model, lab: Path, tmp_path: Path) -> None:
    """Another notch changes the windows as it does there, and is warned of."""
    with pytest.warns(UserWarning, match="a notch at 50 Hz, other than the model"):
        predictions = clmer.predict(lab / "session.xdf", model, notch="50", eeg_unit="uV")
        windows = clmer.windows(lab / "session.xdf", model, notch="50", eeg_unit="uV")
    out = tmp_path / "said.jsonl"
    given = ["--notch", "50", "--eeg-unit", "uV", "--device", "cpu", "--out", str(out)]
    assert main(["predict", str(lab / "session.xdf"), *given]) == 0
    said = pd.read_json(out, lines=True)
    assert [event.crc for event in predictions] == [window.crc for window in windows] == said["crc"].tolist()
    assert predictions[0].model.config_hash == said["model"][0]["config_hash"] != model.preprocess.config_hash


def test_every_option_of_a_session_can_be_given() -> None:
    """No option of ``clmer-serve`` that concerns a session is missing here, and none has another name."""
    by_itself = {"replay", "speed", "loop", "camera", "record", "name", "named", "recorded", "needs_neutral"}
    offered = LiveOptions.__annotations__ | ReplayOptions.__annotations__
    assert set(offered) == set(LocalConfig.model_fields) - by_itself


def test_what_cannot_be_is_refused(lab: Path) -> None:
    """A wrong option, value, file or channel map is told as on the command line."""
    path = lab / "session.xdf"
    with pytest.raises(clmer.SettingsError, match=r"an option of a session: .*eeg_unit.*\nfound:    'eeg_uint'"):
        clmer.windows(path, eeg_uint="V")  # type: ignore[call-arg]
    with pytest.raises(clmer.SettingsError, match="eeg_unit: Input should be 'V', 'mV' or 'uV'"):
        clmer.windows(path, eeg_unit="kV")  # type: ignore[arg-type]
    with pytest.raises(clmer.SettingsError, match="notch: Input should be '50', '60' or 'none'"):
        clmer.predict(path, notch="55")  # type: ignore[arg-type]
    with pytest.raises(clmer.SettingsError, match="this model has no series of that name"):
        clmer.windows(path, physio="ecg")
    with pytest.raises(clmer.RecordingError, match=r"no file at .*missing\.xdf"):
        clmer.predict(lab / "missing.xdf")
    with pytest.raises(clmer.StreamError, match="99"):
        clmer.windows(path, eeg_map="AF3=99")


def test_frames_are_those_of_the_export(model: clmer.Model, lab: Path, tmp_path: Path) -> None:
    """The frame of a recorded session holds what ``clmer session export`` writes, column by column."""
    frame = clmer.Recording.open(lab / "recordings" / "x" / "session.xdf").predictions.to_dataframe()
    folders = ["--root", str(lab / "recordings"), "--to", str(tmp_path)]
    assert main(["session", "export", "x", "--format", "csv", *folders]) == 0
    exported = pd.read_csv(tmp_path / "x-windows.csv", keep_default_na=True)
    assert list(frame.columns) == list(exported.columns)
    pd.testing.assert_frame_equal(frame.replace("", np.nan).infer_objects(), exported, check_dtype=False)
    numbers = ["t_start", "t_end", "valence", "arousal", "confidence", *(f"p_{label}" for label in model.labels)]
    assert (frame[numbers].dtypes == np.float64).all()
    assert frame["valid"].dtype == np.bool_


def test_means_by_trial(model: clmer.Model, lab: Path) -> None:
    """Each trial has the mean and the standard deviation of the valid windows that lie wholly inside it."""
    recording = clmer.Recording.open(lab / "session.xdf")
    trials = recording.trials(start="trial_start/*", stop="trial_end/*")
    predictions = clmer.predict(lab / "session.xdf", model)
    by_trial, frame = predictions.by_trial(trials), predictions.to_dataframe()
    assert by_trial["name"].tolist() == [trial.name for trial in trials]
    for row, trial in zip(by_trial.to_dict("records"), trials, strict=True):
        inside = frame[(frame.t_start >= trial.t_start) & (frame.t_end <= trial.t_end) & frame.valid]
        assert row["windows_valid"] == len(inside) == 20
        assert row["valence_mean"] == pytest.approx(inside.valence.mean())
        assert row["valence_sd"] == pytest.approx(inside.valence.std())
        assert row["p_HVHA_mean"] == pytest.approx(inside.p_HVHA.mean())


def test_predictions_are_a_sequence(model: clmer.Model, lab: Path) -> None:
    """A part of them is such a thing again; none at all make an empty frame."""
    predictions = clmer.predict(lab / "session.xdf", model)
    part = predictions[10:20]
    assert isinstance(part, clmer.Predictions)
    assert part.to_dataframe()["seq"].tolist() == list(range(10, 20))
    assert part.to_dataframe()["session_s"].tolist() == predictions.to_dataframe()["session_s"].tolist()[10:20]
    assert predictions[-1].seq == 119
    assert predictions[:0].to_dataframe().empty
    assert predictions.by_trial([]).empty
    assert repr(part) == "<clmer.Predictions: 10 windows, 10 valid, of LVLA, LVHA, HVLA, HVHA>"


def test_a_frame_without_pandas(model: clmer.Model, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is said, with the command that installs it."""
    predictions = clmer.predict(lab / "session.xdf", model)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(clmer.SettingsError, match=r'pip install "clmer\[pandas\]"'):
        predictions.to_dataframe()
