"""What CLMER says of a session on Lab Streaming Layer, for LabRecorder and other programs of the lab."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clmer_streaming.sources.lsl import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import Marker

EMOTION_STREAM = "CLMER-Emotion"
LABEL_STREAM = "CLMER-Label"
MARKER_STREAM = "CLMER-Markers"

NO_LABEL = "none"
"""What the label stream says while there is no valid answer."""

_AFTER_PROBS = ("valence", "arousal", "confidence", "entropy", "valid")
"""Channels behind the probabilities; all 0 to 1."""


@dataclass(frozen=True)
class OutletIdentity:
    """Whose streams these are, and which model answers in them."""

    session: str
    port: int  # of the service
    labels: tuple[str, ...]  # of the model, in its order
    about: tuple[tuple[str, str], ...]  # further words of <desc>: model, hash, hop, ...

    def source_id(self, kind: str) -> str:
        """Return the id of one outlet: new for each session, and known as our own by its beginning."""
        host = re.sub("[^A-Za-z0-9]+", "-", socket.gethostname())
        return f"{OWN_ID_PREFIX}{kind}-{host}-{self.port}-{self.session}"


class EmotionOutlet:
    """``CLMER-Emotion``: one sample for each window, stamped with its end; NaN where nothing was measured.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, identity: OutletIdentity) -> None:
        units = dict.fromkeys(identity.labels, "probability") | dict.fromkeys(_AFTER_PROBS, "normalized")
        self._labels = identity.labels
        self._outlet = _outlet(identity, EMOTION_STREAM, "Emotion", units, text=False)

    def push(self, t_end: float, probs: Sequence[float] | None, rest: Sequence[float]) -> None:
        """Publish one window's answer.

        Args:
            t_end: Its end in seconds.
            probs: In the order of the labels; None where there is no answer.
            rest: Valence, arousal, confidence and entropy, NaN where not measured, and 1 or 0 for valid.
        """
        missing = [float("nan")] * len(self._labels)
        self._outlet.push_sample([*(missing if probs is None else probs), *rest], t_end)


class LabelOutlet:
    """``CLMER-Label``: the most probable label whenever it changes; ``none`` while there is none."""

    def __init__(self, identity: OutletIdentity) -> None:
        self._outlet = _outlet(identity, LABEL_STREAM, "Markers", {"label": ""}, text=True)
        self._said = ""

    def push(self, t_end: float, label: str | None) -> None:
        """Publish the label of a window that ends at ``t_end`` seconds, if it is another one than before."""
        text = label or NO_LABEL
        if text != self._said:
            self._said = text
            self._outlet.push_sample([text], t_end)


class MarkerOutlet:
    """``CLMER-Markers``: the experiment's events as the service got them."""

    def __init__(self, identity: OutletIdentity) -> None:
        self._outlet = _outlet(identity, MARKER_STREAM, "Markers", {"label": ""}, text=True)

    def push(self, marker: Marker) -> None:
        """Publish one event with its own stamp."""
        self._outlet.push_sample([marker.label], marker.t)


def _outlet(identity: OutletIdentity, name: str, kind: str, units: Mapping[str, str], *, text: bool) -> Any:
    """Return an outlet with a channel for each key of ``units``."""
    pylsl = load_pylsl()
    channel_format = pylsl.cf_string if text else pylsl.cf_float32
    source_id = identity.source_id(name.removeprefix("CLMER-").lower())
    info = pylsl.StreamInfo(name, kind, len(units), pylsl.IRREGULAR_RATE, channel_format, source_id)
    desc = info.desc()
    desc.append_child_value("manufacturer", "CLMER")
    for word, value in identity.about:
        desc.append_child_value(word, value)
    channels = desc.append_child("channels")
    for label, unit in units.items():
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
        channel.append_child_value("type", kind)
    return pylsl.StreamOutlet(info)
