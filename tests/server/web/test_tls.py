"""https and wss: the real service with a certificate, and what is said of one that cannot be used."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from clmer_server.protocol.codes import PROTOCOL
from clmer_server.web.auth import find_tls
from clmer_streaming.errors import SettingsError
from tests.support.paths import RECORDING
from tests.support.serving import serving
from tests.support.tls_files import make_tls_files

CERT, KEY = "localhost.pem", "localhost.key"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run's certificates."""
    return make_tls_files(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("cert", "key", "expected", "found"),
    [
        (CERT, None, "a certificate and its key", "only the certificate"),
        (None, KEY, "a certificate and its key", "only the key"),
        ("none.pem", KEY, "a PEM file", "none.pem"),
        (CERT, "", "a PEM file", "certificates"),
        (CERT, "other.key", "the key that belongs to it", "KEY_VALUES_MISMATCH"),
        (CERT, "locked.key", "without a password", "the key has a password"),
        ("README.md", KEY, "a certificate in PEM", "README.md"),
        (KEY, CERT, "a certificate in PEM", "localhost.key"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told(
    cert: str | None, key: str | None, expected: str, found: str, certificates: Path
) -> None:
    """Before anything is served: what was expected, what was found; nobody is asked for a password."""
    with pytest.raises(SettingsError) as caught:
        find_tls(*(None if name is None else certificates / name for name in (cert, key)))
    assert expected in caught.value.expected
    assert found in caught.value.found
    assert "--tls-" in caught.value.mend


def test_without_a_certificate_there_is_no_encryption() -> None:
    """It is no mistake to have none."""
    assert find_tls(None, None) is None


@pytest.mark.slow
def test_with_a_certificate_pages_and_websocket_are_encrypted(tmp_path: Path, certificates: Path) -> None:
    """A client that trusts it gets both; one that speaks plainly gets nothing, and the service goes on and ends."""
    trusting = ssl.create_default_context(cafile=str(certificates / "authority.pem"))
    files = ("--tls-cert", certificates / CERT, "--tls-key", certificates / KEY)
    with serving(tmp_path, "--replay", RECORDING, "--loop", *files) as service:
        with httpx.Client(verify=trusting, trust_env=False, timeout=30) as client:
            assert client.get(f"https://{service.address}/healthz").json()["status"] == "ok"
            with pytest.raises(httpx.HTTPError):
                client.get(f"http://{service.address}/healthz")
        address = f"wss://{service.address}/ws"
        with connect(address, ssl=trusting, subprotocols=[Subprotocol(PROTOCOL)], proxy=None) as socket:
            assert json.loads(socket.recv(timeout=30))["type"] == "welcome"
            service.process.terminate()
            last = {}
            for text in socket:
                last = json.loads(text)
            assert last["type"] == "bye"
        assert service.process.wait(30) == 0
