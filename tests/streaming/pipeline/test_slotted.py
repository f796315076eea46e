"""Claims about series on slots: the face, and HOG or what a user's own tracker tells, at any rate or at odd times."""

from __future__ import annotations

import dataclasses
import itertools
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from clmer_server.session.config import check_physio
from clmer_streaming.config import (
    EPOC_CH_NAMES,
    PhysioConfig,
    PreprocessConfig,
    SlotSeriesConfig,
    WindowConfig,
    physio_source,
)
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.slotted import SlotCut, SlottedTrack, face_quality, split_face
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import (
    Chunk,
    FaceFlag,
    FaceSample,
    FloatArray,
    Item,
    Reason,
    StreamInfo,
    StreamStatus,
    Tick,
    Window,
)
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import EEG_INFO, FACE_INFO, cut, eeg_like, face, merged, push_all, stamps

FACE_WINDOW = WindowConfig(window_s=2.0, face_slots=8)


def face_cut(*samples: FaceSample, window: WindowConfig = FACE_WINDOW) -> SlotCut:
    """Return the window that ends at 12 s."""
    track = SlottedTrack(FACE_INFO, None, PreprocessConfig(window=window), Liveness())
    for sample in samples:
        track.push(sample, sample.t)
    return track.cut(12.0)


def test_a_slot_is_the_mean_of_the_valid_frames_in_it() -> None:
    """Two frames in the first quarter second, one in the last: 1 and 3 give 2; the rest is masked."""
    cut = face_cut(face(10.0, 1.0), face(10.2, 3.0), face(11.99, 5.0))
    landmarks, aus, gaze = split_face(cut.x)
    assert cut.mask.tolist() == [True, *[False] * 6, True]
    assert aus[0, 0, 0] == 2.0
    assert landmarks[7, 0, 0] == 5.0
    assert np.array_equal(gaze[3], [0, 0])


def test_one_frame_a_second_is_one_slot_of_one_second() -> None:
    """The paper's series: a window of 1 s with F = 1 holds the mean of its frames, and nothing of those around."""
    levels = ((10.9, 9.0), (11.0, 1.0), (11.5, 2.0), (11.99, 6.0), (12.0, 9.0))
    cut = face_cut(*(face(t, level) for t, level in levels), window=WindowConfig(window_s=1.0, face_slots=1))
    assert split_face(cut.x)[1][:, 0, 0].tolist() == [3.0]


def test_the_window_is_half_open() -> None:
    """A frame at t_start belongs to the window, one at t_end does not."""
    assert len(face_cut(face(10.0), face(12.0)).samples) == 1


def test_frames_without_face_or_trust_do_not_count() -> None:
    """NaN, a missing flag, or quality below the bound: masked, never zero."""
    cut = face_cut(
        face(10.1, np.nan),
        dataclasses.replace(face(10.4), flags=FaceFlag.MISSING),
        face(10.6, quality=0.1),
    )
    assert not cut.mask.any()
    assert cut.reasons == (Reason.FACE_MISSING,)
    assert np.isnan(face_quality(cut, 12.0, 2.0)["quality"])


def test_no_frames_at_all_is_a_stale_video() -> None:
    """A face that cannot be seen and a camera that sends nothing are different things."""
    assert face_cut(face(5.0)).reasons == (Reason.VIDEO_STALE,)


def test_half_of_the_slots_make_a_face() -> None:
    """Four slots of eight are enough, three are not."""
    assert face_cut(*(face(10.1 + 0.25 * i) for i in range(4))).reasons == ()
    assert face_cut(*(face(10.1 + 0.25 * i) for i in range(3))).reasons == (Reason.FACE_MISSING,)


def test_a_flag_on_most_frames_becomes_a_reason() -> None:
    """Turned in three frames of five."""
    frames = [face(10.05 + 0.4 * i) for i in range(5)]
    frames[:3] = [dataclasses.replace(f, flags=FaceFlag.TURNED) for f in frames[:3]]
    assert Reason.FACE_TURNED in face_cut(*frames).reasons


def test_a_frame_that_goes_back_in_time_is_not_taken() -> None:
    """Order is kept by dropping what breaks it."""
    assert len(face_cut(face(11.0), face(10.5)).samples) == 1


