"""Ways to damage an XDF file, by chance but from a seed, and small files to damage."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clmer_streaming.xdf.chunks import chunk_at
from clmer_streaming.xdf.format import MAGIC, ChannelFormat, Tag, decode_length, encode_length
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

MOST_BYTES = 30_000
"""No seed is longer."""

_ODD_NUMBERS = (0.0, -1.0, 5e-324, 1e-300, 1e9, 1.7e9, 1e12, -1e12, 1e300, float("nan"), float("inf"), -float("inf"))
_ODD_COUNTS = (0, 1, 2, 255, 256, 2**16, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_ODD_WORDS = (
    "",
    "-1",
    "0",
    "1e300",
    "1e-300",
    "nan",
    "inf",
    "99999",
    "100000000",
    "string",
    "int8",
    "٣",
    "<a/>",
    "\x00",
)
_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY c "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">]>'
    b"<info><name>&e;</name></info>"
)


def seeds(folder: Path) -> list[bytes]:
    """Return small intact files of every kind: all formats, strings, offsets, boundaries, gaps, many channels."""
    made = [_formats(folder / "formats.xdf"), _eeg(folder / "eeg.xdf"), _restarts(folder / "restarts.xdf"), _bare()]
    assert all(len(data) <= MOST_BYTES for data in made)
    return made


def _formats(path: Path) -> bytes:
    with XdfWriter(path) as xdf:
        formats: tuple[ChannelFormat, ...] = ("int8", "int16", "int32", "int64", "float32", "double64")
        for i, channel_format in enumerate(formats):
            stream = xdf.add_stream(XdfStreamSpec(channel_format, "Data", ("a", "b"), 50.0, channel_format))
            for first in range(0, 60, 20):
                n = np.arange(first, first + 20)
                xdf.write_samples(stream, 100 + i + n / 50, [n, -n])
                xdf.write_offset(stream, 100.0 + first / 50, 1e-5 * first)
            xdf.boundary()
        words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("a", "b"), channel_format="string"))
        xdf.write_samples(words, [100.0, 101.0], [["Reiz", ""], ["刺激", "x" * 300]])
    return path.read_bytes()


def _eeg(path: Path) -> bytes:
    labels = ("COUNTER", "AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
    t = np.arange(300) / 128
    t[150:] += 1.5
    with XdfWriter(path) as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", labels, 128.0, "float32", ("uV",) * 15))
        face = xdf.add_stream(XdfStreamSpec("FaceLandmarks", "MoCap", tuple(f"LM{i:02d}_X" for i in range(68))))
        for first in range(0, 300, 30):
            rows = slice(first, first + 30)
            xdf.write_samples(eeg, t[rows], np.outer(np.arange(15.0), np.arange(30.0)))
            xdf.write_samples(face, t[rows][:1], np.zeros((68, 1)))
            xdf.write_offset(eeg, float(t[first]), 5.0 + 1e-5 * first)
            if first == 150:
                xdf.boundary()
    return path.read_bytes()


def _restarts(path: Path) -> bytes:
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(XdfStreamSpec("again", "EEG", ("Cz",), 10.0, "int16", ("uV",)))
        for begin, offset in ((1e6, 0.0), (500.0, 999_500.0 + 60.0)):
            for first in range(0, 200, 50):
                t = begin + np.arange(first, first + 50) / 10
                xdf.write_samples(stream, t, [np.arange(50)])
                xdf.write_offset(stream, float(t[0]), offset)
    return path.read_bytes()


def _bare() -> bytes:
    """A file whose samples mostly have no stamp of their own, and with chunks of kinds unknown."""
    info = "<info><name>bare</name><type>EEG</type><channel_count>1</channel_count><nominal_srate>4</nominal_srate>"
    header = (info + "<channel_format>int8</channel_format></info>").encode()
    rows = b"\x08" + struct.pack("<d", 9.0) + b"\x01" + b"\x00\x02" * 40 + b"\x08" + struct.pack("<d", 20.0) + b"\x03"
    chunks = [chunk(Tag.STREAM_HEADER, struct.pack("<I", 7) + header)]
    for _ in range(20):
        chunks += [chunk(Tag.SAMPLES, struct.pack("<I", 7) + encode_length(42) + rows), chunk(77, b"of the future")]
    return MAGIC + b"".join(chunks)


def chunk(tag: int, content: bytes) -> bytes:
    """One chunk as the format has it; the content begins with the stream id where the tag wants one."""
    body = struct.pack("<H", tag) + content
    return encode_length(len(body)) + body


def split(data: bytes) -> list[bytes]:
    """Return the chunks of an intact file; joined behind the magic they are the file again."""
    view, at = memoryview(data), len(MAGIC)
    chunks: list[bytes] = []
    while (found := chunk_at(view, at)) is not None and found.whole:
        chunks.append(data[at : found.end])
        at = found.end
    return chunks


def damaged(chance: random.Random, files: list[bytes]) -> bytes:
    """Return one of the files with one to four changes."""
    chunks = split(chance.choice(files))
    others = split(chance.choice(files))
    for _ in range(chance.choice([0, 1, 1, 2])):
        chance.choice(_OF_CHUNKS)(chance, chunks, others)
    data = MAGIC + b"".join(chunks)
    for _ in range(chance.choice([0, 1, 1, 2])):
        data = chance.choice(_OF_BYTES)(chance, data)
    return data


def _flip_bits(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 4, 64])):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(chance: random.Random, data: bytes) -> bytes:
    at, size = chance.randrange(len(data)), chance.choice([1, 8, 40, 400])
    return data[:at] + chance.randbytes(size) + data[at + size :]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(chance.choice([1, 8, 40])) + data[at:]


def _remove(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(4, len(data))
    return data[:at] + data[at + chance.choice([1, 8, 40, 400]) :]


def _truncate(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(4, len(data))]


def _odd_number(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(4, len(data))
    return data[:at] + struct.pack("<d", chance.choice(_ODD_NUMBERS)) + data[at + 8 :]


def _duplicate(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    chunks.insert(chance.randrange(len(chunks) + 1), chance.choice(chunks))


def _reorder(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    moved = chunks.pop(chance.randrange(len(chunks)))
    chunks.insert(chance.randrange(len(chunks) + 1), moved)


def _shuffle(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    chance.shuffle(chunks)


def _splice(chance: random.Random, chunks: list[bytes], others: list[bytes]) -> None:
    at, first = chance.randrange(len(chunks)), chance.randrange(len(others))
    chunks[at : at + chance.randrange(3)] = others[first : first + chance.randrange(1, 9)]


def _lie_about_length(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    at = chance.randrange(len(chunks))
    length = decode_length(memoryview(chunks[at]), 0)
    assert length is not None
    n_bytes, start = length
    claimed = chance.choice([*_ODD_COUNTS, max(0, n_bytes - 1), n_bytes + 1])
    chunks[at] = b"\x08" + claimed.to_bytes(8, "little") + chunks[at][start:]


def _lie_about_count(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    at = _one_of(chance, chunks, Tag.SAMPLES)
    content = _content(chunks[at])
    length = decode_length(memoryview(content), 4)
    if length is not None:
        count = b"\x08" + chance.choice(_ODD_COUNTS).to_bytes(8, "little")
        chunks[at] = chunk(Tag.SAMPLES, content[:4] + count + content[length[1] :])


def _lie_in_header(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    at = _one_of(chance, chunks, Tag.STREAM_HEADER)
    content = _content(chunks[at])
    name = chance.choice([b"channel_count", b"nominal_srate", b"channel_format", b"name", b"type", b"label"])
    start, opened, rest = content.partition(b"<" + name + b">")
    _old, closed, after = rest.partition(b"</" + name + b">")
    word = chance.choice(_ODD_WORDS).encode()
    chunks[at] = chunk(Tag.STREAM_HEADER, start + opened + word + closed + after)


def _plant_bomb(chance: random.Random, chunks: list[bytes], _: list[bytes]) -> None:
    deep = b"<a>" * chance.choice([50, 2000, 4000]) + b"</a>" * chance.choice([50, 2000, 4000])
    at = _one_of(chance, chunks, chance.choice([Tag.STREAM_HEADER, Tag.STREAM_FOOTER]))
    content, bomb = _content(chunks[at]), chance.choice([_BOMB, b"<info>" + deep + b"</info>", b"\xff\xfe" + _BOMB])
    chunks[at] = chunk(int.from_bytes(_body(chunks[at])[:2], "little"), content[:4] + bomb)


def _body(raw: bytes) -> bytes:
    length = decode_length(memoryview(raw), 0)
    return raw if length is None else raw[length[1] :]


def _content(raw: bytes) -> bytes:
    return _body(raw)[2:]


def _one_of(chance: random.Random, chunks: list[bytes], tag: Tag) -> int:
    """Return the place of a chunk of a kind, or of any chunk where there is none."""
    wanted = [i for i, raw in enumerate(chunks) if _body(raw)[:2] == struct.pack("<H", tag)]
    return chance.choice(wanted or [chance.randrange(len(chunks))])


_OF_BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip_bits, _flip_bits, _overwrite, _insert, _remove, _truncate, _odd_number,
)  # fmt: skip
_OF_CHUNKS: tuple[Callable[[random.Random, list[bytes], list[bytes]], None], ...] = (
    _duplicate, _reorder, _shuffle, _splice, _lie_about_length, _lie_about_count, _lie_in_header, _plant_bomb,
)  # fmt: skip
