"""The baseline of a participant: EEG at rest, measured for a minute or two, by which later windows are normalized.

The size of EEG differs more between people, by their skulls and the contact of the electrodes, than between emotions.
A model can learn from windows that are normalized by rest, channel by channel::

    x' = (x - baseline) * REST_SCALE_UV / scale

``baseline`` and ``scale`` are the medians, over the windows of the rest, of a channel's mean and of its standard
deviation, in the model's band and reference; the median is not moved by blinks. An artifact says whether it
wants this (``PreprocessConfig.eeg_calibration``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.types import FloatArray, RestBaseline, Window

REST_SCALE_UV = 10.0
"""Standard deviation of every normalized channel at rest: values stay of the size of microvolts."""

SHORTEST_S, USUAL_S, LONGEST_S = 60.0, 90.0, 120.0
"""Shortest, usual and longest duration of a rest in seconds."""

MIN_CLEAN_S = 30.0
"""Seconds of clean signal that a channel needs; one with less takes the median scale of the others."""

_LEAST_SCALE_UV = 0.1  # below the noise of any amplifier: a dead channel must not be amplified


def normalize_by_rest(x: FloatArray, rest: RestBaseline) -> FloatArray:
    """Return EEG (C, T) in uV normalized by the rest."""
    baseline, scale = np.array(rest.baseline_uv)[:, np.newaxis], np.array(rest.scale_uv)[:, np.newaxis]
    measured: FloatArray = (x - baseline) * (REST_SCALE_UV / scale)
    return measured


def undo_rest(x: FloatArray, rest: RestBaseline) -> FloatArray:
    """Return in uV, (C, T), what ``normalize_by_rest`` returned."""
    baseline, scale = np.array(rest.baseline_uv)[:, np.newaxis], np.array(rest.scale_uv)[:, np.newaxis]
    volts: FloatArray = x * (scale / REST_SCALE_UV) + baseline
    return volts


class RestMeasurement:
    """Measures a participant's EEG at rest from the windows of a rest.

    Args:
        config: The settings of the artifact, with which the windows are made.
        seconds: Duration of the rest.

    Raises:
        SettingsError: The duration is below 60 s or above 120 s.

    Example::

        measurement = RestMeasurement(preprocessor.config)
        for window in preprocessor.push(chunk):
            if measurement.push(window):
                rest = measurement.result(window.t_end)
    """

    def __init__(self, config: PreprocessConfig, seconds: float = USUAL_S) -> None:
        if not SHORTEST_S <= seconds <= LONGEST_S:
            raise SettingsError(
                f"{SHORTEST_S:g} to {LONGEST_S:g} s of rest", f"{seconds:g} s", f"{USUAL_S:g} s is a good length"
            )
        self._config = config
        self._seconds = seconds
        self._before: RestBaseline | None = None  # by which the windows are normalized now
        self._begin = np.nan  # s, start of the first window
        self._means: list[FloatArray] = []  # each (C,), NaN where the channel was masked
        self._deviations: list[FloatArray] = []
        self._n_present = 0  # channels that the stream has

    @property
    def begun(self) -> bool:
        """Whether a window has been added."""
        return bool(self._means)

    def push(self, window: Window, before: RestBaseline | None = None) -> bool:
        """Add the next window and return whether the rest is over.

        Args:
            window: A window with EEG.
            before: The rest by which it was normalized, if it was.
        """
        if np.isnan(self._begin):
            self._begin = window.t_start
        good = window.mask["eeg"]
        self._n_present = max(self._n_present, len(window.channels))
        measured = window.calibration.get("eeg") == "rest" and before is not None
        x = undo_rest(window.series["eeg"], before) if measured and before is not None else window.series["eeg"]
        self._means.append(np.where(good, x.mean(axis=1), np.nan))
        self._deviations.append(np.where(good, x.std(axis=1), np.nan))
        return window.t_end >= self._begin + self._seconds

    def result(self, t: float) -> RestBaseline:
        """Return the participant's EEG at rest.

        Args:
            t: Current time in seconds.

        Raises:
            StreamError: Fewer than half of the channels, or fewer than the model needs, had enough clean signal.
        """
        signal = self._config.signal
        n_channels = len(signal.ch_names)
        means = np.array(self._means).reshape(-1, n_channels)
        deviations = np.array(self._deviations).reshape(-1, n_channels)
        clean_s = np.isfinite(deviations).sum(axis=0) * self._config.window.hop_s
        known = clean_s >= MIN_CLEAN_S
        least = max(signal.least_channels, math.ceil(self._n_present / 2))
        if known.sum() < least:
            raise StreamError(
                expected=f"{MIN_CLEAN_S:g} s of clean EEG in at least {least} channels",
                found=f"{int(known.sum())} channels with that much; the best has {clean_s.max(initial=0.0):g} s",
                mend="mend the contact of the electrodes, let the participant sit still, and measure again",
            )
        scale, baseline = np.full(n_channels, np.nan), np.zeros(n_channels)
        scale[known] = np.maximum(np.nanmedian(deviations[:, known], axis=0), _LEAST_SCALE_UV)
        baseline[known] = np.nanmedian(means[:, known], axis=0)
        scale[~known] = np.median(scale[known])
        return RestBaseline(
            t=t,
            ch_names=signal.ch_names,
            baseline_uv=tuple(baseline.tolist()),
            scale_uv=tuple(scale.tolist()),
            signal=signal.signal_hash,
            seconds=float(clean_s[known].min()),
        )


def rest_to_json(rest: RestBaseline) -> str:
    """Return the rest as JSON, exact to the last bit."""
    return json.dumps({"kind": "eeg_rest", **dataclasses.asdict(rest)}, indent=1)


def rest_from_json(text: str, config: PreprocessConfig) -> RestBaseline:
    """Return the rest that ``rest_to_json`` wrote.

    Raises:
        SettingsError: The text is not one, or the rest was measured with other signal settings than the model's.
    """
    try:
        plain = json.loads(text)
        if plain.pop("kind") != "eeg_rest":
            raise ValueError("another kind of file")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        rest = RestBaseline(**values)
        scale = np.array(rest.scale_uv, dtype=np.float64)
        if not (len(rest.ch_names) == scale.size == len(rest.baseline_uv) and np.all(scale > 0)):
            raise ValueError("numbers that fit no channels")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(
            "EEG at rest, as clmer calibrate --rest writes it", str(error), "measure it again"
        ) from error
    if rest.signal != config.signal.signal_hash:
        raise SettingsError(
            expected=f"EEG at rest, measured with the model's signal settings ({config.signal.signal_hash})",
            found=f"one measured with others ({rest.signal})",
            mend="measure it again: clmer calibrate --rest",
        )
    return rest
