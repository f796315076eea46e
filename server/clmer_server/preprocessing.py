"""The signal settings that a session runs with: the model's own, and what the user changes by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError


def effective_preprocess(trained: PreprocessConfig, notch: Literal["50", "60", "none"] | None) -> PreprocessConfig:
    """Return the model's settings with the user's notch; None leaves them as they are."""
    return trained if notch is None else trained.with_notch(None if notch == "none" else float(notch))


def notch_text(trained: PreprocessConfig, used: PreprocessConfig) -> str:
    """Return what a user should know of a notch that is not the model's own; ``""`` where it is."""
    ours, theirs = used.signal.notch_hz, trained.signal.notch_hz
    if ours == theirs:
        return ""
    return f"{_words(ours)}, other than the model, which was trained with {_words(theirs)}; config {used.config_hash}"


def _words(notch_hz: float | None) -> str:
    return "no notch" if notch_hz is None else f"a notch at {notch_hz:g} Hz"


def parse_physio(spec: str | None, option: str = "--physio") -> dict[str, str]:
    """Return by series the stream that gives it, from ``ecg,gsr=Shimmer``; a series alone names its stream too.

    Args:
        spec: As the user wrote it; None: not at all.
        option: Where.

    Raises:
        SettingsError: An entry names no series, or one names it twice.
    """
    streams: dict[str, str] = {}
    for entry in spec.split(",") if spec is not None else ():
        series, _, stream = (part.strip() for part in entry.partition("="))
        if not series or series.lower() in map(str.lower, streams):
            expected = f"{option} SERIES or SERIES=STREAM, each series once, with commas between"
            raise SettingsError(expected, repr(spec), f"for example {option} mine=Stream")
        streams[series] = stream or series
    return streams


def parse_rates(spec: str | None) -> dict[str, float]:
    """Return by series its rate in Hz, from ``ecg=128,gsr=32``.

    Raises:
        SettingsError: An entry is no series with a rate.
    """
    rates = {}
    for series, text in _entries(spec, "--physio-rate SERIES=HZ", "ecg=128"):
        rates[series] = _hertz(text, series)
        if not 0 < rates[series] <= 4096:
            raise SettingsError("a rate above 0 and up to 4096 Hz", f"{series}={text}", "mend --physio-rate")
    return rates


def parse_bands(spec: str | None) -> dict[str, tuple[float, float]]:
    """Return by series its band in Hz, from ``ecg=0.5-40,gsr=0-3``; from 0: a low-pass.

    Raises:
        SettingsError: An entry is no series with a band.
    """
    bands = {}
    for series, text in _entries(spec, "--physio-band SERIES=LOW-HIGH", "ecg=0.5-40"):
        low, _, high = text.partition("-")
        bands[series] = _hertz(low, series), _hertz(high, series)
        if not 0 <= bands[series][0] < bands[series][1]:
            raise SettingsError("a band that ends above its beginning", f"{series}={text}", "mend --physio-band")
    return bands


def _entries(spec: str | None, expected: str, example: str) -> list[tuple[str, str]]:
    pairs = [entry.partition("=") for entry in spec.split(",")] if spec is not None else []
    if any(not (series.strip() and value.strip()) for series, _, value in pairs):
        raise SettingsError(f"{expected}, with commas between", repr(spec), f"for example {example}")
    return [(series.strip(), value.strip()) for series, _, value in pairs]


def _hertz(text: str, series: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError("a number of Hz", f"{text!r} for {series}", "for example 0.5")
    return value


def check_physio(physio: Mapping[str, str], preprocess: PreprocessConfig) -> None:
    """Refuse series that the model does not know.

    Raises:
        SettingsError: The model has no series of that name.
    """
    known = ", ".join(series.name for series in preprocess.further) or "none"
    for name in physio:
        if preprocess.further_of(name) is None:
            raise SettingsError(
                expected=f"a further series of this model, which has {known}",
                found=f"--physio {name}: this model has no series of that name",
                mend="leave the option out, or choose a model that was trained with it",
            )
