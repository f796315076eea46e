"""Windows and predictions of a recording, through the signal path of a live session."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Unpack

from clmer.model import Model, as_artifact, as_model
from clmer.options import ReplayOptions, local_config
from clmer.predictions import Predictions
from clmer.session import Session
from clmer_server.session.config import check_physio, effective_preprocess, notch_text
from clmer_server.session.inputs import replay_inputs
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import Item, Window


def windows(
    path: str | Path, model: Model | str | Path | None = None, **options: Unpack[ReplayOptions]
) -> list[Window]:
    """Return the windows of a recording, bit for bit those of a live session of the same samples.

    A window holds ``series`` and ``mask`` by modality (EEG in microvolts, (channels, time)), their ``quality``,
    ``reasons``, and a ``crc`` of all its values. A minute takes about 5 MB with the shipped model.

    Args:
        path: An XDF file: of any recorder, or a session that clmer recorded.
        model: A model, its name, or its path; of it only the signal settings are used. None: the default one.
        options: ``eeg``, ``eeg_map``, ``eeg_map_force``, ``eeg_rate``, ``eeg_unit``, ``eeg_delay``, ``notch``,
            ``physio``, ``video``, ``video_offset``, ``face_landmarker``, ``participant``, ``participants``: as of
            ``clmer predict``.

    Raises:
        RecordingError: The file or the video is missing, empty, unreadable, or without usable samples.
        StreamError: Its EEG cannot feed the model, or ``eeg_map`` does not fit it.
        SettingsError: There is no such option, or it cannot have this value.
        ArtifactError: There is no such model.

    Example::

        import clmer

        windows = clmer.windows("session.xdf")
        print(len(windows), windows[10].series["eeg"].shape, windows[10].reasons)
    """
    config, trained = local_config(replay=path, speed="max", **options), as_artifact(model).meta.preprocess
    preprocess = effective_preprocess(trained, config.notch)
    check_physio(config.physio_streams(), preprocess)
    inputs, _ = replay_inputs(config, preprocess)
    for warning in filter(None, (*inputs.warnings, notch_text(trained, preprocess))):
        warnings.warn(warning, stacklevel=2)
    preprocessor, found = Preprocessor(preprocess), list[Window]()

    def put(item: Item) -> None:
        found.extend(preprocessor.push(item))

    if inputs.rest is not None:
        put(inputs.rest)
    for source in inputs.sources:  # a recording has one
        source.run(put, threading.Event())
    return found


def predict(path: str | Path, model: Model | str | Path | None = None, **options: Unpack[ReplayOptions]) -> Predictions:
    """Return the predictions for a recording: those of ``clmer predict``, and of the service that replays it.

    Args:
        path: An XDF file: of any recorder, or a session that clmer recorded.
        model: A model, its name, or its path; None: the default one.
        options: As of ``clmer.windows``.

    Raises:
        ClmerError: As of ``clmer.windows`` and ``clmer.load_model``.

    Example::

        import clmer

        model = clmer.load_model()
        predictions = clmer.predict("session.xdf", model)
        frame = predictions.to_dataframe()
        print(frame.groupby("label")["confidence"].mean())
    """
    loaded = as_model(model)
    with Session.replay(path, loaded, speed="max", **options) as session:
        return Predictions(session, loaded.labels)
