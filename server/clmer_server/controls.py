"""What clients may change in a running session: the pace of a replay, and calibrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clmer_server.inputs import Inputs
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Notice
from clmer_server.rest_calibration import RestCalibration
from clmer_server.rooms import RefusalError
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.neutral import NeutralFace

NEUTRAL_S = 3.0
"""How long the neutral face is measured where nobody says otherwise."""


@dataclass(frozen=True)
class Controls:
    """Passes requests of clients on to the inputs of one session. Its methods are called on the event loop."""

    inputs: Inputs
    rest: RestCalibration
    tell: Callable[[Notice], None]  # may be called in any thread

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Requests that can succeed here."""
        return ("calibration.start", *(() if self.inputs.pace is None else ("replay.control",)))

    def replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Hold a replay or let it go on, and set its speed; None changes nothing.

        Raises:
            RefusalError: The session is live.
        """
        pace = self.inputs.pace
        if pace is None:
            raise RefusalError("not_a_replay", "expected a replay, found a live session: its time cannot be held")
        if speed is not None:
            pace.set_speed(speed)
        if action == "pause":
            pace.hold()
        elif action == "resume":
            pace.go_on()

    def calibrate(self, kind: CalibrationKind, seconds: float | None) -> None:
        """Begin to measure the participant at rest.

        Raises:
            RefusalError: This session cannot, or does so already.
        """
        if kind == "rest":
            self.rest.begin(seconds)
            return
        camera = self.inputs.camera
        if camera is None:
            raise RefusalError("not_supported", "expected a session with a camera of its own, found one without")
        if camera.calibrating:
            raise RefusalError("calibration_running", "expected no calibration under way, found one: stop it first")
        camera.calibrate(seconds or NEUTRAL_S, self._keep)

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up; what was in force before stays.

        Raises:
            RefusalError: None runs.
        """
        if kind == "rest":
            self.rest.stop()
            return
        camera = self.inputs.camera
        if camera is None or not camera.calibrating:
            raise RefusalError("calibration_not_running", f"expected a calibration under way, found none of {kind!r}")
        camera.stop_calibrating()

    def _keep(self, neutral: NeutralFace) -> None:
        """Keep what was measured, and say so; called in the camera's thread."""
        text = f"The neutral face was measured on {neutral.n_frames} frames."
        if self.inputs.keep_neutral is not None:
            try:
                text += f" It is kept in {self.inputs.keep_neutral(neutral)}."
            except SettingsError as error:
                text += f" It could not be kept: {error.found}; {error.mend}."
        self.tell(Notice(code="calibration_done", message=text))
