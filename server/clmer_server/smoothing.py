"""A mean of the latest predictions, beside them: for displays that shall not flicker."""

from __future__ import annotations

import math

from clmer_server.protocol.prediction import EmotionEvent, Smoothed

_VALENCE, _AROUSAL = " valence", " arousal"  # beside the labels; no label begins with a space


class Smoother:
    """Exponential mean of valid predictions, in stream time.

    With the time constant ``tau_s`` and ``dt`` seconds since the valid prediction before it, the mean ``y`` of the
    values ``x`` goes on by ``y += (1 - exp(-dt / tau_s)) * (x - y)``: the exact step of a first-order low-pass, whose
    input holds its value until the next one. It begins with the first value, again where time steps back.

    Args:
        tau_s: Time constant in seconds.
    """

    def __init__(self, tau_s: float) -> None:
        self._tau_s = tau_s
        self._t = -math.inf  # s, end of the last valid window
        self._mean: dict[str, float] = {}

    def push(self, event: EmotionEvent) -> EmotionEvent:
        """Return the event with the mean beside its values; a window without values has none."""
        if not event.valid or event.probs is None:
            return event
        values = {**event.probs, _VALENCE: event.valence, _AROUSAL: event.arousal}
        now = {name: value for name, value in values.items() if value is not None}
        dt = event.t_end - self._t
        steady = dt >= 0 and now.keys() == self._mean.keys()
        gain = 1.0 - math.exp(-dt / self._tau_s) if steady else 1.0
        before = self._mean if steady else now
        self._mean = {name: before[name] + gain * (x - before[name]) for name, x in now.items()}
        self._t = event.t_end
        return event.model_copy(update={"smoothed": self._smoothed(tuple(event.probs))})

    def _smoothed(self, labels: tuple[str, ...]) -> Smoothed:
        probs = {label: self._mean[label] for label in labels}
        return Smoothed(
            tau_s=self._tau_s,
            probs=probs,
            label=max(probs, key=probs.__getitem__),
            valence=self._mean.get(_VALENCE),
            arousal=self._mean.get(_AROUSAL),
        )
