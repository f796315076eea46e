"""How a run of a session is prepared and opened, and how its messages get their way to the clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from clmer_server.delivery import Delivery
from clmer_server.hand_over import ReplayHandOver, live_hand_over
from clmer_server.hub import Hub
from clmer_server.protocol.outbound import Message, Notice
from clmer_server.session_plan import SessionPlan
from clmer_server.session_run import PreparedRun, ServedModel, SessionRun, find_inputs, prepare_run
from clmer_streaming.sources.stream_claims import StreamClaims


@dataclass(frozen=True)
class Site:
    """What all sessions of a service share."""

    model: ServedModel
    claims: StreamClaims
    workers: Executor  # for what may wait: opening files, ending threads
    port: int = 0
    count: Callable[[Message], None] = lambda message: None  # hears every message of every session once


def prepare(plan: SessionPlan, site: Site, first_seq: int | None) -> PreparedRun:
    """Check what a session asks for, and make the folder that it is recorded in.

    Args:
        plan: The session.
        site: What it shares with the others.
        first_seq: Number of its first event, where it has run before; None: this is the first time.

    Raises:
        ClmerError: It asks for what cannot be had, or the folder cannot be made.
    """
    return prepare_run(find_inputs(plan, site.model.preprocess, site.claims), site.model, first_seq)


@dataclass(frozen=True)
class RunOpener:
    """Opens the runs of one session."""

    session: str  # its name
    site: Site
    loop: asyncio.AbstractEventLoop  # on which its messages are published
    over: Callable[[], None]  # called there, behind the last message of a run that ended by itself

    def open(self, prepared: PreparedRun, hub: Hub) -> SessionRun:
        """Open a run, which then waits; its messages go to a hub.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        live = prepared.inputs.mode == "live"
        hand_over = live_hand_over(self.loop) if live else ReplayHandOver(self.loop, hub.room)
        way = Delivery(self._publish_to(hub), hand_over, sink=hub, over=self.over)
        return SessionRun(prepared, self.site.model, self.site.port, way)

    def _publish_to(self, hub: Hub) -> Callable[[Message], None]:
        """Return a ``publish`` that counts messages, and has every notice name its session."""

        def publish(message: Message) -> None:
            named = message.model_copy(update={"session": self.session}) if isinstance(message, Notice) else message
            self.site.count(named)
            hub.publish(named)

        return publish
