"""What clients may change in a running session: calibrations, and the pace of a replay.

To be read in this order: ``Controls``, the calibration of EEG at rest, that of the neutral face.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.protocol.codes import NoticeCode, RefusalError
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Notice
from clmer_server.session.inputs import Inputs, KeepRest
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.pipeline.baseline import USUAL_S, RestMeasurement
from clmer_streaming.types import RestBaseline, Window

if TYPE_CHECKING:
    from clmer_streaming.sources.camera import CameraSource


class Controls:
    """Changes that clients may make to one running session.

    Its methods are called on the event loop, unless they say otherwise.

    Args:
        inputs: Of the session.
        config: The signal settings of the model.
        notify: Sends a notice to the clients; from any thread.
    """

    def __init__(self, inputs: Inputs, config: PreprocessConfig, notify: Callable[[Notice], None]) -> None:
        self._pace = inputs.pace
        self._measures = inputs.camera is not None or "eeg" in config.modalities
        self.rest = RestCalibration(config, inputs.keep_rest, notify)
        self.neutral = NeutralCalibration(inputs.camera, inputs.keep_neutral, notify)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Requests that can succeed here."""
        can = {"calibration.start": self._measures, "replay.control": self._pace is not None}
        return tuple(request for request, possible in can.items() if possible)

    def replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Pause or resume a replay, and set its speed; None changes nothing.

        Raises:
            RefusalError: The session is live.
        """
        pace = self._pace
        if pace is None:
            raise RefusalError("not_a_replay", "expected a replay, found a live session: its time cannot be held")
        if speed is not None:
            pace.set_speed(speed)
        if action == "pause":
            pace.pause()
        elif action == "resume":
            pace.resume()

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Start a calibration.

        Raises:
            RefusalError: This session cannot, or does so already.
        """
        self._calibration(kind).begin(seconds)

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Stop a calibration; what was in force before stays.

        Raises:
            RefusalError: None runs.
        """
        self._calibration(kind).stop()

    def give_up(self, why: str) -> tuple[Notice, ...]:
        """Cancel every running calibration; return the notices to send. Thread-safe."""
        return tuple(filter(None, (self.rest.give_up(why), self.neutral.give_up(why))))

    def push(self, windows: Sequence[Window]) -> RestBaseline | None:
        """Measure the newest windows, in the pipeline thread; return the EEG at rest when it has been measured."""
        self.neutral.push(windows)
        return self.rest.push(windows)

    def _calibration(self, kind: CalibrationKind) -> RestCalibration | NeutralCalibration:
        return self.rest if kind == "rest" else self.neutral


PATIENCE_S = 30.0
"""Seconds of stream time without usable signal after which a calibration is given up."""


@dataclass
class _Attempt:
    """A measurement under way."""

    measurement: RestMeasurement
    usable_t: float = math.nan  # s, end of the newest window with usable EEG, or of the first window without

    def lacks_eeg(self, window: Window) -> bool:
        """Add a window; return whether no usable EEG has come for too long."""
        if math.isnan(self.usable_t) or window.mask["eeg"].any():
            self.usable_t = window.t_end
        return window.t_end - self.usable_t >= PATIENCE_S

    def push(self, window: Window, known: RestBaseline | None) -> bool:
        """Measure a window, from the first one with usable EEG on; return whether the rest is over."""
        begun = self.measurement.begun or bool(window.mask["eeg"].any())
        return begun and self.measurement.push(window, known)


class RestCalibration:
    """Measures a participant's EEG at rest, one measurement at a time.

    ``begin`` and ``stop`` are called on the event loop, ``set_known`` and ``push`` in the pipeline thread,
    ``give_up`` in any. A measurement ends in one of three ways: it is stopped, given up, or finished.

    Args:
        config: The signal settings of the model.
        keep: Saves what is measured; None: nobody is named.
        notify: Sends a notice to the clients.
    """

    def __init__(self, config: PreprocessConfig, keep: KeepRest | None, notify: Callable[[Notice], None]) -> None:
        self._config = config
        self._known: RestBaseline | None = None  # what windows are measured against now
        self._keep = keep
        self._notify = notify
        self._attempt: _Attempt | None = None
        self._lock = threading.Lock()  # held while an attempt begins or ends

    @property
    def running(self) -> bool:
        """Whether a rest is being measured."""
        return self._attempt is not None

    def begin(self, seconds: float | None) -> None:
        """Start measuring with the next window with EEG.

        Raises:
            RefusalError: One is measured already, the model takes no EEG, or the length is none of a rest.
        """
        if "eeg" not in self._config.modalities:
            raise RefusalError("not_supported", "expected a model that takes EEG, found one that takes none")
        with self._lock:
            if self.running:
                raise RefusalError("calibration_running", "expected no calibration under way, found one: stop it first")
            try:
                self._attempt = _Attempt(RestMeasurement(self._config, USUAL_S if seconds is None else seconds))
            except SettingsError as error:
                raise RefusalError("bad_field", f"expected {error.expected}, found {error.found}") from error

    def stop(self) -> None:
        """Stop the measurement; what was in force before stays.

        Raises:
            RefusalError: None is measured.
        """
        if not self._end(self._attempt):
            raise RefusalError("calibration_not_running", "expected a calibration under way, found none of 'rest'")

    def give_up(self, why: str) -> Notice | None:
        """Give up the measurement under way; return the notice to send, or None where there was none."""
        return _failed(why) if self._end(self._attempt) else None

    def set_known(self, rest: RestBaseline) -> None:
        """Set what the next windows are measured against: from an earlier session, or from a recording."""
        self._known = rest

    def push(self, windows: Sequence[Window]) -> RestBaseline | None:
        """Measure the newest windows; return the EEG at rest when it has been measured."""
        attempt = self._attempt
        if attempt is None:
            return None
        for window in windows:
            if attempt.lacks_eeg(window):
                if self._end(attempt):
                    self._notify(_failed(_lack_of_eeg(window)))
                return None
            if attempt.push(window, self._known):
                return self._finish(attempt.measurement, window.t_end) if self._end(attempt) else None
        return None

    def _end(self, attempt: _Attempt | None) -> bool:
        """End an attempt; False where that has been done before, or there is none."""
        with self._lock:
            if attempt is None or self._attempt is not attempt:
                return False
            self._attempt = None
            return True

    def _finish(self, measurement: RestMeasurement, t: float) -> RestBaseline | None:
        try:
            rest = measurement.result(t)
        except StreamError as error:
            self._notify(_failed(f"expected {error.expected}, found {error.found}; {error.mend}"))
            return None
        self._notify(Notice(code=NoticeCode.CALIBRATION_DONE, message=self._message(rest)))
        return rest

    def _message(self, rest: RestBaseline) -> str:
        text = f"The EEG at rest was measured on {rest.seconds:g} s of clean signal."
        if self._config.eeg_calibration == "none":
            text += " This model does not use it."
        if self._keep is not None:
            try:
                text += f" It is kept in {self._keep(rest)}."
            except SettingsError as error:
                text += f" It could not be kept: {error.found}; {error.mend}."
        return text


def _failed(why: str) -> Notice:
    return Notice(code=NoticeCode.CALIBRATION_FAILED, message=f"The EEG at rest could not be measured: {why}.")


def _lack_of_eeg(window: Window) -> str:
    reasons = [reason for reason in window.reasons if reason.startswith("eeg_")]
    found = f" ({', '.join(reasons)})" if reasons else ""
    mend = "mend the contact of the electrodes, see clmer streams for what arrives, and measure again"
    return f"no usable EEG came for {PATIENCE_S:g} s{found}; {mend}"


NEUTRAL_S = 3.0
"""Default length of the measurement of a neutral face, in seconds."""

KeepNeutral = Callable[[NeutralFace], Path]
"""Saves the participant's neutral face; returns the file."""


