"""Fixtures of the tests on real pixels: a face mesh finder, and a photograph of a face."""

from __future__ import annotations

import pytest

from tests.support.astronaut import Image, StillMesh, astronaut_image


@pytest.fixture(scope="module")
def mesh() -> StillMesh:
    """Return the finder of face meshes in single pictures."""
    return StillMesh()


@pytest.fixture(scope="module")
def picture() -> Image:
    """Return the astronaut, RGB (height, width, 3), whose brow is smooth."""
    return astronaut_image()
