"""What a client gets: topics, how often, smoothed or not. Pure parts and a hub in this process."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from clmer_server.hub import ExponentialMean, Hub, Smoothing, Subscription, SubscriptionOptions, WindowMean
from clmer_server.protocol.codes import ByeReason, NoticeCode
from clmer_server.protocol.outbound import Bye, MarkerMessage, Notice, Preview, parse_preview
from clmer_server.protocol.parts import TOPICS, EmotionEvent
from clmer_server.send_queue import OutboundMessage, Subscriber
from clmer_server.session.events import status_message
from tests.support.session_parts import STATUS, WELCOME, event


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, timeout=10))


def marker(label: str) -> MarkerMessage:
    return MarkerMessage(session="abc", t=1.0, id=label, label=label, value=None, source="markers")


async def told(hub: Hub, client: Subscriber) -> list[dict[str, Any]]:
    """Everything after the welcome that waits for a client, up to goodbye."""
    hub.publish(Bye(reason=ByeReason.SHUTDOWN))
    messages = []
    while (outbound := await client.get()) is not None:
        messages.append(json.loads(outbound.encoded(client.encoding)))
    return [message for message in messages if message["type"] not in ("welcome", "bye")]


def test_a_client_that_says_nothing_gets_predictions_status_and_markers() -> None:
    """And no previews, which nobody asked for."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        hub.publish(event(seq=0))
        hub.publish(status_message(STATUS, "abc"))
        hub.publish(marker("a"))
        hub.publish(Preview("eeg.preview", "abc", 0, 1.0, 0.1, np.zeros((1, 1))))
        assert [message["type"] for message in await told(hub, client)] == ["prediction", "stream.status", "marker"]

    run(test())


def test_previews_are_wanted_only_while_somebody_has_subscribed() -> None:
    """A signal that nobody looks at costs nothing."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        assert not hub.wants("eeg.preview")
        hub.subscribe(client, ["eeg.preview"])
        assert hub.wants("eeg.preview")
        hub.unsubscribe(client, ["eeg.preview"])
        assert not hub.wants("eeg.preview")
        hub.subscribe(client, ["eeg.preview"])
        hub.detach(client)
        assert not hub.wants("eeg.preview")

    run(test())


def test_a_guest_who_leaves_its_last_topic_hears_no_notices_any_more() -> None:
    """They are of a session that is not its own; who is at home hears them always."""

    async def test() -> None:
        home, other = Hub(), Hub()
        guest, resident = home.attach(WELCOME), other.attach(WELCOME)
        other.subscribe(guest, ["quality"])
        for message in "ab":
            other.publish(Notice(code=NoticeCode.SESSION_WARNING, message=message))
            for client in (guest, resident):
                other.unsubscribe(client, TOPICS)
        assert [message["message"] for message in await told(home, guest)] == ["a"]
        assert [message["message"] for message in await told(other, resident)] == ["a", "b"]

    run(test())


def test_a_guest_hears_which_session_has_said_goodbye_and_stays() -> None:
    """Its own goes on."""

    async def test() -> None:
        home, other = Hub(), Hub(session="left")
        guest = home.attach(WELCOME)
        other.subscribe(guest, ["predictions"])
        other.publish(Bye(reason=ByeReason.SESSION_FAILED))
        assert other.over
        home.publish(event(seq=1))
        ended, prediction = await told(home, guest)
        assert (ended["code"], ended["session"], prediction["seq"]) == ("session_ended", "left", 1)

    run(test())


def test_fewer_messages_a_second_are_the_newest_and_no_loss() -> None:
    """Of a burst of five the first goes at once and the last when its turn comes; no gap is told."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        hub.subscribe(client, ["predictions"], SubscriptionOptions(max_hz=20.0))
        await client.get()
        for seq in range(5):
            hub.publish(event(seq=seq))
        letters = [await client.get() for _ in range(2)]
        first, second = [json.loads(outbound.encoded(client.encoding)) for outbound in letters if outbound]
        assert [first["seq"], second["seq"]] == [0, 4]
        assert await told(hub, client) == []

    run(test())


