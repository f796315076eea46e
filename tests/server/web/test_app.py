"""The routes over real HTTP and WebSocket connections, in this process."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Coroutine
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import (
    PROTOCOL,
    SUBPROTOCOLS,
    UNEXPECTED,
    ByeReason,
    Encoding,
    NoticeCode,
    protocol_name,
)
from clmer_server.protocol.outbound import Bye, Notice, Preview, parse_preview
from clmer_server.protocol.parts import MAX_INBOUND_BYTES
from clmer_server.send_queue import OutboundMessage
from clmer_server.session.events import status_message
from clmer_server.web.middleware import RESPONSE_HEADERS
from clmer_server.web.uvicorn import open_listener
from clmer_streaming.clock import local_clock
from clmer_streaming.errors import SettingsError
from clmer_streaming.types import StreamStatus
from tests.support.served_app import BrokenSource, SilentSource, broken_reading, serving_here
from tests.support.session_parts import MODEL, STATUS, event

ACK: dict[str, Any] = {"type": "ack", "id": None, "topics": [], "failed": [], "marker": None}


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, timeout=20))


async def receive(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await client.recv())
    return message


def test_a_client_is_welcomed_then_told_what_happens() -> None:
    """The chosen subprotocol is echoed; the welcome names model and grid; the goodbye is followed by a close."""

    async def test() -> None:
        async with serving_here() as site, site.connect(subprotocols=[PROTOCOL]) as client:
            welcome = await receive(client)
            assert client.subprotocol == PROTOCOL
            assert (welcome["type"], welcome["protocol"], welcome["session"]) == ("welcome", PROTOCOL, "abc")
            assert welcome["grid"] == {"window_s": 2.0, "hop_s": 0.5}
            assert abs(welcome["clock"]["lsl_time"] - local_clock()) < 20.0
            site.hub.publish(event(seq=5))
            assert (await receive(client))["seq"] == 5
            site.hub.publish(Bye(reason=ByeReason.SHUTDOWN))
            assert (await receive(client))["type"] == "bye"
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001

    run(test())


def test_a_client_that_asks_for_no_protocol_gets_ours() -> None:
    """The simplest client is a browser's ``new WebSocket(url)``."""

    async def test() -> None:
        async with serving_here() as site, site.connect() as client:
            assert client.subprotocol is None
            assert (await receive(client))["type"] == "welcome"

    run(test())


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"subprotocols": ["clmer.v9.json"]}, 400),
        ({"origin": "https://evil.example"}, 403),
        ({"name": "evil.example"}, 403),
    ],
)
def test_a_client_that_must_not_connect_is_refused_before_the_handshake(
    options: dict[str, Any], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown protocol, a foreign page, a foreign host name. Nobody can fill the log by it."""

    async def test() -> None:
        async with serving_here() as site:
            with pytest.raises(InvalidStatus) as caught:
                await site.connect(**options).__aenter__()
            assert caught.value.response.status_code == status
            assert site.hub.n_clients == 0

    run(test())
    assert caplog.messages == []


def test_a_page_of_this_machine_may_connect() -> None:
    """An experiment is often served from another port of localhost."""

    async def test() -> None:
        async with serving_here() as site, site.connect(origin="http://localhost:3000") as client:
            assert (await receive(client))["type"] == "welcome"

    run(test())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ('{"type": "shout"}', "unknown_type"),
        ('{"type": "subscribe"}', "bad_field"),
        ("hello", "bad_message"),
        ("[1]", "bad_message"),
        ("[" * 50_000, "bad_message"),
        (b"\x00", "bad_message"),
    ],
    ids=["unknown", "incomplete", "no-json", "no-object", "deep", "binary"],
)
def test_what_cannot_be_understood_is_answered(sent: str | bytes, code: str) -> None:
    """With a code, and without ending the connection."""

    async def test() -> None:
        async with serving_here() as site, site.connect() as client:
            await receive(client)
            await client.send(sent)
            error = await receive(client)
            assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
            await client.ping()

    run(test())


def test_a_message_that_is_too_long_ends_the_connection() -> None:
    """With the close code made for it, and only for that client."""

    async def test() -> None:
        async with serving_here() as site, site.connect() as client, site.connect() as other:
            await receive(client)
            await receive(other)
            await client.send("x" * (MAX_INBOUND_BYTES + 1))
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1009
            site.hub.publish(event(seq=1))
            assert (await receive(other))["seq"] == 1

    run(test())


def test_a_fault_of_the_service_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the id that was given, and without the cause, which is in the log alone; the connection goes on."""

    async def test() -> None:
        async with serving_here(SilentSource()) as site, site.connect() as client:
            await receive(client)
            site.session.start()
            await client.send('{"type": "replay.control", "id": "x", "action": "pause"}')
            told = {"type": "error", "id": "x", "code": "internal_error", "message": UNEXPECTED, "fatal": False}
            assert await receive(client) == told
            await client.send('{"type": "hello", "id": "y"}')
            assert await receive(client) == {**ACK, "id": "y"}
            await asyncio.to_thread(site.session.stop, 10)

    run(test())
    (record,) = [record for record in caplog.records if record.name == "clmer_server.web.requests"]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no such clock"
    assert getattr(record, OF_SESSION) == "abc"


def test_a_fault_of_the_service_is_answered_over_http_too() -> None:
    """In the form of all errors, with the headers of all answers."""

    async def test() -> None:
        async with serving_here(read=broken_reading) as site:
            answer = await site.get("/metrics")
            assert (answer.status_code, answer.json()) == (500, {"code": "internal_error", "message": UNEXPECTED})
            assert {name: answer.headers[name] for name in RESPONSE_HEADERS} == RESPONSE_HEADERS
            assert (await site.get("/healthz")).status_code == 200

    run(test())


@pytest.mark.parametrize("key", [b"\x90", b"\x80"], ids=["list", "map"])
def test_a_map_whose_key_is_no_key_is_answered(key: bytes) -> None:
    """MessagePack can write what no program's dictionary takes."""

    async def test() -> None:
        async with serving_here() as site, site.connect(subprotocols=["clmer.v1.msgpack"]) as client:
            await client.recv()
            await client.send(b"\x81" + key + b"\x01")
            answer = await client.recv()
            assert isinstance(answer, bytes)
            assert msgpack.unpackb(answer)["code"] == "bad_message"

    run(test())


def test_health_and_readiness_are_two_things() -> None:
    """A process is alive while its session has ended, and ready only while predictions can come."""

    async def test() -> None:
        async with serving_here() as site:
            assert (await site.get("/healthz")).json()["status"] == "ok"
            assert (await site.get("/readyz")).json() == {"ready": True, "reasons": []}  # begins with a client
            site.session.start()
            await asyncio.to_thread(site.session.wait)
            ready = await site.get("/readyz")
            assert ready.status_code == 503
            assert ready.json() == {"ready": False, "reasons": ["session ended"]}
            assert (await site.get("/healthz")).status_code == 200

    run(test())


def test_a_stream_beside_the_inputs_makes_no_session_ready() -> None:
    """Markers are there, the headset is not: no prediction can come, and the reason is the headset alone."""

    async def test() -> None:
        async with serving_here(SilentSource()) as site:
            site.session.start()
            for status in (STATUS, StreamStatus("lsl:Words", "markers", "Words", "live", since=0.0)):
                site.hub.publish(status_message(status, "abc"))
            assert (await site.get("/readyz")).json() == {"ready": False, "reasons": ["eeg connecting: Headset"]}
            await asyncio.to_thread(site.session.stop, 10)

    run(test())


def test_a_session_that_fails_tells_its_clients_and_leaves_the_process_alive() -> None:
    """Clients hear the cause and goodbye, also those that come later; /readyz has the cause, too."""

    async def test() -> None:
        async with serving_here(BrokenSource()) as site, site.connect() as client:
            assert (await receive(client))["type"] == "welcome"
            site.session.start()
            notice = await receive(client)
            assert (notice["type"], notice["code"]) == ("notice", "session_failed")
            assert "half a file" in notice["message"]
            assert await receive(client) == {"type": "bye", "reason": "session_failed", "retry_after_s": None}
            ready = await site.get("/readyz")
            assert ready.status_code == 503
            assert "half a file" in ready.json()["reasons"][0]
            assert (await site.get("/healthz")).json()["session"] == "failed"
            async with site.connect() as late:
                assert [(await receive(late))["type"] for _ in range(3)] == ["welcome", "notice", "bye"]

    run(test())


def test_the_age_of_a_stream_is_told_while_its_session_runs() -> None:
    """What was counted stays."""

    async def test() -> None:
        async with serving_here(SilentSource()) as site:
            site.session.start()
            assert site.managed.run is not None
            site.managed.run.sink.publish(event())
            running = (await site.get("/metrics")).text
            await site.managed.stop()
            stopped = (await site.get("/metrics")).text
        age, count = 'clmer_stream_age_seconds{session="abc",source="eeg"}', 'clmer_predictions_total{session="abc"'
        assert (age in running, count in running) == (True, True)
        assert (age in stopped, count in stopped) == (False, True)

    run(test())


def test_the_model_and_the_program_describe_themselves() -> None:
    """What answers, and which protocol is spoken."""

    async def test() -> None:
        async with serving_here() as site:
            site.hub.publish(status_message(STATUS, "abc"))
            card = (await site.get("/api/model")).json()
            assert (card["name"], card["sha256"], card["device"]) == ("tiny", MODEL.sha256, "cpu")
            assert (await site.get("/version")).json()["protocol"] == PROTOCOL

    run(test())


def test_the_dashboard_and_its_charts_are_served_from_here() -> None:
    """Our page and scripts, BokehJS out of its package, nothing else of that package, and no way out of the folder."""

    async def test() -> None:
        async with serving_here() as site:
            page = await site.get("/")
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert {name: page.headers[name] for name in RESPONSE_HEADERS} == RESPONSE_HEADERS
            bokeh = await site.get("/bokeh/bokeh.min.js")
            assert bokeh.headers["content-type"].startswith("text/javascript")
            for path in ("/bokeh/compiler.js", "/bokeh/..%2Fbokeh.min.js", "/static/..%2Fapp.py", "/docs"):
                assert (await site.get(path)).status_code == 404

    run(test())


def test_a_foreign_host_name_gets_no_page() -> None:
    """A page that was loaded from elsewhere must not be able to turn to us under its own name."""

    async def test() -> None:
        async with serving_here() as site:
            assert (await site.get("/", host="evil.example")).status_code == 403

    run(test())


def test_a_port_in_use_is_found() -> None:
    """Before anything is loaded, and with what to do."""
    with open_listener("127.0.0.1", 0) as listener, pytest.raises(SettingsError, match="--port"):
        open_listener("127.0.0.1", listener.getsockname()[1])


def test_a_host_that_is_not_ours_is_refused() -> None:
    """An address of the documentation range belongs to nobody."""
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        open_listener("192.0.2.1", 0)


def test_the_listener_takes_any_free_port() -> None:
    """Port 0 asks for one."""
    with open_listener("127.0.0.1", 0) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[1] > 0


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
    written = OutboundMessage(message).encoded(encoding)
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
