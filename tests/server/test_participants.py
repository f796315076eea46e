"""Claims about what is kept of participants, and how it is measured and used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_server.cli import main
from clmer_server.participants import calibration_files, load_neutral, load_rest, neutral_file, rest_file, save_rest
from clmer_streaming.errors import SettingsError
from clmer_streaming.sources.video import VideoFaces
from clmer_streaming.types import RestBaseline
from tests.support.face_pictures import scene, swaying, write_video

REST = RestBaseline(0.0, ("Fz", "Cz"), (0.0, 0.0), (9.0, 8.0), "signal", 60.0)


def mode(path: Path) -> int:
    """Return who may do what with a file or folder, as chmod has it."""
    return path.stat().st_mode & 0o777


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of the astronaut."""
    return write_video(tmp_path_factory.mktemp("film") / "face.avi", swaying(45))


@pytest.mark.slow
@pytest.mark.camera
def test_a_neutral_face_is_measured_kept_and_used(film: Path, tmp_path: Path) -> None:
    """Kept under the pseudonym; with it every sample is calibrated, and her smile has become neutral."""
    folder = tmp_path / "participants"
    words = ["calibrate", "--participant", "P01", "--camera", str(film), "--seconds", "1"]
    assert main([*words, "--participants", str(folder)]) == 0
    assert [(path.name, mode(path)) for path in folder.iterdir()] == [("P01.json", 0o600)]
    neutral = load_neutral(folder, "P01")
    before, after = (list(VideoFaces(film, neutral=known).samples()) for known in (None, neutral))
    assert {sample.calibration for sample in after} == {"explicit"}
    smile_before, smile_after = (np.median([sample.aus[8, 0] for sample in run]) for run in (before, after))
    assert smile_after < 0.5 < smile_before


@pytest.mark.camera
def test_a_measurement_without_a_face_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is kept."""
    film = write_video(tmp_path / "nobody.avi", [scene()] * 20)
    words = ["calibrate", "--participant", "P01", "--camera", str(film), "--participants", str(tmp_path / "kept")]
    assert main(words) == 2
    assert "a face that holds still for 3 s" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_eeg_at_rest_is_measured_kept_and_found_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a recording of a minute; whoever has no neutral face yet is known by it all the same."""
    recording, folder = tmp_path / "rest.xdf", tmp_path / "participants"
    assert main(["simulate", "--out", str(recording), "--seconds", "64"]) == 0
    words = ["calibrate", "--participant", "P01", "--rest", "--recording", str(recording), "--seconds", "60"]
    assert main([*words, "--participants", str(folder)]) == 0
    assert [path.name for path in folder.iterdir()] == ["P01.rest.json"]
    config = find_artifact().meta.preprocess
    rest = load_rest(folder, "P01", config)
    assert rest is not None
    assert all(1.0 < scale < 50.0 for scale in rest.scale_uv)
    assert load_neutral(folder, "P01") is None
    assert load_rest(folder, "P02", config) is None
    capsys.readouterr()


def test_a_rest_that_was_too_short_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is kept of a recording that ends before."""
    recording = tmp_path / "short.xdf"
    assert main(["simulate", "--out", str(recording), "--seconds", "20"]) == 0
    words = ["calibrate", "--participant", "P01", "--rest", "--recording", str(recording)]
    assert main([*words, "--participants", str(tmp_path / "kept")]) == 2
    assert "90 s of EEG" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_the_rest_of_either_of_two_people_in_a_recording_can_be_measured(
    sample_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose it is has to be said by --eeg; then the recording is read, which here is too short."""
    words = [
        "calibrate",
        "--participant",
        "P01",
        "--rest",
        "--recording",
        str(sample_data / "cases/two_participants.xdf"),
    ]
    assert main([*words, "--participants", str(tmp_path)]) == 2
    assert "--eeg EEG-P1 or --eeg EEG-P2" in capsys.readouterr().err
    assert main([*words, "--participants", str(tmp_path), "--eeg", "EEG-P2"]) == 2
    assert "90 s of EEG" in capsys.readouterr().err


@pytest.mark.parametrize("pseudonym", ["../P01", "", ".hidden", "a/b", "Ada Lovelace", "x" * 65, "-x"])
def test_a_pseudonym_leads_nowhere_else(pseudonym: str, tmp_path: Path) -> None:
    """Letters, digits, - and _ alone."""
    with pytest.raises(SettingsError, match="a pseudonym"):
        neutral_file(tmp_path, pseudonym)


def test_an_unknown_participant_is_told_how_to_become_known(tmp_path: Path) -> None:
    """The error says which command measures the face; without a participant nothing is looked for."""
    with pytest.raises(SettingsError, match="clmer calibrate --participant P99"):
        load_neutral(tmp_path, "P99")
    assert load_neutral(tmp_path, None) is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """It is measured again, not guessed."""
    (tmp_path / "P01.json").write_text("{}")
    with pytest.raises(SettingsError, match="measure it again"):
        load_neutral(tmp_path, "P01")


def test_what_is_kept_of_a_participant_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever a folder that is there allows: a file that others could read is replaced by one that they cannot."""
    path = save_rest(tmp_path / "new", "P01", REST)
    assert (mode(tmp_path / "new"), mode(path)) == (0o700, 0o600)
    (tmp_path / "open").mkdir(mode=0o755)
    rest_file(tmp_path / "open", "P01").write_text("of an earlier version")
    rest_file(tmp_path / "open", "P01").chmod(0o644)
    assert mode(save_rest(tmp_path / "open", "P01", REST)) == 0o600
    assert calibration_files(tmp_path / "open", "P01") == (rest_file(tmp_path / "open", "P01"),)


def test_a_disk_that_is_full_half_way_leaves_what_was_kept_before(tmp_path: Path) -> None:
    """A limit on the size of files is a full disk for the program."""
    import resource  # not on Windows

    path = save_rest(tmp_path, "P01", REST)
    kept, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, before[1]))
    try:
        with pytest.raises(SettingsError, match="a folder that can be written to"):
            save_rest(tmp_path, "P01", replace(REST, seconds=90.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(path.name, kept)]
