"""CLMER's own streams on the network: faces, HOG descriptors, emotion, labels and markers.

A session has an ``EmotionOutlet``, a ``LabelOutlet`` and a ``MarkerOutlet``, all with one ``OutletIdentity``. A camera
computer publishes a ``FaceOutlet`` and, if asked, a ``HogOutlet``.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clmer_streaming.face.hog import HOG_STREAM
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import Chunk, FaceSample, Marker, StreamInfo

FACE_STREAM = "CLMER-Face"
"""Usual name of a face stream."""


class FaceOutlet:
    """A ``CLMER-Face`` outlet: 249 float32 for each frame, in the order of ``FACE_CH_NAMES``, with the frame's stamp.

    Example::

        outlet = FaceOutlet(camera.info)
        outlet.push(sample)

    Args:
        info: The stream of face samples to publish.
        name: Name of the outlet.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
    """

    def __init__(self, info: StreamInfo, name: str = FACE_STREAM) -> None:
        self._outlet = _frame_outlet(info, name, "MoCap", face_source_id(info))

    def push(self, sample: FaceSample) -> None:
        """Publish one face sample; a frame without a face is published as NaN."""
        self._outlet.push_sample(face_to_row(sample).tolist(), sample.t)

    def has_consumers(self) -> bool:
        """Return whether any inlet is connected."""
        return bool(self._outlet.have_consumers())


class HogOutlet:
    """A ``CLMER-HOG`` outlet: 1296 float32 for each frame, with the frame's stamp.

    Its source_id has no ``OWN_ID_PREFIX``: a session may use the stream as a series of its model.

    Args:
        info: The stream of HOG descriptors to publish.
        name: Name of the outlet.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
    """

    def __init__(self, info: StreamInfo, name: str = HOG_STREAM) -> None:
        self._outlet = _frame_outlet(info, name, "HOG", face_source_id(info).replace(f"{OWN_ID_PREFIX}face", "hog"))

    def push(self, chunk: Chunk) -> None:
        """Publish the frames of a chunk (1296, n); a frame without a face is published as NaN."""
        for t, numbers in zip(chunk.t.tolist(), chunk.x.T.tolist(), strict=True):
            self._outlet.push_sample(numbers, t)


def _frame_outlet(info: StreamInfo, name: str, content: str, source_id: str) -> Any:
    """Return an outlet of irregular rate with the channels of a stream."""
    pylsl = load_pylsl()
    described = pylsl.StreamInfo(name, content, len(info.ch_names), pylsl.IRREGULAR_RATE, pylsl.cf_float32, source_id)
    desc = described.desc()
    desc.append_child_value("manufacturer", "CLMER")
    desc.append_child_value("extractor", info.extractor)
    desc.append_child("synchronization").append_child_value("offset_mean", repr(info.delay_s))
    channels = desc.append_child("channels")
    for label in info.ch_names:
        channels.append_child("channel").append_child_value("label", label)
    return pylsl.StreamOutlet(described)


def face_source_id(info: StreamInfo) -> str:
    """Return the source_id of a face stream: the same for this computer and camera at each start."""
    return f"{OWN_ID_PREFIX}face-{socket.gethostname()}-{re.sub('[^A-Za-z0-9]+', '-', info.source_id)}"


EMOTION_STREAM = "CLMER-Emotion"
LABEL_STREAM = "CLMER-Label"
MARKER_STREAM = "CLMER-Markers"

NO_LABEL = "none"
"""Label of ``CLMER-Label`` while there is no valid prediction."""

_AFTER_PROBS = ("valence", "arousal", "confidence", "entropy", "valid")
"""Channels of ``CLMER-Emotion`` behind the probabilities, all in 0 to 1."""


@dataclass(frozen=True)
class OutletIdentity:
    """The session and the model whose predictions the outlets publish."""

    session: str
    port: int  # of the service
    labels: tuple[str, ...]  # of the model, in its order
    about: tuple[tuple[str, str], ...]  # further elements of <desc>: model, hash, hop, ...

    def source_id(self, kind: str) -> str:
        """Return the source_id of one outlet: new for each session, with ``OWN_ID_PREFIX``."""
        host = re.sub("[^A-Za-z0-9]+", "-", socket.gethostname())
        return f"{OWN_ID_PREFIX}{kind}-{host}-{self.port}-{self.session}"


class EmotionOutlet:
    """The ``CLMER-Emotion`` outlet: one sample for each window, stamped with its end; NaN where nothing was measured.

    Args:
        identity: The session and its model.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
    """

    def __init__(self, identity: OutletIdentity) -> None:
        units = dict.fromkeys(identity.labels, "probability") | dict.fromkeys(_AFTER_PROBS, "normalized")
        self._labels = identity.labels
        self._outlet = _outlet(identity, EMOTION_STREAM, "Emotion", units, text=False)

    def push(self, t_end: float, probs: Sequence[float] | None, rest: Sequence[float]) -> None:
        """Publish the prediction of one window.

        Args:
            t_end: End of the window in seconds.
            probs: In the order of the labels; None without a prediction.
            rest: Valence, arousal, confidence and entropy, NaN where not measured, and 1 or 0 for valid.
        """
        missing = [float("nan")] * len(self._labels)
        self._outlet.push_sample([*(missing if probs is None else probs), *rest], t_end)


class LabelOutlet:
    """The ``CLMER-Label`` outlet: the most probable label whenever it changes; ``none`` without a prediction."""

    def __init__(self, identity: OutletIdentity) -> None:
        self._outlet = _outlet(identity, LABEL_STREAM, "Markers", {"label": ""}, text=True)
        self._last = ""

    def push(self, t_end: float, label: str | None) -> None:
        """Publish the label of a window that ends at ``t_end`` seconds if it differs from the one before."""
        text = label or NO_LABEL
        if text != self._last:
            self._last = text
            self._outlet.push_sample([text], t_end)


class MarkerOutlet:
    """The ``CLMER-Markers`` outlet: the experiment's markers as the service received them."""

    def __init__(self, identity: OutletIdentity) -> None:
        self._outlet = _outlet(identity, MARKER_STREAM, "Markers", {"label": ""}, text=True)

    def push(self, marker: Marker) -> None:
        """Publish the label of a marker with the marker's stamp."""
        self._outlet.push_sample([marker.label], marker.t)


def _outlet(identity: OutletIdentity, name: str, kind: str, units: Mapping[str, str], *, text: bool) -> Any:
    """Return an outlet with a channel for each key of ``units``."""
    pylsl = load_pylsl()
    channel_format = pylsl.cf_string if text else pylsl.cf_float32
    source_id = identity.source_id(name.removeprefix("CLMER-").lower())
    info = pylsl.StreamInfo(name, kind, len(units), pylsl.IRREGULAR_RATE, channel_format, source_id)
    desc = info.desc()
    desc.append_child_value("manufacturer", "CLMER")
    for name_of_element, text_of_element in identity.about:
        desc.append_child_value(name_of_element, text_of_element)
    channels = desc.append_child("channels")
    for label, unit in units.items():
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
        channel.append_child_value("type", kind)
    return pylsl.StreamOutlet(info)
