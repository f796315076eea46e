"""A quick look at an XDF file: whether it is a recorded session, whether it is whole, and its span in time."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from clmer_streaming.recording.records import CONTROL_STREAM, CONTROL_TYPE
from clmer_streaming.xdf.chunks import RawChunk, behind_next_boundary, chunk_at
from clmer_streaming.xdf.description import parse_stream_header
from clmer_streaming.xdf.format import MAGIC, Tag

_HEAD_BYTES = 1 << 16  # of a file; its first stream header, which tells whether it is a recorded session, is in them


@dataclass(frozen=True, slots=True)
class Survey:
    """What the chunks of a file tell without being decoded."""

    first: float  # s, the first stamp of any stream; NaN without
    last: float  # s, the latest one
    closed: bool  # the recording was ended in order
    warnings: tuple[str, ...]  # sentences for people


def is_session_recording(path: Path) -> bool:
    """Tell whether a file is a session that clmer recorded; False where it cannot be read, too."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    at = len(MAGIC) if head.startswith(MAGIC) else len(head)
    while (chunk := chunk_at(memoryview(head), at)) is not None and chunk.whole:
        if chunk.tag == Tag.STREAM_HEADER:
            return _is_control(chunk)
        at = chunk.end
    return False


def survey(path: Path) -> Survey:
    """Walk over the chunks of a file.

    Raises:
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    view, at = memoryview(data), len(MAGIC)
    first, last, n_open, damaged = math.nan, math.nan, 0, 0
    while at < len(view):
        chunk = chunk_at(view, at)
        if chunk is None or not chunk.whole:
            damaged += 1
            at = behind_next_boundary(data, at)
            continue
        n_open += (chunk.tag == Tag.STREAM_HEADER) - (chunk.tag == Tag.STREAM_FOOTER)
        t = _first_stamp(chunk) if chunk.tag == Tag.SAMPLES else math.nan
        first, last = t if math.isnan(first) else first, t if math.isnan(last) else max(last, t)
        at = chunk.end
    warnings = [f"The recording is damaged in {damaged} place(s)."] if damaged else []
    if n_open:
        warnings.append("The recording was not closed; up to its last second may be missing.")
    return Survey(first, last, n_open == 0, tuple(warnings))


def _is_control(chunk: RawChunk) -> bool:
    try:
        described = parse_stream_header(chunk.stream_id or 0, bytes(chunk.content))
    except ValueError:
        return False
    return (described.name, described.type) == (CONTROL_STREAM, CONTROL_TYPE)


def _first_stamp(chunk: RawChunk) -> float:
    """Return the stamp of a chunk's first sample, in seconds, without decoding the rest; NaN where there is none."""
    content = chunk.content
    at = 1 + content[0] if len(content) else 0
    if len(content) < at + 9 or content[at] != 8:
        return math.nan
    (t,) = struct.unpack_from("<d", content, at + 1)
    return float(t)
