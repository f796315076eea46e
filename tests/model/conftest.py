"""What the tests of the model share and do not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.export import export
from tests.support.model_windows import small_checkpoint


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory: pytest.TempPathFactory) -> ArtifactFile:
    """A small untrained model, exported as ``small.ts`` with its manifest; nothing may be written beside it."""
    path = tmp_path_factory.mktemp("small-model") / "small.ts"
    export(small_checkpoint(), path)
    return find_artifact(str(path))


@pytest.fixture(scope="session")
def people_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the simulated people of all trainings in small."""
    return tmp_path_factory.mktemp("people")
