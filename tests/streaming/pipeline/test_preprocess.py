"""Claims about the whole way from items to windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import (
    Chunk,
    FaceCalibration,
    FaceSample,
    FloatArray,
    Item,
    Marker,
    Reason,
    StreamInfo,
    Tick,
    Window,
)
from tests.support.signals import EEG_INFO, FACE_INFO, cut, eeg_like, face, merged, push_all, stamps

SECONDS = 12
N = 128 * SECONDS


def windows(items: Iterable[Item]) -> list[Window]:
    return push_all(Preprocessor(PreprocessConfig()), items)


def eeg_items(sizes: Sequence[int] = (16,), x: FloatArray | None = None, info: StreamInfo = EEG_INFO) -> list[Item]:
    signal = eeg_like(N) if x is None else x
    return [info, *cut(stamps(signal.shape[1], info.sfreq), signal, sizes)]


def faces(t0: float = 100.0, t1: float = 112.0, level: float = 1.0) -> list[Item]:
    return [FACE_INFO, *(face(t, level) for t in np.arange(t0, t1, 1 / 30))]


def test_windows_lie_on_the_absolute_grid_without_holes() -> None:
    """From the first grid point behind the first sample on, one window each half second."""
    out = windows(eeg_items())
    assert [w.index for w in out] == list(range(201, 201 + len(out)))
    assert all(w.t_end == w.index * 0.5 and w.t_start == w.t_end - 2.0 for w in out)
    assert out[-1].t_end == 111.5


def test_the_first_eeg_comes_at_the_first_grid_point_behind_settling_and_window() -> None:
    """0.5 s to settle, 2 s of window: first sample at 100 s, first EEG in the window that ends at 102.5 s."""
    out = windows(eeg_items())
    assert next(w.t_end for w in out if w.mask["eeg"].any()) == 102.5
    assert all(Reason.WARMING_UP in w.reasons for w in out if w.t_end < 102.5)


def test_integers_of_64_bits_give_the_windows_of_the_same_numbers() -> None:
    """What was recorded as int64 is one stream of numbers like any other."""
    x = np.round(eeg_like(N))
    assert [w.crc for w in windows(eeg_items(x=x.astype(np.int64)))] == [w.crc for w in windows(eeg_items(x=x))]


def test_windows_have_the_fixed_shapes_whatever_is_there() -> None:
    """Every modality is in every window; what is missing is zero and masked."""
    for out in (windows(eeg_items()), windows(faces())):
        for w in out:
            shapes = {name: w.series[name].shape for name in w.series}
            assert shapes == {"eeg": (14, 256), "landmarks": (8, 68, 3), "aus": (8, 17, 2), "gaze": (8, 2)}
            assert {name: w.mask[name].shape for name in w.mask} == {
                "eeg": (14,), "landmarks": (8,), "aus": (8,), "gaze": (8,),
            }  # fmt: skip
            for name, series in w.series.items():
                assert not series[~w.mask[name]].any()


def test_the_reference_is_the_mean_of_the_good_channels() -> None:
    """A railed channel is masked and takes no part: the good ones still sum to zero."""
    x = eeg_like(N)
    x[4] = 187_500.0
    window = windows(eeg_items(x=x))[-1]
    assert np.flatnonzero(~window.mask["eeg"]).tolist() == [4]
    assert np.max(np.abs(np.sum(window.series["eeg"], axis=0))) < 1e-9
    assert window.quality["eeg"]["channels_ok"] == 13


def test_more_than_half_of_the_channels_bad_makes_eeg_unusable() -> None:
    """Eight flat channels of fourteen: masked altogether, and said."""
    x = eeg_like(N)
    x[:8] = 4200.0
    window = windows(eeg_items(x=x))[-1]
    assert not window.mask["eeg"].any()
    assert {Reason.EEG_CHANNELS_BAD, Reason.EEG_FLAT} <= set(window.reasons)


def test_nan_never_outlives_its_window() -> None:
    """A burst of NaN, infinity and kilovolts in one channel: later windows are as if it had not been."""
    x, clean = eeg_like(N), eeg_like(N)
    x[2, 400:420] = np.nan
    x[2, 420:425] = [np.inf, -np.inf, 1e300, -1e300, 1e12]
    spoilt, whole = windows(eeg_items(x=x))[-1], windows(eeg_items(x=clean))[-1]
    assert np.isfinite(spoilt.series["eeg"]).all()
    assert np.max(np.abs(spoilt.series["eeg"] - whole.series["eeg"])) < 1e-6


def test_no_window_spans_a_gap() -> None:
    """Three seconds are lost; the windows that touch them have no EEG and say gap or warming up."""
    t, x = stamps(N), eeg_like(N)
    keep = np.ones(N, dtype=bool)
    keep[512:896] = False  # 104 s to 107 s
    out = windows([EEG_INFO, *cut(t[keep], x[:, keep], [16])])
    with_eeg = [w.t_end for w in out if w.mask["eeg"].any()]
    assert max(t_end for t_end in with_eeg if t_end < 107) == 104.0
    assert min(t_end for t_end in with_eeg if t_end > 104) == 109.5
    for w in out:
        if 104 < w.t_end <= 107:
            assert {Reason.GAP, Reason.EEG_STALE} & set(w.reasons)


def test_a_bridged_loss_keeps_the_window_and_is_counted() -> None:
    """Eight samples without counter or stamps to tell are a jump of 62 ms: bridged, and in the quality."""
    info = dataclasses.replace(EEG_INFO, ch_names=(*EEG_INFO.ch_names, "COUNTER"))
    x = np.concatenate([eeg_like(N), (np.arange(N) % 128)[None, :]])
    keep = np.ones(N, dtype=bool)
    keep[600:608] = False
    out = windows([info, *cut(stamps(N)[keep], x[:, keep], [16])])
    fractions = {w.t_end: w.quality["eeg"]["interpolated_frac"] for w in out if w.mask["eeg"].any()}
    assert fractions[105.5] == pytest.approx(8 / 256)
    assert fractions[108.0] == 0.0


def test_face_slots_stand_in_the_window_of_their_time() -> None:
    """A face that is there from 104 to 106 s fills the slots of those seconds and no others."""
    out = windows(merged(eeg_items(), faces(), []))
    assert all(w.mask["aus"].all() for w in out if 102 <= w.t_end <= 111)
    partly = windows(merged(eeg_items(), [FACE_INFO, *faces(104.0, 106.0)[1:], *faces(106.0, 112.0, np.nan)[1:]]))
    at = {w.t_end: w for w in partly}
    assert at[106.0].mask["aus"].all()
    assert at[107.0].mask["aus"].tolist() == [True] * 4 + [False] * 4
    assert not at[108.0].mask["aus"].any()
    assert Reason.FACE_MISSING in at[108.0].reasons


def test_a_face_of_another_extractor_is_not_used() -> None:
    """Numbers of another making mean something else: masked, and said."""
    foreign = [dataclasses.replace(FACE_INFO, extractor="openface-2.2"), *faces()[1:]]
    stage = Preprocessor(PreprocessConfig())
    out = push_all(stage, merged(eeg_items(), foreign))
    assert not any(w.mask["aus"].any() for w in out)
    assert all(Reason.FACE_EXTRACTOR_MISMATCH in w.reasons for w in out)
    assert "openface-2.2" in stage.statuses()[1].reason


def test_a_window_waits_for_a_slow_source_but_not_for_ever() -> None:
    """The face falls silent at 105 s: windows wait for it for a second, then go on without it."""
    stage = Preprocessor(PreprocessConfig())
    closed_at = {}
    for item in merged(eeg_items(), faces(t1=105.0)):
        closed_at.update({window.t_end: item.t[-1] for window in stage.push(item) if isinstance(item, Chunk)})
    assert 105.9 < closed_at[105.5] <= 106.2
    assert closed_at[108.0] - 108.0 < 0.2


def test_ticks_drive_the_grid_when_everything_is_silent() -> None:
    """A headset dies: the events go on, each says that the EEG is stale, none is missing."""
    items: list[Item] = [*eeg_items(), *(Tick(112.0 + 0.5 * i, "eeg") for i in range(1, 13))]
    out = windows(items)
    assert [w.index for w in out] == list(range(201, 201 + len(out)))
    late = [w for w in out if w.t_end > 112.0]
    assert len(late) >= 8
    assert all(w.reasons[0] == Reason.EEG_STALE and not w.mask["eeg"].any() for w in late)


def test_ticks_alone_give_windows_without_eeg() -> None:
    """No headset yet: each grid point says that there is none."""
    out = windows([Tick(100.0 + 0.5 * i, "eeg") for i in range(10)])
    assert out
    assert all(Reason.EEG_MISSING in w.reasons for w in out)


def test_the_state_follows_samples_and_ticks() -> None:
    """Live while samples come; stalled a second behind the last; live again with the next."""
    stage = Preprocessor(PreprocessConfig())
    states = []
    ticks: list[Item] = [Tick(114.0, "eeg"), Tick(118.0, "eeg")]
    for item in [*eeg_items(), *ticks, *cut(stamps(64, t0=119.0), eeg_like(64), [16])]:
        stage.push(item)
        states.append(stage.statuses()[0].state)
    assert list(dict.fromkeys(states)) == ["connecting", "live", "stalled", "lost"]
    assert states[-1] == "live"


def test_the_delay_is_taken_off_the_stamps() -> None:
    """A headset that is 0.25 s late: its samples belong to windows 0.25 s earlier."""
    on_time = windows(eeg_items())
    late: list[Item] = [dataclasses.replace(EEG_INFO, delay_s=0.25), *cut(stamps(N) + 0.25, eeg_like(N), [16])]
    assert np.array_equal(windows(late)[-1].series["eeg"], on_time[-1].series["eeg"])


def test_a_stream_announced_anew_starts_anew() -> None:
    """The headset returns with another rate: nothing of the old signal is in the new windows."""
    again = dataclasses.replace(EEG_INFO, sfreq=256.0)
    out = windows([*eeg_items(), again, *cut(stamps(256 * 6, 256.0, t0=112.0), eeg_like(256 * 6, sfreq=256.0), [32])])
    assert not any(w.mask["eeg"].any() for w in out if 112.0 < w.t_end < 114.5)
    assert out[-1].mask["eeg"].all()


def test_markers_and_foreign_items_pass_by() -> None:
    """What is not the participant's signal makes no window and changes none."""
    strangers: list[Item] = [Marker(105.0, "1", "start"), Chunk("other", np.array([105.0]), np.zeros((1, 1)))]
    assert [w.crc for w in windows(merged(eeg_items(), strangers))] == [w.crc for w in windows(eeg_items())]


