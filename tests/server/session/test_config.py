"""From clmer.toml to sessions: what each has from where, and which files are refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from clmer_model.artifact import find_artifact
from clmer_server.cli import main
from clmer_server.participants import save_neutral, save_rest
from clmer_server.protocol.codes import RefusalError
from clmer_server.session.config import (
    SessionConfig,
    check_no_conflict,
    effective_preprocess,
    notch_text,
    session_configs,
)
from clmer_server.session.inputs import live_inputs, replay_inputs
from clmer_server.settings import SETTINGS_FILE, StartRequest, load_settings, settings_text
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.neutral import PRIOR_MEAN, NeutralFace
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.sources.transform import EegCorrections, TransformedSource
from clmer_streaming.types import Chunk, Item, RestBaseline, StreamInfo, Window
from tests.support.serving import serving
from tests.support.session_parts import EEG, ListSource
from tests.support.signals import EEG_INFO, FACE_INFO, cut, eeg_like, stamps


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


CLOCK = {"lsl_time": 1000.0, "unix_time": 0.0}


def planned(text: str, **given: str) -> tuple[SessionConfig, ...]:
    """Return the sessions of a settings file and a command line."""
    Path(SETTINGS_FILE).write_text(text)
    configs = session_configs(load_settings(given))
    check_no_conflict(configs)
    return configs


def table(name: str, *lines: str) -> str:
    return "\n".join(["[[sessions]]", f'name = "{name}"', *lines, ""])


def test_without_tables_there_is_one_session_as_on_the_command_line() -> None:
    """Under a name of its own, with the first webcam."""
    (config,) = planned('eeg = "EPOC"\n', record="rec")
    assert (config.eeg, config.face_camera, config.recordings) == ("EPOC", "0", Path("rec"))
    assert len(config.name) == 8


def test_what_a_session_leaves_open_it_has_from_the_service() -> None:
    """Delay, unit and folder; not the camera, since nobody can know whose it would be."""
    text = 'eeg_delay = 0.2\neeg_unit = "V"\nrecord = "rec"\n'
    first, second = planned(
        text + table("a", 'eeg = "A"', "eeg_delay = 0.5") + table("b", 'eeg = "B"', "record = false")
    )
    assert (first.name, first.eeg, first.eeg_delay, first.eeg_unit) == ("a", "A", 0.5, "V")
    assert (second.eeg_delay, second.recordings, second.record) == (0.2, None, Path("rec"))
    assert first.face_camera is second.face_camera is None


def test_a_client_may_say_who_takes_part_and_whether_to_record() -> None:
    """What it leaves open stays."""
    (config,) = planned('record = "rec"\n' + table("a", 'participant = "P01"', 'camera = "0"', "record = false"))
    asked = config.with_request(StartRequest(participant="P02", record=True))
    assert (asked.participant, asked.recordings, asked.consent_ref) == ("P02", Path("rec"), None)
    assert asked.neutral_face() is None
    assert config.with_request(StartRequest()) == config


@pytest.mark.parametrize("table_or_not", ["", '[[sessions]]\nname = "a"\n'])
@pytest.mark.parametrize(("wants", "lacking"), [("none", "face"), ("rest", "face and no EEG at rest")])
def test_a_new_participant_can_begin_with_a_warning_that_names_nobody(
    table_or_not: str, wants: Literal["none", "rest"], lacking: str
) -> None:
    """Live, where what is missing can be measured; a sentence says what that is."""
    (config,) = planned(table_or_not + 'participant = "P01"\ncamera = "0"\n')
    preprocess = PreprocessConfig(eeg_calibration=wants)
    (warning,) = live_inputs(config, preprocess).warnings
    assert f"No neutral {lacking} of this session's participant in participants yet" in warning
    assert "P01" not in warning
    assert "clmer calibrate" in warning
    save_neutral(Path("participants"), "P01", NeutralFace(PRIOR_MEAN, 0.0, 0.0, (1.0, 1.0, 1.0, 1.0), 90))
    save_rest(
        Path("participants"), "P01", RestBaseline(0.0, ("Fz",), (0.0,), (9.0,), preprocess.signal.signal_hash, 60)
    )
    inputs = live_inputs(config, preprocess)
    assert (inputs.warnings, inputs.participant) == ((), "P01")
    assert inputs.camera is not None


def test_a_video_of_somebody_unknown_is_one_clear_error() -> None:
    """Nobody can be asked to look into a camera any more; unless a client says who it is."""
    Path("face.mp4").touch()
    (config,) = planned(table("a", 'replay = "a.xdf"', 'video = "face.mp4"', 'participant = "P01"'))
    with pytest.raises(SettingsError, match="clmer calibrate"):
        config.neutral_face()
    assert config.with_request(StartRequest(participant="P02")).neutral_face() is None


@pytest.mark.parametrize(
    ("kept", "named", "told"), [("P01", None, "P01"), ("P01", "P02", "P02"), ("a b\n", None, None)]
)
def test_a_replay_is_its_participants_unless_another_one_is_named(
    kept: str, named: str | None, told: str | None
) -> None:
    """What no pseudonym can be is not passed on."""
    writer = SessionWriter(Path("s.xdf"), {"session": "abc", "participant": kept, "clock": CLOCK})
    writer.write(EEG)
    writer.write(Chunk("eeg", np.array([1000.0]), np.ones((14, 1))))
    writer.close()
    config = SessionConfig(replay=Path("s.xdf"), participant=named, needs_neutral=False)
    assert replay_inputs(config, PreprocessConfig())[0].participant == told


def test_video_is_kept_where_the_service_says_so_and_there_is_a_camera() -> None:
    """A client that asks for a recording has no say in it."""
    text = 'record = "rec"\nrecord_video = true\n' + table("a", 'eeg = "A"', 'camera = "0"', "record = false")
    more = table("b", 'eeg = "B"') + table("c", 'eeg = "C"', 'camera = "1"', "record_video = false")
    assert [config.keeps_video for config in planned(text + more)] == [True, False, False]
    (single,) = planned('record = "rec"\n')
    assert not single.keeps_video
    assert not hasattr(StartRequest(), "record_video")


def test_a_client_cannot_record_where_there_is_no_folder() -> None:
    """Nor say words that could not be kept."""
    (config,) = planned(table("a"))
    with pytest.raises(RefusalError) as caught:
        config.with_request(StartRequest(record=True))
    assert caught.value.code == "recording_off"
    with pytest.raises(ValidationError):
        StartRequest(participant="../P")


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        (table("a") + table("A"), "a name of its own", "2 sessions called 'a'"),
        (table("a b"), "session 1 of [[sessions]], name", "'a b'"),
        (table("..") + table("b"), "session 1 of [[sessions]], name", "'..'"),
        (table("a") + "[[sessions]]\n", "session 2 of [[sessions]], name", "none"),
        (table("a") + table("b", "colour = 1"), "session 2 of [[sessions]], colour", "1"),
        (table("a", 'participant = "../P"'), "session 1 of [[sessions]], participant", "'../P'"),
        (table("a", "record_video = true", 'camera = "0"'), "a folder to record in", "both"),
        ('record = "r"\n' + table("a", "record_video = true"), "a camera of the session a", "none"),
        (
            'record = "r"\n' + table("a", "record_video = true", 'replay = "a.xdf"'),
            "session 1 of [[sessions]], its settings together: Value error, a live session with a camera of its own",
            "both",
        ),
        (table("a", "record = true"), "a folder to record the session a in", "none"),
        ('eeg = "E"\n' + table("a"), "settings of one participant", "eeg beside them"),
        ("max_sessions = 1\n" + table("a", 'eeg = "A"') + table("b", 'eeg = "B"'), "at most 1 sessions", "2"),
        (table("a") + table("b"), "an EEG stream", "sessions a and b both ask for the EEG stream 'auto'"),
        (
            table("a", 'eeg = "EPOC"', "camera = '0'") + table("b", 'eeg = "name=EPOC"', "camera = '/dev/video0'"),
            "an EEG stream and a camera for each session alone",
            "both ask for the EEG stream 'EPOC' and the camera 0",
        ),
        (
            table("a", 'eeg = "A"', 'face_stream = "F"') + table("b", 'eeg = "B"', 'face_stream = "F"'),
            "an EEG stream",
            "the face stream 'F'",
        ),
        (
            'physio = "ecg=Belt"\n' + table("a", 'eeg = "A"') + table("b", 'eeg = "B"'),
            "an EEG stream",
            "the stream 'Belt'",
        ),
    ],
)
def test_a_file_that_cannot_hold_is_refused_by_one_clear_error(text: str, expected: str, found: str) -> None:
    """It names the session and the setting."""
    with pytest.raises(SettingsError) as caught:
        planned(text)
    assert expected in caught.value.expected
    assert found in caught.value.found
    assert caught.value.mend


def test_printed_settings_give_the_same_sessions() -> None:
    """What a session leaves open stays open in them, so that it still comes from above the tables."""
    before = planned("eeg_delay = 0.2\n" + table("a", 'eeg = "A"') + table("b", 'eeg = "B"', "speed = 'max'"))
    printed = settings_text(load_settings({}))
    assert "max_sessions = 16" in printed
    assert planned(printed) == before


def test_a_replay_and_a_video_file_can_be_shared() -> None:
    """Only devices belong to one session."""
    Path("face.mp4").touch()
    both = ["camera = 'face.mp4'"]
    assert len(planned(table("a", 'eeg = "A"', *both) + table("b", 'eeg = "B"', *both))) == 2
    assert len(planned(table("a", 'replay = "a.xdf"') + table("b", 'replay = "a.xdf"'))) == 2


SHIPPED_HASH = "4c5e50210c5d"
"""Of the settings of clmer-va4: what clients may have written down."""


def test_the_shipped_model_keeps_its_hash() -> None:
    """Settings that a model does not use have no place in its hash."""
    assert find_artifact().meta.preprocess.config_hash == SHIPPED_HASH


def test_a_notch_changes_the_hash_and_nothing_else() -> None:
    """The effective settings are the model's with the user's notch; without a word they are the model's."""
    trained = PreprocessConfig()
    assert effective_preprocess(trained, None) is trained
    assert effective_preprocess(trained, "none") == trained
    at_60 = effective_preprocess(trained, "60")
    assert at_60.signal.notch_hz == 60.0
    assert at_60.config_hash != trained.config_hash
    assert effective_preprocess(at_60, "none") == trained


