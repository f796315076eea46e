"""From messages to what goes over the wire, and back: JSON as text, MessagePack as bytes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgpack

from clmer_server.protocol.codes import Encoding
from clmer_server.protocol.outbound import Message


def encode(message: Message) -> str:
    """Return the message as one line of JSON."""
    return message.model_dump_json()


def encode_as(message: Message, encoding: Encoding) -> str | bytes:
    """Return the message as the wire carries it."""
    if encoding is Encoding.JSON:
        return encode(message)
    packed: bytes = msgpack.packb(message.model_dump(mode="json"))
    return packed


def decode(data: str | bytes | None, encoding: Encoding) -> Any:
    """Return the plain values that a client sent.

    Raises:
        ValueError: It is not written in this encoding.
    """
    if encoding is Encoding.JSON:
        if not isinstance(data, str):
            raise ValueError("bytes")
        return json.loads(data, parse_constant=_refuse)
    if not isinstance(data, bytes):
        raise ValueError("text")
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except TypeError as error:  # a list or a map as the key of a map
        raise ValueError(str(error)) from error


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")
