"""What CLMER publishes on Lab Streaming Layer."""

from __future__ import annotations

import re
import socket
from typing import Any

from clmer_streaming.face.hog import HOG_STREAM
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.sources.lsl import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import Chunk, FaceSample, StreamInfo

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
