"""The face process seen from its parent: spawned, listened to, and ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import ClmerError, RecordingError
from clmer_streaming.face.capture import Capture, CaptureSpec, CaptureState, Grabbed, Grabber, VideoKeeper
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.geometry import MeshFrame, image_points
from clmer_streaming.face.hog import Hog
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceSample


@dataclass(frozen=True)
class FaceProcessConfig:
    """What one face process is to do."""

    capture: CaptureSpec
    lossless: bool = False  # every frame of a file in order, stamped by the container's time; else live
    neutral: NeutralFace | None = None  # the participant's, as measured on purpose
    extractor: Extractor = FACE_MESH  # what finds the points
    calibrate_s: float = 0.0  # measure the neutral face from the first frame on for so long; 0: do not
    video: Path | None = None  # where the frames of a live process are kept; None: nowhere
    hog: bool = False  # describe the aligned face of each frame, too; needs scikit-image


@dataclass(frozen=True)
class Calibrate:
    """The parent's order: measure the neutral face from the next good frame on."""

    seconds: float  # 0: give up what the order before this one began, also where it has been measured meanwhile
    number: int = 0  # from 1 on; the answer has it, too


@dataclass(frozen=True)
class FaceRow:
    """The face of one frame."""

    t: float  # s, LSL clock; in a lossless run the container's time
    values: bytes  # 249 float32, as ``face.layout.face_to_row`` gives them
    n_dropped: int  # frames that were grabbed but never looked at, so far
    hog: bytes = b""  # 1296 float32, NaN without a face; empty where nobody asked for it


@dataclass(frozen=True)
class Calibrated:
    """The neutral face has been measured."""

    neutral: NeutralFace
    number: int = 0  # of the order; 0: it was measured because the process was started so


@dataclass(frozen=True)
class VideoEnded:
    """The video cannot be written any more; faces go on."""

    reason: str  # what was found


@dataclass(frozen=True)
class Ended:
    """The file has been read to its end, or cannot be read."""

    n_frames: int
    error: tuple[str, str, str] | None = None  # expected, found, to do


FaceMessage: TypeAlias = FaceRow | CaptureState | Calibrated | VideoEnded | Ended
"""What comes out of a face process."""


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


EXIT_HUNG = 75
"""Exit code of a process that ended itself because its camera hung; the parent starts another one."""

_BEAT_S = 0.5  # s of silence after which the state is said again; a parent that is gone shows then
_LEARNING_QUALITY = 0.5  # 0-1, of the frame with which a measurement of the neutral face begins


def run_face_process(pipe: Connection, config: FaceProcessConfig, parent: int) -> None:
    """Do what ``config`` says and send it through ``pipe``; the target of the spawned process.

    Args:
        pipe: The process's end of the pipe.
        config: What to do.
        parent: Process id of the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    worker = _Worker(pipe, config, parent)
    if config.video is not None:
        signal.signal(signal.SIGTERM, worker.end)
    try:
        if config.lossless:
            worker.run_file()
        else:
            worker.run_live()
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass  # the parent has ended
    except ClmerError as error:
        pipe.send(Ended(worker.n_frames, (error.expected, error.found, error.mend)))
    worker.end()


class _Worker:
    def __init__(self, pipe: Connection, config: FaceProcessConfig, parent: int) -> None:
        self.n_frames = 0
        self._pipe = pipe
        self._config = config
        self._parent = parent
        self._reader = FaceReader(None, config.neutral)
        self._calibrate_s = config.calibrate_s  # to measure the neutral face for; 0: not asked to
        self._order = 0  # number of the order to do so; 0: the process was started so
        self._before = config.neutral  # what was in force when that was asked for
        self._hog = Hog() if config.hog else None
        self._video = None if config.video is None else VideoKeeper(config.video)

    def end(self, signum: int = 0, frame: FrameType | None = None, *, code: int = 0) -> NoReturn:
        """Finish the video and end the process, not held up by a thread that waits for a camera; a signal's handler."""
        if self._video is not None:
            self._video.close()
        os._exit(code)

    def run_file(self) -> None:
        """Read every frame of a file; a parent that is slow holds it back."""
        capture, mesh = Capture(self._config.capture), self._config.extractor.open()
        while capture.grab() is not None:
            position_s, picture = capture.position(), capture.picture()
            if picture is not None:
                self._send_face(position_s, picture, mesh.process(picture), 0)
        self._pipe.send(Ended(self.n_frames))

    def run_live(self) -> None:
        """Look at the newest frame again and again, and say when there is none."""
        extractor = self._config.extractor
        mesh = extractor.open() if self._config.capture.kind == "file" else None  # a file shall not begin without it
        grabber = Grabber(self._config.capture)
        mesh = mesh or extractor.open()  # loads while the camera is opened
        said: CaptureState | None = None
        while True:
            self._obey()
            grabbed = grabber.take(_BEAT_S)
            if grabber.state != said or grabbed is None:
                said = grabber.state
                self._say(said)
            if grabbed is not None:
                self._keep(grabbed, grabber.state.rate_hz)
                self._send_face(grabbed.t, grabbed.picture, mesh.process(grabbed.picture), grabber.n_dropped)
            elif grabber.ended:
                failure = grabber.failure
                error = None if failure is None else (failure.expected, failure.found, failure.mend)
                self._pipe.send(Ended(self.n_frames, error))
                return
            self._end_if_hung(grabber)

    def _say(self, state: CaptureState) -> None:
        if os.getppid() != self._parent:
            raise EOFError
        self._pipe.send(state)

    def _end_if_hung(self, grabber: Grabber) -> None:
        if local_clock() > grabber.deadline:
            self._pipe.send(CaptureState(False, f"{self._config.capture.name} does not answer"))
            self.end(code=EXIT_HUNG)

    def _keep(self, grabbed: Grabbed, rate_hz: float) -> None:
        """Write a frame to the video, where there is one, before its face is sent; a video that fails ends alone."""
        if self._video is None:
            return
        try:
            self._video.write(grabbed.t, grabbed.picture, rate_hz)
        except RecordingError as error:
            self._video.close()
            self._video = None
            self._pipe.send(VideoEnded(error.found))

    def _send_face(self, t: float, picture: npt.NDArray[np.generic], frame: MeshFrame | None, n_dropped: int) -> None:
        """Send what a frame shows."""
        sample = self._reader.read(t, frame)
        hog = b"" if self._hog is None else self._hog(picture, image_points(frame)).astype(np.float32).tobytes()
        self.n_frames += 1
        self._pipe.send(FaceRow(t, face_to_row(sample).tobytes(), n_dropped, hog))
        if self._calibrate_s:
            self._calibrate(sample)

    def _obey(self) -> None:
        """Take the parent's orders."""
        while self._pipe.poll():
            order: Calibrate = self._pipe.recv()
            self._reader.give_calibration_up()
            if not order.seconds and not self._calibrate_s:  # measured already, but it came too late
                self._reader.take_calibration_back()
            self._calibrate_s, self._order, self._before = order.seconds, order.number, self._reader.neutral_face

    def _calibrate(self, sample: FaceSample) -> None:
        """Measure the neutral face from the first good frame on; begin again where too few frames were good."""
        measured = self._reader.neutral_face
        if self._reader.calibrating:
            return
        if measured is not None and measured is not self._before:
            self._calibrate_s = 0.0
            self._pipe.send(Calibrated(replace(measured, extractor=self._config.extractor.id), self._order))
        elif sample.quality >= _LEARNING_QUALITY:
            self._reader.begin_calibration(sample.t, self._calibrate_s)
