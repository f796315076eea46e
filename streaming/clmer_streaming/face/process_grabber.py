"""The thread that empties a camera: it stamps every frame when it comes and keeps the newest few."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError
from clmer_streaming.face.process_capture import Capture, CaptureSpec
from clmer_streaming.face.process_messages import CaptureState

REOPEN_S = 0.5
"""Seconds between two attempts to open a camera."""

WAITING_FRAMES = 8
"""Frames that may wait: 0.27 s at 30 fps. In the usual case none does, so this costs no latency."""

_OPEN_S = 15.0  # s that a camera has to open
_FIRST_FRAME_S = 10.0  # s that it has to give its first frame
_FRAME_S = 1.5  # s that it has to give the next one


@dataclass(frozen=True, eq=False)
class Grabbed:
    """One picture."""

    t: float  # s, LSL clock
    picture: npt.NDArray[np.generic]  # BGR


class Grabber:
    """Reads a camera, or a video file at its own pace, in a thread of its own; the newest frames win.

    A camera that gives no frame is closed and opened again, for ever; a file ends.

    Args:
        spec: What to read.

    Attributes:
        state: Whether pictures come.
        deadline: When the camera must have answered; past it, it hangs. Seconds of the LSL clock.
        ended: The file has been read to its end.
        failure: Why the file cannot be read.
        n_grabbed: Frames that came.
        n_dropped: Frames that gave way to newer ones; those before the first ``take`` do not count.
    """

    def __init__(self, spec: CaptureSpec) -> None:
        self.state = CaptureState(False, f"{spec.name} has not been opened yet")
        self.deadline = math.inf
        self.ended = False
        self.failure: RecordingError | None = None
        self.n_grabbed = 0
        self.n_dropped = 0
        self._spec = spec
        self._waiting: deque[Grabbed] = deque(maxlen=WAITING_FRAMES)
        self._begun = False  # somebody takes
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="clmer-grabber", daemon=True).start()

    def take(self, timeout_s: float) -> Grabbed | None:
        """Return the next frame; None when none came in time or the state has changed."""
        with self._changed:
            self._begun = True
            if not self._waiting and not self.ended:
                self._changed.wait(timeout_s)
            return self._waiting.popleft() if self._waiting else None

    def _run(self) -> None:
        pause = threading.Event()
        while not self.ended:
            self.deadline = local_clock() + _OPEN_S
            try:
                capture = Capture(self._spec)
                self._read(capture)
                capture.close()
                self._stop(CaptureState(False, f"{self._spec.name} gives no pictures any more"))
            except RecordingError as error:
                self._stop(CaptureState(False, f"{self._spec.name} gives no pictures: {error.mend}"), error)
            self.deadline = math.inf
            pause.wait(REOPEN_S)

    def _read(self, capture: Capture) -> None:
        """Hand out frames until none comes."""
        paced = _Pace(capture) if self._spec.kind == "file" else None
        self.deadline = local_clock() + _FIRST_FRAME_S
        while (t := capture.grab()) is not None:
            self.deadline = math.inf
            if paced is not None:
                t = paced.wait()
            picture = capture.picture()
            if picture is not None:
                self._put(Grabbed(t, picture), capture.rate_hz)
            self.deadline = local_clock() + _FRAME_S

    def _put(self, grabbed: Grabbed, rate_hz: float) -> None:
        with self._changed:
            self.n_grabbed += 1
            self.n_dropped += self._begun and len(self._waiting) == WAITING_FRAMES
            self._waiting.append(grabbed)
            self.state = CaptureState(True, rate_hz=rate_hz)
            self._changed.notify()

    def _stop(self, state: CaptureState, failure: RecordingError | None = None) -> None:
        """Say that no more pictures come; a file stays so, a camera may come back."""
        with self._changed:
            self.state = state
            if self._spec.kind == "file":
                self.failure, self.ended = failure, True
            self._changed.notify()


class _Pace:
    """Holds the frames of a file back until they are due, as if a camera gave them."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._begin: float | None = None
        self._waiter = threading.Event()

    def wait(self) -> float:
        """Wait until the frame that was grabbed is due; return now, seconds of the LSL clock."""
        position_s, now = self._capture.position(), local_clock()
        self._begin = now - position_s if self._begin is None else self._begin
        self._waiter.wait(max(0.0, self._begin + position_s - now))
        return local_clock()
