"""The HTTP interface against its own description: schemathesis asks whatever the description allows, and more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clmer_server.web.auth import new_token
from tests.support.paths import RECORDING
from tests.support.serving import serving

EXAMPLES = 200  # of each operation
_NO_SCHEMA = "positive_data_acceptance"  # how a stream is asked for in words, no schema can say
_WITHOUT_TOKEN = f"{_NO_SCHEMA},unsupported_method"  # such a request hears 401, like any other
_UNASKED = ["--exclude-path", "/readyz"]  # its 503 is an answer, when a request has stopped the session


@pytest.mark.deep
@pytest.mark.parametrize("with_token", [True, False], ids=["with-token", "without-token"])
def test_every_answer_is_as_described(with_token: bool, tmp_path: Path) -> None:
    """Statuses, types and shapes; no request brings the service down, with the token or without it."""
    token = new_token()
    header = ["--header", f"Authorization: Bearer {token}"] if with_token else []
    left_out = [*_UNASKED, "--exclude-checks", _NO_SCHEMA if with_token else _WITHOUT_TOKEN]
    with serving(tmp_path, "--replay", RECORDING, "--loop", "--token", token) as service:
        description = tmp_path / "openapi.json"
        description.write_text(service.get("/openapi.json", Authorization=f"Bearer {token}").text)
        command = ["run", str(description), "--url", service.url, "--checks", "all", "--max-examples", str(EXAMPLES)]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", *command, "--seed", "1", "--no-color", *left_out, *header],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert service.get("/healthz").status_code == 200
    assert done.returncode == 0, done.stdout + done.stderr
