"""What a camera's face process is asked to do beside reading faces: measure the neutral face, and give that up."""

from __future__ import annotations

import threading
from collections.abc import Callable

from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.process import FaceProcess
from clmer_streaming.face.process_messages import Calibrate

Done = Callable[[NeutralFace], None]
"""Is given what was measured."""


class CalibrationOrders:
    """The calibration that is wanted now, if any; from any thread but for ``pass_on`` and ``forget_process``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while an order is given, given up or done
        self._n_orders = 0
        self._wanted: tuple[Calibrate, Done] | None = None
        self._told: Calibrate | None = None  # what the running process knows of that

    @property
    def under_way(self) -> bool:
        """Whether a calibration that was asked for has not ended."""
        return self._wanted is not None

    def give(self, seconds: float, done: Done) -> None:
        """Want a calibration of so many seconds, in place of one that is under way."""
        with self._lock:
            self._n_orders += 1
            self._wanted = Calibrate(seconds, self._n_orders), done

    def give_up(self) -> bool:
        """Want none any more; tell whether one was under way."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
            return wanted is not None

    def finish(self, number: int) -> Done | None:
        """Return who wants what an order has measured, which ends it; None where it has been given up."""
        with self._lock:
            if self._wanted is None or self._wanted[0].number != number:
                return None
            (_, done), self._wanted, self._told = self._wanted, None, None
            return done

    def forget_process(self) -> None:
        """Take it that a new process runs, which has been told nothing."""
        self._told = None

    def pass_on(self, process: FaceProcess) -> None:
        """Tell the process of a new order; what it was told before and is not wanted any more is given up first."""
        wanted = self._wanted
        order = None if wanted is None else wanted[0]
        if order is not self._told:
            if self._told is not None:
                process.order(Calibrate(0.0))
            if order is not None:
                process.order(order)
            self._told = order