def test_a_clock_that_leaps_ahead_moves_the_grid() -> None:
    """A jump of a day gives the windows of the new day, not a day of empty windows."""
    t = stamps(N)
    t[800:] += 86_400.0
    out = windows([EEG_INFO, *cut(t, eeg_like(N), [16])])
    assert len(out) < 60
    assert out[-1].t_end > 86_400.0
    assert any(Reason.EEG_CLOCK_JUMP in w.reasons or Reason.GAP in w.reasons for w in out)


def test_an_unusable_stream_is_refused_when_announced() -> None:
    """Two channels of unknown name cannot feed a model of fourteen."""
    with pytest.raises(StreamError, match="--eeg-map"):
        Preprocessor(PreprocessConfig()).push(dataclasses.replace(EEG_INFO, ch_names=("a", "b")))


def test_reset_forgets_everything() -> None:
    """After a reset the same items give the same windows."""
    stage = Preprocessor(PreprocessConfig())
    first = [w.crc for w in push_all(stage, eeg_items())]
    stage.reset()
    assert [w.crc for w in push_all(stage, eeg_items())] == first


def test_the_crc_sees_every_part_of_a_window() -> None:
    """One microvolt in one sample, or one masked slot, is another CRC."""
    x = eeg_like(N)
    x[0, -100] += 1.0
    assert windows(eeg_items(x=x))[-1].crc != windows(eeg_items())[-1].crc
    with_face, without_face = windows(merged(eeg_items(), faces()))[-1], windows(eeg_items())[-1]
    assert with_face.index == without_face.index
    assert with_face.crc != without_face.crc


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    sfreq=st.sampled_from([100.0, 125.0, 128.0, 200.0, 220.0, 250.0, 256.0, 300.0, 500.0, 512.0, 1000.0, 1200.0]),
    lost=st.lists(st.tuples(st.floats(0.5, 8.0), st.floats(0.01, 2.0)), max_size=2),
    jitter_ms=st.sampled_from([0.0, 4.0]),
)
def test_any_cut_gives_the_same_windows(
    sizes: list[int], sfreq: float, lost: list[tuple[float, float]], jitter_ms: float
) -> None:
    """Whole, or in any pieces, with losses, NaN and jitter, at any rate: the same windows to the last bit."""
    n = int(9 * sfreq)
    info = dataclasses.replace(EEG_INFO, sfreq=sfreq)
    t, x = stamps(n, sfreq), eeg_like(n, sfreq=sfreq)
    x[3, n // 2 : n // 2 + 7] = np.nan
    x[:, n // 3] = np.nan
    keep = np.ones(n, dtype=bool)
    for start_s, length_s in lost:
        keep &= (t - 100.0 < start_s) | (t - 100.0 >= start_s + length_s)
    t = t + 1e-3 * jitter_ms * np.random.default_rng(3).standard_normal(n)
    t, x = t[keep], x[:, keep]
    whole = windows([info, *cut(t, x, [t.size])])
    pieces = windows([info, *cut(t, x, sizes)])
    assert [(w.crc, w.reasons, w.t_end) for w in pieces] == [(w.crc, w.reasons, w.t_end) for w in whole]


@settings(max_examples=12, deadline=None)
@given(
    sfreq=st.sampled_from([100.0, 128.0, 220.0, 250.0, 256.0, 512.0, 1000.0]),
    bursts=st.lists(
        st.tuples(
            st.floats(0.0, 6.0), st.floats(0.005, 1.5), st.integers(0, 14), st.sampled_from([np.nan, np.inf, 1e300])
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_burst_of_nan_outlives_its_window(sfreq: float, bursts: list[tuple[float, float, int, float]]) -> None:
    """NaN, infinity and absurd values anywhere: what comes out is finite, and the last window holds EEG again."""
    n = int(12 * sfreq)
    info = dataclasses.replace(EEG_INFO, sfreq=sfreq)
    t, clean = stamps(n, sfreq), eeg_like(n, sfreq=sfreq)
    spoilt = clean.copy()
    for start_s, length_s, channel, value in bursts:
        rows = slice(None) if channel == 14 else slice(channel, channel + 1)
        spoilt[rows, int(start_s * sfreq) : int((start_s + length_s) * sfreq) + 1] = value
    out, reference = windows([info, *cut(t, spoilt, [16])]), windows([info, *cut(t, clean, [16])])
    assert all(np.isfinite(series).all() for w in out for series in w.series.values())
    last, expected = out[-1], reference[-1]
    assert last.mask["eeg"].all()
    assert np.std(last.series["eeg"], axis=1) == pytest.approx(np.std(expected.series["eeg"], axis=1), rel=0.1)


@pytest.mark.parametrize("sizes", [[1], [8], [32]])
def test_the_usual_chunk_sizes_give_the_same_windows_with_a_face(sizes: list[int]) -> None:
    """Chunks are cut anew between the same face samples: the same windows."""
    whole = windows(merged(eeg_items([4]), faces()))
    assert [w.crc for w in windows(merged(eeg_items(sizes), faces()))][:18] == [w.crc for w in whole][:18]


@pytest.mark.parametrize(
    ("calibration", "warns"), [("none", True), ("prior", True), ("running", False), ("explicit", False)]
)
def test_a_face_measured_against_nobody_of_its_own_is_called_uncalibrated(
    calibration: FaceCalibration, warns: bool
) -> None:
    """An average neutral face, or none, is a warning on windows that use the face all the same."""
    seen = [dataclasses.replace(item, calibration=calibration) for item in faces() if isinstance(item, FaceSample)]
    used = [window for window in windows([FACE_INFO, *seen]) if window.mask["aus"].any()]
    assert len(used) > 10
    assert {window.calibration["face"] for window in used} == {calibration}
    assert {Reason.UNCALIBRATED in window.reasons for window in used} == {warns}


def test_a_face_sample_is_used_as_it_came() -> None:
    """A slot with one frame holds that frame's numbers."""
    (sample,) = [item for item in faces(105.1, 105.11, 2.5) if isinstance(item, FaceSample)]
    steady = [face(100.0 + 0.25 * i + 0.1, 2.5) for i in range(48)]
    out = windows(merged(eeg_items(), [FACE_INFO, *steady]))
    assert out[-2].series["aus"][0, 0, 0] == sample.aus[0, 0]


def looked_at(sizes: Sequence[int]) -> tuple[FloatArray, FloatArray, list[Window]]:
    """Return the filtered EEG, taken whenever windows close, and the windows."""
    stage, t, x, made = Preprocessor(PreprocessConfig()), [np.empty(0)], [np.empty((14, 0))], list[Window]()
    for item in eeg_items(sizes):
        if closed := stage.push(item):
            made.extend(closed)
            for times, values in stage.filtered_eeg(float(np.concatenate(t)[-1]) if len(t) > 1 else -np.inf):
                t.append(times.copy())
                x.append(values.copy())
    return np.concatenate(t), np.concatenate(x, axis=1), made


@pytest.mark.parametrize("sizes", [[1], [8], [7, 50]])
def test_the_filtered_eeg_can_be_looked_at_without_a_hole_and_without_changing_a_bit(sizes: list[int]) -> None:
    """It has the same bits for any cut, the windows are those that nobody looked at, and they are cut from it."""
    t, x, made = looked_at(sizes)
    whole_t, whole_x, _ = looked_at([32])
    n = min(t.size, whole_t.size)
    assert n > 128 * (SECONDS - 2)
    assert np.array_equal(t[:n], whole_t[:n])
    assert np.array_equal(x[:, :n], whole_x[:, :n])
    assert [window.crc for window in made] == [window.crc for window in windows(eeg_items(sizes))]
    last = made[-1]
    seen = x[:, np.searchsorted(t, last.t_end) - 256 : np.searchsorted(t, last.t_end)]
    good = last.mask["eeg"]
    assert np.allclose(last.series["eeg"][good], (seen - seen[good].mean(axis=0))[good])


def test_without_eeg_there_is_nothing_to_look_at() -> None:
    """Nor behind the newest sample."""
    stage = Preprocessor(PreprocessConfig())
    assert stage.filtered_eeg(-np.inf) == []
    for item in eeg_items():
        stage.push(item)
    assert stage.filtered_eeg(1e6) == []
