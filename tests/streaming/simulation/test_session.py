"""The simulator's sessions: the same bits for the same settings, in memory, as items and as a file."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf

from clmer_server.cli import main
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import SimulatedSession, simulate, simulate_cohort, write_session
from clmer_streaming.simulation.trials import QUADRANTS, TrialMarker, parse_trial_marker, session_seconds
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, FaceFlag, FaceSample, Marker, StreamInfo
from clmer_streaming.xdf.reader import read_xdf
from tests.support.paths import RECORDING

SHORT = SimulationConfig(seconds=16.0, trial_s=5.0)


@pytest.fixture(scope="module")
def session() -> SimulatedSession:
    return simulate(SimulationConfig())


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    """Two runs of the command write the same file, whenever they run."""
    paths = [tmp_path / "a.xdf", tmp_path / "b.xdf"]
    for path in paths:
        assert main(["simulate", "--out", str(path), "--seconds", "16", "--seed", "7", "--preset", "realistic"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("change", [{"seed": 8}, {"participant": 1}, {"preset": "easy"}])
def test_other_settings_give_other_numbers(change: dict[str, Any]) -> None:
    """Seed, participant and preset each change the EEG and the face."""
    one, other = simulate(SHORT), simulate(dataclasses.replace(SHORT, **change))
    n = min(one.eeg_t.size, other.eeg_t.size)
    assert not np.array_equal(one.eeg_x[3:17, :n], other.eeg_x[3:17, :n])
    assert not np.array_equal(one.face.rows, other.face.rows, equal_nan=True)


def test_a_person_stays_the_same_from_session_to_session() -> None:
    """Another seed keeps the face's shape and the headset's offsets; another participant has others."""
    first, second = (simulate(dataclasses.replace(SHORT, seed=seed)).person for seed in (1, 2))
    stranger = simulate(dataclasses.replace(SHORT, participant=5)).person
    assert np.array_equal(first.neutral, second.neutral)
    assert np.array_equal(first.dc_uv, second.dc_uv)
    assert np.abs(first.neutral - stranger.neutral).max() > 0.1
    assert first.alpha_hz != stranger.alpha_hz


def test_presets_change_a_person_in_nothing_but_effects() -> None:
    """The same participant has the same head under every preset."""
    easy, null = (simulate(dataclasses.replace(SHORT, preset=preset)).person for preset in ("easy", "null"))
    assert np.array_equal(easy.neutral, null.neutral)
    assert easy.slope == null.slope
    assert (easy.eeg_d, null.eeg_d) == (1.0, 0.0)


def test_a_minute_is_simulated_in_well_under_a_second() -> None:
    """Training simulates hours; a minute may cost half a second of processor time."""
    simulate(SHORT)  # imports and caches
    begin = time.process_time()
    simulate(SimulationConfig())
    assert time.process_time() - begin < 0.5


def test_items_come_by_stamp_behind_their_announcements(session: SimulatedSession) -> None:
    """First three announcements, then chunks, faces and markers with stamps that never fall."""
    items = list(session.items(chunk=8))
    assert [item.source for item in items[:3] if isinstance(item, StreamInfo)] == ["eeg", "face", "markers"]
    times = [float(item.t[-1]) if isinstance(item, Chunk) else item.t for item in items[3:] if hasattr(item, "t")]
    assert len(times) == len(items) - 3
    assert times == sorted(times)


@pytest.mark.parametrize("chunk", [1, 8, 37])
def test_chunks_hold_every_sample_once(session: SimulatedSession, chunk: int) -> None:
    """However the EEG is cut, joining the chunks gives the stream; values are what float32 holds."""
    chunks = [item for item in session.items(chunk) if isinstance(item, Chunk)]
    assert np.array_equal(np.concatenate([c.t for c in chunks]), session.eeg_t)
    x = np.concatenate([c.x for c in chunks], axis=1)
    assert x.dtype == np.float64
    assert np.array_equal(x, session.eeg_x)


def test_faces_and_markers_all_come(session: SimulatedSession) -> None:
    """Every frame and every marker is among the items."""
    items = list(session.items())
    assert sum(isinstance(item, FaceSample) for item in items) == session.face.t.size == 60 * 30
    assert tuple(item for item in items if isinstance(item, Marker)) == session.markers


def test_every_four_trials_hold_each_quadrant_once() -> None:
    """Classes are balanced, in random order."""
    trials = simulate(SimulationConfig(seconds=session_seconds(8))).truth.trials
    indices = [trial.label_index for trial in trials]
    assert sorted(indices[:4]) == sorted(indices[4:]) == [0, 1, 2, 3]
    assert all(trial.label == QUADRANTS[2 * (trial.valence > 0) + (trial.arousal > 0)] for trial in trials)


def test_markers_tell_the_trials(session: SimulatedSession) -> None:
    """A marker's label gives back kind, trial, quadrant and stimulus; its stamp is the trial's edge."""
    for k, trial in enumerate(session.truth.trials):
        start, end = session.markers[2 * k : 2 * k + 2]
        assert parse_trial_marker(start.label) == TrialMarker("trial_start", k + 1, trial.label, trial.stimulus_id)
        assert parse_trial_marker(end.label) == TrialMarker("trial_end", k + 1, trial.label, trial.stimulus_id)
        assert (start.t - session.t0, end.t - session.t0) == pytest.approx((trial.t_start, trial.t_end))


@pytest.mark.parametrize("label", ["", "trial_start", "trial_start/x/HVLA/HVLA-1", "block/1/HVLA/HVLA-1"])
def test_other_markers_are_no_trials(label: str) -> None:
    """A label that an experiment chose for itself is not taken for a trial."""
    assert parse_trial_marker(label) is None


def test_the_latent_emotion_follows_the_trials(session: SimulatedSession) -> None:
    """Behind its first seconds a trial has valence and arousal of its quadrant's sign."""
    for trial in session.truth.trials:
        inside = slice(int(trial.t_start) + 3, int(trial.t_end))
        assert np.sign(session.truth.emotion.valence[inside].mean()) == trial.valence
        assert np.sign(session.truth.emotion.arousal[inside].mean()) == trial.arousal