def test_a_rate_is_kept_over_many_messages() -> None:
    """In half a second, at most 20 messages a second go, whatever comes; the last one always arrives."""

    async def test() -> None:
        passed: list[tuple[float, int]] = []
        loop = asyncio.get_running_loop()
        subscription = Subscription(
            SubscriptionOptions(max_hz=20.0), lambda outbound, alone: passed.append((loop.time(), outbound.seq or 0))
        )
        start, seq = loop.time(), 0
        while loop.time() - start < 0.5:
            subscription.push(OutboundMessage(event(seq=seq)))
            seq += 1
            await asyncio.sleep(0.003)
        while passed[-1][1] != seq - 1:
            await asyncio.sleep(0.01)
        elapsed = passed[-1][0] - passed[0][0]
        assert len(passed) - 1 <= elapsed * 20.0 + 0.2

    run(test())


def test_markers_are_never_thinned() -> None:
    """Each of them is an event of the experiment."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        hub.subscribe(client, ["markers"], SubscriptionOptions(max_hz=1.0, latest=True))
        for label in "abc":
            hub.publish(marker(label))
        assert [message["label"] for message in await told(hub, client)] == ["a", "b", "c"]

    run(test())


def test_the_newest_alone_waits_for_a_client_that_asked_for_it() -> None:
    """What it replaced is told by a gap."""

    async def test() -> None:
        hub = Hub()
        client = hub.attach(WELCOME)
        hub.subscribe(client, ["predictions"], SubscriptionOptions(latest=True))
        for seq in range(4):
            hub.publish(event(seq=seq))
        gap, prediction = await told(hub, client)
        assert (gap["from_seq"], gap["to_seq"], gap["dropped"], prediction["seq"]) == (0, 2, 3, 3)

    run(test())


def sure_of(label: str, t_end: float, *, valid: bool = True) -> EmotionEvent:
    """An event that is sure of one label."""
    whole = event()
    assert whole.probs is not None
    probs = {name: float(name == label) for name in whole.probs}
    changed = {"t_end": t_end, "probs": probs, "label": label, "valence": float(label[0] == "H"), "valid": valid}
    return whole.model_copy(update=changed)


def smoothed(tau_s: float, events: Iterable[EmotionEvent]) -> list[EmotionEvent]:
    smoother = ExponentialMean(tau_s)
    return [smoother.push(each) for each in events]


def test_the_mean_goes_towards_the_values_as_a_low_pass_does() -> None:
    """One time constant behind a step, 1 - 1/e of it is there; the raw values stay what they were."""
    first, second = smoothed(2.0, [sure_of("LVLA", 10.0), sure_of("HVHA", 12.0)])
    assert first.smoothed is not None
    assert first.smoothed.probs == first.probs
    assert second.smoothed is not None
    assert second.smoothed.probs["HVHA"] == pytest.approx(1 - math.exp(-1))
    assert second.smoothed.valence == pytest.approx(1 - math.exp(-1))
    assert sum(second.smoothed.probs.values()) == pytest.approx(1.0)
    assert (second.smoothed.label, second.smoothed.tau_s) == ("HVHA", 2.0)
    assert second.probs == sure_of("HVHA", 12.0).probs


def test_an_event_that_is_not_valid_has_no_mean_and_does_not_stop_it() -> None:
    """The mean goes on behind it, over the whole time."""
    events = [sure_of("LVLA", 10.0), sure_of("HVHA", 11.0, valid=False), sure_of("HVHA", 12.0)]
    _, invalid, last = smoothed(2.0, events)
    assert invalid.smoothed is None
    assert last.smoothed is not None
    assert last.smoothed.probs["HVHA"] == pytest.approx(1 - math.exp(-1))


def test_a_mean_begins_anew_where_time_steps_back() -> None:
    """A replay that loops is another time."""
    *_, last = smoothed(2.0, [sure_of("LVLA", 10.0), sure_of("HVHA", 1.0)])
    assert last.smoothed is not None
    assert last.smoothed.probs["HVHA"] == 1.0


def of_odds(odds: Mapping[str, float], t_end: float, *, valid: bool = True) -> EmotionEvent:
    """An event whose classes are to each other as these numbers."""
    probs = {label: value / sum(odds.values()) for label, value in odds.items()}
    return event().model_copy(update={"t_end": t_end, "probs": probs, "valid": valid})


EVEN = {"LVLA": 1.0, "LVHA": 1.0, "HVLA": 1.0, "HVHA": 1.0}


def mean_of(events: Iterable[EmotionEvent], n_windows: int = 3) -> list[dict[str, float] | None]:
    mean = WindowMean(n_windows)
    smoothed = [mean.push(each).smoothed for each in events]
    return [None if one is None else one.probs for one in smoothed]


def test_the_mean_over_windows_is_one_of_log_odds() -> None:
    """Odds of 8 and of 2 against each other class have the mean 4: 4 / 7; raw values stay what they were."""
    events = [of_odds({**EVEN, "HVHA": odds}, t) for odds, t in ((8.0, 1.0), (2.0, 1.5))]
    first, second = mean_of(events)
    assert first is not None
    assert second is not None
    assert first["HVHA"] == pytest.approx(8 / 11)
    assert second["HVHA"] == pytest.approx(4 / 7)
    told = WindowMean(3).push(events[0])
    assert told.probs == events[0].probs
    assert told.smoothed is not None
    assert (told.smoothed.tau_s, told.smoothed.n_windows, told.smoothed.label) == (None, 3, "HVHA")
    assert told.smoothed.valence == pytest.approx(9 / 11)


def test_a_mean_over_windows_forgets_those_before_and_leaves_out_those_that_are_not_valid() -> None:
    """Of the last three predictions one is not valid: it has no mean, and the mean is over the other two."""
    odds = [(16.0, True), (4.0, True), (9.0, False), (1.0, True)]
    events = [of_odds({**EVEN, "HVHA": of}, 1.0 + k / 2, valid=valid) for k, (of, valid) in enumerate(odds)]
    *_, invalid, last = mean_of(events)
    assert invalid is None
    assert last is not None
    assert last["HVHA"] == pytest.approx(2 / 5)  # the mean of odds 4 and 1


def test_a_mean_over_windows_begins_anew_where_time_steps_back() -> None:
    *_, last = mean_of([of_odds({**EVEN, "HVHA": 8.0}, 10.0), of_odds(EVEN, 1.0)])
    assert last is not None
    assert last["HVHA"] == pytest.approx(0.25)


def test_a_class_of_no_probability_is_not_excluded_for_ever() -> None:
    """One window that is sure of another class counts as odds of a million."""
    *_, last = mean_of([sure_of("LVLA", 1.0), sure_of("HVHA", 1.5), sure_of("HVHA", 2.0)])
    assert last is not None
    assert max(last, key=last.__getitem__) == "HVHA"
    assert all(value > 0 for value in last.values())


def test_only_who_asked_for_a_mean_gets_one() -> None:
    """Two clients of one hub, one event."""

    async def test() -> None:
        hub = Hub()
        plain, smooth = hub.attach(WELCOME), hub.attach(WELCOME)
        hub.subscribe(smooth, ["predictions"], SubscriptionOptions(smoothing=Smoothing(tau_s=2.0)))
        hub.publish(event(seq=0))
        hub.publish(Bye(reason=ByeReason.SHUTDOWN))
        (with_mean,), (without,) = await told(hub, smooth), await told(hub, plain)
        assert with_mean["smoothed"]["probs"] == with_mean["probs"]
        assert without["smoothed"] is None
        assert {**with_mean, "smoothed": None} == without

    run(test())


def test_a_preview_is_read_back_from_its_bytes() -> None:
    """Header, name of any length, and values row by row; the values begin at a multiple of 8."""
    for session in ("", "a", "übung-7"):
        values = np.array([[1.0, 2.0, np.nan], [4.0, 5.0, -6.5]])
        block = Preview("eeg.preview", session, 5, 1234.5, 1 / 128, values)
        read = parse_preview(block.content)
        assert (read.topic, read.session, read.number, read.t, read.interval_s) == (
            block.topic,
            session,
            5,
            1234.5,
            1 / 128,
        )
        assert np.array_equal(read.values, values, equal_nan=True)
        assert int.from_bytes(block.content[6:8], "little") % 8 == 0


def test_what_is_no_preview_is_refused() -> None:
    """Neither another beginning nor a later version is guessed at."""
    for content in (b"", b"CLMP", b"XXXX" + bytes(40), b"CLMP\x02" + bytes(40)):
        with pytest.raises(ValueError, match="no preview"):
            parse_preview(content)
