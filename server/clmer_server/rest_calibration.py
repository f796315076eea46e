"""A participant's EEG at rest, measured while a session runs: its later windows are measured against it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Notice
from clmer_server.rooms import RefusalError
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.eeg_rest import USUAL_S, RestMeasurement
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.types import RestReference, Window

PATIENCE_S = 30.0
"""Seconds of stream time without usable signal after which a calibration is given up."""

KeepRest = Callable[[RestReference], Path]
"""Keeps the participant's rest, and returns where."""


@dataclass
class _Attempt:
    """A measurement under way."""

    measurement: RestMeasurement
    usable_t: float = math.nan  # s, end of the newest window with usable EEG, or of the first window without

    def lacks_eeg(self, window: Window) -> bool:
        """Note a window; tell whether no usable EEG has come for too long."""
        if math.isnan(self.usable_t) or window.mask["eeg"].any():
            self.usable_t = window.t_end
        return window.t_end - self.usable_t >= PATIENCE_S

    def push(self, window: Window, known: RestReference | None) -> bool:
        """Take a window, from the first one with usable EEG on; return whether the rest is over."""
        begun = self.measurement.begun or bool(window.mask["eeg"].any())
        return begun and self.measurement.push(window, known)


class RestCalibration:
    """Measures the rest of one session, one at a time.

    ``begin`` and ``stop`` are called on the event loop, ``know`` and ``take`` in the pipeline thread,
    ``give_up`` in any. Of all that may end a measurement, one does: it is stopped, given up, or finished.

    Args:
        config: The signal settings of the model.
        keep: Keeps what is measured; None: nobody is named.
        tell: Sends a notice.
    """

    def __init__(self, config: PreprocessConfig, keep: KeepRest | None, tell: Callable[[Notice], None]) -> None:
        self._config = config
        self._known: RestReference | None = None  # what windows are measured against now
        self._keep = keep
        self._tell = tell
        self._attempt: _Attempt | None = None
        self._lock = threading.Lock()  # held while an attempt begins or ends

    @property
    def running(self) -> bool:
        """Whether a rest is being measured."""
        return self._attempt is not None

    def begin(self, seconds: float | None) -> None:
        """Measure from the next window with EEG on.

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
        """Give it up; what was in force before stays.

        Raises:
            RefusalError: None is measured.
        """
        if not self._end(self._attempt):
            raise RefusalError("calibration_not_running", "expected a calibration under way, found none of 'rest'")

    def give_up(self, why: str) -> Notice | None:
        """Give it up, where one is measured; return what is to be told."""
        return _failed(why) if self._end(self._attempt) else None

    def know(self, rest: RestReference) -> None:
        """Take note of what the next windows are measured against: from before, or from a recording."""
        self._known = rest

    def take(self, windows: Sequence[Window]) -> RestReference | None:
        """Take the newest windows; return the rest when it has been measured."""
        attempt = self._attempt
        if attempt is None:
            return None
        for window in windows:
            if attempt.lacks_eeg(window):
                if self._end(attempt):
                    self._tell(_failed(_lack_of_eeg(window)))
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

    def _finish(self, measurement: RestMeasurement, t: float) -> RestReference | None:
        try:
            rest = measurement.result(t)
        except StreamError as error:
            self._tell(_failed(f"expected {error.expected}, found {error.found}; {error.mend}"))
            return None
        self._tell(Notice(code=NoticeCode.CALIBRATION_DONE, message=self._told(rest)))
        return rest

    def _told(self, rest: RestReference) -> str:
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
