"""The threads in which a session's sources fill its intake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from clmer_server.intake import Intake
from clmer_streaming.types import Source


class SourceThreads:
    """One thread for each source; behind the last one that ends, the intake is closed.

    Args:
        sources: What they run.
        intake: Where the items go.
        stop: Set to end them.
        fail: Is given what a source raised, in its thread.
    """

    def __init__(
        self, sources: Sequence[Source], intake: Intake, stop: threading.Event, fail: Callable[[Exception], None]
    ) -> None:
        self._intake = intake
        self._stop = stop
        self._fail = fail
        self._lock = threading.Lock()  # guards _n_running
        self._n_running = len(sources)
        self.threads = tuple(
            threading.Thread(target=self._run, args=(source,), name="clmer-source", daemon=True) for source in sources
        )

    def _run(self, source: Source) -> None:
        try:
            source.run(self._intake.put, self._stop)
        except Exception as error:
            self._fail(error)
        with self._lock:
            self._n_running -= 1
            last = self._n_running == 0
        if last:
            self._intake.close()
