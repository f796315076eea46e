"""Claims about live EEG over a real LSL network; the headset is another process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.sources.lsl import LslEegSource
from clmer_streaming.sources.lsl_connection import arrival_stamps
from clmer_streaming.types import Chunk, StreamInfo, Tick
from listener import Listener
from lsl_outlet import headset

WAIT_S = 30.0
"""Generous: a network of this machine alone needs a second."""


def given_up() -> threading.Event:
    """Return an event that is set when the test has waited long enough."""
    event = threading.Event()
    timer = threading.Timer(WAIT_S, event.set)
    timer.daemon = True
    timer.start()
    return event


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


def test_without_a_headset_there_are_ticks() -> None:
    """Waiting is said, and goes on."""
    with Listener(LslEegSource("nobody", SignalConfig())) as listener:
        first, second = listener.next(Tick), listener.next(Tick)
        assert second.t > first.t


def test_two_headsets_are_refused_with_their_names() -> None:
    """Nobody guesses whose EEG it is."""
    source = LslEegSource("auto", SignalConfig())
    with headset("one", "ID-1"), headset("two", "ID-2"), pytest.raises(StreamError, match=r"--eeg NAME") as caught:
        source.run(lambda item: None, given_up())
    assert {"one (source_id ID-1", "two (source_id ID-2"} <= set(map(str.strip, _found(caught.value)))


def _found(error: StreamError) -> list[str]:
    listed = error.found.partition(":")[2].split(";")
    return [entry.partition(", host")[0] for entry in listed]


def test_a_named_stream_that_does_not_fit_is_refused() -> None:
    """The user asked for this stream by name and reads why it cannot be used."""
    signal = SignalConfig(ch_names=("Fp1", "Fp2", "Cz", "Pz"))
    with headset("mine"), pytest.raises(StreamError, match="--eeg-map"):
        LslEegSource("mine", signal).run(lambda item: None, given_up())


def test_arrival_stamps_end_now() -> None:
    """Three samples at 2 Hz that arrive at 10 s were taken at 9, 9.5 and 10 s."""
    assert arrival_stamps(10.0, np.zeros(3), 2.0).tolist() == [9.0, 9.5, 10.0]
