"""Hands every message to those who want it; lives on the event loop and never waits for a client.

A message is encoded once for all that speak one encoding. Each client has a bounded mailbox, which its own sender
task empties; a slow client loses its oldest messages and is told so by a ``gap``.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from websockets.frames import Frame, Opcode

from clmer_server.protocol.codes import Encoding, NoticeCode, protocol_name
from clmer_server.protocol.encoding import encode_as
from clmer_server.protocol.outbound import (
    Bye,
    GapMessage,
    MarkerMessage,
    Message,
    Notice,
    Preview,
    QualityMessage,
    StreamStatusMessage,
    Welcome,
)
from clmer_server.protocol.parts import DEFAULT_TOPICS, EmotionEvent, Smoothed, StreamEntry, Topic

_TOPICS: dict[type[Message], Topic] = {
    EmotionEvent: "predictions",
    QualityMessage: "quality",
    StreamStatusMessage: "status",
    MarkerMessage: "markers",
}


class OutboundMessage:
    """A message and its address.

    Args:
        message: What is sent.

    Attributes:
        topic: Whom it is for; None where everybody gets it.
        session: Whose it is; None where it answers one client.
        seq: Of a prediction; None for a message of any other type.
        key: What a newer letter of the same key takes the place of.
    """

    __slots__ = ("_framed", "_written", "key", "message", "seq", "session", "topic")

    def __init__(self, message: Message | Preview) -> None:
        self.message = message
        self.topic = message.topic if isinstance(message, Preview) else _TOPICS.get(type(message))
        self.session: str | None = getattr(message, "session", None)
        self.seq = message.seq if isinstance(message, EmotionEvent) else None
        self.key = (self.session, self.topic, message.source if isinstance(message, StreamStatusMessage) else "")
        self._written: dict[Encoding, str | bytes] = {}
        self._framed: dict[Encoding, bytes] = {}

    def written(self, encoding: Encoding) -> str | bytes:
        """Return the message as clients read it."""
        if isinstance(self.message, Preview):
            return self.message.content
        if encoding not in self._written:
            self._written[encoding] = encode_as(self.message, encoding)
        return self._written[encoding]

    def framed(self, encoding: Encoding) -> bytes:
        """Return the WebSocket frame around it: the same for every client, since servers neither mask nor compress."""
        if encoding not in self._framed:
            content = self.written(encoding)
            frame = Frame(Opcode.TEXT, content.encode()) if isinstance(content, str) else Frame(Opcode.BINARY, content)
            self._framed[encoding] = frame.serialize(mask=False)
        return self._framed[encoding]


_RANKS: dict[Topic | None, int] = {"eeg.preview": 0, "face.preview": 0, "quality": 1, "predictions": 1}
"""What goes first where there is no room: what the next of its kind makes up for. All else goes last."""

_LAST_RANK = 2


@dataclass(slots=True)
class _Loss:
    """What went of one session since the last announcement."""

    first_seq: int | None = None
    last_seq: int | None = None
    topics: Counter[str] = field(default_factory=Counter)

    def add(self, letter: OutboundMessage) -> None:
        self.topics[letter.topic or "other"] += 1
        if letter.seq is not None:
            self.first_seq = letter.seq if self.first_seq is None else self.first_seq
            self.last_seq = letter.seq


class SendQueue:
    """A bounded queue of letters for one client; for one thread.

    A full mailbox loses its oldest preview, then its oldest prediction or quality, because a newer one replaces it.
    Only where it holds none of these does it lose another message. What was lost is said by a ``gap`` before
    anything else is handed out.

    Args:
        capacity: Letters that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_dropped = 0  # since the client came
        self._letters: deque[OutboundMessage] = deque()
        self._losses: dict[str | None, _Loss] = {}  # by session

    def __len__(self) -> int:
        """Letters that wait."""
        return len(self._letters)

    @property
    def full(self) -> bool:
        """Whether one more letter would push another one out."""
        return len(self._letters) >= self.capacity

    def put(self, letter: OutboundMessage, *, alone: bool = False) -> None:
        """Add a letter; a full mailbox makes room for it first.

        Args:
            letter: What to add.
            alone: Whether it takes the place of an earlier one of its key.
        """
        if alone and (same := [i for i, old in enumerate(self._letters) if old.key == letter.key]):
            self._lose(same[0])
        if self.full:
            self._lose(self._most_dispensable())
        self._letters.append(letter)

    def take(self) -> OutboundMessage | None:
        """Return the next letter to send, or None where nothing waits."""
        if self._losses:
            session, loss = self._losses.popitem()
            dropped = loss.topics.total()
            gap = GapMessage(
                session=session, from_seq=loss.first_seq, to_seq=loss.last_seq, dropped=dropped, topics=loss.topics
            )
            return OutboundMessage(gap)
        return self._letters.popleft() if self._letters else None

    def _most_dispensable(self) -> int:
        ranks = [_RANKS.get(letter.topic, _LAST_RANK) for letter in self._letters]
        return ranks.index(min(ranks))

    def _lose(self, place: int) -> None:
        letter = self._letters[place]
        self._losses.setdefault(letter.session, _Loss()).add(letter)
        del self._letters[place]
        self.n_dropped += 1


