"""How a face extractor misreads action units: cross-talk between them, and a neutral face that is a little off.

Both differ from person to person and stay the same in all their sessions. They change what the stream says,
not what the face does: ``SessionTruth.intensities`` has neither.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.types import FloatArray

_CROSS_TALK: Mapping[str, Mapping[str, float]] = {
    "AU01": {"AU02": 0.25, "AU04": -0.2},  # the raised inner brow hides what lowers it
    "AU04": {"AU09": 0.2},  # the lowered brow counts for the wrinkled nose
    "AU06": {"AU07": 0.3, "AU45": 0.25},  # the raised cheek narrows the eye
    "AU07": {"AU45": 0.2},
    "AU09": {"AU10": 0.4, "AU45": 0.2},  # one muscle lifts the nostril and the lip
    "AU10": {"AU09": 0.3},
    "AU12": {"AU06": 0.2, "AU09": 0.25, "AU10": 0.4, "AU45": 0.2},  # a smile lifts cheek, nostril and lip
    "AU17": {"AU15": 0.25},  # the raised chin leaves the corners low
    "AU20": {"AU12": 0.3},  # stretched corners lie as wide as smiling ones
    "AU25": {"AU26": 0.15},
    "AU26": {"AU25": 0.5},  # a dropped jaw parts the lips
}
"""Points by which one point of a unit (outer key) moves the reading of another.

Signs follow from the geometry by which units are measured on 68 points; sizes are of the order that labelled
photographs of posed emotions give with such measures. They are rough, and so people differ in them.
"""

CROSS_TALK_SD = 0.4  # ln SD of each entry between people

_NEUTRAL_SD: Mapping[str, float] = {
    "AU01": 2.2, "AU02": 1.8, "AU04": 2.8, "AU05": 1.4, "AU09": 3.6, "AU10": 1.5, "AU12": 1.6, "AU15": 1.6,
    "AU25": 0.3, "AU26": 1.0,
}  # fmt: skip
"""SD between people of the readings of a neutral face without calibration, points (measured on five people)."""

_NEUTRAL_SD_UNKNOWN = 1.0  # points, of units that were not measured
RUNNING_SHARE = 0.35  # what a running calibration leaves of it


def draw_cross_talk(rng: np.random.Generator) -> FloatArray:
    """Return one person's cross-talk (17, 17): readings are ``cross_talk @ intensities`` off."""
    mean = np.zeros((len(AU_NAMES), len(AU_NAMES)))
    for mover, moved in _CROSS_TALK.items():
        for au, points in moved.items():
            mean[AU_NAMES.index(au), AU_NAMES.index(mover)] = points
    person: FloatArray = mean * np.exp(rng.normal(0.0, CROSS_TALK_SD, mean.shape))
    return person


def draw_neutral_offset(rng: np.random.Generator) -> FloatArray:
    """Return by how many points one person's neutral face is misread, (17,), under running calibration."""
    sd = np.asarray([_NEUTRAL_SD.get(au, _NEUTRAL_SD_UNKNOWN) for au in AU_NAMES])
    return RUNNING_SHARE * sd * rng.standard_normal(len(AU_NAMES))
