"""EEG measured against rest, on sines whose size one can read off."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import PreprocessConfig, SignalConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.pipeline.baseline import REST_SCALE_UV, RestMeasurement, rest_from_json, rest_to_json
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import FloatArray, Item, Reason, RestBaseline, Window
from tests.support.signals import EEG_INFO, cut, push_all, stamps

SIGNAL = SignalConfig(reference="none")
PLAIN = PreprocessConfig(signal=SIGNAL, modalities=("eeg",))
WANTED = dataclasses.replace(PLAIN, eeg_calibration="rest")
SIZES_UV = np.linspace(5.0, 70.0, 14)
"""Standard deviation of each channel: its place can be read off its size."""


def sines(seconds: float, sizes_uv: FloatArray = SIZES_UV) -> tuple[FloatArray, FloatArray]:
    """Return stamps and (14, n) sines of 10 Hz with these standard deviations; each has a phase of its own."""
    t = stamps(round(seconds * 128))
    phase = np.arange(14)[:, np.newaxis]
    return t, np.sqrt(2) * sizes_uv[:, np.newaxis] * np.sin(2 * np.pi * 10 * t + phase)


def windows_of(config: PreprocessConfig, items: Iterable[Item]) -> list[Window]:
    windows = push_all(Preprocessor(config), items)
    return [window for window in windows if Reason.WARMING_UP not in window.reasons]


def stream(seconds: float, sizes: Sequence[int] = (64,)) -> list[Item]:
    return [EEG_INFO, *cut(*sines(seconds), sizes)]


@pytest.fixture(scope="module")
def rest() -> RestBaseline:
    """The rest of somebody with these sizes."""
    return measured(windows_of(PLAIN, stream(64.0)))


def measured(windows: Iterable[Window], before: RestBaseline | None = None, seconds: float = 60.0) -> RestBaseline:
    measurement = RestMeasurement(PLAIN, seconds)
    for window in windows:
        if measurement.push(window, before):
            return measurement.result(window.t_end)
    raise AssertionError("the rest was never over")


def deviations(window: Window) -> FloatArray:
    result: FloatArray = window.series["eeg"].std(axis=1)
    return result


def test_the_rest_holds_the_size_of_each_channel(rest: RestBaseline) -> None:
    """A 10 Hz sine passes 4-45 Hz nearly whole."""
    assert np.allclose(rest.scale_uv, SIZES_UV, rtol=0.02)
    assert np.allclose(rest.baseline_uv, 0.0, atol=0.5)
    assert rest.seconds >= 30.0


def test_behind_the_rest_every_channel_is_of_one_size(rest: RestBaseline) -> None:
    windows = windows_of(WANTED, [rest, *stream(10.0)])
    assert {window.calibration["eeg"] for window in windows} == {"rest"}
    assert np.allclose(deviations(windows[-1]), REST_SCALE_UV, rtol=0.02)


def test_it_holds_from_the_next_window_on(rest: RestBaseline) -> None:
    """A rest that is measured in the middle of a session changes nothing behind it."""
    items = stream(20.0)
    windows = windows_of(WANTED, [*items[:20], rest, *items[20:]])
    states = [window.calibration["eeg"] for window in windows]
    assert states == sorted(states)
    assert set(states) == {"none", "rest"}
    before = [window for window in windows if window.calibration["eeg"] == "none"]
    assert np.allclose(deviations(before[-1]), SIZES_UV, rtol=0.02)
    assert all(Reason.UNCALIBRATED in window.reasons for window in before)
    assert not any(Reason.UNCALIBRATED in window.reasons for window in windows[len(before) :])


def test_a_model_that_does_not_want_it_sees_the_same_bits(rest: RestBaseline) -> None:
    plain, given_one = windows_of(PLAIN, stream(8.0)), windows_of(PLAIN, [rest, *stream(8.0)])
    assert [w.crc for w in plain] == [w.crc for w in given_one]
    assert {w.calibration["eeg"] for w in given_one} == {"none"}


def test_the_wish_enters_the_hash_of_the_settings_and_only_then() -> None:
    assert "eeg_calibration" not in PLAIN.to_dict()
    assert PLAIN.config_hash != WANTED.config_hash
    assert PreprocessConfig.from_dict(WANTED.to_dict()) == WANTED
    assert PreprocessConfig.from_dict(PLAIN.to_dict()) == PLAIN


def test_a_rest_in_another_band_is_not_used(rest: RestBaseline) -> None:
    other = dataclasses.replace(WANTED, signal=dataclasses.replace(SIGNAL, band=(1.0, 40.0)))
    windows = windows_of(other, [rest, *stream(8.0)])
    assert {window.calibration["eeg"] for window in windows} == {"none"}
    with pytest.raises(SettingsError, match="measured with others"):
        rest_from_json(rest_to_json(rest), other)


def test_measuring_again_finds_the_same_rest(rest: RestBaseline) -> None:
    """Windows that are measured against a rest are taken back to microvolts first."""
    again = measured(windows_of(WANTED, [rest, *stream(64.0)]), rest)
    assert np.allclose(again.scale_uv, rest.scale_uv, rtol=1e-9)


def test_blinks_do_not_move_it(rest: RestBaseline) -> None:
    """Ten blinks of a quarter of a second and 200 uV within a minute: the median does not see them."""
    t, x = sines(64.0)
    for second in range(5, 60, 6):
        x[:, second * 128 : second * 128 + 32] += 200 * np.hanning(32)
    blinking = measured(windows_of(PLAIN, [EEG_INFO, *cut(t, x, (64,))]))
    assert np.allclose(blinking.scale_uv, rest.scale_uv, rtol=0.05)


def test_a_dead_channel_takes_the_median_of_the_others() -> None:
    sizes = SIZES_UV.copy()
    sizes[3] = 0.0
    t, x = sines(64.0, sizes)
    found = measured(windows_of(PLAIN, [EEG_INFO, *cut(t, x, (64,))]))
    assert found.scale_uv[3] == pytest.approx(np.median(np.delete(found.scale_uv, 3)))


def test_too_little_clean_signal_is_refused_with_what_there_was() -> None:
    """A headset that lies on the table gives no rest."""
    t, x = sines(64.0, np.zeros(14))
    with pytest.raises(StreamError, match="0 channels with that much") as refused:
        measured(windows_of(PLAIN, [EEG_INFO, *cut(t, x, (64,))]))
    assert "contact" in refused.value.mend


@pytest.mark.parametrize("seconds", [0.0, 59.0, 121.0, float("nan")])
def test_a_rest_lasts_one_to_two_minutes(seconds: float) -> None:
    with pytest.raises(SettingsError, match="60 to 120 s"):
        RestMeasurement(PLAIN, seconds)


def test_a_kept_rest_is_read_back_to_the_last_bit(rest: RestBaseline) -> None:
    assert rest_from_json(rest_to_json(rest), WANTED) == rest


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "neutral"}', '{"kind": "eeg_rest", "t": 1}'])
def test_a_file_that_is_no_rest_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="EEG at rest"):
        rest_from_json(text, WANTED)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=5), st.integers(0, 30))
def test_the_cut_of_the_samples_changes_no_bit(rest: RestBaseline, sizes: list[int], place: int) -> None:
    """Only the place of the rest between samples matters."""
    t, x = sines(12.0)
    n = 128 * 4 + 16 * place
    items: list[Item] = [EEG_INFO, *cut(t[:n], x[:, :n], sizes), rest, *cut(t[n:], x[:, n:], sizes)]
    whole: list[Item] = [EEG_INFO, *cut(t[:n], x[:, :n], (1,)), rest, *cut(t[n:], x[:, n:], (1,))]
    assert [w.crc for w in windows_of(WANTED, items)] == [w.crc for w in windows_of(WANTED, whole)]


def test_a_recording_keeps_it_at_its_place(tmp_path: Path, rest: RestBaseline) -> None:
    """Replay and verification get it from the file, and so the same windows."""
    items = stream(12.0)
    items.insert(9, rest)
    writer = SessionWriter(tmp_path / "session.xdf", {"session": "s", "clock": {"lsl_time": 100.0, "unix_time": 0.0}})
    for item in items:
        writer.write(item)
    writer.close()
    read = list(SessionReader(tmp_path / "session.xdf").items())
    assert [type(item) for item in read] == [type(item) for item in items]
    assert next(item for item in read if isinstance(item, RestBaseline)) == rest
    assert [w.crc for w in windows_of(WANTED, read)] == [w.crc for w in windows_of(WANTED, items)]
