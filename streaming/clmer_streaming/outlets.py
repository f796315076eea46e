"""What CLMER publishes on Lab Streaming Layer."""

from __future__ import annotations

import re
import socket

from clmer_streaming.face.layout import FACE_CH_NAMES, face_to_row
from clmer_streaming.sources.lsl import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.types import FaceSample, StreamInfo

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
        pylsl = load_pylsl()
        described = pylsl.StreamInfo(
            name, "MoCap", len(FACE_CH_NAMES), pylsl.IRREGULAR_RATE, pylsl.cf_float32, face_source_id(info)
        )
        desc = described.desc()
        desc.append_child_value("manufacturer", "CLMER")
        desc.append_child_value("extractor", info.extractor)
        desc.append_child("synchronization").append_child_value("offset_mean", repr(info.delay_s))
        channels = desc.append_child("channels")
        for label in FACE_CH_NAMES:
            channels.append_child("channel").append_child_value("label", label)
        self._outlet = pylsl.StreamOutlet(described)

    def push(self, sample: FaceSample) -> None:
        """Publish one frame's face; NaN where there was none."""
        self._outlet.push_sample(face_to_row(sample).tolist(), sample.t)

    def has_consumers(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._outlet.have_consumers())


def face_source_id(info: StreamInfo) -> str:
    """Return the id by which an inlet knows the stream again when it returns: this computer's, this camera's."""
    return f"{OWN_ID_PREFIX}face-{socket.gethostname()}-{re.sub('[^A-Za-z0-9]+', '-', info.source_id)}"
