"""The face process seen from its parent: spawned, listened to, and ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from types import TracebackType
from typing import Self, cast

from clmer_streaming.face.process_messages import Calibrate, FaceMessage, FaceProcessConfig

_END_S = 2.0  # s that a process has to end before it is killed


class FaceProcess:
    """Reads faces from one camera or video file in a process of its own; only numbers leave it.

    It is spawned, never forked: MediaPipe hangs in a forked child. It ends with its parent.

    ::

        with FaceProcess(FaceProcessConfig(CaptureSpec.parse("0"))) as process:
            message = process.receive(0.1)

    Args:
        config: What it is to do.
    """

    def __init__(self, config: FaceProcessConfig) -> None:
        from clmer_streaming.face.process_worker import run_face_process

        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=run_face_process, args=(theirs, config, os.getpid()), name="clmer-face", daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None  # it was started
        return self._process.pid

    def receive(self, timeout_s: float) -> FaceMessage | None:
        """Return the next message; None when none came in time.

        Raises:
            EOFError: The process has ended.
        """
        try:
            return cast(FaceMessage, self._pipe.recv()) if self._pipe.poll(timeout_s) else None
        except OSError as error:  # a reset: it was killed while it wrote
            raise EOFError from error

    def order(self, order: Calibrate) -> None:
        """Tell the process what to do beside reading faces; one that has ended hears nothing."""
        with contextlib.suppress(OSError):
            self._pipe.send(order)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()