def test_a_cohort_is_one_session_of_each_person() -> None:
    """Participants count up; each session holds the trials asked for, in its own order."""
    sessions = list(simulate_cohort(3, SimulationConfig(preset="easy"), n_trials=8))
    assert [s.config.participant for s in sessions] == [0, 1, 2]
    assert all(len(s.truth.trials) == 8 for s in sessions)
    assert len({tuple(trial.label for trial in s.truth.trials) for s in sessions}) == 3


def test_a_cohort_can_hold_several_sessions_of_a_person() -> None:
    """Two sessions of one person share the person and nothing of the noise."""
    first, second = simulate_cohort(1, SimulationConfig(), n_trials=1, sessions_per_person=2)
    assert np.array_equal(first.person.neutral, second.person.neutral)
    assert first.t0 != second.t0


def test_a_file_has_the_stamps_and_values_of_the_session(session: SimulatedSession, tmp_path: Path) -> None:
    """Our reader gives back every stamp and value, bit for bit, with clock offsets applied."""
    write_session(session, tmp_path / "s.xdf")
    file = read_xdf(tmp_path / "s.xdf")
    eeg, face, markers = file.streams
    assert file.warnings == ()
    assert np.array_equal(eeg.t_synced, session.eeg_t)
    assert np.array_equal(eeg.x, session.eeg_x)
    assert np.array_equal(face.t_synced, session.face.t)
    assert np.array_equal(face.x, session.face.rows.T, equal_nan=True)
    assert [row[0] for row in markers.strings] == [marker.label for marker in session.markers]
    assert (eeg.ch_names, eeg.unit, eeg.manufacturer) == (session.eeg_info.ch_names, "microvolts", "Emotiv")
    assert face.desc_text("extractor") == session.face_info.extractor


def test_pyxdf_opens_a_file_with_equal_values(session: SimulatedSession, tmp_path: Path) -> None:
    """The reference reader sees three streams, their stamps, values, offsets and footers."""
    write_session(session, tmp_path / "s.xdf")
    streams, header = pyxdf.load_xdf(str(tmp_path / "s.xdf"), dejitter_timestamps=False)
    eeg, face, markers = sorted(streams, key=lambda stream: int(stream["info"]["stream_id"]))
    assert header["info"]["version"] == ["1.0"]
    assert np.allclose(eeg["time_stamps"], session.eeg_t, rtol=0, atol=1e-9)
    assert np.array_equal(eeg["time_series"].T, session.eeg_x)
    assert np.array_equal(face["time_series"], session.face.rows, equal_nan=True)
    assert [row[0] for row in markers["time_series"]] == [marker.label for marker in session.markers]
    assert len(eeg["clock_times"]) == 60 // 5
    assert eeg["footer"]["info"]["sample_count"] == [str(session.eeg_t.size)]


def test_the_bundled_session_fits_its_purpose() -> None:
    """It is small, has all quadrants, and a face that shows them."""
    assert RECORDING.stat().st_size < 3_000_000
    labels = [row[0] for stream in read_xdf(RECORDING).streams for row in stream.strings]
    shown = {marker.label for marker in map(parse_trial_marker, labels) if marker is not None}
    assert shown == set(QUADRANTS)
    assert not simulate(SimulationConfig()).person.poker_faced


