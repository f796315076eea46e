"""What clients may change in a running session: the pace of a replay, and calibrations."""

from __future__ import annotations

from dataclasses import dataclass

from clmer_server.inputs import Inputs
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.rooms import RefusalError


@dataclass(frozen=True)
class Controls:
    """Passes requests of clients on to the inputs of one session."""

    inputs: Inputs

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
        raise RefusalError("not_supported", f"expected a calibration that this session can do, found {kind}")

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up.

        Raises:
            RefusalError: None runs.
        """
        raise RefusalError("calibration_not_running", f"expected a calibration that runs, found none of kind {kind}")
