"""Measuring a participant's EEG at rest outside of a session: from the live stream, or from a recording of it."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.eeg_rest import RestMeasurement
from clmer_streaming.errors import StreamError
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.recording.survey import is_session_recording
from clmer_streaming.types import Item, RestReference, Source


def rest_source(eeg: str, recording: Path | None, config: PreprocessConfig) -> Source:
    """Return where the EEG comes from.

    Args:
        eeg: The live stream: "auto", its name, or its properties.
        recording: A recording instead.
        config: The model's settings.

    Raises:
        RecordingError: The recording cannot be read.
        StreamError: Its EEG cannot feed the model, or this machine cannot receive live streams.
        SettingsError: The stream is asked for in words that cannot be read.
    """
    if recording is None:
        from clmer_streaming.sources.lsl import LslEegSource, load_pylsl

        load_pylsl()
        return LslEegSource(eeg, config.signal)
    if is_session_recording(recording):
        from clmer_streaming.sources.own_replay import OwnReplaySource

        return OwnReplaySource(recording, speed=math.inf, preprocess=config)
    from clmer_streaming.sources.replay import ReplaySource

    return ReplaySource(recording, speed=math.inf, signal=config.signal, extractor=config.extractor)


def rest_from_source(
    source: Source, config: PreprocessConfig, seconds: float, timeout_s: float | None = None
) -> RestReference:
    """Return the rest of a source's first ``seconds`` with EEG.

    Args:
        source: Of the EEG.
        config: The model's settings.
        seconds: How long to measure.
        timeout_s: How long to wait for it, in seconds; None: until the source ends.

    Raises:
        SettingsError: That is too short or too long.
        StreamError: There was too little clean EEG.
    """
    measurement, path, stop = RestMeasurement(config, seconds), Preprocessor(config), threading.Event()
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    result: list[RestReference] = []

    def take(item: Item) -> None:
        if isinstance(item, RestReference):
            return  # an earlier one of a recorded session; here it is measured anew
        for window in path.push(item):
            begun = measurement.begun or bool(window.mask["eeg"].any())
            if not result and begun and measurement.push(window):
                result.append(measurement.result(window.t_end))
        if result or time.monotonic() > deadline:
            stop.set()

    source.run(take, stop)
    if not result:
        raise StreamError(
            expected=f"{seconds:g} s of EEG",
            found="a source that ended before, or kept silent",
            mend="see clmer streams and clmer inspect for what is there",
        )
    return result[0]
