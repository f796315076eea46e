"""The way of a session's messages from its threads to the clients."""

from __future__ import annotations

import asyncio
import threading

from clmer_server.session.sink import ReplayHandOver


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

        for hand_over in (loop.call_soon_threadsafe, ReplayHandOver(loop, room)):
            hand_over(fail)
            hand_over(lambda: made.append(1))
        while len(made) < 2:
            await asyncio.sleep(0)
        assert [type(failure) for failure in failures] == [OSError, OSError]

    asyncio.run(asyncio.wait_for(test(), timeout=20))
