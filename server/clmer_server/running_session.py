"""A session over all its runs: it waits, runs, ends or fails, and can be started again; its clients stay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TypeVar

from clmer_server.hub import Hub
from clmer_server.logs import OF_SESSION
from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Bye, Notice
from clmer_server.rooms import RefusalError, StartRequest
from clmer_server.run_opening import RunOpener, Site, prepare
from clmer_server.session_plan import SessionPlan
from clmer_server.session_room import SessionRoom
from clmer_server.session_run import PreparedRun, SessionRun
from clmer_server.session_state import SessionState, describe
from clmer_streaming.errors import ClmerError

logger = logging.getLogger(__name__)

THREADS_TIMEOUT_S = 1.0
"""How long the threads of a session have to end."""

LISTENERS_TIMEOUT_S = 1.0
"""How long recorder and outlets have to finish what waits for them."""

ResultT = TypeVar("ResultT")


class RunningSession(SessionRoom):
    """Starts, stops and ends a session. Made and called on the event loop.

    Args:
        plan: What it is to do.
        site: What it shares with the others.
    """

    def __init__(self, plan: SessionPlan, site: Site) -> None:
        super().__init__(plan, site.model)
        self._site = site
        self._opener = RunOpener(plan.name, site, asyncio.get_running_loop(), self._on_over)
        self._starter: asyncio.Task[None] | None = None  # waits for the first client
        self._changing = asyncio.Lock()  # held while it starts or stops
        self._ending = False  # it is being ended for good
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def has_devices(self) -> bool:
        """Whether its headset and its camera are its own now: it runs, or begins with its first client."""
        return self.run is not None and self.state in (SessionState.RUNNING, SessionState.WAITING)

    def open(self, prepared: PreparedRun) -> None:
        """Open its first run, which then waits.

        Raises:
            ClmerError: Its recording or its outlets cannot be opened.
        """
        self.run = self._opener.open(prepared, self._hub)

    def begin(self) -> None:
        """Start the run that waits, at once or with the first client, as the plan says."""
        if self.run is not None and self.plan.on_first_client:
            self._starter = asyncio.create_task(self._start_with_first_client(self.run))
        elif self.run is not None:
            self.run.session.start()

    async def start(self, request: StartRequest) -> None:
        """Start it, or start it again.

        Raises:
            RefusalError: It runs, or cannot start.
        """
        async with self._changing:
            if self.state is SessionState.RUNNING:
                raise RefusalError("session_running", f"the session {self.name} runs already; stop it first")
            plan = self.plan.asked_for(request)
            if self.run is not None and self.state is SessionState.WAITING and plan == self.plan:
                self.run.session.start()
                return
            await self._start_run(plan)

    async def stop(self) -> None:
        """Stop it; its clients stay.

        Raises:
            RefusalError: It does not run.
        """
        async with self._changing:
            if self.run is None or self.state not in (SessionState.RUNNING, SessionState.WAITING):
                raise RefusalError("session_not_running", f"the session {self.name} is {self.state}")
            await self._work(self.run.stop, THREADS_TIMEOUT_S)
            self._hub.renew()
            given_up = self.run.session.controls.give_up("the session has been stopped")
            for notice in (*given_up, self._notice(NoticeCode.SESSION_STOPPED, "has been stopped")):
                self.run.publish(notice)
            await self._work(self.run.close, LISTENERS_TIMEOUT_S)

    async def shut_down(self) -> None:
        """End it for good, within the two timeouts, whatever it is doing; what prepares to start does not."""
        self._ending = True
        if self._starter is not None:
            self._starter.cancel()
        if self.run is not None:
            await self._end(self.run)
        with contextlib.suppress(TimeoutError):  # a start that hangs is not waited for
            async with asyncio.timeout(THREADS_TIMEOUT_S), self._changing:
                pass

    def say_goodbye(self, bye: Bye) -> None:
        """Let ``bye`` be the last message to its clients."""
        self._hub.say_goodbye(bye)

    async def _start_run(self, plan: SessionPlan) -> None:
        before = self.run
        first_seq = None
        if before is not None:
            await self._end(before)
            first_seq = before.next_seq
        self._go_on()
        hub = Hub(session=self.name, earlier=self._hub) if self.state is SessionState.FAILED else self._hub
        run = await self._open_anew(plan, first_seq, hub)
        if self._ending:
            await self._end(run)
        self._go_on()
        hub.renew()
        self.plan, self._hub, self.run = plan, hub, run
        if before is not None:
            run.publish(self._notice(NoticeCode.SESSION_STARTED, "has been started again"))
        run.session.start()

    def _go_on(self) -> None:
        if self._ending:
            raise RefusalError("cannot_start", f"the service ends, and the session {self.name} with it")

    async def _open_anew(self, plan: SessionPlan, first_seq: int | None, hub: Hub) -> SessionRun:
        try:
            prepared = await self._work(lambda: prepare(plan, self._site, first_seq))
            if self._ending:
                await self._work(prepared.discard)
            self._go_on()
            return await self._work(lambda: self._opener.open(prepared, hub))
        except RefusalError:
            raise
        except Exception as error:
            if not isinstance(error, ClmerError):
                logger.exception("the session %s cannot start", self.name, extra={OF_SESSION: self.name})
            raise RefusalError("cannot_start", describe(error)) from error

    def _notice(self, code: NoticeCode, what: str) -> Notice:
        return Notice(session=self.name, code=code, message=f"The session {self.name} {what}.")

    def _on_over(self) -> None:
        task = asyncio.create_task(self._close_run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_run(self) -> None:
        """Close what belonged to a run that has ended by itself, so that its recording is whole."""
        async with self._changing:
            run = self.run
            if run is not None and run.session.state in (SessionState.ENDED, SessionState.FAILED):
                await self._end(run)

    async def _end(self, run: SessionRun) -> None:
        await self._work(run.stop, THREADS_TIMEOUT_S)
        await self._work(run.close, LISTENERS_TIMEOUT_S)

    async def _start_with_first_client(self, run: SessionRun) -> None:
        await self._hub.first_client.wait()
        run.session.start()

    async def _work(self, call: Callable[..., ResultT], *args: float) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._site.workers, call, *args)