def test_no_slot_averages_over_a_cut() -> None:
    """A face that was found anew may be another one: its slot begins with it, the slots beside keep theirs."""
    anew = dataclasses.replace(face(10.3, 7.0), flags=FaceFlag.RESET)
    for found in (anew, dataclasses.replace(anew, quality=0.1)):  # a first frame may be too poor to count
        cut = face_cut(face(10.1, 1.0), face(10.26, 1.0), found, face(10.4, 7.0), face(10.6, 7.0))
        assert split_face(cut.x)[1][:3, 0, 0].tolist() == [1.0, 7.0, 7.0]
        assert len(cut.faces) == 5 - (found.quality < 0.2)


TRACKER = SlotSeriesConfig("tracker", ("SMILE", "FROWN"))
CONFIG = PreprocessConfig(modalities=("eeg", "tracker"), slot_series=(TRACKER,))
INFO = StreamInfo(physio_source("tracker"), "physio", "My tracker", ("frown", "smile"), 0.0)
SECONDS = 8


def ramp(t: FloatArray) -> FloatArray:
    """Return (2, n): seconds since 100, and the same with the sign turned, as the stream orders its channels."""
    return np.stack([100.0 - t, t - 100.0])


def beside_eeg(due: FloatArray, t: FloatArray, x: FloatArray, seconds: int = SECONDS) -> list[Item]:
    """Return samples of a tracker, each when it is due, among the chunks of EEG."""
    eeg = [(float(c.t[-1]), c) for c in cut(stamps(128 * seconds), eeg_like(128 * seconds), (16,))]
    mine = list(zip(due.tolist(), cut(t, x, (1,), INFO.source), strict=True))
    return [chunk for _, chunk in sorted([*eeg, *mine], key=lambda scheduled: scheduled[0])]


def session(
    t: FloatArray, x: FloatArray | None = None, *, info: StreamInfo = INFO, due: FloatArray | None = None
) -> tuple[list[Window], StreamStatus]:
    """Run a tracker beside 8 s of EEG, each sample when it is due; return windows and the tracker's last status."""
    chunks = beside_eeg(t if due is None else due, t, ramp(t) if x is None else x)
    stage = Preprocessor(CONFIG)
    windows = push_all(stage, [EEG_INFO, info, *chunks])
    return windows, next(status for status in stage.statuses() if status.kind == "physio")


def test_each_slot_is_the_mean_of_the_samples_in_its_time() -> None:
    """Seconds at 10 Hz: a slot of a quarter of a second has the mean of the two or three in it, by label."""
    t = np.arange(0, SECONDS * 10) / 10 + 100.0
    windows, status = session(t)
    whole = [window for window in windows if 102.0 <= window.t_end <= 107.0]
    assert len(whole) == 11
    for window in whole:
        edges = window.t_start + 0.25 * np.arange(9)
        expected = [np.mean(t[(t >= a) & (t < b)]) - 100.0 for a, b in itertools.pairwise(edges)]
        assert window.series["tracker"].shape == (8, 2)
        assert window.series["tracker"][:, 0] == pytest.approx(expected, abs=1e-12)
        assert np.array_equal(window.series["tracker"][:, 1], -window.series["tracker"][:, 0])
        assert window.mask["tracker"].all()
        assert window.quality["tracker"]["quality"] == 1.0
        assert 0.0 < window.quality["tracker"]["age_s"] <= 0.1 + 1e-9
    assert (status.state, status.n_samples, status.n_dropped, status.reason) == ("live", 80, 0, "")


def test_a_slot_without_a_sample_is_masked_and_nothing_is_invented() -> None:
    """One sample a second at odd times fills its own slot alone; the others are zero."""
    t = np.array([100.3, 101.1, 102.62, 103.4, 104.9, 105.5, 106.8])
    windows, _ = session(t)
    window = next(window for window in windows if window.t_end == 104.0)
    assert window.mask["tracker"].tolist() == [False, False, True, False, False, True, False, False]
    assert window.series["tracker"][2, 0] == pytest.approx(2.62)
    assert window.series["tracker"][5, 0] == pytest.approx(3.4)
    assert not window.series["tracker"][~window.mask["tracker"]].any()
    assert window.quality["tracker"]["quality"] == 0.25


