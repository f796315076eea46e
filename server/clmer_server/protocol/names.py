"""The names by which a WebSocket handshake chooses the protocol."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

ProtocolName: TypeAlias = Literal["clmer.v1.json", "clmer.v1.msgpack"]
"""A WebSocket subprotocol of ours."""

PROTOCOL_VERSION = "1.0.0"
"""Of the protocol: the first number is that of the names; the second grows with what is added."""

PROTOCOL: ProtocolName = "clmer.v1.json"
"""The one spoken with a client that asks for none."""


class Encoding(StrEnum):
    """How the messages of a connection are written, by the end of its subprotocol's name."""

    JSON = "json"
    MSGPACK = "msgpack"


SUBPROTOCOLS: dict[str, Encoding] = {"clmer.v1.json": Encoding.JSON, "clmer.v1.msgpack": Encoding.MSGPACK}
"""All names, and the encoding that each stands for."""


def protocol_name(encoding: Encoding) -> ProtocolName:
    """Return the name that stands for an encoding."""
    return "clmer.v1.json" if encoding is Encoding.JSON else "clmer.v1.msgpack"