class Client:
    """A mailbox with a reader behind it; lives on the event loop.

    Args:
        capacity: Messages that may wait.
        encoding: How its messages are written.
    """

    def __init__(self, capacity: int, encoding: Encoding = Encoding.JSON) -> None:
        self.encoding = encoding
        self.mailbox = SendQueue(capacity)
        self.ending = False  # nothing is added any more
        self.stalled = False  # a replay no longer waits for it
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def crowded(self) -> bool:
        """Whether half of the mailbox is full."""
        return len(self.mailbox) * 2 > self.mailbox.capacity

    def put(self, letter: OutboundMessage, alone: bool = False) -> None:
        """Add a message, unless goodbye has been said; ``alone``: in place of an earlier one of its key."""
        if self.ending:
            return
        self.mailbox.put(letter, alone=alone)
        self._changed.set()
        if self.crowded:
            self._room.clear()

    def end(self, letter: OutboundMessage) -> None:
        """Add the last message."""
        self.put(letter)
        self.ending = True
        self._room.set()

    def leave(self) -> None:
        """Take no more messages: the connection has gone."""
        self.ending = True
        self._room.set()

    async def take(self) -> OutboundMessage | None:
        """Return the next message to send, waiting for it; None behind the last one."""
        while (letter := self.mailbox.take()) is None:
            if self.ending:
                return None
            self._changed.clear()
            await self._changed.wait()
        self.stalled = False
        if not self.crowded:
            self._room.set()
        return letter

    async def room(self, timeout_s: float) -> None:
        """Wait until the mailbox is no longer crowded; a client that takes longer is not waited for again."""
        if self.stalled or self._room.is_set():
            return
        try:
            await asyncio.wait_for(self._room.wait(), timeout_s)
        except TimeoutError:
            self.stalled = True


N_KEPT = 120
"""Predictions that are kept: a minute at a hop of 0.5 s, and fewer than crowd a client's mailbox."""


@dataclass(frozen=True)
class History:
    """What a client that comes back may have missed."""

    kept: deque[tuple[int, OutboundMessage]] = field(default_factory=lambda: deque(maxlen=N_KEPT))  # number, prediction

    def add(self, event: EmotionEvent, letter: OutboundMessage) -> None:
        """Keep a prediction, in place of the oldest one."""
        self.kept.append((event.seq, letter))

    def after(self, seq: int) -> list[OutboundMessage]:
        """Return the predictions behind a number, and before them a gap for those that are kept no more."""
        missed = [(number, letter) for number, letter in self.kept if number > seq]
        if not missed:
            return []
        first, oldest = missed[0]
        lost = [] if first == seq + 1 else [_gap(oldest.session, seq + 1, first - 1)]
        return [*lost, *(letter for _, letter in missed)]


def _gap(session: str | None, first: int, last: int) -> OutboundMessage:
    n = last - first + 1
    topics = {"predictions": n}
    return OutboundMessage(
        GapMessage(session=session, from_seq=first, to_seq=last, dropped=n, topics=topics, reason="not_kept")
    )


_VALENCE, _AROUSAL = " valence", " arousal"  # beside the labels; no label begins with a space


class Smoother:
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


_EARLY = 0.1
"""Share of the period by which a message may come early, and a newer one is waited for: arrivals jitter."""


@dataclass(frozen=True)
class SubscriptionOptions:
    """How a client wants the messages of a topic."""

    max_hz: float | None = None  # None: all of them
    latest: bool = False  # a slow client gets the newest alone
    smooth_s: float | None = None  # s; of predictions


ALL = SubscriptionOptions()
"""Every message, in order."""


@dataclass(slots=True)
class _Turn:
    """The newest message of a key, and when the next may go."""

    due: float  # s, of the event loop's clock
    held: OutboundMessage | None = None
    timer: asyncio.TimerHandle | None = None


