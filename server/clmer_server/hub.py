"""Hands every message to those who want it; lives on the event loop and never waits for a client.

A message is encoded once for all that speak one encoding. Each client has a bounded mailbox, which its own sender
task empties; a slow client loses its oldest messages and is told so by a ``gap``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from clmer_server.client import Client
from clmer_server.history import History
from clmer_server.letters import Letter
from clmer_server.protocol.names import Encoding, protocol_name
from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Bye, Message, Notice, StreamStatusMessage, Welcome
from clmer_server.protocol.parts import DEFAULT_TOPICS, StreamEntry, Topic
from clmer_server.protocol.prediction import EmotionEvent
from clmer_server.protocol.preview import Preview
from clmer_server.smoothing import Smoother
from clmer_server.subscriptions import ALL, Subscription, Wish

MAILBOX_CAPACITY = 256
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
        self, capacity: int = MAILBOX_CAPACITY, session: str | None = None, earlier: Hub | None = None
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
        client.put(Letter(welcome.model_copy(update={"protocol": protocol_name(encoding)})))
        for notice in self._notices:
            client.put(Letter(notice))
        if after_seq is not None:
            for letter in self._history.after(after_seq):
                client.put(letter)
        if self._bye is not None:
            client.end(Letter(self._bye))
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

    def subscribe(self, client: Client, topics: Iterable[Topic], wish: Wish = ALL) -> None:
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
            client.put(Letter(message))

    def publish(self, message: Message | Preview) -> None:
        """Give the message to everybody who wants it, and keep what later clients must know."""
        if isinstance(message, Bye):
            self.say_goodbye(message)
            return
        if isinstance(message, StreamStatusMessage):
            self._status[message.source] = message
        elif isinstance(message, Notice):
            self._notices = [*self._notices, message][-MAX_KEPT_NOTICES:]
        letter = Letter(message)
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
                client.end(Letter(bye))
            for guest in self._wishes.keys() - self._home:
                guest.put(Letter(self._told_to_guests(bye)))
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

    def _smoothed(self, event: EmotionEvent) -> dict[float | None, Letter]:
        return {tau_s: Letter(smoother.push(event)) for tau_s, smoother in self._smoothers.items()}

    def _note_wishes(self) -> None:
        """Work out what anybody wants."""
        all_of_them = [item for subscriptions in self._wishes.values() for item in subscriptions.items()]
        self._wanted = frozenset(topic for topic, _ in all_of_them)
        constants = {s.wish.smooth_s for topic, s in all_of_them if topic == "predictions"} - {None}
        self._smoothers = {tau_s: self._smoothers.get(tau_s) or Smoother(tau_s) for tau_s in constants if tau_s}
