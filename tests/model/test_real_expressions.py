"""Claims about the shipped weights on real pixels; both videos were seen while the simulator was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.predictor import Predictor
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.video import VideoFaces


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(find_artifact(), "cpu")


def valence(predictor: Predictor, video: Path) -> dict[float, float]:
    """Return P(high valence) by the end of the window, from the face alone."""
    faces, preprocessor = VideoFaces(video), Preprocessor(predictor.meta.preprocess)
    preprocessor.push(faces.info)
    windows = [window for sample in faces.samples() for window in preprocessor.push(sample)]
    answers = zip(windows, predictor.predict(windows), strict=True)
    return {window.t_end: answer.valence for window, answer in answers if answer.valence is not None}


def between(values: dict[float, float], t0: float, t1: float) -> float:
    """Return the mean over the windows that end within these seconds of the video."""
    return float(np.mean([value for t, value in values.items() if t0 <= t <= t1]))


def test_a_man_who_begins_to_smile_moves_toward_high_valence(predictor: Predictor, sample_data: Path) -> None:
    """The smile has begun in the first second of his and is there in the last."""
    values = valence(predictor, sample_data / "faces" / "neutral_smile_neutral_man.mp4")
    assert between(values, 2.0, 2.5) > between(values, 1.0, 1.0) + 0.05
    assert between(values, 2.0, 2.5) > 0.7


def test_a_woman_who_weeps_is_low_and_high_when_she_smiles(predictor: Predictor, sample_data: Path) -> None:
    """She weeps for six seconds, with closed eyes, and smiles broadly from the eighteenth on."""
    values = valence(predictor, sample_data / "faces" / "talking_crying_smiling_woman.mp4")
    assert between(values, 2.0, 6.0) < 0.45
    assert between(values, 18.0, 19.5) > 0.7
