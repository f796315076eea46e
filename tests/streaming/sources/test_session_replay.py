"""Claims about the replay of recorded sessions: the very items, in file order, whatever the speed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.sources.replay_streams import EegChoice
from clmer_streaming.sources.session_replay import SessionReplaySource
from clmer_streaming.types import Chunk, Gap, Item, StreamInfo, Tick
from tests.support.session_parts import EEG, eeg_items

OTHER = StreamInfo("lsl:Motion", "other", "Motion", ("X",), 32.0, channel_format="float32")


def session_file(path: Path, items: list[Item], **header: Any) -> Path:
    writer = SessionWriter(path, {"session": "abc", "clock": {"lsl_time": 1000.0, "unix_time": 0.0}, **header})
    for item in items:
        writer.write(item)
    writer.close()
    return path


def run(source: SessionReplaySource) -> list[Item]:
    found: list[Item] = []
    source.run(found.append, threading.Event())
    return found


def crcs(items: list[Item]) -> dict[float, int]:
    preprocessor = Preprocessor(PreprocessConfig())
    return {window.t_end: window.crc for item in items for window in preprocessor.push(item)}


def test_the_order_of_the_file_goes_before_the_order_of_time(tmp_path: Path) -> None:
    """A tick that came before older samples comes before them again: it decided which window closed when."""
    items = list(eeg_items(6.0, chunk=128))
    late = [*items[:3], Tick(1004.2, "eeg"), *items[3:]]
    replayed = run(SessionReplaySource(session_file(tmp_path / "s.xdf", late), speed=math.inf))
    assert [type(item) for item in replayed] == [type(item) for item in late]
    assert crcs(replayed) == crcs(late)
    assert crcs(late) != crcs(items)


def test_other_streams_are_delivered_and_change_no_window(tmp_path: Path) -> None:
    """Not by their samples, nor by stamps of another clock."""
    items = list(eeg_items(6.0))
    mixed: list[Item] = [OTHER]
    for item in items:
        mixed += [item, Chunk(OTHER.source, np.array([1.7e9]), np.ones((1, 1)))]
    replayed = run(SessionReplaySource(session_file(tmp_path / "s.xdf", mixed), speed=50.0))
    assert len(replayed) == len(mixed)
    assert crcs(replayed) == crcs(items)
    assert len(crcs(items)) > 5


def test_a_loop_goes_on_with_later_stamps(tmp_path: Path) -> None:
    """Windows never step back, and there are some in every round."""
    items = list(eeg_items(6.0))
    source = SessionReplaySource(session_file(tmp_path / "s.xdf", items), loop=True)
    three_laps = list(itertools.islice(source.items(), 3 * len(items)))
    chunks = [item for item in three_laps if isinstance(item, Chunk)]
    assert all(a.t[-1] < b.t[0] for a, b in itertools.pairwise(chunks))
    preprocessor = Preprocessor(PreprocessConfig())
    windows = [window for item in three_laps for window in preprocessor.push(item)]
    assert [b.index - a.index for a, b in itertools.pairwise(windows)] == [1] * (len(windows) - 1)
    good = [window.t_end for window in windows if window.mask["eeg"].any()]
    assert good[0] < 1006 < good[-1] - 15


def test_a_gap_is_shifted_with_its_lap(tmp_path: Path) -> None:
    """As everything else that has a time."""
    gap = Gap(1001.0, 1002.0, "eeg", "stream_restarted")
    path = session_file(tmp_path / "s.xdf", [*eeg_items(1.0), gap, Tick(1003.0, "eeg")])
    source = SessionReplaySource(path, loop=True)
    first, second = itertools.islice((item for item in source.items() if isinstance(item, Gap)), 2)
    assert first == gap
    assert second.t1 - second.t0 == pytest.approx(1.0)
    assert second.t0 > 1003.0


def test_a_map_of_channels_is_put_over_that_of_the_session(tmp_path: Path) -> None:
    """Only the announcement changes."""
    path = session_file(tmp_path / "s.xdf", list(eeg_items(1.0)))
    swapped = "AF3=13,AF4=0"
    info = next(SessionReplaySource(path, eeg=EegChoice(eeg_map=swapped, force_map=True)).items())
    assert isinstance(info, StreamInfo)
    assert (info.ch_names[0], info.ch_names[13]) == ("AF4", "AF3")


@pytest.mark.parametrize("query", ["auto", EEG.name, f"name={EEG.name}", "channel_count=14", "nominal_srate=128"])
def test_the_eeg_of_the_session_may_be_asked_for(tmp_path: Path, query: str) -> None:
    """It is the one that comes."""
    source = SessionReplaySource(session_file(tmp_path / "s.xdf", list(eeg_items(1.0))), eeg=EegChoice(query))
    assert next(source.items()) == EEG


@pytest.mark.parametrize("query", ["mine", "hostname=elsewhere", "type=signal", "channel_count=15", "stream_id=9"])
def test_another_eeg_than_that_of_the_session_is_refused(tmp_path: Path, query: str) -> None:
    """A recorded session keeps what it was fed."""
    path = session_file(tmp_path / "s.xdf", list(eeg_items(1.0)))
    with pytest.raises(StreamError, match="a session that clmer recorded keeps the EEG that it had"):
        SessionReplaySource(path, eeg=EegChoice(query))
    with pytest.raises(SettingsError, match="XPath"):
        SessionReplaySource(path, eeg=EegChoice("starts-with(name,'E')"))


def test_eeg_that_cannot_feed_the_model_is_refused_before_the_replay(tmp_path: Path) -> None:
    few = dataclasses.replace(EEG, ch_names=("X", "Y"))
    with pytest.raises(StreamError):
        SessionReplaySource(session_file(tmp_path / "s.xdf", [few]))


def test_a_speed_must_be_above_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        SessionReplaySource(session_file(tmp_path / "s.xdf", list(eeg_items(1.0))), speed=0.0)


def test_a_stop_ends_the_replay_at_once(tmp_path: Path) -> None:
    """In the middle of a wait, too."""
    source = SessionReplaySource(session_file(tmp_path / "s.xdf", list(eeg_items(60.0))), speed=1.0)
    stop = threading.Event()
    found: list[Item] = []

    def put(item: Item) -> None:
        found.append(item)
        if len(found) == 3:
            stop.set()

    source.run(put, stop)
    assert len(found) == 3


def test_other_signal_settings_than_then_are_said(tmp_path: Path) -> None:
    """The same ones are not."""
    now = PreprocessConfig()
    then = dataclasses.replace(now, signal=dataclasses.replace(now.signal, notch_hz=50.0))
    path = session_file(tmp_path / "s.xdf", list(eeg_items(1.0)), preprocess=then.to_dict())
    assert SessionReplaySource(path, preprocess=then).warnings == ()
    (warning,) = SessionReplaySource(path, preprocess=now).warnings
    assert "other signal settings" in warning
