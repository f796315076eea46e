"""The queue between sources and pipeline, and which stream states are told."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading

import numpy as np
import pytest

from clmer_server.session.pipeline import (
    ItemQueue,
    ItemQueueOverflowError,
    LatencyTracker,
    ReplayHandOver,
    live_hand_over,
)
from clmer_server.session.status import StatusFeed
from clmer_streaming.types import Chunk, Item, StreamStatus, Tick
from tests.support.signals import EEG_INFO, face

LIVE = StreamStatus(source="eeg", kind="eeg", name="Headset", state="live", since=0.0)


def ticks(n: int) -> list[Item]:
    return [Tick(float(t), "eeg") for t in range(n)]


def test_items_leave_in_the_order_in_which_they_came() -> None:
    """What waits at a close is still handed out, then the end is told."""
    intake = ItemQueue(8, blocking=False)
    for item in ticks(3):
        intake.put(item)
    intake.close()
    assert [intake.take() for _ in range(4)] == [*ticks(3), None]


def test_a_live_intake_that_overflows_is_an_error() -> None:
    """EEG is never dropped silently."""
    intake = ItemQueue(2, blocking=False)
    for item in ticks(2):
        intake.put(item)
    with pytest.raises(ItemQueueOverflowError, match="2 items wait"):
        intake.put(Tick(9.0, "eeg"))


def test_a_replay_is_held_back_by_a_full_intake() -> None:
    """A hundred items pass through two places, and none is lost."""
    intake = ItemQueue(2, blocking=True)

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
    intake = ItemQueue(1, blocking=True)
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


def test_a_replay_s_calls_wait_for_room_and_the_thread_that_hands_over_does_not() -> None:
    """The thread is the one that answers live sessions, too."""

    async def test() -> None:
        room, made = asyncio.Event(), list[int]()

        async def wait_for_room() -> None:
            await room.wait()

        hand_over = ReplayHandOver(asyncio.get_running_loop(), wait_for_room)
        for number in range(3):
            thread = threading.Thread(target=hand_over, args=(lambda number=number: made.append(number),))
            thread.start()
            thread.join(timeout=10)
            assert not thread.is_alive()
        assert made == []
        room.set()
        hand_over(lambda: made.append(3))
        while len(made) < 4:
            await asyncio.sleep(0)
        assert made == [0, 1, 2, 3]

    asyncio.run(asyncio.wait_for(test(), timeout=20))


def test_a_call_that_fails_holds_up_no_later_one() -> None:
    """It is told by the loop; the next calls are made."""

    async def test() -> None:
        made, failures = list[int](), list[object]()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: failures.append(context["exception"]))

        async def room() -> None: ...

        def fail() -> None:
            raise OSError("no space left")

        for hand_over in (live_hand_over(loop), ReplayHandOver(loop, room)):
            hand_over(fail)
            hand_over(lambda: made.append(1))
        while len(made) < 2:
            await asyncio.sleep(0)
        assert [type(failure) for failure in failures] == [OSError, OSError]

    asyncio.run(asyncio.wait_for(test(), timeout=20))


def test_the_newest_sample_of_eeg_and_the_newest_frame_count() -> None:
    """Another stream's samples, ticks and an empty chunk say nothing."""
    arrival = LatencyTracker()
    assert math.isnan(arrival.eeg_s)
    other = dataclasses.replace(EEG_INFO, source="motion", kind="other")
    for item in (EEG_INFO, other, Chunk(EEG_INFO.source, np.array([1.0, 2.0]), np.zeros((1, 2)))):
        arrival.take(item, 2.25)
    for ignored in (
        Chunk("motion", np.array([9.0]), np.zeros((1, 1))),
        Tick(9.0, EEG_INFO.source),
        Chunk(EEG_INFO.source, np.empty(0), np.zeros((1, 0))),
    ):
        arrival.take(ignored, 10.0)
    assert arrival.eeg_s == 0.25
    assert math.isnan(arrival.face_s)
    arrival.take(face(3.0), 3.5)
    assert (arrival.eeg_s, arrival.face_s) == (0.25, 0.5)
