"""The queue between sources and pipeline, and which stream states are told."""

from __future__ import annotations

import dataclasses
import math
import threading

import numpy as np
import pytest

from clmer_server.session.pipeline import (
    ItemQueue,
    ItemQueueOverflowError,
    LatencyTracker,
    StatusFeed,
)
from clmer_streaming.types import Chunk, Item, StreamStatus, Tick
from tests.support.signals import EEG_INFO, face

LIVE = StreamStatus(source="eeg", kind="eeg", name="Headset", state="live", since=0.0)


def ticks(n: int) -> list[Item]:
    return [Tick(float(t), "eeg") for t in range(n)]


def test_items_leave_in_the_order_in_which_they_came() -> None:
    """What waits at a close is still handed out, then the end is told."""
    items = ItemQueue(8, blocking=False)
    for item in ticks(3):
        items.put(item)
    items.close()
    assert [items.get() for _ in range(4)] == [*ticks(3), None]


def test_a_live_queue_that_overflows_is_an_error() -> None:
    """EEG is never dropped silently."""
    items = ItemQueue(2, blocking=False)
    for item in ticks(2):
        items.put(item)
    with pytest.raises(ItemQueueOverflowError, match="2 items wait"):
        items.put(Tick(9.0, "eeg"))


def test_a_replay_is_held_back_by_a_full_queue() -> None:
    """A hundred items pass through two places, and none is lost."""
    items = ItemQueue(2, blocking=True)

    def fill() -> None:
        for item in ticks(100):
            items.put(item)
        items.close()

    filling = threading.Thread(target=fill)
    filling.start()
    taken = list(iter(items.get, None))
    filling.join()
    assert taken == ticks(100)


def test_closing_wakes_a_source_that_waits() -> None:
    """A stop never waits for a place in a queue that nobody empties."""
    items = ItemQueue(1, blocking=True)
    items.put(Tick(0.0, "eeg"))
    waiting = threading.Thread(target=items.put, args=(Tick(1.0, "eeg"),))
    waiting.start()
    items.close(discard=True)
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert items.get() is None


def test_a_change_of_state_is_told_at_once() -> None:
    """And an unchanged status is not told again."""
    feed = StatusFeed()
    stalled = dataclasses.replace(LIVE, state="stalled", since=1.0)
    assert feed.update([LIVE], t=0.0) == [LIVE]
    assert feed.update([LIVE], t=0.1) == []
    assert feed.update([stalled], t=0.2) == [stalled]


def test_new_counts_are_told_once_a_second() -> None:
    """Sixty-four changes of the sample count within two seconds of stream time give two messages."""
    feed = StatusFeed()
    told = [
        status.n_samples
        for n in range(64)
        for status in feed.update([dataclasses.replace(LIVE, n_samples=n)], t=n / 32)
    ]
    assert told == [0, 32]


def test_the_newest_sample_of_eeg_and_the_newest_frame_count() -> None:
    """Another stream's samples, ticks and an empty chunk say nothing."""
    latency = LatencyTracker()
    assert math.isnan(latency.eeg_s)
    other = dataclasses.replace(EEG_INFO, source="motion", kind="other")
    for item in (EEG_INFO, other, Chunk(EEG_INFO.source, np.array([1.0, 2.0]), np.zeros((1, 2)))):
        latency.push(item, 2.25)
    for ignored in (
        Chunk("motion", np.array([9.0]), np.zeros((1, 1))),
        Tick(9.0, EEG_INFO.source),
        Chunk(EEG_INFO.source, np.empty(0), np.zeros((1, 0))),
    ):
        latency.push(ignored, 10.0)
    assert latency.eeg_s == 0.25
    assert math.isnan(latency.face_s)
    latency.push(face(3.0), 3.5)
    assert (latency.eeg_s, latency.face_s) == (0.25, 0.5)