class Subscription:
    """One topic of one session for one client; lives on the event loop.

    ``max_hz`` keeps the newest message until its turn comes. What a newer one replaces meanwhile was asked to be left
    out: it is no loss. Markers are events and all pass.

    Args:
        wish: What the client asked for.
        put: Takes what is due.
    """

    def __init__(self, wish: SubscriptionOptions, put: Callable[[OutboundMessage, bool], None]) -> None:
        self.wish = wish
        self._put = put
        self._period_s = 0.0 if wish.max_hz is None else 1.0 / wish.max_hz
        self._turns: dict[object, _Turn] = {}  # by key of the letters

    def offer(self, letter: OutboundMessage) -> None:
        """Pass a letter on, now or when its turn comes."""
        if not self._period_s or letter.topic == "markers":
            self._put(letter, self.wish.latest and letter.topic != "markers")
            return
        loop = asyncio.get_running_loop()
        turn = self._turns.setdefault(letter.key, _Turn(loop.time()))
        turn.held = letter
        if loop.time() >= turn.due - _EARLY * self._period_s:
            self._pass(turn)
        elif turn.timer is None:
            turn.timer = loop.call_at(turn.due + _EARLY * self._period_s, self._pass, turn)

    def end(self) -> None:
        """Forget what waits."""
        for turn in self._turns.values():
            if turn.timer is not None:
                turn.timer.cancel()
        self._turns.clear()

    def _pass(self, turn: _Turn) -> None:
        if turn.timer is not None:
            turn.timer.cancel()
            turn.timer = None
        assert turn.held is not None
        letter, turn.held = turn.held, None
        turn.due = max(turn.due, asyncio.get_running_loop().time()) + self._period_s
        self._put(letter, self.wish.latest)


SEND_QUEUE_CAPACITY = 256
"""Messages that may wait for one client: two minutes at a hop of 0.5 s, some 300 kB."""

MAX_KEPT_NOTICES = 32
"""Notices that are told to a client that comes later."""

ROOM_TIMEOUT_S = 2.0
"""How long a replay waits for one client before it goes on without it."""


