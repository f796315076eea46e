"""The hub of a session: hands every message to the clients that want it, and never waits for one.

To be read in this order: how a client can subscribe, ``Hub``, one subscription, the history for clients that come
back, and smoothing. All of it lives on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from clmer_model.config import affect
from clmer_server.protocol.codes import Encoding, NoticeCode, protocol_name
from clmer_server.protocol.outbound import Bye, GapMessage, Message, Notice, Preview, StreamStatusMessage, Welcome
from clmer_server.protocol.parts import DEFAULT_TOPICS, EmotionEvent, Smoothed, StreamEntry, Topic
from clmer_server.send_queue import OutboundMessage, Subscriber


@dataclass(frozen=True)
class Smoothing:
    """A mean over predictions: exponential, with a time constant, or over a number of predictions."""

    tau_s: float | None = None  # s, time constant
    n_windows: int | None = None  # in place of it


@dataclass(frozen=True)
class SubscriptionOptions:
    """Options of a client's subscription to a topic."""

    max_hz: float | None = None  # the newest at most so often; None: all
    latest: bool = False  # whether only the newest waits for a slow client
    smoothing: Smoothing | None = None  # the mean beside each prediction


ALL = SubscriptionOptions()
"""The default: every message, in order."""


SEND_QUEUE_CAPACITY = 256
"""Messages that may wait for one client: two minutes at a hop of 0.5 s, some 300 kB."""

MAX_KEPT_NOTICES = 32
"""Notices that are kept for clients that connect later."""

ROOM_TIMEOUT_S = 2.0
"""How long a replay waits for one client before it goes on without it."""


