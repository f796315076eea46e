"""A service that is open to the network: who gets in, and what everybody else is told. Real process, real port."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection

from clmer_server.protocol.parts import MAX_INBOUND_BYTES
from clmer_server.web.auth import bearer_subprotocol
from clmer_server.web.limits import BURST_S, MAX_STRIKES
from clmer_server.web.middleware import RESPONSE_HEADERS
from tests.support.chromium import WAIT_MS, headless_chromium
from tests.support.paths import RECORDING
from tests.support.serving import Service, serving

OTHER = "another-token-and-long"
MAX_CLIENTS = 12
HELLO_TIMEOUT_S = 5.0


@dataclass
class Site:
    """A service off loopback, and the token that it printed."""

    service: Service
    token: str
    log: Path

    def get(self, path: str, **headers: str) -> Any:
        return self.service.get(path, Authorization=f"Bearer {self.token}", **headers)

    def connect(self, **options: Any) -> ClientConnection:
        return self.service.connect(additional_headers={"Authorization": f"Bearer {self.token}"}, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for the module, as talkative in its log as it can be."""
    folder = tmp_path_factory.mktemp("open")
    allowed = ("--allow-origin", "https://lab.example", "--allow-host", "lab.example")
    limits = ("--max-clients-per-address", str(MAX_CLIENTS), "--log-level", "debug")
    with serving(folder, "--replay", RECORDING, "--loop", "--host", "0.0.0.0", *allowed, *limits) as service:
        assert service.process.stdout is not None
        printed = re.match(r"token +(\S+) ", service.process.stdout.readline())
        assert printed is not None
        yield Site(service, printed.group(1), folder / "stderr.txt")


def refusal(connecting: Any) -> Response:
    """Return the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        connecting()
    return caught.value.response


def refused(connecting: Any) -> tuple[int, str]:
    """Return status and code of a handshake that is refused."""
    response = refusal(connecting)
    return response.status_code, json.loads(response.body or b"")["code"]


def receive(client: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(client.recv(timeout=30))
    return message


def rest(client: ClientConnection) -> list[dict[str, Any]]:
    """Receive until the service closes the connection."""
    received = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            received.append(receive(client))
    return received


@pytest.mark.parametrize("path", ["/api/model", "/version", "/readyz", "/openapi.json", "/metrics", "/nothing"])
def test_without_the_token_there_is_nothing_to_read(site: Site, path: str) -> None:
    """Not even whether a page exists."""
    answer = site.service.get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers.items() >= RESPONSE_HEADERS.items()
    wrong = site.service.get(path, Authorization=f"Bearer {OTHER}")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "token_wrong")


def test_with_the_token_everything_is_there(site: Site) -> None:
    """The artifact's card, and the description of the interface."""
    assert site.get("/api/model").json()["runner"] == "torchscript"
    assert "/healthz" in site.get("/openapi.json").json()["paths"]
    assert site.get("/nothing").status_code == 404


def test_health_and_the_empty_page_are_open(site: Site) -> None:
    """A monitor has no token, and the page is what asks for one."""
    assert site.service.get("/healthz").json()["token_required"] is True
    for path in ("/", "/static/token.js", "/bokeh/bokeh.min.js"):
        assert site.service.get(path).status_code == 200


def test_a_websocket_takes_the_token_in_three_places(site: Site) -> None:
    """Header, subprotocol beside the protocol's own, first message; the one with the token is never echoed."""
    with site.connect() as client:
        assert receive(client)["type"] == "welcome"
    subprotocols = ["clmer.v1.json", bearer_subprotocol(site.token)]
    with site.service.connect(subprotocols=subprotocols) as client:
        assert client.subprotocol == "clmer.v1.json"
        assert receive(client)["type"] == "welcome"
    with site.service.connect() as client:
        client.send(json.dumps({"type": "hello", "token": site.token}))
        assert receive(client)["type"] == "welcome"


