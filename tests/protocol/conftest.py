"""The service that several modules of this folder ask and leave as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.paths import RECORDING
from tests.support.serving import Service, serving


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, replaying the bundled recording at eight times its pace, again and again."""
    options = ("--replay", RECORDING, "--loop", "--device", "cpu", "--speed", "8", "--max-message-rate", "inf")
    with serving(tmp_path_factory.mktemp("service"), *options) as service:
        yield service