def test_a_sample_that_is_not_all_numbers_counts_as_not_measured() -> None:
    """NaN, infinity and what no model can take leave their slots to the other samples, or empty."""
    t = np.arange(0, SECONDS * 8) / 8 + 100.0  # two in each slot
    x = ramp(t)
    x[0, 17], x[1, 18], x[0, 19], x[1, 20] = np.nan, np.inf, -np.inf, 1e300
    windows, status = session(t, x)
    window = next(window for window in windows if window.t_end == 104.0)
    assert window.mask["tracker"].tolist() == [True, False, True, True, True, True, True, True]
    assert window.series["tracker"][0, 0] == 2.0
    assert window.series["tracker"][2, 0] == 2.625
    assert np.isfinite(window.series["tracker"]).all()
    assert status.state == "live"  # it sends; there is nothing to see


def test_stamps_that_step_back_are_dropped_and_counted() -> None:
    """As for faces: the order of time is kept, and what is late is not taken."""
    due = np.arange(0, SECONDS * 10) / 10 + 100.0
    t = due.copy()
    t[[25, 40]] -= 1.0
    windows, status = session(t, due=due)
    assert status.n_dropped == 2
    window = next(window for window in windows if window.t_end == 104.0)
    values = np.delete(t, [25, 40])
    first = values[(values >= 102.5) & (values < 102.75)]
    assert window.series["tracker"][2, 0] == pytest.approx(np.mean(first) - 100.0)


@pytest.mark.parametrize("at", [33, 34])
@pytest.mark.parametrize("odd", [0.0, 101.0, 104.8, 108.4, 113.2, 133.4, 160.0, 1e12, np.inf, np.nan])
def test_one_wild_stamp_costs_its_sample_and_no_more(odd: float, at: int) -> None:
    """A leap of the clock there and back: the windows go on, none is held up, and their times stay."""
    due = np.arange(0, SECONDS * 10) / 10 + 100.0
    good, _ = session(np.delete(due, at))
    t, x = due.copy(), ramp(due)
    t[at] = odd
    windows, status = session(t, x, due=due)
    assert (status.state, status.reason) == ("live", "")
    assert [window.t_end for window in windows] == [window.t_end for window in good]
    assert [window.crc for window in windows] == [window.crc for window in good]


@pytest.mark.parametrize("ahead_s", [12.0, 30.0, 59.0])
def test_a_series_that_is_ahead_is_masked_and_used_neither_now_nor_later(ahead_s: float) -> None:
    """Stamped from 12 to 59 s ahead for 20 s, then silent: it fills no slot, then or when its time has come."""
    due = np.arange(0, 200) / 10 + 100.0
    stage, told = Preprocessor(CONFIG), False
    items: list[Item] = [EEG_INFO, INFO, *beside_eeg(due, due + ahead_s, ramp(due), seconds=90)]
    for item in items:
        assert not any(window.mask["tracker"].any() for window in stage.push(item))
        reason = next((status.reason for status in stage.statuses() if status.kind == "physio"), "")
        told = told or "s ahead of the other streams" in reason
    assert told


def test_a_clock_that_is_set_back_takes_along_what_it_told_of_times_to_come() -> None:
    """Nine seconds ahead until 103 s, then three behind: no slot is filled with what was told before its time."""
    due = np.arange(0, 150) / 10 + 100.0
    t = np.where(due < 103.0, due + 9.0, due - 3.0)
    chunks = beside_eeg(due, t, ramp(due), seconds=15)
    windows = push_all(Preprocessor(CONFIG), [EEG_INFO, INFO, *chunks])
    assert not any(window.mask["tracker"].any() for window in windows if window.t_end > 108.0)


def test_a_series_ahead_by_less_than_ten_seconds_is_taken_at_its_word() -> None:
    """Steadily five seconds ahead: each sample is confirmed by the next one, and lies where its stamp says."""
    due = np.arange(0, SECONDS * 10) / 10 + 100.0
    windows, status = session(due + 5.0, ramp(due), due=due)
    window = next(window for window in windows if window.t_end == 107.0)
    assert window.mask["tracker"].tolist() == [True] * 8
    assert 0.0 <= window.series["tracker"][0, 0] <= 0.2
    assert (status.state, status.reason, status.n_dropped) == ("live", "", 0)