def test_a_notch_other_than_the_models_is_said() -> None:
    """The user reads that the model learnt from something else; the model's own needs no word."""
    trained = PreprocessConfig()
    text = notch_text(trained, trained.with_notch(50.0))
    assert text.startswith("a notch at 50 Hz, other than the model, which was trained with no notch; config ")
    assert notch_text(trained, trained) == ""
    assert notch_text(trained.with_notch(60.0), trained).startswith("no notch, other than the model")


def test_a_notch_takes_the_mains_out_of_the_windows() -> None:
    """100 uV at 50 Hz in every channel, out of phase: little of it is left."""
    n = 128 * 8
    rng = np.random.default_rng(0)
    t = np.arange(n) / 128
    x = 4200.0 + 100.0 * np.sin(2 * np.pi * 50 * t + rng.uniform(0, 6, (14, 1)))

    def last(config: PreprocessConfig) -> Window:
        stage = Preprocessor(config)
        items: list[Item] = [EEG_INFO, *cut(stamps(n), x, [16])]
        return [window for item in items for window in stage.push(item)][-1]

    plain, notched = last(PreprocessConfig()), last(PreprocessConfig().with_notch(50.0))
    assert np.std(plain.series["eeg"]) > 20.0
    assert not notched.mask["eeg"].any()  # what is left of each channel is flat: there was nothing but mains


