"""What clients may change in a running session: the pace of a replay, and calibrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clmer_server.inputs import Inputs
from clmer_server.neutral_calibration import NeutralCalibration
from clmer_server.protocol.inbound import CalibrationKind, ReplayAction
from clmer_server.protocol.outbound import Notice
from clmer_server.rest_calibration import RestCalibration
from clmer_server.rooms import RefusalError
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.types import RestReference, Window


class Controls:
    """Passes requests of clients on to the inputs of one session.

    Its methods are called on the event loop, unless they say otherwise.

    Args:
        inputs: Of the session.
        config: The signal settings of the model.
        tell: Sends a notice; from any thread.
    """

    def __init__(self, inputs: Inputs, config: PreprocessConfig, tell: Callable[[Notice], None]) -> None:
        self._pace = inputs.pace
        self._measures = inputs.camera is not None or "eeg" in config.modalities
        self.rest = RestCalibration(config, inputs.keep_rest, tell)
        self.neutral = NeutralCalibration(inputs.camera, inputs.keep_neutral, tell)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Requests that can succeed here."""
        can = {"calibration.start": self._measures, "replay.control": self._pace is not None}
        return tuple(request for request, possible in can.items() if possible)

    def replay(self, action: ReplayAction | None, speed: float | None) -> None:
        """Hold a replay or let it go on, and set its speed; None changes nothing.

        Raises:
            RefusalError: The session is live.
        """
        pace = self._pace
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
        self._calibration(kind).begin(seconds)

    def stop_calibration(self, kind: CalibrationKind) -> None:
        """Give a calibration up; what was in force before stays.

        Raises:
            RefusalError: None runs.
        """
        self._calibration(kind).stop()

    def give_up(self, why: str) -> tuple[Notice, ...]:
        """Give up every calibration that is under way; return what is to be told. From any thread."""
        return tuple(filter(None, (self.rest.give_up(why), self.neutral.give_up(why))))

    def take(self, windows: Sequence[Window]) -> RestReference | None:
        """Take the newest windows, in the pipeline thread; return the EEG at rest when it has been measured."""
        self.neutral.take(windows)
        return self.rest.take(windows)

    def _calibration(self, kind: CalibrationKind) -> RestCalibration | NeutralCalibration:
        return self.rest if kind == "rest" else self.neutral