def test_a_silent_series_is_masked_and_holds_up_no_window() -> None:
    """It stops at 103 s: windows wait for it until it has been silent for a second, and then no more."""
    t = np.arange(0, 30) / 10 + 100.0
    windows, status = session(t)
    alone, _ = session(np.empty(0))
    assert windows[-1].t_end == alone[-1].t_end
    assert not windows[-1].mask["tracker"].any()
    assert windows[-1].mask["eeg"].all()
    assert math.isnan(windows[-1].quality["tracker"]["quality"])
    assert status.state in ("stalled", "lost")


def test_a_window_waits_for_a_live_series_no_longer_than_it_must() -> None:
    """EEG has passed 104.0: the window comes with the tracker's first sample behind it, or when it counts as silent."""
    t, stage = np.arange(100.0, 103.95, 0.1), Preprocessor(CONFIG)
    eeg = list(cut(stamps(582), eeg_like(582), (16,)))
    begin: list[Item] = [EEG_INFO, INFO, *eeg[:28], *cut(t, ramp(t), (1,), INFO.source)]
    for item in begin:
        stage.push(item)
    assert [window.t_end for chunk in eeg[28:] for window in stage.push(chunk)] == [103.5]
    (closed,) = stage.push(Chunk(INFO.source, np.array([104.0]), np.zeros((2, 1))))
    assert closed.t_end == 104.0
    assert closed.mask["tracker"].all()
    assert stage.push(Tick(104.9, "eeg")) == []
    assert [window.t_end for window in stage.push(Tick(105.1, "eeg"))] == [104.5]


def test_a_series_on_another_clock_is_said_and_moves_nothing() -> None:
    """Unix time: the windows keep LSL time and the EEG, the status tells what to do, and nothing is hoarded."""
    t = np.arange(0, SECONDS * 10) / 10 + 1.7e9
    stage = Preprocessor(CONFIG)
    mine = dict(enumerate(cut(t, ramp(t), (1,), INFO.source)))
    items: list[Item] = [EEG_INFO, INFO]
    for i, chunk in enumerate(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,))):
        items += [chunk, *([mine[i]] if i in mine else [])]
    windows, most_kept = [], 0
    for item in items:
        windows += stage.push(item)
        most_kept = max(most_kept, stage.n_kept.get(INFO.source, 0))
    assert most_kept < 20  # two seconds, at ten samples a second
    assert windows[-1].t_end == 107.5
    assert windows[-1].mask["eeg"].all()
    assert not windows[-1].mask["tracker"].any()
    (status,) = (status for status in stage.statuses() if status.kind == "physio")
    assert "s ahead of the other streams: let the sender stamp in LSL time" in status.reason


def test_a_series_without_a_usable_stamp_is_not_live_and_holds_up_no_window() -> None:
    """Chunks without samples, then stamps that are no numbers: still connecting, and each window comes with its EEG."""
    eeg = list(cut(stamps(512), eeg_like(512), (16,)))
    stage, alone = Preprocessor(CONFIG), Preprocessor(CONFIG)
    said = Chunk(INFO.source, np.array([np.nan]), np.zeros((2, 1)))
    alone.push(EEG_INFO)
    begin: list[Item] = [EEG_INFO, INFO, Chunk(INFO.source, np.empty(0), np.empty((2, 0)))]
    for item in begin:
        stage.push(item)
    for chunk in eeg:
        stage.push(said)
        assert [window.crc for window in stage.push(chunk)] == [window.crc for window in alone.push(chunk)]
    (status,) = (status for status in stage.statuses() if status.kind == "physio")
    assert (status.state, status.n_samples, status.n_dropped) == ("connecting", 32, 32)


def test_a_tracker_that_comes_back_as_it_was_loses_nothing() -> None:
    """Announced anew in mid-window: the windows, and so those of a replay, are what they are without; counts go on."""
    t = np.arange(0, SECONDS * 10) / 10 + 100.0
    mine = list(cut(t, ramp(t), (1,), INFO.source))
    eeg = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,)))
    chunks = merged(eeg, mine)
    checksums = []
    for announced in ([], [INFO], [dataclasses.replace(INFO, xml="<info/>")]):
        stage = Preprocessor(CONFIG)
        windows = push_all(stage, [EEG_INFO, INFO, *chunks[:60], *announced, *chunks[60:]])
        checksums.append([window.crc for window in windows])
        assert [status.n_samples for status in stage.statuses() if status.kind == "physio"] == [80]
    assert len(checksums[0]) == 15
    assert checksums[0] == checksums[1] == checksums[2]


