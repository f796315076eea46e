"""Claims about what a user changes of a model's signal settings, and of what its stream says."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artefact import find_artefact
from clmer_server.cli import main
from clmer_server.preprocessing import effective_preprocess, notch_text
from clmer_server.settings import load_settings
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.sources.adjusted import AdjustedSource, EegCorrections
from clmer_streaming.types import Chunk, Item, StreamInfo, Window
from serving import serving
from session_parts import ListSource
from signals import EEG_INFO, FACE_INFO, cut, eeg_like, stamps

SHIPPED_HASH = "6bd6c893fd40"
"""Of the settings of clmer-va4: what clients may have written down."""


def test_the_shipped_model_keeps_its_hash() -> None:
    """Settings that a model does not use have no place in its hash."""
    assert find_artefact().meta.preprocess.config_hash == SHIPPED_HASH


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
    source = AdjustedSource(ListSource([late, FACE_INFO, chunk]), EegCorrections(unit="mV", delay_s=0.2))
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
        AdjustedSource(items, EegCorrections(delay_s=delay_s)).run(
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
    assert events[-1]["model"]["config_hash"] == find_artefact().meta.preprocess.with_notch(50.0).config_hash
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
    assert welcome["model"]["config_hash"] == find_artefact().meta.preprocess.with_notch(50.0).config_hash
