"""The EEG at rest of a recording of a data set: where the manifest says that the participant rested."""

from __future__ import annotations

import dataclasses
import threading

from clmer_model.training.tables import Recording
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.eeg_rest import RestMeasurement
from clmer_streaming.errors import DatasetError
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.types import Item, Marker, RestReference, Source, Window


def rest_of(recording: Recording, source: Source, config: PreprocessConfig) -> RestReference | None:
    """Return the rest that begins with the recording's marker of it; None where the manifest names none.

    Args:
        recording: Its row of the manifest.
        source: It, from its beginning.
        config: Settings of the Preprocessor.

    Raises:
        DatasetError: The marker is not there, or the rest behind it is too short.
        StreamError: It holds too little clean EEG.
        SettingsError: Its length is none of a rest.
    """
    if not recording.rest_marker:
        return None
    plain = dataclasses.replace(config, eeg_calibration="none")
    measurement, path = RestMeasurement(plain, recording.rest_s), Preprocessor(plain)
    windows: list[Window] = []
    markers: list[Marker] = []

    def take(item: Item) -> None:
        if isinstance(item, Marker):
            markers.append(item)
        windows.extend(path.push(item))

    source.run(take, threading.Event())
    begin = next((marker.t for marker in markers if marker.label == recording.rest_marker), None)
    if begin is None:
        raise _fault(recording, f"no marker {recording.rest_marker!r}")
    for window in windows:
        if window.t_start >= begin and measurement.push(window):
            return measurement.result(begin)
    raise _fault(recording, f"less behind the marker {recording.rest_marker!r}")


def _fault(recording: Recording, found: str) -> DatasetError:
    return DatasetError(
        expected=f"{recording.rest_s:g} s of rest in {recording.name}",
        found=f"{found} (manifest.csv, row {recording.row})",
        mend="mend rest_marker and rest_s",
    )
