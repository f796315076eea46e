"""A camera as a source: its face process, kept alive, and the samples that come out of it."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.face.capture import CaptureSpec, CaptureState, probe
from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.hog import HOG_CH_NAMES, Hog
from clmer_streaming.face.layout import FACE_CH_NAMES, row_to_face
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
from clmer_streaming.pipeline.extra import physio_source
from clmer_streaming.types import Chunk, Item, StreamInfo, Tick

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


logger = logging.getLogger(__name__)

SOURCE = "face"
"""The source key of this stream's items."""

_LISTEN_S = 0.1  # s between two looks at ``stop``
_TICK_S = 0.5  # s of silence after which a tick is put, and then at which pace
_MAX_STARTS, _PER_S = 5, 60.0  # of face processes; a camera whose process dies at once is not tried for ever


@dataclass(frozen=True)
class CameraReport:
    """What is known of a camera beside its samples."""

    reason: str = ""  # why no pictures come; "" while they come
    n_samples: int = 0
    n_dropped: int = 0  # frames that came while an older one was looked at, and gave way to a newer one
    n_starts: int = 0  # of the face process


class CameraSource:
    """Source: the face before a camera (index, device, URL) or in a video file played in real time.

    A camera that is absent, or goes, is waited for; a process that dies is started again. A video file ends.

    Args:
        spec: The camera, as on the command line: ``"0"``, ``"/dev/video2"``, ``"rtsp://..."``, ``"face.mp4"``.
        neutral: The participant's neutral face, where it was measured.
        delay_s: Seconds from what the camera sees to the grabbing of the frame, taken off every stamp.
        calibrate_s: Measure the neutral face in the first so many seconds; 0: do not.
        extractor: What finds the points of the face.
        hog: Series that the HOG of the face shall give, as chunks of one sample beside each face; "": no HOG.

    Attributes:
        info: How the stream of faces is announced; the rate is that of the last camera opened.
        report: What is known of the camera now.
        calibrated: The neutral face that was measured; None before.

    Raises:
        SettingsError: The camera is named as nothing that could be opened, or what makes the HOG is not installed.
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
            Hog()  # here, rather than in the face process: it says what is not installed
        self._delay_s = delay_s
        self._starts: deque[float] = deque(maxlen=_MAX_STARTS)  # s, of face processes
        self._announced = False
        self._last_put = local_clock()
        self.info = self._info(probe(capture) if capture.kind == "file" else 0.0)
        self.report = CameraReport(f"{capture.name} has not been opened yet")
        self.calibrated: NeutralFace | None = None
        self._orders = CalibrationOrders()
        self._when_video_ended: Callable[[str], None] = lambda reason: None

    @property
    def hog_info(self) -> StreamInfo:
        """How the HOG is announced."""
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
        """Whether a calibration that was asked for has not ended."""
        return self._orders.under_way

    def keep_video(self, path: Path, ended: Callable[[str], None]) -> None:
        """Have the face process write every frame that gives a sample into a video; before ``run``.

        Args:
            path: Of the video; see ``VideoKeeper``.
            ended: Is told, in the thread of this source, why the video ended before the session.
        """
        self._config = dataclasses.replace(self._config, video=path)
        self._when_video_ended = ended

    def calibrate(self, seconds: float, done: Callable[[NeutralFace], None]) -> None:
        """Measure the neutral face of who sits there now, from the next good frame on; from any thread.

        Args:
            seconds: How long to measure.
            done: Is given what was measured, in the thread of this source.
        """
        self._orders.give(seconds, done)

    def stop_calibrating(self) -> bool:
        """Give up what ``calibrate`` began, and return True; False where nothing is under way. From any thread."""
        return self._orders.give_up()

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver samples, and ticks while there are none, until ``stop`` is set or the video file ends."""
        while self._may_start(put, stop):
            self._orders.forget_process()
            with FaceProcess(self._config) as process:
                try:
                    if self._listen(process, put, stop):
                        return
                except EOFError:
                    self._say(f"{self._config.capture.name}: its process has ended and is started again")
                    self._announced = False

    def _may_start(self, put: Callable[[Item], None], stop: threading.Event) -> bool:
        """Wait until another process may be started; False when stopped."""
        n, now = len(self._starts), local_clock()
        earliest = self._starts[-1] + 0.2 * 2**n if n > 1 else now
        earliest = max(earliest, self._starts[0] + _PER_S) if n == _MAX_STARTS else earliest
        while (now := local_clock()) < earliest:
            self._tick(put)
            if stop.wait(min(_LISTEN_S, earliest - now)):
                return False
        while self._starts and self._starts[0] < now - _PER_S:
            self._starts.popleft()
        self._starts.append(now)
        self.report = dataclasses.replace(self.report, n_starts=self.report.n_starts + 1)
        return not stop.is_set()

    def _listen(self, process: FaceProcess, put: Callable[[Item], None], stop: threading.Event) -> bool:
        """Hand on what the process says; True when there is nothing more to come."""
        n_dropped_before = self.report.n_dropped
        while not stop.is_set():
            self._orders.pass_on(process)
            match process.receive(_LISTEN_S):
                case FaceRow() as row:
                    self._deliver(row, n_dropped_before, put)
                case CaptureState(is_open=is_open, reason=reason, rate_hz=rate_hz):
                    self._take_state(is_open, reason, rate_hz, put)
                case Calibrated(neutral=neutral, number=number):
                    self._take_neutral(neutral, number)
                case VideoEnded(reason=reason):
                    self._end_video(reason)
                case Ended(error=error):
                    played = f"{self._config.capture.name} has been played to its end"
                    self._say(played if error is None else f"{error[1]}; {error[2]}")
                    return True
            self._tick(put)
        return True

    def _deliver(self, row: FaceRow, n_dropped_before: int, put: Callable[[Item], None]) -> None:
        put(row_to_face(row.t, np.frombuffer(row.values, np.float32), SOURCE))
        if row.hog:
            numbers = np.frombuffer(row.hog, np.float32).astype(np.float64)
            put(Chunk(self._hog_source, np.array([row.t]), numbers[:, np.newaxis]))
        self._last_put = local_clock()
        self.report = dataclasses.replace(
            self.report, n_samples=self.report.n_samples + 1, n_dropped=n_dropped_before + row.n_dropped
        )

    def _take_neutral(self, neutral: NeutralFace, number: int) -> None:
        """Keep what was measured, unless it has been given up; a process that is started again gets it, too."""
        done = self._orders.finish(number) if number else None
        if number and done is None:
            return
        self.calibrated = neutral
        self._config = dataclasses.replace(self._config, neutral=neutral, calibrate_s=0.0)
        if done is not None:
            done(neutral)

    def _end_video(self, reason: str) -> None:
        """Tell that no more video is kept; a process that is started again keeps none, either."""
        logger.error("the video %s has ended: %s", self._config.video, reason)
        self._config = dataclasses.replace(self._config, video=None)
        self._when_video_ended(reason)

    def _take_state(self, is_open: bool, reason: str, rate_hz: float, put: Callable[[Item], None]) -> None:
        self._say(reason)
        if is_open and not self._announced:
            self.info = self._info(rate_hz)
            put(self.info)
            if self._config.hog:
                put(self.hog_info)
        self._announced = is_open

    def _info(self, rate_hz: float) -> StreamInfo:
        return StreamInfo(
            source=SOURCE,
            kind="face",
            name=self._config.capture.name,
            ch_names=FACE_CH_NAMES,
            sfreq=rate_hz,
            source_id=f"camera {self._config.capture.text}",
            extractor=self._config.extractor.id,
            delay_s=self._delay_s,
        )

    def _tick(self, put: Callable[[Item], None]) -> None:
        """Say that there is silence, where there has been for long enough."""
        now = local_clock()
        if now - self._last_put >= _TICK_S:
            put(Tick(now, SOURCE))
            self._last_put = now

    def _say(self, reason: str) -> None:
        """Keep why no pictures come, and tell it once."""
        if reason != self.report.reason:
            if reason:
                logger.warning("%s", reason)
            self.report = dataclasses.replace(self.report, reason=reason)
