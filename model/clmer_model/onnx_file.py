"""The metadata of an ONNX file, read from its bytes: neither onnx nor ONNX Runtime has to open it for that.

An ONNX file is one message of Protocol Buffers, ``ModelProto``: a run of fields, each a key (number and wire type)
and a value. Only the properties are looked into; the graph is passed over by its length.
Format: protobuf.dev/programming-guides/encoding and onnx.proto of the ONNX project.
"""

from __future__ import annotations

from collections.abc import Iterator

_PROPERTIES = 14  # ModelProto.metadata_props, entries of type StringStringEntryProto
_KEY, _VALUE = 1, 2  # its fields
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10  # 64 bits, seven in a byte


def properties(content: bytes, name: str) -> list[bytes]:
    """Return every value that the model's properties hold under a name.

    Args:
        content: The whole file.
        name: Of the property.

    Raises:
        ValueError: The content is no ONNX file.
    """
    entries = [dict(_fields(entry)) for number, entry in _fields(memoryview(content)) if number == _PROPERTIES]
    return [bytes(entry.get(_VALUE, b"")) for entry in entries if bytes(entry.get(_KEY, b"")) == name.encode()]


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each field of bytes, without a copy; fields of one number are passed over."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, place = _varint(data, place)
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in _FIXED_BYTES:
            length = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"a field of wire type {wire} at byte {place}")
        if length > len(data) - place:
            raise ValueError(f"a field of {length} bytes where {len(data) - place} are left")
        if wire == _BYTES:
            yield number, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place behind it."""
    value = 0
    for i in range(_MAX_VARINT_BYTES):
        if place + i >= len(data):
            raise ValueError("an end in the middle of a number")
        byte = data[place + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise ValueError(f"a number of more than {_MAX_VARINT_BYTES} bytes at byte {place}")
