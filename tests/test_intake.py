"""The queue between sources and pipeline, and which stream states are told."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from clmer_server.intake import Intake, IntakeOverflowError
from clmer_server.status_feed import StatusFeed
from clmer_streaming.types import Item, StreamStatus, Tick

LIVE = StreamStatus(source="eeg", kind="eeg", name="Headset", state="live", since=0.0)


def ticks(n: int) -> list[Item]:
    return [Tick(float(t), "eeg") for t in range(n)]


def test_items_leave_in_the_order_in_which_they_came() -> None:
    """What waits at a close is still handed out, then the end is told."""
    intake = Intake(8, blocking=False)
    for item in ticks(3):
        intake.put(item)
    intake.close()
    assert [intake.take() for _ in range(4)] == [*ticks(3), None]


def test_a_live_intake_that_overflows_is_an_error() -> None:
    """EEG is never dropped silently."""
    intake = Intake(2, blocking=False)
    for item in ticks(2):
        intake.put(item)
    with pytest.raises(IntakeOverflowError, match="2 items wait"):
        intake.put(Tick(9.0, "eeg"))


def test_a_replay_is_held_back_by_a_full_intake() -> None:
    """A hundred items pass through two places, and none is lost."""
    intake = Intake(2, blocking=True)

    def fill() -> None:
        for item in ticks(100):
            intake.put(item)
        intake.close()

    filling = threading.Thread(target=fill)
    filling.start()
    taken = list(iter(intake.take, None))
    filling.join()
    assert taken == ticks(100)


def test_closing_wakes_a_source_that_waits() -> None:
    """A stop never waits for a place in a queue that nobody empties."""
    intake = Intake(1, blocking=True)
    intake.put(Tick(0.0, "eeg"))
    waiting = threading.Thread(target=intake.put, args=(Tick(1.0, "eeg"),))
    waiting.start()
    intake.close(discard=True)
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert intake.take() is None


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