def test_the_bundled_session_is_what_the_command_makes(session: SimulatedSession) -> None:
    """The committed file holds the numbers of this simulator, to what another processor may round."""
    eeg, face, _ = read_xdf(RECORDING).streams
    assert np.allclose(eeg.x[3:17], session.eeg_x[3:17], rtol=0, atol=0.2)
    assert np.allclose(face.x, session.face.rows.T, rtol=0, atol=1e-3, equal_nan=True)


def test_a_missing_face_is_nan_everywhere_and_says_so() -> None:
    """Frames without a face carry no number but quality 0 and the flag MISSING; the next good one is a RESET."""
    samples = list(simulate(SimulationConfig(seconds=300.0)).face_samples())
    missing = [sample for sample in samples if sample.flags & FaceFlag.MISSING]
    assert 10 < len(missing) < len(samples) / 10
    for sample in missing:
        assert all(np.isnan(part).all() for part in (sample.landmarks, sample.aus, sample.gaze, sample.pose))
        assert sample.quality == 0
    resets = [k for k, sample in enumerate(samples) if k and sample.flags & FaceFlag.RESET]
    assert resets
    assert all(samples[k - 1].flags & FaceFlag.MISSING and np.isfinite(samples[k].landmarks).all() for k in resets)


@pytest.mark.parametrize(
    "settings",
    [{"preset": "loud"}, {"seconds": 0.0}, {"seconds": float("nan")}, {"seed": -1}, {"sfreq": 127.0}, {"rest_s": -1.0}],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    """A wrong setting is an error with its cure, not a strange session."""
    with pytest.raises(SettingsError):
        SimulationConfig(**settings)


def test_the_command_names_a_wrong_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped preset ends with exit code 2, and the presets that there are."""
    assert main(["simulate", "--out", str(tmp_path / "s.xdf"), "--preset", "real"]) == 2
    assert "realistic, easy, null" in capsys.readouterr().err
    assert not (tmp_path / "s.xdf").exists()


def test_a_session_may_be_too_short_for_a_trial(tmp_path: Path) -> None:
    """Two seconds of rest are a session, without trials or markers, and a file that opens."""
    session = simulate(SimulationConfig(seconds=2.0))
    write_session(session, tmp_path / "s.xdf")
    assert session.truth.trials == ()
    assert [stream.t.size for stream in read_xdf(tmp_path / "s.xdf").streams] == [session.eeg_t.size, 60, 0]


def test_a_replayed_file_gives_the_sessions_items(session: SimulatedSession, tmp_path: Path) -> None:
    """Writing and replaying changes no bit: the same announcements, EEG, faces and markers."""
    write_session(session, tmp_path / "s.xdf")
    direct, replayed = list(session.items()), list(ReplaySource(tmp_path / "s.xdf").items())
    assert [i for i in replayed if isinstance(i, StreamInfo)] == [i for i in direct if isinstance(i, StreamInfo)]
    assert [i for i in replayed if isinstance(i, Marker)] == [i for i in direct if isinstance(i, Marker)]
    chunks = [[i for i in items if isinstance(i, Chunk)] for items in (direct, replayed)]
    eeg_t, replayed_t = (np.concatenate([chunk.t for chunk in some]) for some in chunks)
    eeg_x, replayed_x = (np.concatenate([chunk.x for chunk in some], axis=1) for some in chunks)
    assert np.array_equal(eeg_t, replayed_t)
    assert np.array_equal(eeg_x, replayed_x)
    faces = [[i for i in items if isinstance(i, FaceSample)] for items in (direct, replayed)]
    rows, replayed_rows = (np.stack([face_to_row(sample) for sample in some]) for some in faces)
    assert [sample.t for sample in faces[0]] == [sample.t for sample in faces[1]]
    assert np.array_equal(rows, replayed_rows, equal_nan=True)


def test_a_replayed_file_gives_the_sessions_windows(session: SimulatedSession, tmp_path: Path) -> None:
    """What a model sees is equal bit for bit, whether the session was replayed or taken from memory."""
    write_session(session, tmp_path / "s.xdf")
    crcs = []
    for items in (session.items(chunk=8), session.items(chunk=64), ReplaySource(tmp_path / "s.xdf").items()):
        preprocessor = Preprocessor(PreprocessConfig())
        crcs.append([window.crc for item in items for window in preprocessor.push(item)])
    assert len(crcs[0]) > 100
    assert crcs[0] == crcs[1] == crcs[2]