@pytest.mark.parametrize(("given", "read"), [("50", "50"), (60, "60"), ("none", "none")])
def test_settings_know_the_notch(given: object, read: str) -> None:
    """From the command line or as a number from clmer.toml."""
    assert load_settings({"notch": given}).notch == read


@pytest.mark.parametrize("given", [{"notch": "55"}, {"eeg_unit": "kV"}, {"eeg_delay": "an hour"}, {"eeg_delay": 60}])
def test_settings_that_cannot_hold_are_refused(given: dict[str, object]) -> None:
    """Each by its name."""
    with pytest.raises(SettingsError, match=next(iter(given))):
        load_settings(given)


def test_an_announcement_is_corrected_and_nothing_else() -> None:
    """Unit and delay of the EEG change where it is announced; samples, faces and other streams pass as they are."""
    chunk = Chunk("eeg", stamps(4), eeg_like(4))
    late = StreamInfo("eeg", "eeg", "Late", ("AF3",), 128.0, unit="", units=("uV",), delay_s=0.1)
    taken: list[Item] = []
    source = TransformedSource(ListSource([late, FACE_INFO, chunk]), EegCorrections(unit="mV", delay_s=0.2).apply)
    source.run(taken.append, threading.Event())
    info = taken[0]
    assert isinstance(info, StreamInfo)
    assert (info.unit, info.units) == ("mV", ())
    assert info.delay_s == pytest.approx(0.3)
    assert taken[1] is FACE_INFO
    assert taken[2] is chunk


