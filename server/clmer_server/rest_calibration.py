"""A participant's EEG at rest, measured while a session runs: its later windows are measured against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from clmer_server.protocol.outbound import Notice
from clmer_server.rooms import RefusalError
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.eeg_rest import USUAL_S, RestMeasurement
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.types import RestReference, Window

KeepRest = Callable[[RestReference], Path]
"""Keeps the participant's rest, and returns where."""


class RestCalibration:
    """Measures the rest of one session, one at a time.

    ``begin`` and ``stop`` are called on the event loop, ``take`` in the pipeline thread.

    Args:
        config: The signal settings of the model.
        known: The participant's rest from before; None: none is known.
        keep: Keeps what is measured; None: nobody is named.
        tell: Sends a notice.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        known: RestReference | None,
        keep: KeepRest | None,
        tell: Callable[[Notice], None],
    ) -> None:
        self._config = config
        self._known = known
        self._keep = keep
        self._tell = tell
        self._measurement: RestMeasurement | None = None

    @property
    def running(self) -> bool:
        """Whether a rest is being measured."""
        return self._measurement is not None

    def begin(self, seconds: float | None) -> None:
        """Measure from the next window with EEG on.

        Raises:
            RefusalError: One is measured already, or the length is none of a rest.
        """
        if self.running:
            raise RefusalError("calibration_running", "expected no calibration under way, found one: stop it first")
        try:
            self._measurement = RestMeasurement(self._config, USUAL_S if seconds is None else seconds)
        except SettingsError as error:
            raise RefusalError("bad_field", f"expected {error.expected}, found {error.found}") from error

    def stop(self) -> None:
        """Give it up; what was in force before stays.

        Raises:
            RefusalError: None is measured.
        """
        if not self.running:
            raise RefusalError("calibration_not_running", "expected a calibration under way, found none of 'rest'")
        self._measurement = None

    def take(self, windows: Sequence[Window]) -> RestReference | None:
        """Take the newest windows; return the rest when it has been measured."""
        measurement = self._measurement
        if measurement is None:
            return None
        for window in windows:
            begun = measurement.begun or bool(window.mask["eeg"].any())
            if begun and measurement.push(window, self._known):
                self._measurement = None
                return self._finish(measurement, window.t_end)
        return None

    def _finish(self, measurement: RestMeasurement, t: float) -> RestReference | None:
        try:
            rest = measurement.result(t)
        except StreamError as error:
            why = f"expected {error.expected}, found {error.found}; {error.mend}"
            self._tell(Notice(code="calibration_failed", message=f"The EEG at rest could not be measured: {why}."))
            return None
        self._known = rest
        self._tell(Notice(code="calibration_done", message=self._told(rest)))
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