class NeutralCalibration:
    """Measures a participant's neutral face, one measurement at a time.

    ``begin`` and ``stop`` are called on the event loop, ``push`` in the pipeline thread, ``give_up`` in any.
    A measurement ends in one of three ways: it is stopped, given up, or finished.

    Args:
        camera: The camera whose process measures; None: the session has none.
        keep: Saves what is measured; None: nobody is named.
        notify: Sends a notice to the clients; from any thread.
    """

    def __init__(self, camera: CameraSource | None, keep: KeepNeutral | None, notify: Callable[[Notice], None]) -> None:
        self._camera = camera
        self._keep = keep
        self._notify = notify
        self._seconds = NEUTRAL_S
        self._begun_t = math.nan  # s, end of the first window behind the request
        self._lock = threading.Lock()  # guards both

    def begin(self, seconds: float | None) -> None:
        """Start measuring with the next frame with a good face.

        Raises:
            RefusalError: There is no camera, or it measures already.
        """
        camera = self._camera
        if camera is None:
            raise RefusalError("not_supported", "expected a session with a camera of its own, found one without")
        if camera.calibrating:
            raise RefusalError("calibration_running", "expected no calibration under way, found one: stop it first")
        with self._lock:
            self._seconds, self._begun_t = seconds or NEUTRAL_S, math.nan
            camera.calibrate(self._seconds, self._finish)

    def stop(self) -> None:
        """Stop the measurement; what was in force before stays.

        Raises:
            RefusalError: None is measured.
        """
        if self._camera is None or not self._camera.cancel_calibration():
            raise RefusalError("calibration_not_running", "expected a calibration under way, found none of 'neutral'")

    def give_up(self, why: str) -> Notice | None:
        """Give up the measurement under way; return the notice to send, or None where there was none."""
        if self._camera is None or not self._camera.cancel_calibration():
            return None
        return Notice(code=NoticeCode.CALIBRATION_FAILED, message=f"The neutral face could not be measured: {why}.")

    def push(self, windows: Sequence[Window]) -> None:
        """Advance the time by the newest windows; give up a measurement that finds no face."""
        if not windows or self._camera is None or not self._camera.calibrating:
            return
        failed, t = None, windows[-1].t_end
        with self._lock:
            if math.isnan(self._begun_t):
                self._begun_t = t
            if t - self._begun_t >= self._seconds + PATIENCE_S:
                failed = self.give_up(_lack_of_face(t - self._begun_t, self._camera.report.reason))
        if failed is not None:
            self._notify(failed)

    def _finish(self, neutral: NeutralFace) -> None:
        """Save what was measured and notify the clients; called in the camera's thread."""
        text = f"The neutral face was measured on {neutral.n_frames} frames."
        if self._keep is not None:
            try:
                text += f" It is kept in {self._keep(neutral)}."
            except SettingsError as error:
                text += f" It could not be kept: {error.found}; {error.mend}."
        self._notify(Notice(code=NoticeCode.CALIBRATION_DONE, message=text))


def _lack_of_face(seconds: float, reason: str) -> str:
    found = f" ({reason})" if reason else ""
    mend = "let them look into the camera, near and in good light, and measure again"
    return f"no neutral face could be measured within {seconds:g} s{found}; {mend}"