class Hub:
    """The clients of one session. Every method but ``wants`` is called on the event loop.

    Its own subscribers are those that were welcomed here; clients of other sessions may subscribe as well.

    Example::

        hub = Hub(session="abc")
        subscriber = hub.attach(welcome)
        hub.publish(event)
        message = await subscriber.get()

    Args:
        capacity: Messages that may wait for one client.
        session: Name of the session.
        earlier: The hub of a run that failed, which has said goodbye; None: there was none.

    Attributes:
        first_client: Set when the first client connects.
    """

    def __init__(
        self, capacity: int = SEND_QUEUE_CAPACITY, session: str | None = None, earlier: Hub | None = None
    ) -> None:
        self._session = session
        self.first_client = asyncio.Event()
        self._n_dropped_before = 0  # by clients that have disconnected
        self._capacity = capacity
        self._own: set[Subscriber] = set()
        self._subscriptions: dict[Subscriber, dict[Topic, Subscription]] = {}  # also those of clients of other sessions
        self._wanted: frozenset[Topic] = frozenset()
        self._smoothers: dict[Smoothing, ExponentialMean | WindowMean] = {}  # as long as anybody wants it
        self._status: dict[str, StreamStatusMessage] = {}
        self._notices: list[Notice] = []
        self._history: History = earlier._history if earlier is not None else History()
        self._bye: Bye | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def n_clients(self) -> int:
        """Clients connected now."""
        return len(self._own)

    @property
    def n_dropped(self) -> int:
        """Messages dropped for slow clients so far."""
        return self._n_dropped_before + sum(client.queue.n_dropped for client in self._own)

    @property
    def over(self) -> bool:
        """Whether ``bye`` was sent: nothing follows it."""
        return self._bye is not None

    @property
    def streams(self) -> tuple[StreamEntry, ...]:
        """The newest status of every stream."""
        entries = (message.model_dump(exclude={"type", "session"}) for message in self._status.values())
        return tuple(StreamEntry.model_validate(entry) for entry in entries)

    def wants(self, topic: Topic) -> bool:
        """Return whether a client has subscribed to a topic; may be called in any thread."""
        return topic in self._wanted

    def attach(self, welcome: Welcome, encoding: Encoding = Encoding.JSON, after_seq: int | None = None) -> Subscriber:
        """Return a new subscriber, for which welcome, earlier notices and, where it was sent, ``bye`` wait.

        Args:
            welcome: Its first message.
            encoding: How its messages are encoded.
            after_seq: Number of the last prediction that it has; it gets those that it missed. None: it is new.
        """
        client = Subscriber(self._capacity, encoding)
        client.put(OutboundMessage(welcome.model_copy(update={"protocol": protocol_name(encoding)})))
        for notice in self._notices:
            client.put(OutboundMessage(notice))
        if after_seq is not None:
            for missed in self._history.after(after_seq):
                client.put(missed)
        if self._bye is not None:
            client.end(OutboundMessage(self._bye))
        self._own.add(client)
        self._subscriptions[client] = {topic: Subscription(ALL, client.put) for topic in DEFAULT_TOPICS}
        self._update_wanted()
        self._empty.clear()
        self.first_client.set()
        return client

    def detach(self, client: Subscriber) -> None:
        """Remove a client that has disconnected, of this session or of another one."""
        self.unsubscribe(client, tuple(self._subscriptions.get(client, ())))
        self._subscriptions.pop(client, None)
        if client in self._own:
            self._own.discard(client)
            self._n_dropped_before += client.queue.n_dropped
            client.leave()
        if not self._own:
            self._empty.set()

    def subscribe(self, client: Subscriber, topics: Iterable[Topic], options: SubscriptionOptions = ALL) -> None:
        """Send a client these topics from now on; new options replace those of an earlier subscription."""
        subscriptions = self._subscriptions.setdefault(client, {})
        for topic in topics:
            if topic in subscriptions:
                subscriptions[topic].end()
            subscriptions[topic] = Subscription(options, client.put)
        self._update_wanted()

    def unsubscribe(self, client: Subscriber, topics: Iterable[Topic]) -> None:
        """Stop sending a client these topics; a client of another session that keeps none gets no notices, either."""
        subscriptions = self._subscriptions.get(client, {})
        for topic in topics:
            if topic in subscriptions:
                subscriptions.pop(topic).end()
        if not subscriptions and client not in self._own:
            self._subscriptions.pop(client, None)
        self._update_wanted()

    def send_status(self, client: Subscriber) -> None:
        """Send a client the newest status of every stream."""
        for message in self._status.values():
            client.put(OutboundMessage(message))

    def publish(self, message: Message | Preview) -> None:
        """Send a message to the clients that want it, and keep what later clients must get."""
        if isinstance(message, Bye):
            self.say_goodbye(message)
            return
        if isinstance(message, StreamStatusMessage):
            self._status[message.source] = message
        elif isinstance(message, Notice):
            self._notices = [*self._notices, message][-MAX_KEPT_NOTICES:]
        outbound = OutboundMessage(message)
        if isinstance(message, EmotionEvent):
            self._history.add(message, outbound)
        smoothed = self._smoothed(message) if isinstance(message, EmotionEvent) else {}
        for client, subscriptions in self._subscriptions.items():
            if outbound.topic is None:
                client.put(outbound)
            elif (subscription := subscriptions.get(outbound.topic)) is not None:
                subscription.push(smoothed.get(subscription.options.smoothing, outbound))

    def renew(self) -> None:
        """Discard what is kept of a run that is over: the statuses of its streams and its notices."""
        self._status.clear()
        self._notices.clear()

    def say_goodbye(self, bye: Bye) -> None:
        """Send ``bye`` as the last message of every client of this session, now and later; once only."""
        if self._bye is None:
            self._bye = bye
            for client in self._own:
                client.end(OutboundMessage(bye))
            for other in self._subscriptions.keys() - self._own:
                other.put(OutboundMessage(self._session_ended(bye)))
                self.detach(other)

    async def wait_for_room(self, timeout_s: float = ROOM_TIMEOUT_S) -> None:
        """Wait until every client that keeps up has room: the back-pressure of a replay."""
        for client in tuple(self._subscriptions):
            await client.wait_for_room(timeout_s)

    async def wait_empty(self, timeout_s: float) -> None:
        """Wait until every client has disconnected, but no longer than ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)

    def _session_ended(self, bye: Bye) -> Notice:
        """Return the notice for clients of other sessions, which stay connected."""
        text = f"The session {self._session} has said goodbye: {bye.reason}. Subscribe to it again when it is back."
        return Notice(session=self._session, code=NoticeCode.SESSION_ENDED, message=text)

    def _smoothed(self, event: EmotionEvent) -> dict[Smoothing | None, OutboundMessage]:
        return {how: OutboundMessage(smoother.push(event)) for how, smoother in self._smoothers.items()}

    def _update_wanted(self) -> None:
        """Collect the topics and means that any client has subscribed to."""
        all_of_them = [item for subscriptions in self._subscriptions.values() for item in subscriptions.items()]
        self._wanted = frozenset(topic for topic, _ in all_of_them)
        means = {s.options.smoothing for topic, s in all_of_them if topic == "predictions"}
        self._smoothers = {how: self._smoothers.get(how) or _make_smoother(how) for how in means if how is not None}


_EARLY = 0.1
"""Share of the period by which a message may come early or a newer one is waited for, since arrivals jitter."""


@dataclass(slots=True)
class _Turn:
    """The newest message of a key, and when the next one is due."""

    due: float  # s, of the event loop's clock
    held: OutboundMessage | None = None
    timer: asyncio.TimerHandle | None = None


class Subscription:
    """One topic of one session for one client.

    With ``max_hz``, the newest message is held until it is due. One that a newer one replaces meanwhile is no loss:
    the client asked for that. Markers are events and are never held.

    Args:
        options: What the client asked for.
        put: Adds a message to the client's queue; the flag: in place of an earlier one of its key.
    """

    def __init__(self, options: SubscriptionOptions, put: Callable[[OutboundMessage, bool], None]) -> None:
        self.options = options
        self._put = put
        self._period_s = 0.0 if options.max_hz is None else 1.0 / options.max_hz
        self._turns: dict[object, _Turn] = {}  # by key of the messages

    def push(self, message: OutboundMessage) -> None:
        """Send a message on, now or when it is due."""
        if not self._period_s or message.topic == "markers":
            self._put(message, self.options.latest and message.topic != "markers")
            return
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(message.key, _Turn(loop.time()))
        turn.held = message
        if loop.time() >= turn.due - _EARLY * self._period_s:
            self._send(turn)
        elif turn.timer is None:
            turn.timer = loop.call_at(turn.due + _EARLY * self._period_s, self._send, turn)

    def end(self) -> None:
        """Discard the messages that are held."""
        for turn in self._turns.values():
            if turn.timer is not None:
                turn.timer.cancel()
        self._turns.clear()

    def _send(self, turn: _Turn) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        assert turn.held is not None
        message, turn.held = turn.held, None
        turn.due = max(turn.due, asyncio.get_running_loop().time()) + self._period_s
        self._put(message, self.options.latest)


N_KEPT = 120
"""Predictions that are kept: a minute at a hop of 0.5 s, and fewer than crowd a client's queue."""


