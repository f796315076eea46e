"""A participant's neutral face, measured by the camera while a session runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Notice
from clmer_server.rest_calibration import PATIENCE_S
from clmer_server.rooms import RefusalError
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.types import Window

if TYPE_CHECKING:
    from clmer_streaming.sources.camera import CameraSource

NEUTRAL_S = 3.0
"""How long the neutral face is measured where nobody says otherwise."""

KeepNeutral = Callable[[NeutralFace], Path]
"""Keeps the participant's neutral face, and returns where."""


class NeutralCalibration:
    """Measures the neutral face of one session, one at a time.

    ``begin`` and ``stop`` are called on the event loop, ``take`` in the pipeline thread, ``give_up`` in any.
    Of all that may end a measurement, one does: it is stopped, given up, or finished.

    Args:
        camera: Whose process measures; None: the session has none.
        keep: Keeps what is measured; None: nobody is named.
        tell: Sends a notice; from any thread.
    """

    def __init__(self, camera: CameraSource | None, keep: KeepNeutral | None, tell: Callable[[Notice], None]) -> None:
        self._camera = camera
        self._keep = keep
        self._tell = tell
        self._seconds = NEUTRAL_S
        self._begun_t = math.nan  # s, end of the first window behind the request
        self._lock = threading.Lock()  # guards both

    def begin(self, seconds: float | None) -> None:
        """Measure from the next frame with a good face on.

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
        """Give it up; what was in force before stays.

        Raises:
            RefusalError: None is measured.
        """
        if self._camera is None or not self._camera.stop_calibrating():
            raise RefusalError("calibration_not_running", "expected a calibration under way, found none of 'neutral'")

    def give_up(self, why: str) -> Notice | None:
        """Give it up, where one is measured; return what is to be told."""
        if self._camera is None or not self._camera.stop_calibrating():
            return None
        return Notice(code=NoticeCode.CALIBRATION_FAILED, message=f"The neutral face could not be measured: {why}.")

    def take(self, windows: Sequence[Window]) -> None:
        """Take the newest windows, by which the time goes; what finds no face is given up."""
        if not windows or self._camera is None or not self._camera.calibrating:
            return
        failed, t = None, windows[-1].t_end
        with self._lock:
            if math.isnan(self._begun_t):
                self._begun_t = t
            if t - self._begun_t >= self._seconds + PATIENCE_S:
                failed = self.give_up(_lack_of_face(t - self._begun_t, self._camera.report.reason))
        if failed is not None:
            self._tell(failed)

    def _finish(self, neutral: NeutralFace) -> None:
        """Keep what was measured, and say so; called in the camera's thread."""
        text = f"The neutral face was measured on {neutral.n_frames} frames."
        if self._keep is not None:
            try:
                text += f" It is kept in {self._keep(neutral)}."
            except SettingsError as error:
                text += f" It could not be kept: {error.found}; {error.mend}."
        self._tell(Notice(code=NoticeCode.CALIBRATION_DONE, message=text))


def _lack_of_face(seconds: float, reason: str) -> str:
    found = f" ({reason})" if reason else ""
    mend = "let them look into the camera, near and in good light, and measure again"
    return f"no neutral face could be measured within {seconds:g} s{found}; {mend}"
