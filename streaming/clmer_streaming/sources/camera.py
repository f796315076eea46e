"""A camera, or a video file played in real time, as a source of faces.

``CameraSource`` runs a face process, starts it again when it dies, and delivers its samples. ``CalibrationRequests``
holds the measurement of the neutral face that was asked for last, whatever happens to the process.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.config import physio_source
from clmer_streaming.face.capture import CaptureSpec, CaptureState, probe
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.hog import HOG_CH_NAMES, Hog
from clmer_streaming.face.layout import FACE_CH_NAMES, FACE_SOURCE, row_to_face
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.process import (
    Calibrate,
    Calibrated,
    Ended,
    FaceProcess,
    FaceProcessConfig,
    FaceRow,
    VideoEnded,
)
from clmer_streaming.types import Chunk, Item, StreamInfo, Tick

logger = logging.getLogger(__name__)

CalibrationCallback: TypeAlias = Callable[[NeutralFace], None]
"""Is called with the neutral face that was measured."""

_RECEIVE_S = 0.1  # s between two looks at ``stop``
_TICK_S = 0.5  # s of silence after which a tick is put, and between further ticks
_MAX_STARTS, _PER_S = 5, 60.0  # of face processes; one that dies at once is not restarted without end


@dataclass(frozen=True)
class CameraReport:
    """The state of a camera, beside its samples."""

    reason: str = ""  # why no frames come; "" while they come
    n_samples: int = 0
    n_dropped: int = 0  # frames that were replaced by newer ones before they were processed
    n_starts: int = 0  # of the face process


class CameraSource:
    """Source: the face in front of a camera (index, device, URL) or in a video file played in real time.

    A camera that is absent or disappears is waited for; a face process that dies is started again. A video file ends.

    Example::

        camera = CameraSource("0")
        camera.run(items.append, stop)  # in a thread of its own

    Args:
        spec: The camera, as on the command line: ``"0"``, ``"/dev/video2"``, ``"rtsp://..."``, ``"face.mp4"``.
        neutral: The participant's measured neutral face, if there is one.
        delay_s: Seconds from the exposure to the grabbing of a frame, subtracted from every stamp.
        calibrate_s: Measure the neutral face in the first seconds; 0: do not.
        extractor: What finds the vertices of the face.
        hog: Series of the model that gets the HOG of the face, as a chunk of one sample beside each face; "": no HOG.

    Attributes:
        info: Announcement of the faces; its rate is that of the camera opened last.
        report: State of the camera now.
        calibrated: The neutral face that was measured; None before.

    Raises:
        SettingsError: The camera's name is not valid, or scikit-image is not installed, which ``hog`` needs.
        RecordingError: It is a video file that cannot be read.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the user's, given by name
        self,
        spec: str,
        *,
        neutral: NeutralFace | None = None,
        delay_s: float = 0.0,
        calibrate_s: float = 0.0,
        extractor: Extractor = FACE_MESH,
        hog: str = "",
    ) -> None:
        capture = CaptureSpec.parse(spec)
        self._config = FaceProcessConfig(
            capture, neutral=neutral, extractor=extractor, calibrate_s=calibrate_s, hog=bool(hog)
        )
        self._hog_source = physio_source(hog)
        if hog:
            Hog()  # fails here rather than in the face process if scikit-image is missing
        self._delay_s = delay_s
        self._starts: deque[float] = deque(maxlen=_MAX_STARTS)  # s, of face processes
        self._announced = False
        self._last_put = local_clock()
        self.info = self._info(probe(capture) if capture.kind == "file" else 0.0)
        self.report = CameraReport(f"{capture.name} has not been opened yet")
        self.calibrated: NeutralFace | None = None
        self._calibrations = CalibrationRequests()
        self._video_callback: Callable[[str], None] = lambda reason: None

    @property
    def hog_info(self) -> StreamInfo:
        """Announcement of the HOG."""
        return dataclasses.replace(
            self.info,
            source=self._hog_source,
            kind="physio",
            ch_names=HOG_CH_NAMES,
            extractor="",
            type="HOG",
            channel_format="float32",
        )

    @property
    def calibrating(self) -> bool:
        """Whether a calibration was requested that has not ended."""
        return self._calibrations.pending

    def keep_video(self, path: Path, ended: Callable[[str], None]) -> None:
        """Make the face process write every frame that gives a sample into a video. Call this before ``run``.

        Args:
            path: The video; see ``VideoRecorder``.
            ended: Called in the thread of this source with the reason, if the video ends before the session.
        """
        self._config = dataclasses.replace(self._config, video=path)
        self._video_callback = ended

    def calibrate(self, seconds: float, done: CalibrationCallback) -> None:
        """Measure the neutral face of the present person, from the next good frame on. Thread-safe.

        Args:
            seconds: How long to measure.
            done: Called with the measured face in the thread of this source.
        """
        self._calibrations.request(seconds, done)

    def cancel_calibration(self) -> bool:
        """Cancel what ``calibrate`` began; return whether a calibration was pending. Thread-safe."""
        return self._calibrations.cancel()

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver samples, and ticks while there are none, until ``stop`` is set or the video file ends."""
        while self._wait_to_start(put, stop):
            self._calibrations.process_started()
            with FaceProcess(self._config) as process:
                try:
                    if self._receive(process, put, stop):
                        return
                except EOFError:
                    self._set_reason(f"{self._config.capture.name}: its process has ended and is started again")
                    self._announced = False

    def _wait_to_start(self, put: Callable[[Item], None], stop: threading.Event) -> bool:
        """Wait until another process may be started; return False if ``stop`` was set."""
        n, now = len(self._starts), local_clock()
        earliest = self._starts[-1] + 0.2 * 2**n if n > 1 else now
        earliest = max(earliest, self._starts[0] + _PER_S) if n == _MAX_STARTS else earliest
        while (now := local_clock()) < earliest:
            self._tick(put)
            if stop.wait(min(_RECEIVE_S, earliest - now)):
                return False
        while self._starts and self._starts[0] < now - _PER_S:
            self._starts.popleft()
        self._starts.append(now)
        self.report = dataclasses.replace(self.report, n_starts=self.report.n_starts + 1)
        return not stop.is_set()

    def _receive(self, process: FaceProcess, put: Callable[[Item], None], stop: threading.Event) -> bool:
        """Process the messages of the face process; return True when there are no more to come."""
        n_dropped_before = self.report.n_dropped
        while not stop.is_set():
            self._calibrations.send_to(process)
            match process.receive(_RECEIVE_S):
                case FaceRow() as row:
                    self._deliver(row, n_dropped_before, put)
                case CaptureState(is_open=is_open, reason=reason, rate_hz=rate_hz):
                    self._on_state(is_open, reason, rate_hz, put)
                case Calibrated(neutral=neutral, number=number):
                    self._on_calibrated(neutral, number)
                case VideoEnded(reason=reason):
                    self._on_video_end(reason)
                case Ended(error=error):
                    played = f"{self._config.capture.name} has been played to its end"
                    self._set_reason(played if error is None else f"{error[1]}; {error[2]}")
                    return True
            self._tick(put)
        return True

    def _deliver(self, row: FaceRow, n_dropped_before: int, put: Callable[[Item], None]) -> None:
        put(row_to_face(row.t, np.frombuffer(row.values, np.float32), FACE_SOURCE))
        if row.hog:
            numbers = np.frombuffer(row.hog, np.float32).astype(np.float64)
            put(Chunk(self._hog_source, np.array([row.t]), numbers[:, np.newaxis]))
        self._last_put = local_clock()
        self.report = dataclasses.replace(
            self.report, n_samples=self.report.n_samples + 1, n_dropped=n_dropped_before + row.n_dropped
        )

    def _on_calibrated(self, neutral: NeutralFace, number: int) -> None:
        """Keep what was measured, unless it was canceled; a process that is started again gets it, too."""
        done = self._calibrations.finish(number) if number else None
        if number and done is None:
            return
        self.calibrated = neutral
        self._config = dataclasses.replace(self._config, neutral=neutral, calibrate_s=0.0)
        if done is not None:
            done(neutral)

    def _on_video_end(self, reason: str) -> None:
        """Report that the video has ended; a process that is started again writes none, either."""
        logger.error("the video %s has ended: %s", self._config.video, reason)
        self._config = dataclasses.replace(self._config, video=None)
        self._video_callback(reason)

    def _on_state(self, is_open: bool, reason: str, rate_hz: float, put: Callable[[Item], None]) -> None:
        self._set_reason(reason)
        if is_open and not self._announced:
            self.info = self._info(rate_hz)
            put(self.info)
            if self._config.hog:
                put(self.hog_info)
        self._announced = is_open

    def _info(self, rate_hz: float) -> StreamInfo:
        return StreamInfo(
            source=FACE_SOURCE,
            kind="face",
            name=self._config.capture.name,
            ch_names=FACE_CH_NAMES,
            sfreq=rate_hz,
            source_id=f"camera {self._config.capture.text}",
            extractor=self._config.extractor.id,
            delay_s=self._delay_s,
        )

    def _tick(self, put: Callable[[Item], None]) -> None:
        """Put a tick if nothing was put for long enough."""
        now = local_clock()
        if now - self._last_put >= _TICK_S:
            put(Tick(now, FACE_SOURCE))
            self._last_put = now

    def _set_reason(self, reason: str) -> None:
        """Set why no frames come, and log it once."""
        if reason != self.report.reason:
            if reason:
                logger.warning("%s", reason)
            self.report = dataclasses.replace(self.report, reason=reason)


class CalibrationRequests:
    """The calibration that is wanted now, if any. Thread-safe, but for ``process_started`` and ``send_to``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while a request is made, canceled or finished
        self._n_requests = 0
        self._pending: tuple[Calibrate, CalibrationCallback] | None = None
        self._sent: Calibrate | None = None  # what the running process has got of that

    @property
    def pending(self) -> bool:
        """Whether a calibration was requested that has not ended."""
        return self._pending is not None

    def request(self, seconds: float, done: CalibrationCallback) -> None:
        """Request a calibration of this many seconds, in place of a pending one."""
        with self._lock:
            self._n_requests += 1
            self._pending = Calibrate(seconds, self._n_requests), done

    def cancel(self) -> bool:
        """Cancel the pending calibration; return whether there was one."""
        with self._lock:
            pending, self._pending = self._pending, None
            return pending is not None

    def finish(self, number: int) -> CalibrationCallback | None:
        """End the request with this number and return its callback; None if it was canceled or replaced."""
        with self._lock:
            if self._pending is None or self._pending[0].number != number:
                return None
            (_, done), self._pending, self._sent = self._pending, None, None
            return done

    def process_started(self) -> None:
        """Reset what was sent: a new process runs."""
        self._sent = None

    def send_to(self, process: FaceProcess) -> None:
        """Send a new request to the process, behind the cancelation of one that it was sent before."""
        pending = self._pending
        request = None if pending is None else pending[0]
        if request is not self._sent:
            if self._sent is not None:
                process.send(Calibrate(0.0))
            if request is not None:
                process.send(request)
            self._sent = request