class Hub:
    """All clients of one session. Every method but ``wants`` is called on the event loop.

    Args:
        capacity: Messages that may wait for one client.
        session: Its name.
        earlier: The hub of the session before, which has said goodbye; None: there was none.
    """

    def __init__(
        self, capacity: int = SEND_QUEUE_CAPACITY, session: str | None = None, earlier: Hub | None = None
    ) -> None:
        self._session = session
        self.first_client = asyncio.Event()
        self._n_dropped_before = 0  # by clients that have gone
        self._capacity = capacity
        self._home: set[Client] = set()  # those that were welcomed here
        self._wishes: dict[Client, dict[Topic, Subscription]] = {}  # of them, and of guests from other sessions
        self._wanted: frozenset[Topic] = frozenset()
        self._smoothers: dict[float, Smoother] = {}  # by time constant, as long as anybody wants it
        self._status: dict[str, StreamStatusMessage] = {}
        self._notices: list[Notice] = []
        self._history: History = earlier._history if earlier is not None else History()
        self._bye: Bye | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def n_clients(self) -> int:
        """Connections now."""
        return len(self._home)

    @property
    def n_dropped(self) -> int:
        """Messages that slow clients have lost so far."""
        return self._n_dropped_before + sum(client.mailbox.n_dropped for client in self._home)

    @property
    def over(self) -> bool:
        """Whether goodbye has been said: nothing more comes from here."""
        return self._bye is not None

    @property
    def streams(self) -> tuple[StreamEntry, ...]:
        """The newest status of every stream."""
        entries = (message.model_dump(exclude={"type", "session"}) for message in self._status.values())
        return tuple(StreamEntry.model_validate(entry) for entry in entries)

    def wants(self, topic: Topic) -> bool:
        """Whether anybody has subscribed to a topic; may be asked in any thread."""
        return topic in self._wanted

    def attach(self, welcome: Welcome, encoding: Encoding = Encoding.JSON, after_seq: int | None = None) -> Client:
        """Return a new client, with the welcome, earlier notices and, if it is over, the goodbye waiting for it.

        Args:
            welcome: Its first message.
            encoding: How its messages are written.
            after_seq: The last prediction that it has; it gets those that it missed. None: it is new.
        """
        client = Client(self._capacity, encoding)
        client.put(OutboundMessage(welcome.model_copy(update={"protocol": protocol_name(encoding)})))
        for notice in self._notices:
            client.put(OutboundMessage(notice))
        if after_seq is not None:
            for letter in self._history.after(after_seq):
                client.put(letter)
        if self._bye is not None:
            client.end(OutboundMessage(self._bye))
        self._home.add(client)
        self._wishes[client] = {topic: Subscription(ALL, client.put) for topic in DEFAULT_TOPICS}
        self._note_wishes()
        self._empty.clear()
        self.first_client.set()
        return client

    def detach(self, client: Client) -> None:
        """Forget a client that has gone, whether it was at home here or a guest."""
        self.unsubscribe(client, tuple(self._wishes.get(client, ())))
        self._wishes.pop(client, None)
        if client in self._home:
            self._home.discard(client)
            self._n_dropped_before += client.mailbox.n_dropped
            client.leave()
        if not self._home:
            self._empty.set()

    def subscribe(self, client: Client, topics: Iterable[Topic], wish: SubscriptionOptions = ALL) -> None:
        """Send a client these topics from now on, as it wishes; one that it had is sent as it wishes now."""
        subscriptions = self._wishes.setdefault(client, {})
        for topic in topics:
            if topic in subscriptions:
                subscriptions[topic].end()
            subscriptions[topic] = Subscription(wish, client.put)
        self._note_wishes()

    def unsubscribe(self, client: Client, topics: Iterable[Topic]) -> None:
        """Send a client these topics no more; a guest who keeps none hears no notices, either."""
        subscriptions = self._wishes.get(client, {})
        for topic in topics:
            if topic in subscriptions:
                subscriptions.pop(topic).end()
        if not subscriptions and client not in self._home:
            self._wishes.pop(client, None)
        self._note_wishes()

    def tell_status(self, client: Client) -> None:
        """Tell a client the newest status of every stream."""
        for message in self._status.values():
            client.put(OutboundMessage(message))

    def publish(self, message: Message | Preview) -> None:
        """Give the message to everybody who wants it, and keep what later clients must know."""
        if isinstance(message, Bye):
            self.say_goodbye(message)
            return
        if isinstance(message, StreamStatusMessage):
            self._status[message.source] = message
        elif isinstance(message, Notice):
            self._notices = [*self._notices, message][-MAX_KEPT_NOTICES:]
        letter = OutboundMessage(message)
        if isinstance(message, EmotionEvent):
            self._history.add(message, letter)
        smoothed = self._smoothed(message) if isinstance(message, EmotionEvent) else {}
        for client, subscriptions in self._wishes.items():
            if letter.topic is None:
                client.put(letter)
            elif (subscription := subscriptions.get(letter.topic)) is not None:
                subscription.offer(smoothed.get(subscription.wish.smooth_s, letter))

    def renew(self) -> None:
        """Forget what was said of a run that is over: its streams and its notices."""
        self._status.clear()
        self._notices.clear()

    def say_goodbye(self, bye: Bye) -> None:
        """Let ``bye`` be the last message of every client at home here, now and later; only the first one counts."""
        if self._bye is None:
            self._bye = bye
            for client in self._home:
                client.end(OutboundMessage(bye))
            for guest in self._wishes.keys() - self._home:
                guest.put(OutboundMessage(self._told_to_guests(bye)))
                self.detach(guest)

    async def room(self, timeout_s: float = ROOM_TIMEOUT_S) -> None:
        """Wait until every client that keeps up has room: the back-pressure of a replay."""
        for client in tuple(self._wishes):
            await client.room(timeout_s)

    async def emptied(self, timeout_s: float) -> None:
        """Wait until every client has gone, but no longer than ``timeout_s`` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)

    def _told_to_guests(self, bye: Bye) -> Notice:
        text = f"The session {self._session} has said goodbye: {bye.reason}. Subscribe to it again when it is back."
        return Notice(session=self._session, code=NoticeCode.SESSION_ENDED, message=text)

    def _smoothed(self, event: EmotionEvent) -> dict[float | None, OutboundMessage]:
        return {tau_s: OutboundMessage(smoother.push(event)) for tau_s, smoother in self._smoothers.items()}

    def _note_wishes(self) -> None:
        """Work out what anybody wants."""
        all_of_them = [item for subscriptions in self._wishes.values() for item in subscriptions.items()]
        self._wanted = frozenset(topic for topic, _ in all_of_them)
        constants = {s.wish.smooth_s for topic, s in all_of_them if topic == "predictions"} - {None}
        self._smoothers = {tau_s: self._smoothers.get(tau_s) or Smoother(tau_s) for tau_s in constants if tau_s}
