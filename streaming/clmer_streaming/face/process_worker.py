"""What runs inside the face process: pictures in, numbers out. It ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import ClmerError, RecordingError
from clmer_streaming.face.hog import Hog
from clmer_streaming.face.landmarks import image_points
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.face.process_capture import Capture
from clmer_streaming.face.process_grabber import Grabbed, Grabber
from clmer_streaming.face.process_messages import (
    Calibrate,
    Calibrated,
    CaptureState,
    Ended,
    FaceProcessConfig,
    FaceRow,
    VideoEnded,
)
from clmer_streaming.face.process_video import VideoKeeper
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceSample

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
