"""What is framed once for all clients is what a real client reads, whatever its length and encoding."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import numpy as np
import pytest

from clmer_server.letters import Letter
from clmer_server.protocol.names import SUBPROTOCOLS, Encoding, protocol_name
from clmer_server.protocol.notices import NoticeCode
from clmer_server.protocol.outbound import Notice
from clmer_server.protocol.preview import Preview, parse_preview
from served_app import serving_here
from test_app import run

LENGTHS = (125, 126, 65535, 65536)
"""Bytes, on either side of where the length in a frame's head takes two bytes more, and eight (RFC 6455)."""


def notice(encoding: Encoding, n_bytes: int) -> Notice:
    """Return a notice that has so many bytes as the wire carries it."""
    made = Notice(code=NoticeCode.SESSION_WARNING, message="ä")
    while (missing := n_bytes - length(made, encoding)) > 0:
        step = max(1, missing - 8)  # a long text has a longer head in MessagePack
        made = made.model_copy(update={"message": made.message + "x" * step})
    return made


def length(message: Notice, encoding: Encoding) -> int:
    written = Letter(message).written(encoding)
    return len(written.encode() if isinstance(written, str) else written)


@pytest.mark.parametrize("encoding", SUBPROTOCOLS.values())
def test_a_client_reads_frames_of_every_length(encoding: Encoding) -> None:
    """One after the other on one connection, as text or as bytes; whether a frame was whole shows in the next one."""
    notices = [notice(encoding, n_bytes) for n_bytes in LENGTHS]
    assert tuple(length(each, encoding) for each in notices) == LENGTHS

    async def test() -> None:
        async with serving_here() as site, site.connect(subprotocols=[protocol_name(encoding)]) as client:
            await client.recv()
            for each in notices:
                site.hub.publish(each)
            for each in notices:
                content = await client.recv()
                assert isinstance(content, str) is (encoding is Encoding.JSON)
                told: dict[str, Any] = json.loads(content) if isinstance(content, str) else msgpack.unpackb(content)
                assert told == each.model_dump(mode="json")

    run(test())


def test_a_client_of_text_reads_blocks_of_bytes_between() -> None:
    """A preview of more than 64 KiB, then a message."""
    block = Preview("eeg.preview", "abc", 0, 1.0, 1 / 128, np.arange(14.0 * 1280).reshape(14, 1280))

    async def test() -> None:
        async with serving_here() as site, site.connect() as client:
            await client.recv()
            await client.send(json.dumps({"type": "subscribe", "id": 1, "topics": ["eeg.preview"]}))
            await client.recv()
            site.hub.publish(block)
            site.hub.publish(notice(Encoding.JSON, 125))
            content = await client.recv()
            assert isinstance(content, bytes)
            assert np.array_equal(parse_preview(content).values, block.values)
            assert json.loads(await client.recv())["type"] == "notice"

    run(test())
