"""The face process: a camera or a video file read by a process of its own, and what it sends to its parent.

``FaceProcess`` is the parent's side. The dataclasses are the messages; ``run_face_process`` is the target of the
spawned process.
"""

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
from clmer_streaming.face.capture import Capture, CaptureSpec, CaptureState, FrameGrabber, GrabbedFrame, VideoRecorder
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.geometry import MeshFrame, image_points
from clmer_streaming.face.hog import Hog
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceSample

_END_S = 2.0  # s that a process has to end before it is killed

EXIT_HUNG = 75
"""Exit code of a process that ended itself because its camera hung; the parent starts another one."""

_HEARTBEAT_S = 0.5  # s of silence after which the state is sent again; a parent that is gone shows then
_CALIBRATION_QUALITY = 0.5  # 0-1, least quality of the frame with which a measurement of the neutral face begins


class FaceProcess:
    """Reads faces from one camera or video file in a process of its own; only numbers leave it.

    It is spawned, never forked: MediaPipe hangs in a forked child. It ends with its parent.

    Example::

        with FaceProcess(FaceProcessConfig(CaptureSpec.parse("0"))) as process:
            message = process.receive(0.1)

    Args:
        config: What the process does.
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
        """Return the next message; None if none came in time.

        Raises:
            EOFError: The process has ended.
        """
        try:
            return cast(FaceMessage, self._pipe.recv()) if self._pipe.poll(timeout_s) else None
        except OSError as error:  # a reset: it was killed while it wrote
            raise EOFError from error

    def send(self, request: Calibrate) -> None:
        """Send a request to the process; ignored if the process has ended."""
        with contextlib.suppress(OSError):
            self._pipe.send(request)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


@dataclass(frozen=True)
class FaceProcessConfig:
    """Settings of one face process."""

    capture: CaptureSpec
    lossless: bool = False  # every frame of a file in order, stamped by the container's time; else live
    neutral: NeutralFace | None = None  # the participant's, from an explicit calibration
    extractor: Extractor = FACE_MESH  # what finds the vertices of the face
    calibrate_s: float = 0.0  # s, measure the neutral face from the first good frame on; 0: do not
    video: Path | None = None  # where the frames of a live process are recorded; None: nowhere
    hog: bool = False  # send the HOG of each frame's aligned face, too; needs scikit-image


@dataclass(frozen=True)
class Calibrate:
    """Request of the parent: measure the neutral face from the next good frame on."""

    seconds: float  # 0: cancel the request before, also if its measurement has ended meanwhile
    number: int = 0  # from 1 on; returned in ``Calibrated``


@dataclass(frozen=True)
class FaceRow:
    """The face of one frame."""

    t: float  # s, LSL clock; in a lossless run the container's time
    values: bytes  # 249 float32, as ``face.layout.face_to_row`` gives them
    n_dropped: int  # frames that were grabbed but never processed, so far
    hog: bytes = b""  # 1296 float32, NaN without a face; empty without ``FaceProcessConfig.hog``


@dataclass(frozen=True)
class Calibrated:
    """The neutral face has been measured."""

    neutral: NeutralFace
    number: int = 0  # of the request; 0: measured because of ``FaceProcessConfig.calibrate_s``


@dataclass(frozen=True)
class VideoEnded:
    """The video cannot be written any more; faces are still sent."""

    reason: str  # what went wrong


@dataclass(frozen=True)
class Ended:
    """The file has been read to its end, or cannot be read."""

    n_frames: int
    error: tuple[str, str, str] | None = None  # expected, found and mend of a ClmerError


FaceMessage: TypeAlias = FaceRow | CaptureState | Calibrated | VideoEnded | Ended
"""A message of a face process."""


def run_face_process(pipe: Connection, config: FaceProcessConfig, parent: int) -> None:
    """Read faces and send them through a pipe: the target of the spawned process.

    Args:
        pipe: The process's end of the pipe.
        config: What the process does.
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
    """Reads frames, processes them, and sends what they show."""

    def __init__(self, pipe: Connection, config: FaceProcessConfig, parent: int) -> None:
        self.n_frames = 0
        self._pipe = pipe
        self._config = config
        self._parent = parent
        self._reader = FaceReader(None, config.neutral)
        self._calibrate_s = config.calibrate_s  # s for which to measure the neutral face; 0: not requested
        self._request = 0  # number of the request to do so; 0: none, see the configuration
        self._before = config.neutral  # the neutral face that was in force when it was requested
        self._hog = Hog() if config.hog else None
        self._video = None if config.video is None else VideoRecorder(config.video)

    def end(self, signum: int = 0, frame: FrameType | None = None, *, code: int = 0) -> NoReturn:
        """Finish the video and end the process, without waiting for the camera's thread; a signal handler."""
        if self._video is not None:
            self._video.close()
        os._exit(code)

    def run_file(self) -> None:
        """Process every frame of a file; the pipe blocks while the parent is slow."""
        capture, mesh = Capture(self._config.capture), self._config.extractor.open()
        while capture.grab() is not None:
            position_s, picture = capture.position(), capture.picture()
            if picture is not None:
                self._send_face(position_s, picture, mesh.process(picture), 0)
        self._pipe.send(Ended(self.n_frames))

    def run_live(self) -> None:
        """Process the newest frames of a camera, and send its state when there is none."""
        extractor = self._config.extractor
        mesh = extractor.open() if self._config.capture.kind == "file" else None  # else first frames are lost
        grabber = FrameGrabber(self._config.capture)
        mesh = mesh or extractor.open()  # loads while the camera is opened
        sent: CaptureState | None = None
        while True:
            self._handle_requests()
            grabbed = grabber.pop(_HEARTBEAT_S)
            if grabber.state != sent or grabbed is None:
                sent = grabber.state
                self._send_state(sent)
            if grabbed is not None:
                self._record(grabbed, grabber.state.rate_hz)
                self._send_face(grabbed.t, grabbed.picture, mesh.process(grabbed.picture), grabber.n_dropped)
            elif grabber.ended:
                failure = grabber.failure
                error = None if failure is None else (failure.expected, failure.found, failure.mend)
                self._pipe.send(Ended(self.n_frames, error))
                return
            self._end_if_hung(grabber)

    def _send_state(self, state: CaptureState) -> None:
        if os.getppid() != self._parent:
            raise EOFError
        self._pipe.send(state)

    def _end_if_hung(self, grabber: FrameGrabber) -> None:
        if local_clock() > grabber.deadline:
            self._pipe.send(CaptureState(False, f"{self._config.capture.name} does not answer"))
            self.end(code=EXIT_HUNG)

    def _record(self, grabbed: GrabbedFrame, rate_hz: float) -> None:
        """Write a frame to the video, if there is one; a video that fails ends without the process."""
        if self._video is None:
            return
        try:
            self._video.write(grabbed.t, grabbed.picture, rate_hz)
        except RecordingError as error:
            self._video.close()
            self._video = None
            self._pipe.send(VideoEnded(error.found))

    def _send_face(self, t: float, picture: npt.NDArray[np.generic], frame: MeshFrame | None, n_dropped: int) -> None:
        """Send the face of a frame; NaN without a face."""
        sample = self._reader.read(t, frame)
        hog = b"" if self._hog is None else self._hog(picture, image_points(frame)).astype(np.float32).tobytes()
        self.n_frames += 1
        self._pipe.send(FaceRow(t, face_to_row(sample).tobytes(), n_dropped, hog))
        if self._calibrate_s:
            self._calibrate(sample)

    def _handle_requests(self) -> None:
        """Handle the parent's requests."""
        while self._pipe.poll():
            request: Calibrate = self._pipe.recv()
            self._reader.cancel_calibration()
            if not request.seconds and not self._calibrate_s:  # canceled, but it was measured already
                self._reader.revert_calibration()
            self._calibrate_s, self._request, self._before = request.seconds, request.number, self._reader.neutral_face

    def _calibrate(self, sample: FaceSample) -> None:
        """Measure the neutral face from the first good frame on; start again if too few frames were good."""
        measured = self._reader.neutral_face
        if self._reader.calibrating:
            return
        if measured is not None and measured is not self._before:
            self._calibrate_s = 0.0
            self._pipe.send(Calibrated(replace(measured, extractor=self._config.extractor.id), self._request))
        elif sample.quality >= _CALIBRATION_QUALITY:
            self._reader.begin_calibration(sample.t, self._calibrate_s)
