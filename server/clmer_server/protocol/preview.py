"""Blocks of samples for people to look at: a short header, then float32 values, all little-endian.

::

    offset  bytes  what
         0      4  "CLMP"
         4      1  version of this header, 1
         5      1  topic: 1 eeg.preview, 2 face.preview
         6      2  uint16, bytes of this header: the values begin there
         8      2  uint16, rows C (channels)
        10      2  uint16, columns n (samples)
        12      4  uint32, number of the block within its topic and session
        16      8  float64, time of the first column in seconds
        24      8  float64, seconds from one column to the next; 0 where there is only one
        32      -  name of the session in UTF-8, filled up with zero bytes to a multiple of 8

The values follow row by row. NaN: not measured.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from clmer_streaming.types import FloatArray

PreviewTopic: TypeAlias = Literal["eeg.preview", "face.preview"]
"""What blocks there are."""

MAGIC = b"CLMP"
"""The first bytes of every block; no MessagePack message begins so."""

VERSION = 1
_TOPIC_NUMBERS: dict[PreviewTopic, int] = {"eeg.preview": 1, "face.preview": 2}
_FIXED = struct.Struct("<4sBBHHHIdd")


@dataclass(frozen=True, eq=False)
class Preview:
    """One block."""

    topic: PreviewTopic
    session: str
    number: int  # grows by one from block to block
    t: float  # s, of the first column
    interval_s: float  # between two columns; 0 for a single one
    values: FloatArray  # (C, n)

    @cached_property
    def content(self) -> bytes:
        """The block as the wire carries it."""
        name = self.session.encode()
        name += bytes(-(_FIXED.size + len(name)) % 8)
        rows, columns = self.values.shape
        head = _FIXED.pack(
            MAGIC,
            VERSION,
            _TOPIC_NUMBERS[self.topic],
            _FIXED.size + len(name),
            rows,
            columns,
            self.number % 2**32,
            self.t,
            self.interval_s,
        )
        return head + name + np.ascontiguousarray(self.values, dtype="<f4").tobytes()


def parse_preview(content: bytes) -> Preview:
    """Return the block that ``Preview.content`` holds.

    Raises:
        ValueError: It is none, or of a version that is not known.
    """
    if content[:4] != MAGIC or len(content) < _FIXED.size or content[4] != VERSION:
        raise ValueError(f"no preview of version {VERSION}: {content[:8]!r}")
    _, _, number_of_topic, n_header, rows, columns, number, t, interval_s = _FIXED.unpack_from(content)
    topic = next(name for name, value in _TOPIC_NUMBERS.items() if value == number_of_topic)
    session = content[_FIXED.size : n_header].rstrip(b"\0").decode()
    values = np.frombuffer(content, "<f4", rows * columns, n_header).reshape(rows, columns)
    return Preview(topic, session, number, t, interval_s, values.astype(np.float64))
