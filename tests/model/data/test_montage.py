"""Channels of a data set, and where electrodes are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from clmer_model.data.montage import MUSE_CH_NAMES, channels_of, parse_channels
from clmer_model.data.tables import Recording
from clmer_model.electrodes import electrode_positions
from clmer_streaming.config import CAP36_CH_NAMES, EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.errors import DatasetError, SettingsError
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter


def test_named_montages_lists_and_files_are_channels(tmp_path: Path) -> None:
    """``all`` leaves them to the recordings."""
    assert parse_channels("all") is None
    assert parse_channels("Emotiv14") == EPOC_CH_NAMES
    assert parse_channels("muse") == MUSE_CH_NAMES
    assert parse_channels("Fz, Cz;Pz Oz") == ("Fz", "Cz", "Pz", "Oz")
    path = tmp_path / "channels.txt"
    path.write_text("Fz\nCz\n\nPz\n", encoding="utf-8")
    assert parse_channels(str(path)) == ("Fz", "Cz", "Pz")
    assert parse_channels("7") == ("7",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Fz,Cz,fz", "Fz, fz more than once"),
        ("T3,T7", "T3, T7 more than once"),
        ("", "0 in ''"),
        (",".join(map(str, range(257))), "257 in"),
    ],
)
def test_channels_that_are_none_or_too_many_are_refused(text: str, said: str) -> None:
    """T3 is the old name of T7."""
    with pytest.raises(SettingsError, match=said) as caught:
        parse_channels(text)
    assert "emotiv14, muse" in caught.value.expected
    assert len(parse_channels(",".join(map(str, range(256)))) or ()) == 256


def recording(path: Path, ch_names: Sequence[str], kind: str = "EEG", eeg_map: str | None = None) -> Recording:
    """Write a second of a stream with these labels, and return it as a row of a manifest names it."""
    with XdfWriter(path) as xdf:
        spec = XdfStreamSpec("Cap", kind, tuple(ch_names), 128.0, units=("uV",) * len(ch_names))
        xdf.write_samples(xdf.add_stream(spec), np.arange(128) / 128.0, np.zeros((len(ch_names), 128), np.float32))
    return Recording(1, path.name, path.name, path, "P1", eeg_map=eeg_map)


def test_recordings_say_their_own_channels(tmp_path: Path) -> None:
    """In the order in which they come first; counters and stamps are no EEG; without labels they have numbers."""
    first = recording(tmp_path / "a.xdf", ["Timestamp", "Counter", "Fz", "Cz"])
    second = recording(tmp_path / "b.xdf", ["Cz", "Pz"])
    assert channels_of([first, second]) == ("Fz", "Cz", "Pz")
    assert channels_of([recording(tmp_path / "c.xdf", ["", "", ""])]) == ("0", "1", "2")
    mapped = recording(tmp_path / "d.xdf", ["one", "two"], eeg_map="AF3=one,COUNTER=two")
    assert channels_of([mapped]) == ("AF3",)


def test_a_data_set_without_eeg_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a recording with EEG") as caught:
        channels_of([recording(tmp_path / "a.xdf", ["x"], kind="Gyro")])
    assert "--channels" in caught.value.mend


def test_electrodes_are_where_they_are_on_a_head() -> None:
    """On a sphere of radius 1: x is right, y front, z up; left and right mirror each other."""
    cz, fz, oz, c3, c4 = electrode_positions(["Cz", "Fz", "Oz", "C3", "C4"])
    assert cz is not None
    assert fz is not None
    assert oz is not None
    assert c3 is not None
    assert c4 is not None
    assert cz == pytest.approx((0.0, 0.0, 1.0), abs=0.15)
    assert fz[1] > 0.3 > -0.3 > oz[1]
    assert c3[0] < -0.3 < 0.3 < c4[0]
    assert c3 == pytest.approx((-c4[0], c4[1], c4[2]), abs=0.1)
    places = electrode_positions(CAP36_CH_NAMES)
    assert all(place is not None and np.linalg.norm(place) == pytest.approx(1.0, abs=1e-5) for place in places)


def test_old_names_and_upper_case_are_the_same_electrodes() -> None:
    """T3, T4, T5 and T6 of the old 10-20 system are T7, T8, P7 and P8; what is no electrode has no place."""
    assert electrode_positions(["T3", "T4", "T5", "T6"]) == electrode_positions(["T7", "T8", "P7", "P8"])
    assert electrode_positions(["fp1", "FP1"]) == electrode_positions(["Fp1"]) * 2
    assert electrode_positions(["", "3", "ECG"]) == (None, None, None)


def test_one_or_two_channels_are_not_referenced_to_their_own_mean() -> None:
    """Of one the mean is all there is, of two half of the other."""
    for names, reference in ((("Fz",), "none"), (("Fz", "Cz"), "none"), (("Fz", "Cz", "Pz"), "mean_good")):
        assert PreprocessConfig().with_channels(names).signal.reference == reference
