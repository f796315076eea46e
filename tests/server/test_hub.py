"""Send queues and the hub: every client gets everything, or is told what it lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np

from clmer_server.hub import Hub
from clmer_server.protocol.codes import ByeReason, Encoding, NoticeCode
from clmer_server.protocol.outbound import Bye, Notice, Preview
from clmer_server.send_queue import OutboundMessage, SendQueue, Subscriber
from clmer_server.session.events import status_message
from tests.support.session_parts import MODEL, STATUS, WELCOME, event

PREVIEW = Preview("face.preview", "abc", 0, 1.0, 0.0, np.zeros((3, 1)))


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, timeout=10))


async def take(client: Subscriber) -> dict[str, Any] | None:
    outbound = await client.get()
    return None if outbound is None else json.loads(outbound.encoded(client.encoding))


async def drain(client: Subscriber) -> list[dict[str, Any]]:
    """Take until the last message."""
    messages = []
    while (message := await take(client)) is not None:
        messages.append(message)
    return messages


def sent(queue: SendQueue) -> list[dict[str, Any]]:
    """Take everything that waits."""
    messages = []
    while (outbound := queue.get()) is not None:
        messages.append(json.loads(outbound.encoded(Encoding.JSON)))
    return messages


def notice(message: str) -> OutboundMessage:
    return OutboundMessage(Notice(code=NoticeCode.SESSION_WARNING, message=message))


def test_a_full_queue_loses_its_oldest_predictions_and_says_which() -> None:
    """Five predictions into three places: 0 and 1 go, the gap comes first, then 2, 3 and 4."""
    queue = SendQueue(3)
    for seq in range(5):
        queue.put(OutboundMessage(event(seq=seq)))
    gap, *rest = sent(queue)
    assert gap == {
        "type": "gap",
        "session": "abc",
        "from_seq": 0,
        "to_seq": 1,
        "dropped": 2,
        "topics": {"predictions": 2},
        "reason": "slow_client",
    }
    assert [message["seq"] for message in rest] == [2, 3, 4]


def test_a_full_queue_keeps_what_is_not_a_prediction() -> None:
    """A newer prediction replaces an older one; nothing replaces a notice."""
    queue = SendQueue(2)
    for outbound in (notice("a"), OutboundMessage(event(seq=0)), OutboundMessage(event(seq=1))):
        queue.put(outbound)
    gap, first, second = sent(queue)
    assert (gap["dropped"], first["message"], second["seq"]) == (1, "a", 1)


def test_a_full_queue_loses_previews_before_predictions() -> None:
    """What is only looked at goes before what is computed with."""
    queue = SendQueue(2)
    for outbound in (OutboundMessage(event(seq=0)), OutboundMessage(PREVIEW), OutboundMessage(event(seq=1))):
        queue.put(outbound)
    gap, *rest = sent(queue)
    assert (gap["from_seq"], gap["topics"]) == (None, {"face.preview": 1})
    assert [message["seq"] for message in rest] == [0, 1]


def test_a_queue_without_predictions_stays_bounded() -> None:
    """Even notices go when nothing else can."""
    queue = SendQueue(2)
    for message in "abcd":
        queue.put(notice(message))
    gap, *rest = sent(queue)
    assert (gap["session"], gap["from_seq"], gap["topics"], len(rest)) == (None, None, {"other": 2}, 2)


def test_what_shall_be_alone_takes_the_place_of_the_one_before_and_says_so() -> None:
    """The newest prediction, and the newest status of each stream."""
    queue = SendQueue(9)
    statuses = [status_message(replace(STATUS, source=source), "abc") for source in ("eeg", "face", "eeg")]
    for outbound in (*(OutboundMessage(event(seq=seq)) for seq in range(2)), *map(OutboundMessage, statuses)):
        queue.put(outbound, latest=True)
    gap, prediction, *rest = sent(queue)
    assert (gap["from_seq"], gap["to_seq"], gap["topics"]) == (0, 0, {"predictions": 1, "status": 1})
    assert prediction["seq"] == 1
    assert [message["source"] for message in rest] == ["face", "eeg"]


def test_each_session_has_a_gap_of_its_own() -> None:
    """The numbers of two sessions have nothing to do with each other."""
    queue = SendQueue(2)
    for seq, session in ((7, "a"), (1, "b"), (8, "a"), (2, "b")):
        queue.put(OutboundMessage(event(seq=seq).model_copy(update={"session": session})))
    gaps = {message["session"]: message["from_seq"] for message in sent(queue) if message["type"] == "gap"}
    assert gaps == {"a": 7, "b": 1}


def test_a_message_is_encoded_once_for_all_clients_of_an_encoding() -> None:
    """And framed once: the very same object goes to each; MessagePack holds the same values."""
    outbound = OutboundMessage(event(seq=3))
    assert outbound.framed(Encoding.JSON) is outbound.framed(Encoding.JSON)
    assert outbound.encoded(Encoding.JSON) is outbound.encoded(Encoding.JSON)
    packed = outbound.encoded(Encoding.MSGPACK)
    assert packed is outbound.encoded(Encoding.MSGPACK)
    assert msgpack.unpackb(packed) == json.loads(outbound.encoded(Encoding.JSON))


def test_every_client_gets_every_message_in_order() -> None:
    """Two clients see the same."""

    async def test() -> None:
        hub = Hub()
        clients = [hub.attach(WELCOME), hub.attach(WELCOME)]
        for seq in range(3):
            hub.publish(event(seq=seq))
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        for client in clients:
            messages = await drain(client)
            assert [message["type"] for message in messages] == ["welcome", *["prediction"] * 3, "bye"]
            assert [message["seq"] for message in messages[1:4]] == [0, 1, 2]

    run(test())


def test_a_client_that_comes_late_knows_the_streams_and_the_notices() -> None:
    """What was said before it came is told again."""

    async def test() -> None:
        hub = Hub()
        hub.publish(status_message(STATUS, "abc"))
        hub.publish(Notice(code=NoticeCode.REPLAY_ENDED, message=""))
        hub.publish(event(seq=0))
        client = hub.attach(WELCOME)
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        assert [message["type"] for message in await drain(client)] == ["welcome", "notice", "bye"]
        assert [stream.source for stream in hub.streams] == ["eeg"]

    run(test())


def test_a_session_that_failed_and_is_started_again_still_knows_its_last_predictions() -> None:
    """In its new hub, whose numbers count on."""

    async def test() -> None:
        before = Hub()
        before.publish(event(seq=6))
        before.publish(event(seq=7))
        before.publish(Bye(reason=ByeReason.SESSION_FAILED))
        hub = Hub(earlier=before)
        hub.publish(event(seq=8))
        client = hub.attach(WELCOME, after_seq=4)
        hub.publish(event(seq=9))
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        _, gap, *rest, _ = await drain(client)
        assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (5, 5, "not_kept")
        assert [message["seq"] for message in rest] == [6, 7, 8, 9]

    run(test())


def test_nothing_follows_bye() -> None:
    """It is the last message, also for a client that comes after it."""

    async def test() -> None:
        hub = Hub()
        early = hub.attach(WELCOME)
        hub.publish(Bye(reason=ByeReason.SESSION_FAILED))
        hub.publish(event(seq=0))
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        late = hub.attach(WELCOME)
        for client in (early, late):
            messages = await drain(client)
            assert [message["type"] for message in messages] == ["welcome", "bye"]
            assert messages[-1]["reason"] == "session_failed"

    run(test())


def test_a_slow_client_does_not_hold_up_another() -> None:
    """One reads nothing and loses; the other, who reads, loses nothing."""

    async def test() -> None:
        hub = Hub(capacity=4)
        slow, quick = hub.attach(WELCOME), hub.attach(WELCOME)
        await take(quick)
        for seq in range(20):
            hub.publish(event(seq=seq))
            message = await take(quick)
            assert message is not None
            assert message["seq"] == seq
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        gap, welcome, *rest = await drain(slow)
        assert (gap["type"], gap["from_seq"], gap["to_seq"], gap["dropped"]) == ("gap", 0, 17, 18)
        assert [welcome["type"], *(message["type"] for message in rest)] == [
            "welcome",
            "prediction",
            "prediction",
            "bye",
        ]

    run(test())


def test_a_replay_waits_for_a_client_that_reads() -> None:
    """With room awaited before each message, a queue of four passes a hundred without a loss."""

    async def test() -> None:
        hub = Hub(capacity=4)
        client = hub.attach(WELCOME)
        reading = asyncio.create_task(drain(client))
        for seq in range(100):
            await hub.wait_for_room()
            hub.publish(event(seq=seq))
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        seqs = [message["seq"] for message in await reading if message["type"] == "prediction"]
        assert seqs == list(range(100))

    run(test())


def test_a_replay_goes_on_without_a_client_that_does_not_read() -> None:
    """It is waited for once; from then on it loses messages until it reads again."""

    async def test() -> None:
        hub = Hub(capacity=4)
        client = hub.attach(WELCOME)
        for seq in range(10):
            await hub.wait_for_room(timeout_s=0.01)
            hub.publish(event(seq=seq))
        assert client.stalled
        await take(client)
        assert not client.stalled

    run(test())


def test_the_hub_knows_when_its_last_client_has_gone() -> None:
    """Then a shutdown need not wait any longer."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        leaving = asyncio.create_task(hub.wait_empty(timeout_s=10))
        hub.detach(client)
        await leaving
        assert hub.n_clients == 0

    run(test())


def test_the_welcome_names_the_model() -> None:
    """A client knows what answers before the first answer."""
    assert WELCOME.model == MODEL