def test_a_wrong_token_is_refused_in_all_of_them(site: Site) -> None:
    """Before the handshake where it can be."""
    header = {"Authorization": f"Bearer {OTHER}"}
    assert refused(lambda: site.service.connect(additional_headers=header)) == (401, "token_wrong")
    subprotocols = ["clmer.v1.json", bearer_subprotocol(OTHER)]
    assert refused(lambda: site.service.connect(subprotocols=subprotocols)) == (401, "token_wrong")
    alone = [bearer_subprotocol(site.token)]
    assert refused(lambda: site.service.connect(subprotocols=[*alone, "chat"])) == (400, "protocol_unknown")
    with site.service.connect() as client:
        client.send(json.dumps({"type": "hello", "token": OTHER}))
        error, bye = rest(client)
        assert (error["type"], error["code"], error["fatal"]) == ("error", "token_wrong", True)
        assert (bye["type"], bye["reason"]) == ("bye", "token_wrong")
        assert client.close_code == 1008


@pytest.mark.parametrize("message", ['{"type": "subscribe"}', '{"type": "hello"}', "no json", "[" * 50_000, b"\x80"])
def test_nothing_is_done_before_the_token_has_come(site: Site, message: str | bytes) -> None:
    """Whatever comes in its place ends the connection, and nothing was told of anybody."""
    with site.service.connect() as client:
        client.send(message)
        error, bye = rest(client)
        assert (error["code"], error["fatal"], bye["type"]) == ("token_missing", True, "bye")


def test_who_has_no_token_is_told_no_name_of_a_session(site: Site) -> None:
    """A name may be a participant's. Who has the token is told them all."""
    (session,) = (entry["name"] for entry in site.get("/api/sessions").json())
    told, untold = (
        refusal(lambda connect=connect: connect(query="?session=none"))
        for connect in (site.connect, site.service.connect)
    )
    assert (told.status_code, untold.status_code) == (404, 404)
    assert session in json.loads(told.body or b"")["message"]
    assert session not in json.loads(untold.body or b"")["message"]


def test_a_refused_handshake_has_the_headers_of_all_answers(site: Site) -> None:
    """Of the guard, and of what is behind it."""
    bad = {"origin": "https://evil.example"}, {"query": "?session=none"}, {"subprotocols": ["chat"]}
    for options in bad:
        answer = refusal(lambda options=options: site.connect(**options))
        assert dict(answer.headers.raw_items()).items() >= RESPONSE_HEADERS.items()


def test_a_token_in_the_address_is_refused_even_where_it_is_right(site: Site) -> None:
    """It would be logged, shown and remembered."""
    for name in ("token", "access_token", "x"):
        assert refused(lambda name=name: site.connect(query=f"?{name}={site.token}")) == (400, "token_in_url")
        answer = site.get(f"/api/model?{name}={site.token}")
        assert (answer.status_code, answer.json()["code"]) == (400, "token_in_url")


def test_a_foreign_page_is_refused_and_an_invited_one_is_not(site: Site) -> None:
    """The token alone is not enough for a page of another site, unless its origin was allowed."""
    assert refused(lambda: site.connect(origin="https://evil.example")) == (403, "origin_refused")
    assert refused(lambda: site.connect(origin="https://lab.example.evil.example")) == (403, "origin_refused")
    assert refused(lambda: site.connect(origin="null")) == (403, "origin_refused")
    assert site.get("/api/model", origin="https://evil.example").json()["code"] == "origin_refused"
    with site.connect(origin="https://lab.example") as client:
        assert receive(client)["type"] == "welcome"


def test_a_foreign_host_name_is_refused_and_an_own_one_is_not(site: Site) -> None:
    """A name that somebody else owns may point here, too."""
    assert site.get("/api/model", host="evil.example").json()["code"] == "host_refused"
    assert site.get("/api/model", host="lab.example:8765").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%00",
        "/bokeh/..%2fbokeh.min.js",
        "/bokeh/%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/ws/../api/../../etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_folders(site: Site, path: str) -> None:
    """Written as it is here: a client's library would tidy it up."""
    host, port = site.service.address.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {site.service.address}\r\n"
            f"Authorization: Bearer {site.token}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 400"))
    assert b"root:" not in answer


