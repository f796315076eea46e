"""Learns a person's neutral face while they go about their task: the prior, moved by what quiet frames show."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from clmer_streaming.face.features import N_FEATURES, FaceFeatures
from clmer_streaming.face.neutral import NEUTRAL_QUANTILE, PRIOR_MEAN, PRIOR_SD, Baseline
from clmer_streaming.types import FloatArray

PRIOR_WEIGHT = 90.0
"""Frames that the prior counts as: three seconds of a webcam."""

BIN = 0.001  # width of a histogram's bin; the finest full scale of an action unit is .025
HALF_RANGE = 0.25  # features are counted this far from the prior's mean: five standard deviations of the widest
MAX_LIP_GAP, MAX_CORNER_RISE, MAX_CORNER_WIDENING = 0.06, 0.035, 0.03
"""A frame counts as quiet below these; the last two are against the neutral so far."""

_POSE_HALF_RANGE = 0.8  # rad
_POSE_SD = 0.1  # rad, of how people sit before a camera
_N_BINS = round(2 * HALF_RANGE / BIN)
_CENTRE = np.array([*PRIOR_MEAN, 0.0, 0.0])  # of each histogram: features, pitch, yaw
_WIDTH = np.array([BIN] * N_FEATURES + [2 * _POSE_HALF_RANGE / _N_BINS] * 2)
_SD = np.array([*PRIOR_SD, _POSE_SD, _POSE_SD])
_QUANTILE = np.array([*NEUTRAL_QUANTILE, 0.5, 0.5])
_ROWS = np.arange(N_FEATURES + 2)


def _prior_histogram() -> FloatArray:
    """Return the prior's pseudo-frames, (N_FEATURES + 2, _N_BINS).

    Each row is a normal distribution that has the prior's mean at the quantile that is taken for neutral.
    """
    edges = (np.arange(_N_BINS + 1) - _N_BINS / 2) * _WIDTH[:, None]
    shares = np.diff(norm.cdf(edges / _SD[:, None] + norm.ppf(_QUANTILE)[:, None]), axis=1)
    counts: FloatArray = PRIOR_WEIGHT * shares / shares.sum(axis=1, keepdims=True)
    return counts


class RunningNeutral:
    """The quantiles of the quiet frames so far, and of the pseudo-frames that stand for the average person.

    Histograms keep them, so that memory stays the same however long a session is.
    """

    def __init__(self) -> None:
        self._prior = _prior_histogram()
        self.reset()

    def reset(self) -> None:
        """Forget the person."""
        self.n_frames = 0
        self._counts = self._prior.copy()
        self._update()

    def push(self, features: FaceFeatures, pitch: float, yaw: float) -> None:
        """Learn from a frame, if its face is quiet: a smile or an open mouth must not become neutral."""
        if not self._is_quiet(features):
            return
        place = (np.array([*features, pitch, yaw]) - _CENTRE) / _WIDTH + _N_BINS / 2
        self._counts[_ROWS, np.clip(place.astype(np.intp), 0, _N_BINS - 1)] += 1.0
        self.n_frames += 1
        self._update()

    def _is_quiet(self, features: FaceFeatures) -> bool:
        neutral = self.baseline.features
        return (
            features.lip_gap < MAX_LIP_GAP
            and features.corner_over_lips - neutral.corner_over_lips < MAX_CORNER_RISE
            and features.corner_out - neutral.corner_out < MAX_CORNER_WIDENING
        )

    def _update(self) -> None:
        """Read each row's quantile off its histogram, straight lines within a bin."""
        below = np.cumsum(self._counts, axis=1)
        wanted = _QUANTILE * below[:, -1]
        bins = np.argmax(below >= wanted[:, None], axis=1)
        inside = self._counts[_ROWS, bins]
        share = 1.0 - (below[_ROWS, bins] - wanted) / inside
        *features, pitch, yaw = (_CENTRE + (bins + share - _N_BINS / 2) * _WIDTH).tolist()
        self.baseline = Baseline(FaceFeatures(*features), pitch, yaw, "running" if self.n_frames else "prior")