def test_a_tracker_that_comes_back_as_another_begins_anew() -> None:
    """With its channels the other way round, what was before is of no use."""
    t = np.arange(0, SECONDS * 10) / 10 + 100.0
    eeg = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,)))
    chunks = merged(eeg, cut(t, ramp(t), (1,), INFO.source))
    other = dataclasses.replace(INFO, ch_names=("smile", "frown"))
    windows = push_all(Preprocessor(CONFIG), [EEG_INFO, INFO, *chunks[:72], other, *chunks[72:]])
    window = next(window for window in windows if window.t_end == 105.0)
    assert window.mask["tracker"].tolist() == [False] * 4 + [True] * 4
    assert window.series["tracker"][-1, 0] < 0.0  # it was SMILE - 100 s, and is the other channel now


@pytest.mark.parametrize("behind_s", [1.5, 5.0, 30.0])
def test_a_series_that_is_steadily_behind_says_so(behind_s: float) -> None:
    """Before the time is known, or behind that: it is not live, and the status tells by how much it is too late."""
    due = np.arange(0, SECONDS * 10) / 10 + 100.0
    for first, states in ((0, ("stalled", "lost")), (40, ("connecting",))):
        windows, status = session(due[first:] - behind_s, ramp(due[first:]), due=due[first:])
        assert status.state in states
        assert status.reason.endswith(" s behind the other streams: let the sender stamp in LSL time")
        assert abs(float(status.reason.split()[3]) - behind_s) <= 0.6
        assert windows[-1].t_end == 107.5


def test_a_stream_without_its_channels_is_refused_in_one_sentence() -> None:
    """The session goes on; the status says what was found."""
    stage = Preprocessor(CONFIG)
    stage.push(dataclasses.replace(INFO, ch_names=("left", "right")))
    (status,) = stage.statuses()
    assert "expected a stream with the channels SMILE, FROWN" in status.reason


def test_the_delay_of_a_device_is_taken_off() -> None:
    """Half a second of delay: what is stamped 102.5 happened at 102."""
    t = np.arange(0, SECONDS * 8) / 8 + 100.0
    now, _ = session(t)
    late, status = session(t + 0.5, ramp(t), info=dataclasses.replace(INFO, delay_s=0.5))
    assert status.delay_s == 0.5
    one, other = (next(w for w in windows if w.t_end == 104.0) for windows in (now, late))
    assert one.crc == other.crc


def test_settings_with_slots_survive_json_and_change_the_hash() -> None:
    """What an artifact holds comes back; settings without such series are written as they always were."""
    assert PreprocessConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert "slot_series" not in PreprocessConfig().to_dict()
    assert CONFIG.config_hash != dataclasses.replace(CONFIG, slot_series=()).config_hash


def test_the_option_of_signals_names_series_on_slots_too() -> None:
    """The model knows which kind a series is; the user says the stream."""
    check_physio({"Tracker": "x", "ecg": "y"}, dataclasses.replace(CONFIG, physio=(PhysioConfig("ecg", ("E",), 32.0),)))


@pytest.mark.parametrize("sfreq", [10.0, 0.0])
def test_a_replay_takes_it_by_the_name_of_its_stream(tmp_path: Path, sfreq: float) -> None:
    """EEG and a tracker in one file, of a rate or of none: the windows are those of the same samples live."""
    path, t = tmp_path / "session.xdf", np.arange(0, SECONDS * 10) / 10 + 100.0
    with XdfWriter(path) as writer:
        eeg = writer.add_stream(XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0, units=("microvolts",) * 14))
        tracker = writer.add_stream(XdfStreamSpec("My tracker", "Face", INFO.ch_names, sfreq))
        writer.write_samples(eeg, stamps(128 * SECONDS), eeg_like(128 * SECONDS))
        writer.write_samples(tracker, t, ramp(t))
    source = ReplaySource(path, speed=math.inf, signal=CONFIG.signal, physio={"tracker": "my tracker"})
    items: list[Item] = []
    source.run(items.append, threading.Event())
    replayed = {window.index: window for window in push_all(Preprocessor(CONFIG), items)}
    live = {window.index: window for window in session(t)[0] if window.t_end < 107.0}
    assert len(live) > 10
    for index, window in live.items():
        assert np.allclose(replayed[index].series["tracker"], window.series["tracker"])
        assert np.array_equal(replayed[index].mask["tracker"], window.mask["tracker"])
