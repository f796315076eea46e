"""Claims about live EEG over a real LSL network; the headset is another process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.lsl.inlet import LONGEST_PAUSE_S, ReadPacing, WindowGrid, arrival_stamps
from clmer_streaming.lsl.sources import LslEegSource
from clmer_streaming.types import Chunk, FloatArray, StreamInfo, Tick
from tests.support.listener import Listener
from tests.support.lsl_outlet import Outlet, headset, headsets

WAIT_S = 30.0
"""Generous: a network of this machine alone needs a second."""


def given_up() -> threading.Event:
    """Return an event that is set when the test has waited long enough."""
    event = threading.Event()
    timer = threading.Timer(WAIT_S, event.set)
    timer.daemon = True
    timer.start()
    return event


@pytest.mark.lsl
def test_a_headset_is_found_announced_and_read() -> None:
    """The announcement has the stream's labels, the chunks its 19 columns, the counter runs on."""
    with headset(), Listener(LslEegSource("auto", SignalConfig())) as listener:
        info = listener.next(StreamInfo)
        assert info.name == "EmotivDataStream-EEG"
        assert info.ch_names[3:17] == EPOC_CH_NAMES
        assert info.sfreq == 128.0
        assert info.source_id == "TEST-0001"
        chunks = [listener.next(Chunk) for _ in range(10)]
        counter = np.concatenate([chunk.x for chunk in chunks], axis=1)[1]
        assert set(np.diff(counter) % 128) == {1.0}


@pytest.mark.lsl
def test_without_a_headset_there_are_ticks() -> None:
    """Waiting is said, and goes on."""
    with Listener(LslEegSource("nobody", SignalConfig())) as listener:
        first, second = listener.next(Tick), listener.next(Tick)
        assert second.t > first.t


@pytest.mark.lsl
def test_two_headsets_are_refused_with_their_names() -> None:
    """Nobody guesses whose EEG it is."""
    source = LslEegSource("auto", SignalConfig())
    two = headsets(Outlet("one", "ID-1"), Outlet("two", "ID-2"))
    with two, pytest.raises(StreamError, match=r"--eeg NAME") as caught:
        source.run(lambda item: None, given_up())
    assert {"one (source_id ID-1", "two (source_id ID-2"} <= set(map(str.strip, _found(caught.value)))


def _found(error: StreamError) -> list[str]:
    listed = error.found.partition(":")[2].split(";")
    return [entry.partition(", host")[0] for entry in listed]


@pytest.mark.lsl
def test_a_named_stream_that_does_not_fit_is_refused() -> None:
    """The user asked for this stream by name and reads why it cannot be used."""
    signal = SignalConfig(ch_names=("Fp1", "Fp2", "Cz", "Pz"))
    with headset("mine"), pytest.raises(StreamError, match="--eeg-map"):
        LslEegSource("mine", signal).run(lambda item: None, given_up())


@pytest.mark.lsl
def test_a_named_rate_holds_where_samples_are_stamped_on_arrival() -> None:
    """Unix stamps, 250 Hz declared, 125 Hz said: the samples of a chunk lie 8 ms apart, not 4."""
    source = LslEegSource("auto", SignalConfig(), sfreq=125.0)
    with headset(chunk=25, hz=125.0, nominal_hz=250.0, stamps="unix"), Listener(source) as listener:
        assert "Unix time" in [listener.next(StreamInfo) for _ in range(2)][1].note
        assert np.diff(listener.next(Chunk).t) == pytest.approx(0.008)


def test_arrival_stamps_end_now() -> None:
    """Three samples at 2 Hz that arrive at 10 s were taken at 9, 9.5 and 10 s."""
    assert arrival_stamps(10.0, np.zeros(3), 2.0).tolist() == [9.0, 9.5, 10.0]


PLAIN = ReadPacing(hop_s=0.5, delay_s=0.0, uncertainty_s=0.005)


def test_far_from_the_end_of_a_window_there_is_time() -> None:
    """0.1 s behind an end that was passed, and 0.4 s before the next: the longest rest there is."""
    assert PLAIN.pause_s(t_newest=100.095, now=100.1) == LONGEST_PAUSE_S


def test_a_rest_ends_before_a_window_does() -> None:
    """20 ms before the end the rest is shorter than that; 3 ms before it there is none."""
    assert 0.01 < PLAIN.pause_s(t_newest=100.475, now=100.48) < 0.02
    assert PLAIN.pause_s(t_newest=100.495, now=100.497) == 0.0


@pytest.mark.parametrize("t_newest", [99.99, 100.0, 100.004])
def test_what_may_not_yet_complete_the_window_is_waited_behind(t_newest: float) -> None:
    """At 100.01 the window of 100 s may still wait for its last sample, which jitter may have moved."""
    assert PLAIN.pause_s(t_newest, now=100.01) == 0.0


def test_a_stream_that_lags_is_never_rested_from_too_long() -> None:
    """Samples that come 0.3 s late complete a window then: no rest until they have."""
    assert PLAIN.pause_s(t_newest=99.9, now=100.2) == 0.0
    assert PLAIN.pause_s(t_newest=100.01, now=100.31) == LONGEST_PAUSE_S


def test_delays_move_the_end_of_a_window() -> None:
    """A window of a stream that is 60 ms late and resampled ends 60 ms and the filter's 47 later by its stamps."""
    pacing = ReadPacing.for_stream(250.0, delay_s=0.06, model_sfreq=128.0, hop_s=0.5)
    assert pacing.delay_s == pytest.approx(0.06 + 0.047, abs=0.002)
    assert pacing.pause_s(t_newest=100.1, now=100.105) == 0.0
    assert pacing.pause_s(t_newest=100.135, now=100.14) == LONGEST_PAUSE_S


@pytest.mark.lsl
def test_a_reader_that_rests_takes_samples_together_and_loses_none() -> None:
    """Of a headset that sends sample by sample: several in a chunk, and the counter runs on."""
    with headset(chunk=1), Listener(LslEegSource("auto", SignalConfig(), grid=WindowGrid(0.5))) as listener:
        chunks = [listener.next(Chunk) for _ in range(20)]
    counter: FloatArray = np.concatenate([chunk.x for chunk in chunks], axis=1)[1]
    assert set(np.diff(counter) % 128) == {1.0}
    assert max(chunk.t.size for chunk in chunks[5:]) > 2
