"""What the tests of the public API share: the shipped model, a folder to work in, and a service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import clmer
from tests.support.paths import RECORDING
from tests.support.recorded import only_folder
from tests.support.serving import Service, serving


@pytest.fixture(scope="package")
def model() -> clmer.Model:
    """The shipped model, on the CPU."""
    return clmer.load_model(device="cpu")


@pytest.fixture(scope="package")
def lab(model: clmer.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``session.xdf``, and ``recordings/x`` that was recorded from its replay."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(RECORDING, folder / "session.xdf")
    with clmer.Session.replay(folder / "session.xdf", model, record=folder / "new") as session:
        assert len(list(session)) == 120
    (folder / "recordings").mkdir()
    only_folder(folder / "new").rename(folder / "recordings" / "x")
    return folder


@pytest.fixture(scope="package")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that replays the example in real time, again and again."""
    with serving(tmp_path_factory.mktemp("service"), "--replay", RECORDING, "--loop", "--device", "cpu") as service:
        yield service
