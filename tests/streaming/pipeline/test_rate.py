"""Claims about packet counters, and about the rate at which a stream really runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.support.senders import Sender, push_times
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.pipeline.counter import LossCounter, find_counting
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.rate import RateDecision, RateGate, measure_rate
from clmer_streaming.types import BoolArray, Chunk, FloatArray, Gap, StreamInfo, StreamStatus, Tick, Window
from tests.support.signals import EEG_INFO, cut, eeg_like, eeg_path, push_all, stamps

SECONDS = 20


def stream(
    true_hz: float = 128.0, nominal_hz: float = 128.0, *, counter: bool = True, chunk: int = 1, jitter_s: float = 0.0
) -> tuple[StreamInfo, FloatArray, FloatArray]:
    """Return a stream that runs at one rate and declares another: announcement, stamps, 15 channels.

    As LSL does it, only the last sample of a chunk has a stamp of its own; the others follow by the nominal rate.
    """
    n = int(SECONDS * true_hz) // chunk * chunk
    last = np.arange(n) // chunk * chunk + chunk - 1
    t = stamps(n, true_hz)[last] - ((last - np.arange(n)) / nominal_hz if nominal_hz else 0.0)
    t = t + jitter_s * np.random.default_rng(3).standard_normal(n // chunk)[np.arange(n) // chunk]
    x = np.concatenate([eeg_like(n, sfreq=true_hz), (np.arange(n) % round(true_hz))[None, :]])
    labels = (*EEG_INFO.ch_names, "COUNTER" if counter else "SOMETHING")
    return dataclasses.replace(EEG_INFO, sfreq=nominal_hz, ch_names=labels), t, x


def half_lost(n: int, seed: int = 0) -> BoolArray:
    keep: BoolArray = np.random.default_rng(seed).random(n) < 0.5
    keep[[0, -1]] = True
    return keep


def run(info: StreamInfo, t: FloatArray, x: FloatArray) -> tuple[list[Window], StreamStatus]:
    stage = Preprocessor(PreprocessConfig())
    windows = push_all(stage, [info, *cut(t, x, [16])])
    return windows, stage.statuses()[0]


def with_eeg(windows: list[Window]) -> list[Window]:
    return [window for window in windows if window.mask["eeg"].any()]


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 16])
@pytest.mark.parametrize("nominal_hz", [160.0, 128 / 1.2, 256.0, 0.0])
def test_a_wrong_or_absent_nominal_rate_is_found_out(nominal_hz: float, chunk: int, counter: bool) -> None:
    """The signal path runs at 128 Hz whatever the stream declares: no gap, nothing invented, windows to the end."""
    windows, status = run(*stream(nominal_hz=nominal_hz, chunk=chunk, counter=counter, jitter_s=0.001))
    assert (status.n_gaps, status.n_bridged, status.n_lost) == (0, 0, 0)
    assert status.rate_hz == pytest.approx(128.0, rel=1e-3)
    assert abs(status.drift_ppm) < 1000
    assert status.nominal_rate_hz == nominal_hz
    assert "runs at 128 Hz" in status.reason
    assert len(with_eeg(windows)) >= 2 * SECONDS - 6


def test_the_signal_of_a_wrong_rate_is_that_of_the_right_one() -> None:
    """Declared as 128 Hz or as 160 Hz: the last window is the same to the last bit."""
    info, t, x = stream()
    right, _ = run(info, t, x)
    wrong, _ = run(dataclasses.replace(info, sfreq=160.0), t, x)
    assert right[-1].crc == wrong[-1].crc


def test_a_right_nominal_rate_costs_no_window() -> None:
    """The rate is looked at for two seconds, and a window needs two and a half: the first EEG is there at once."""
    windows, status = run(*stream())
    assert with_eeg(windows)[0].t_end == 102.5
    assert status.reason == ""


def test_what_waited_for_the_rate_is_not_shown_as_live() -> None:
    """The rate is known after 6 s; by then, windows that ended more than a second before have been closed."""
    info, t, x = stream(nominal_hz=160.0)
    stage = Preprocessor(PreprocessConfig())
    for item in (Tick(99.5, "eeg"), info):
        stage.push(item)
    closed = [(chunk.t[-1], window) for chunk in cut(t, x, [16]) for window in stage.push(chunk)]
    late = [now - window.t_end for now, window in closed if window.mask["eeg"].any()]
    assert max(late) < 1.2
    assert next(window.t_end for _, window in closed if window.mask["eeg"].any()) == pytest.approx(105.0, abs=0.5)


def test_half_of_the_samples_lost_is_counted_exactly_by_the_counter() -> None:
    """The counter says how many were sent: the rate is right, and every lost sample is known."""
    info, t, x = stream()
    keep = half_lost(t.size)
    windows, status = run(info, t[keep], x[:, keep])
    assert status.n_samples + status.n_lost == t.size
    assert status.rate_hz == pytest.approx(128.0, rel=1e-3)
    assert not with_eeg(windows)


@pytest.mark.parametrize("seed", range(3))
def test_without_a_counter_uneven_losses_are_gaps(seed: int) -> None:
    """Nothing that is half invented is called EEG; the nominal rate is not doubted, the losses are said."""
    info, t, x = stream(counter=False, jitter_s=0.001)
    keep = half_lost(t.size, seed)
    windows, status = run(info, t[keep], x[:, keep])
    assert not with_eeg(windows)
    assert status.reason == "more than 40 % of its samples are lost on the way"
    assert status.n_gaps > 10


def test_without_a_counter_an_even_loss_cannot_be_told_from_a_wrong_rate() -> None:
    """Every fifth sample is missing: the stream runs at 102.4 Hz, and the doubt is said."""
    info, t, x = stream(counter=False)
    keep = np.arange(t.size) % 5 != 0
    _, status = run(info, t[keep], x[:, keep])
    assert status.reason == "declares 128 Hz, runs at 102.4 Hz; without a packet counter this may be an even loss"


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize(
    ("nominal_hz", "true_hz", "chunk"),
    [(160.0, 128.0, 256), (250.0, 125.0, 50), (250.0, 125.0, 125), (256.0, 200.0, 100), (0.0, 128.0, 128)],
)
def test_a_wrong_rate_is_found_in_chunks_of_any_length(
    nominal_hz: float, true_hz: float, chunk: int, counter: bool
) -> None:
    """The stamps within a chunk follow the nominal rate and tell nothing; those of several chunks tell the rate."""
    windows, status = run(*stream(true_hz, nominal_hz, chunk=chunk, counter=counter, jitter_s=0.002))
    assert f"runs at {true_hz:g} Hz" in status.reason
    assert (status.n_gaps, status.n_lost, status.n_lost_estimated) == (0, 0, 0)
    assert len(with_eeg(windows)) >= 2 * SECONDS - 20


@pytest.mark.parametrize("chunk", [8, 32, 64])
@pytest.mark.parametrize("delay_s", [0.03, 0.1])
def test_late_chunks_do_not_hide_the_nominal_rate(chunk: int, delay_s: float) -> None:
    """Pushes that are late by chance neither change the rate nor make anybody wait for it: 2 s are enough."""
    for seed in range(5):
        _, t = push_times(Sender(chunk=chunk, delay_s=delay_s), 600.0, seed)
        gate = RateGate(EEG_INFO, None)
        out = push_all(gate, cut(t, np.zeros((1, t.size)), [chunk]))
        assert [item.sfreq for item in out if isinstance(item, RateDecision)] == [128.0]
        assert gate.note == ""


def test_a_burst_is_not_taken_for_the_rate_of_the_stream() -> None:
    """A second of samples with one and the same stamp, or at twice the rate, shows no rate until others have come."""
    burst = measure_rate(np.full(128, 100.0), None, 0.0)
    assert (burst.rate_hz, burst.steady) == (0.0, False)
    assert not measure_rate(stamps(125, 250.0), None, 250.0).steady
    bursts = np.repeat(100.0 + np.arange(10), 128)
    assert measure_rate(bursts, None, 0.0).rate_hz == pytest.approx(128.0)


def test_a_rate_too_low_for_the_band_is_said_and_nothing_is_used() -> None:
    """60 Hz cannot carry a band up to 45 Hz: the service goes on, the samples are counted as not used."""
    windows, status = run(*stream(true_hz=60.0))
    assert status.reason.startswith("runs at 60 Hz, but the model needs a stream above 90 Hz")
    assert status.n_dropped == status.n_samples
    assert not with_eeg(windows)


def test_stamps_that_tell_no_rate_are_said() -> None:
    """All stamps are equal and no rate is declared: nothing is held for ever, everything is counted."""
    stage = RateGate(dataclasses.replace(EEG_INFO, sfreq=0.0), None)
    n = 45_000
    push_all(stage, cut(np.full(n, 100.0), np.zeros((1, n)), [1000]))
    assert stage.measuring
    assert stage.n_dropped == 40_000
    assert stage.note == "declares no rate, and its stamps tell none"


def test_a_gap_while_the_rate_is_measured_is_kept_in_order() -> None:
    """What the source said between two samples stays between them."""
    info, t, x = stream()
    said = Gap(101.0, 103.0, "eeg", "stream_restarted")
    chunks = list(cut(t, x, [64]))
    out = push_all(RateGate(info, 14), [*chunks[:2], said, *chunks[4:20]])
    assert isinstance(out[0], RateDecision)
    assert out[1:4] == [*chunks[:2], said]


@settings(max_examples=12, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    nominal_hz=st.sampled_from([0.0, 100.0, 128.0, 160.0]),
    lost=st.lists(st.tuples(st.integers(5, 900), st.integers(1, 200)), max_size=2),
    counter=st.booleans(),
)
def test_any_cut_gives_the_same_rate_and_windows(
    sizes: list[int], nominal_hz: float, lost: list[tuple[int, int]], counter: bool
) -> None:
    """The rate is decided by samples, never by chunks: the windows are equal to the last bit."""
    info, t, x = stream(nominal_hz=nominal_hz, counter=counter, jitter_s=0.004)
    keep = np.ones(t.size, dtype=bool)
    for first, n_lost in lost:
        keep[first : first + n_lost] = False
    t, x = t[keep], x[:, keep]

    def made(cuts: list[int]) -> tuple[list[tuple[int, float]], float]:
        stage = Preprocessor(PreprocessConfig())
        windows = push_all(stage, [info, *cut(t, x, cuts)])
        return [(window.crc, window.t_end) for window in windows], stage.statuses()[0].rate_hz

    assert made(sizes) == made([t.size])


def test_counting_is_read_off_whatever_was_lost() -> None:
    """Half of the values are missing and the counter wraps at 200: increment 1 and modulus are found."""
    values = np.arange(4000) % 200
    counting = find_counting(values[half_lost(4000)].astype(float), 200.0)
    assert counting is not None
    assert (counting.step, counting.modulus) == (1.0, 200.0)


@pytest.mark.parametrize("values", [np.zeros(500), np.full(500, np.nan), np.random.default_rng(0).standard_normal(500)])
def test_what_does_not_count_is_no_counter(values: FloatArray) -> None:
    """Zeros, NaN and noise under the label of a counter are left alone, and the stamps decide."""
    assert find_counting(values, 128.0) is None
    assert measure_rate(stamps(500), values, 128.0).rate_hz == pytest.approx(128.0)


def test_the_chunks_held_are_passed_on_once() -> None:
    """Every sample that went in comes out, in order."""
    info, t, x = stream(nominal_hz=160.0)
    out = push_all(RateGate(info, 14), cut(t, x, [50]))
    passed = np.concatenate([item.t for item in out if isinstance(item, Chunk)])
    assert np.array_equal(passed, t)


def changing(first_hz: float, then_hz: float, *, counter: bool) -> tuple[StreamInfo, FloatArray, FloatArray]:
    """Return a stream that runs at one rate for 10 s and at another for 20 s: announcement, true times, 15 channels."""
    n_first, n_then = round(10 * first_hz), round(20 * then_hz)
    t = np.concatenate([stamps(n_first, first_hz), stamps(n_then, then_hz, 110.0)])
    x = np.concatenate([eeg_like(t.size), (np.arange(t.size) % 128)[None, :]])
    labels = (*EEG_INFO.ch_names, "COUNTER" if counter else "SOMETHING")
    return dataclasses.replace(EEG_INFO, ch_names=labels), t, x


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize("then_hz", [125.0, 256.0])
def test_a_rate_that_changes_while_the_stream_runs_is_found_out(then_hz: float, counter: bool) -> None:
    """A segment ends within 12 s, the next one has the new rate, and the status says what happened."""
    info, t, x = changing(128.0, then_hz, counter=counter)
    windows, status = run(info, t + 0.002 * np.random.default_rng(0).standard_normal(t.size), x)
    assert status.reason == f"declares 128 Hz, runs at {then_hz:g} Hz; before, it ran at 128 Hz"
    assert status.rate_hz == pytest.approx(then_hz, rel=1e-3) or status.rate_hz == 0.0  # 10 s of stamps are needed
    assert status.n_samples == t.size
    assert any("eeg_clock_jump" in window.reasons for window in windows)
    assert {window.t_end for window in with_eeg(windows)} >= {125.5 + i / 2 for i in range(8)}


def test_after_a_change_of_the_rate_times_are_true_again() -> None:
    """Within 2 ms, three seconds after the change was seen."""
    info, t, x = changing(128.0, 125.0, counter=True)
    path = eeg_path(info)
    path.push(Chunk("eeg", t, x))
    end = path.timeline.push(Chunk("eeg", t[-1:] + 1 / 125, x[:, :1] + 0.0))
    (placed,) = (item for item in end if isinstance(item, Chunk))
    assert placed.t[-1] == pytest.approx(t[-1] + 1 / 125, abs=2e-3)


@pytest.mark.parametrize("sizes", [[1], [7, 200], [64]])
def test_a_change_of_the_rate_is_seen_at_the_same_sample_however_the_stream_is_cut(sizes: list[int]) -> None:
    """The samples passed, the gap and the new rate come in the same order to the last bit."""
    info, t, x = changing(128.0, 125.0, counter=True)

    def passed(cuts: list[int]) -> list[tuple[object, ...]]:
        out: list[tuple[object, ...]] = []
        for item in push_all(RateGate(info, 14), cut(t, x, cuts)):
            if isinstance(item, Chunk):
                out += [("sample", stamp) for stamp in item.t.tolist()]
            elif isinstance(item, RateDecision):
                out.append(("rate", item.sfreq))
            elif isinstance(item, Gap):
                out.append(("gap", item.t0, item.t1))
        return out

    assert passed(sizes) == passed([t.size])
    assert [word for word, *_ in passed([t.size]) if word != "sample"] == ["rate", "gap", "rate"]


def test_windows_about_a_change_of_the_rate_are_the_same_for_any_cut() -> None:
    """As everywhere: whoever cuts the stream cannot change a bit."""
    info, t, x = changing(128.0, 125.0, counter=True)

    def made(cuts: list[int]) -> list[tuple[int, float, tuple[str, ...]]]:
        windows = push_all(Preprocessor(PreprocessConfig()), [info, *cut(t, x, cuts)])
        return [(window.crc, window.t_end, window.reasons) for window in windows]

    assert made([1]) == made([7, 60]) == made([16])


@pytest.mark.parametrize(
    ("true_hz", "nominal_hz", "jitter_s"), [(127.0, 128.0, 0.01), (1.0, 1.0, 0.08), (4.0, 4.0, 0.04)]
)
def test_drift_and_jitter_are_no_change_of_the_rate(true_hz: float, nominal_hz: float, jitter_s: float) -> None:
    """A quarter of an hour, or 3,600 samples, and not one false alarm."""
    n = max(3600, round(900 * true_hz))
    t = stamps(n, true_hz) + jitter_s * np.random.default_rng(2).standard_normal(n)
    stage = RateGate(dataclasses.replace(EEG_INFO, sfreq=nominal_hz), None)
    out = push_all(stage, cut(t, np.zeros((1, n)), [50]))
    assert (stage.rate_hz, stage.note) == (nominal_hz, "")
    assert not any(isinstance(item, Gap) for item in out)


def taught(values: list[float], sfreq: float = 128.0) -> LossCounter:
    counter = LossCounter(sfreq)
    for value in values:
        counter.accept(np.array([value]))
    return counter


def test_the_increment_is_learnt_from_two_equal_steps() -> None:
    """A board that counts by twos is understood after three samples."""
    assert not taught([10.0, 12.0]).known
    counter = taught([10.0, 12.0, 14.0])
    assert counter.known
    assert counter.lost_before(16.0) == 0
    assert counter.lost_before(20.0) == 2


def test_emotiv_wraps_each_second() -> None:
    """127 is followed by 0; from 125 to 2 four samples are missing."""
    assert taught([125.0, 126.0, 127.0]).contiguous(np.array([0.0, 1.0, 2.0])) == 3
    assert taught([123.0, 124.0, 125.0]).lost_before(2.0) == 4


def test_a_byte_counter_is_recognised_once_it_passes_the_rate() -> None:
    """Beyond the nominal rate the counter wraps at 256: 254 is followed by 0 for one that counts by twos."""
    counter = taught([250.0, 252.0, 254.0], 125.0)
    assert counter.contiguous(np.array([0.0, 2.0, 4.0])) == 3
    assert counter.wrap_samples == 128


def test_contiguous_stops_at_the_first_break() -> None:
    """Of 3, 4, 6, 7 the first two follow 2."""
    assert taught([0.0, 1.0, 2.0]).contiguous(np.array([3.0, 4.0, 6.0, 7.0])) == 2


@pytest.mark.parametrize("value", [13.0, np.nan])
def test_a_value_between_the_steps_is_odd(value: float) -> None:
    """A counter by twos never shows an odd difference, nor NaN; nothing is concluded from it."""
    assert taught([8.0, 10.0, 12.0]).lost_before(value) is None


def test_a_repeated_value_claims_a_whole_wrap() -> None:
    """The same value again would mean 127 lost samples; the stamps decide whether to believe it."""
    assert taught([0.0, 1.0, 2.0]).lost_before(2.0) == 127


def test_a_new_segment_follows_nothing() -> None:
    """The increment outlives a gap, the last value does not."""
    counter = taught([0.0, 1.0, 2.0])
    counter.start_segment()
    assert not counter.known
    counter.accept(np.array([50.0]))
    assert counter.lost_before(52.0) == 1
