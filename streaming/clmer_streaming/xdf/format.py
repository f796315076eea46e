"""Constants and length fields of the XDF 1.0 format (https://github.com/sccn/xdf/wiki/Specifications).

A file is ``XDF:`` followed by chunks of ``NumLengthBytes (1, 4 or 8), Length, Tag u16, Content``; everything is
little endian, and Length counts the tag and the content.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, TypeAlias

MAGIC: Final = b"XDF:"
BOUNDARY_UUID: Final = bytes.fromhex("43A546DCCBF5410FB30ED5467383CBE4")
"""Content of every Boundary chunk, after which the reading of a damaged file can resume."""

MAX_STAMP_S: Final = 1e12
"""Largest plausible absolute stamp in seconds: 31,700 years."""

ChannelFormat: TypeAlias = Literal["int8", "int16", "int32", "int64", "float32", "double64", "string"]
"""Storage format of a stream's values."""

NUMERIC_DTYPES: Final[dict[str, str]] = {
    "int8": "<i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "float32": "<f4",
    "double64": "<f8",
}
"""NumPy dtype of each numeric channel format; the only other format is ``string``."""


class Tag(IntEnum):
    """Kind of a chunk."""

    FILE_HEADER = 1
    STREAM_HEADER = 2
    SAMPLES = 3
    CLOCK_OFFSET = 4
    BOUNDARY = 5
    STREAM_FOOTER = 6


def encode_length(value: int) -> bytes:
    """Return a length as XDF writes it: the number of its bytes, then the bytes."""
    if value < 2**8:
        return b"\x01" + value.to_bytes(1, "little")
    if value < 2**32:
        return b"\x04" + value.to_bytes(4, "little")
    return b"\x08" + value.to_bytes(8, "little")


def decode_length(data: memoryview, at: int) -> tuple[int, int] | None:
    """Return the length written at byte ``at`` and the byte where it ends; None if it is not valid."""
    n_bytes = data[at] if at < len(data) else 0
    end = at + 1 + n_bytes
    if n_bytes not in (1, 4, 8) or end > len(data):
        return None
    return int.from_bytes(data[at + 1 : end], "little"), end