@dataclass(frozen=True)
class History:
    """The newest predictions, for a client that comes back."""

    kept: deque[tuple[int, OutboundMessage]] = field(default_factory=lambda: deque(maxlen=N_KEPT))  # number, prediction

    def add(self, event: EmotionEvent, message: OutboundMessage) -> None:
        """Add a prediction; the oldest one beyond ``N_KEPT`` is dropped."""
        self.kept.append((event.seq, message))

    def after(self, seq: int) -> list[OutboundMessage]:
        """Return the predictions after a number, and before them a gap for those that are kept no more."""
        missed = [(number, message) for number, message in self.kept if number > seq]
        if not missed:
            return []
        first, oldest = missed[0]
        lost = [] if first == seq + 1 else [_gap(oldest.session, seq + 1, first - 1)]
        return [*lost, *(message for _, message in missed)]


def _gap(session: str | None, first: int, last: int) -> OutboundMessage:
    n = last - first + 1
    topics = {"predictions": n}
    return OutboundMessage(
        GapMessage(session=session, from_seq=first, to_seq=last, dropped=n, topics=topics, reason="not_kept")
    )


_VALENCE, _AROUSAL = " valence", " arousal"  # beside the labels; no label begins with a space


class ExponentialMean:
    """Exponential mean of valid predictions, in stream time.

    With the time constant ``tau_s`` and ``dt`` seconds since the valid prediction before it, the mean ``y`` of the
    values ``x`` goes on by ``y += (1 - exp(-dt / tau_s)) * (x - y)``: the exact step of a first-order low-pass, whose
    input holds its value until the next one. It begins with the first value, again where time steps back.

    Args:
        tau_s: Time constant in seconds.
    """

    def __init__(self, tau_s: float) -> None:
        self._tau_s = tau_s
        self._t = -math.inf  # s, end of the last valid window
        self._mean: dict[str, float] = {}

    def push(self, event: EmotionEvent) -> EmotionEvent:
        """Return the event with the mean beside its values; a window without values has none."""
        if not event.valid or event.probs is None:
            return event
        values = {**event.probs, _VALENCE: event.valence, _AROUSAL: event.arousal}
        now = {name: value for name, value in values.items() if value is not None}
        dt = event.t_end - self._t
        steady = dt >= 0 and now.keys() == self._mean.keys()
        gain = 1.0 - math.exp(-dt / self._tau_s) if steady else 1.0
        before = self._mean if steady else now
        self._mean = {name: before[name] + gain * (x - before[name]) for name, x in now.items()}
        self._t = event.t_end
        return event.model_copy(update={"smoothed": self._smoothed(tuple(event.probs))})

    def _smoothed(self, labels: tuple[str, ...]) -> Smoothed:
        probs = {label: self._mean[label] for label in labels}
        return Smoothed(
            tau_s=self._tau_s,
            probs=probs,
            label=max(probs, key=probs.__getitem__),
            valence=self._mean.get(_VALENCE),
            arousal=self._mean.get(_AROUSAL),
        )