def test_a_delay_moves_samples_to_earlier_windows() -> None:
    """A headset that is 0.25 s late, and says nothing of it: with the delay its windows are those of one on time."""
    n = 128 * 6

    def crcs(shift_s: float, delay_s: float) -> list[int]:
        stage, out = Preprocessor(PreprocessConfig()), list[Window]()
        items = ListSource([EEG_INFO, *cut(stamps(n) + shift_s, eeg_like(n), [16])])
        TransformedSource(items, EegCorrections(delay_s=delay_s).apply).run(
            lambda item: out.extend(stage.push(item)), threading.Event()
        )
        return [window.crc for window in out if window.mask["eeg"].any()]

    assert crcs(0.25, 0.25) == crcs(0.0, 0.0)
    assert crcs(0.25, 0.0) != crcs(0.0, 0.0)


def test_predict_takes_the_options_and_names_the_settings_it_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A simulated session with a notch, another unit and a delay: other windows, another hash, one warning."""
    session, out = tmp_path / "s.xdf", tmp_path / "p.jsonl"
    assert main(["simulate", "--out", str(session), "--seconds", "8"]) == 0
    assert (
        main(["predict", str(session), "--out", str(out), "--notch", "50", "--eeg-unit", "mV", "--eeg-delay", "0.5"])
        == 0
    )
    assert "a notch at 50 Hz, other than the model" in capsys.readouterr().err
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert events[-1]["model"]["config_hash"] == find_artifact().meta.preprocess.with_notch(50.0).config_hash
    assert "eeg_noisy" in events[-1]["reasons"]  # microvolts taken for millivolts: a thousand times too large


def test_a_series_that_the_model_lacks_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped model has no ECG."""
    session = tmp_path / "s.xdf"
    assert main(["simulate", "--out", str(session), "--seconds", "2"]) == 0
    assert main(["predict", str(session), "--out", str(tmp_path / "p"), "--physio", "ecg"]) == 2
    assert "--physio ecg: this model has no series of that name" in capsys.readouterr().err


def test_the_service_says_at_its_start_that_the_notch_is_not_the_models(tmp_path: Path) -> None:
    """Who starts with --notch 50 reads what the model was trained with, and clients get the other hash."""
    session = tmp_path / "s.xdf"
    assert main(["simulate", "--out", str(session), "--seconds", "4"]) == 0
    with serving(tmp_path, "--replay", session, "--notch", "50", "--speed", "max") as service, service.connect() as ws:
        welcome = json.loads(ws.recv(timeout=30))
        assert service.process.stdout is not None
        said = [service.process.stdout.readline() for _ in range(3)]
    assert said[-1].startswith("notch      a notch at 50 Hz, other than the model, which was trained with no notch")
    assert welcome["model"]["config_hash"] == find_artifact().meta.preprocess.with_notch(50.0).config_hash
