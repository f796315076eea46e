"""Finding the chunks of a file, and the way back into it behind damage."""

from __future__ import annotations

import struct
from collections.abc import Container
from dataclasses import dataclass

from clmer_streaming.xdf.format import BOUNDARY_UUID, Tag, decode_length

_LENGTH = struct.Struct("<I")
_OF_STREAM = struct.Struct("<HI")  # tag and stream id
_OF_A_STREAM = (Tag.STREAM_HEADER, Tag.SAMPLES, Tag.CLOCK_OFFSET, Tag.STREAM_FOOTER)


@dataclass(frozen=True, slots=True)
class RawChunk:
    """One chunk, not yet decoded."""

    tag: int
    stream_id: int | None  # None for chunks of the file
    content: memoryview  # behind tag and stream id
    end: int  # where the next chunk begins
    whole: bool = True  # False where the file ends before the chunk does


def chunk_at(data: memoryview, at: int) -> RawChunk | None:
    """Return the chunk that begins at byte ``at``; None where none can begin."""
    length = decode_length(data, at)
    if length is None:
        return None
    n_bytes, start = length
    end, body = start + n_bytes, data[start : start + n_bytes]
    if n_bytes < 2 or len(body) < 2:
        return None
    tag = int.from_bytes(body[:2], "little")
    whole = end <= len(data)
    if tag not in _OF_A_STREAM:
        return RawChunk(tag, None, body[2:], end, whole)
    if len(body) < 6:
        return None
    (stream_id,) = struct.unpack_from("<I", body, 2)
    return RawChunk(tag, stream_id, body[6:], end, whole)


def behind_samples_of(data: memoryview, at: int, stream_ids: Container[int | None]) -> int:
    """Return where the run of whole chunks of samples of these streams ends that begins at byte ``at``.

    As quick as Python allows: in an hour of a session there are hundreds of thousands of them.
    """
    n = len(data)
    while at + 9 <= n:  # the shortest chunk of a stream: two bytes of length, two of tag, four of stream, one of count
        n_length = data[at]
        start = at + 1 + n_length
        if n_length == 1:
            length = data[at + 1]
        elif n_length == 4 and start + 6 <= n:
            (length,) = _LENGTH.unpack_from(data, at + 1)
        else:
            break
        tag, stream_id = _OF_STREAM.unpack_from(data, start)
        end = start + length
        if tag != Tag.SAMPLES or stream_id not in stream_ids or length < 6 or end > n:
            break
        at = end
    return at


def may_follow(data: memoryview, at: int, known: Container[int | None]) -> bool:
    """Tell whether the file can go on at byte ``at``: it ends there, or a chunk of a kind and stream we know begins."""
    if at == len(data):
        return True
    chunk = chunk_at(data, at)
    if chunk is None or chunk.tag not in tuple(Tag):
        return False
    return chunk.stream_id is None or chunk.tag == Tag.STREAM_HEADER or chunk.stream_id in known


def behind_next_boundary(data: bytes, at: int) -> int:
    """Return where the chunk behind the next boundary begins; the end of the file where there is none."""
    found = data.find(BOUNDARY_UUID, at)
    return len(data) if found < 0 else found + len(BOUNDARY_UUID)