MIN_PROBABILITY = 1e-6  # of a class in a window; one window alone does not exclude a class


class WindowMean:
    """Mean of the log-probabilities of the last predictions, normalized; those without values are left out.

    It begins anew where time steps back or the classes are others.

    Args:
        n_windows: Number of predictions, valid or not.
    """

    def __init__(self, n_windows: int) -> None:
        self._n_windows = n_windows
        self._t = -math.inf  # s, end of the last window
        self._last: deque[dict[str, float] | None] = deque(maxlen=n_windows)

    def push(self, event: EmotionEvent) -> EmotionEvent:
        """Return the event with the mean beside its values; a window without values has none."""
        known = next((probs for probs in self._last if probs is not None), None)
        other = known is not None and event.probs is not None and known.keys() != event.probs.keys()
        if event.t_end < self._t or other:
            self._last.clear()
        self._t = event.t_end
        if not event.valid or event.probs is None:
            self._last.append(None)
            return event
        self._last.append(event.probs)
        kept = [probs for probs in self._last if probs is not None]
        log_odds = {
            label: math.fsum(math.log(max(probs[label], MIN_PROBABILITY)) for probs in kept) / len(kept)
            for label in event.probs
        }
        most = max(log_odds.values())
        total = math.fsum(math.exp(value - most) for value in log_odds.values())
        probs = {label: math.exp(value - most) / total for label, value in log_odds.items()}
        felt = affect(tuple(probs), tuple(probs.values()))
        smoothed = Smoothed(
            tau_s=None,
            n_windows=self._n_windows,
            probs=probs,
            label=max(probs, key=probs.__getitem__),
            valence=felt.valence,
            arousal=felt.arousal,
        )
        return event.model_copy(update={"smoothed": smoothed})


def _make_smoother(how: Smoothing) -> ExponentialMean | WindowMean:
    return WindowMean(how.n_windows) if how.n_windows is not None else ExponentialMean(how.tau_s or 1.0)
