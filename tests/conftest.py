"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def sample_data() -> Path:
    """The folder of sample recordings; the test is skipped, and says so, where there is none."""
    folder = os.environ.get("CLMER_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("no-sample-data")
    return Path(folder)
