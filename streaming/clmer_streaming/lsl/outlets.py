"""What CLMER publishes on Lab Streaming Layer."""

from __future__ import annotations

import ctypes
import re
import socket
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clmer_streaming.face.hog import HOG_STREAM
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import Chunk, FaceSample, Marker, StreamInfo
from clmer_streaming.xdf.reader import XdfStream

FACE_STREAM = "CLMER-Face"
"""Usual name of a face stream."""


class FaceOutlet:
    """A ``CLMER-Face`` stream: 249 numbers for each frame, with the stamp of the frame.

    Args:
        info: The stream of face samples that is published.
        name: The outlet's name.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, info: StreamInfo, name: str = FACE_STREAM) -> None:
        self._outlet = _frame_outlet(info, name, "MoCap", face_source_id(info))

    def push(self, sample: FaceSample) -> None:
        """Publish one frame's face; NaN where there was none."""
        self._outlet.push_sample(face_to_row(sample).tolist(), sample.t)

    def has_consumers(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._outlet.have_consumers())


class HogOutlet:
    """A ``CLMER-HOG`` stream: 1296 numbers for each frame, with the stamp of the frame.

    Its id is not one of those that no session takes: a session may ask for it by name, as a series of its model.

    Args:
        info: The stream of HOG that is published.
        name: The outlet's name.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """

    def __init__(self, info: StreamInfo, name: str = HOG_STREAM) -> None:
        self._outlet = _frame_outlet(info, name, "HOG", face_source_id(info).replace(f"{OWN_ID_PREFIX}face", "hog"))

    def push(self, chunk: Chunk) -> None:
        """Publish the frames of a chunk; NaN where there was no face."""
        for t, numbers in zip(chunk.t.tolist(), chunk.x.T.tolist(), strict=True):
            self._outlet.push_sample(numbers, t)


def _frame_outlet(info: StreamInfo, name: str, content: str, source_id: str) -> Any:
    """Return an outlet of one sample for each frame, at no fixed rate, with the channels of a stream."""
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
    """Return the id by which an inlet knows the stream again when it returns: this computer's, this camera's."""
    return f"{OWN_ID_PREFIX}face-{socket.gethostname()}-{re.sub('[^A-Za-z0-9]+', '-', info.source_id)}"


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


@dataclass(frozen=True)
class PlayedStream:
    """One stream of a recording as it is published."""

    xdf: XdfStream
    name: str  # never empty, which LSL demands
    source_id: str
    sfreq: float  # Hz, announced; 0 for an irregular stream

    @property
    def n_samples(self) -> int:
        """Samples of one round."""
        return int(self.xdf.t.size)


def make_outlet(pylsl: Any, played: PlayedStream, buffer_s: int) -> Any:
    """Return an outlet with the whole ``<desc>`` of a recorded header; host, session and times are LSL's own.

    Args:
        pylsl: The module.
        played: What is published.
        buffer_s: Seconds that are kept for a slow listener (hundreds of samples of an irregular stream).
    """
    header = played.xdf
    plain = pylsl.StreamInfo(
        played.name, header.type, header.n_channels, played.sfreq, header.channel_format, played.source_id
    )
    _fill_desc(pylsl, plain, header.desc)
    return pylsl.StreamOutlet(plain, max_buffered=buffer_s)


def _fill_desc(pylsl: Any, info: Any, desc: ET.Element) -> None:
    """Copy a whole ``<desc>`` into a description, attributes and mixed text included.

    pylsl makes elements one by one and knows no attributes, but it can copy them out of a description that
    liblsl read as text.
    """
    root = ET.fromstring(info.as_xml())
    root.append(desc)
    empty, uid = root.find("desc"), root.find("uid")
    assert empty is not None and uid is not None  # liblsl always writes both
    root.remove(empty)
    uid.text = "to be copied from"  # liblsl reads none without
    from_xml = pylsl.lib.lib.lsl_streaminfo_from_xml
    from_xml.restype = ctypes.c_void_p
    read = pylsl.StreamInfo(handle=from_xml(ET.tostring(root, encoding="utf-8")))
    child = read.desc().first_child()
    while not child.empty():
        info.desc().append_copy(child)
        child = child.next_sibling()