@pytest.mark.parametrize("name", ["../x", "..", "/etc/passwd", "a/b", "a\\b", "x\0", "", "x" * 65, "%2e%2e"])
def test_no_name_leads_out_of_the_folders(site: Site, name: str) -> None:
    """Neither a participant's, nor a session's."""
    with site.connect() as client:
        client.send(json.dumps({"type": "session.start", "id": 1, "participant": name}))
        client.send(json.dumps({"type": "session.stop", "id": 2, "session": name}))
        errors: dict[int, str] = {}
        while len(errors) < 2:
            message = receive(client)
            if message["type"] == "error":
                errors[message["id"]] = message["code"]
        assert errors[1] == "bad_field"
        assert errors[2] in ("bad_field", "unknown_session")


def test_a_message_that_is_too_long_ends_its_connection_alone(site: Site) -> None:
    """With the close code made for it."""
    with site.connect() as client, site.connect() as other:
        client.send("x" * (MAX_INBOUND_BYTES + 1))
        rest(client)
        assert client.close_code == 1009
        assert receive(other)["type"] == "welcome"
        other.ping().wait(30)


@pytest.mark.parametrize(
    "begun",
    ["Content-Length: 10000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n10001\r\n" + "x" * 0x10001],
    ids=["said", "counted"],
)
def test_a_body_that_is_too_long_is_not_read(site: Site, begun: str) -> None:
    """Nor waited for, whether it says how long it is or not; the answer has a code."""
    host, port = site.service.address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(
            f"POST /api/sessions HTTP/1.1\r\nHost: {site.service.address}\r\nConnection: close\r\n"
            f"Authorization: Bearer {site.token}\r\nContent-Type: application/json\r\n{begun}".encode()
        )
        head, _, body = b"".join(iter(lambda: raw.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert json.loads(body)["code"] == "body_too_long"
    assert site.get("/api/sessions").status_code == 200


def test_a_message_in_a_thousand_empty_parts_ends_its_connection(site: Site) -> None:
    """They count for nothing in its length."""
    with site.connect() as client:
        with contextlib.suppress(ConnectionClosed):
            client.send("" for _ in range(5000))
        rest(client)
        assert client.close_code == 1008


def test_a_client_that_pings_without_end_is_closed(site: Site) -> None:
    """Answers to pings pass its send queue by."""
    with site.connect() as client:
        with contextlib.suppress(ConnectionClosed):
            for k in range(1000):
                client.ping(str(k))
        rest(client)
        assert client.close_code == 1008


def test_a_client_that_sends_too_fast_is_told_and_then_closed(site: Site) -> None:
    """Each message beyond the rate is answered; when it goes on, the connection ends, and no other one suffers."""
    with site.connect() as client, site.connect() as other:
        limit = receive(client)["limits"]["max_messages_per_s"]
        received: list[dict[str, Any]] = []
        with contextlib.suppress(ConnectionClosed):
            for _ in range(
                1000
            ):  # what a client has not read when the connection ends is gone, so answers are read in between
                for _ in range(20):
                    client.send('{"type": "?"}')
                n_expected = len(received) + 20
                while len(received) < n_expected:
                    received.append(receive(client))
        errors = [message for message in received if message["type"] == "error"]
        codes = [error["code"] for error in errors]
        n_answered = codes.count("unknown_type")
        assert 2 * limit <= n_answered < 10 * limit
        assert codes.count("rate_limited") > MAX_STRIKES
        assert [error["fatal"] for error in errors] == [False] * (len(errors) - 1) + [True]
        assert received[-1] == {"type": "bye", "reason": "rate_limited", "retry_after_s": BURST_S}
        assert receive(other)["type"] == "welcome"


def test_too_many_clients_of_one_address_are_refused(site: Site) -> None:
    """Those who are there stay, the welcome says how many may come, and one who leaves makes room."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(site.connect())
        assert receive(first)["limits"]["max_connections_per_address"] == MAX_CLIENTS
        for _ in range(MAX_CLIENTS - 1):
            stack.enter_context(site.connect())
        assert refused(site.connect) == (503, "too_many_from_address")
        assert site.get("/api/model").status_code == 200
    deadline = time.monotonic() + 30
    while site.service.get("/healthz").json()["clients"] and time.monotonic() < deadline:
        time.sleep(0.05)
    with site.connect() as client:
        assert receive(client)["type"] == "welcome"


def test_a_session_that_is_removed_before_the_token_has_come_says_goodbye(site: Site) -> None:
    """There is no welcome to it any more."""
    headers = {"Authorization": f"Bearer {site.token}"}
    sessions = f"http://{site.service.address}/api/sessions"
    with httpx.Client(trust_env=False, headers=headers) as http:
        assert http.post(sessions, json={"name": "brief"}).status_code == 201
        with site.service.connect(query="?session=brief") as client:
            assert http.delete(f"{sessions}/brief").status_code == 204
            client.send(json.dumps({"type": "hello", "token": site.token}))
            assert rest(client) == [{"type": "bye", "reason": "session_removed", "retry_after_s": None}]
            assert client.close_code == 1001


@pytest.mark.slow
def test_who_does_not_come_to_the_point_is_cut_off(site: Site) -> None:
    """No request, half a request, a handshake without a token behind it: five seconds each, side by side."""
    host, port = site.service.address.split(":")
    start = time.monotonic()
    with (
        socket.create_connection((host, int(port)), timeout=30) as silent,
        socket.create_connection((host, int(port)), timeout=30) as half,
        socket.create_connection((host, int(port)), timeout=30) as long,
        site.service.connect() as late,
    ):
        half.sendall(b"GET / HTTP/1.1\r\nHost: ")
        with contextlib.suppress(ConnectionError):
            long.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 1_000_000)
            assert long.recv(1) == b""
        assert time.monotonic() - start < HELLO_TIMEOUT_S - 1  # not for its time, but for its length
        error, bye = rest(late)
        assert (error["code"], error["fatal"], bye["type"]) == ("auth_timeout", True, "bye")
        for raw in (silent, half):
            with contextlib.suppress(ConnectionResetError):
                assert raw.recv(1) == b""
        assert time.monotonic() - start > HELLO_TIMEOUT_S - 1


def test_the_dashboard_asks_for_the_token(site: Site) -> None:
    """Once for the tab: a wrong one is said, the right one shows the predictions, also after a reload."""
    with headless_chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MS)
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda opened: addresses.append(opened.url))
        page.goto(site.service.url)
        page.fill("#token-input", OTHER)
        page.click("#token-form button")
        expect(page.locator("#token-remark")).to_contain_text("not the service's token")
        page.fill("#token-input", site.token)
        page.click("#token-form button")
        expect(page.locator("#connection")).to_contain_text("Connected")
        page.reload()
        expect(page.locator("#validity")).to_have_text("Valid")
        expect(page.locator("#token-dialog")).to_be_hidden()
        with page.expect_popup() as card:
            page.click("#model-card")
        expect(card.value.locator("body")).to_contain_text("torchscript")
        assert not [address for address in addresses if site.token in address]


def test_the_log_does_not_hold_the_token(site: Site) -> None:
    """Whatever its level, and wherever the token was: right or wrong place, plain or encoded."""
    site.get("/api/model")
    with site.connect() as client:
        receive(client)
    with pytest.raises(InvalidStatus):
        site.service.connect(query=f"?token={site.token}")
    with site.service.connect(subprotocols=["clmer.v1.json", bearer_subprotocol(site.token)]) as client:
        receive(client)
    log = site.log.read_text()
    for form in (site.token, bearer_subprotocol(site.token), base64.b64encode(site.token.encode()).decode()):
        assert form not in log
