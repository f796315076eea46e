"""Checkpoints on disk: what was changed since they were written is refused before the weights are opened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clmer_model.checkpoint import CONFIG_NAME, WEIGHTS_NAME, load_checkpoint
from clmer_server.cli import main
from clmer_streaming.errors import ArtifactError
from tests.support.model_windows import small_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of an untrained model."""
    small_checkpoint().save(tmp_path / "run")
    return tmp_path / "run"


def change(folder: Path, **values: Any) -> None:
    """Give these entries of ``checkpoint.json`` other values; None takes one away."""
    plain = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    changed = {name: value for name, value in {**plain, **values}.items() if value is not None}
    (folder / CONFIG_NAME).write_text(json.dumps(changed), encoding="utf-8")


def test_what_was_saved_is_loaded(folder: Path) -> None:
    """Labels, settings and every bit of the weights."""
    saved, read = small_checkpoint(), load_checkpoint(folder)
    assert (read.labels, read.preprocess, read.dims) == (saved.labels, saved.preprocess, saved.dims)
    expected = saved.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in read.model.state_dict().items())


def test_labels_in_another_order_are_not_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They would name every emotion wrongly, and nothing else would tell."""
    change(folder, labels=list(reversed(small_checkpoint().labels)))
    assert main(["export", str(folder), "--out", str(folder / "model.ts")]) == 2
    assert "one that was changed since" in capsys.readouterr().err
    assert not (folder / "model.ts").exists()


def test_weights_of_another_training_are_refused(folder: Path, tmp_path: Path) -> None:
    """They have the same names and shapes, and would load."""
    small_checkpoint(seed=1).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS_NAME, folder)
    with pytest.raises(ArtifactError, match="with the SHA-256"):
        load_checkpoint(folder)


def test_the_hash_is_checked_before_the_weights_are_opened(folder: Path) -> None:
    """A file that is no safetensors at all is refused for its hash, not for what is in it."""
    (folder / WEIGHTS_NAME).write_bytes(b"neither tensors nor a header")
    with pytest.raises(ArtifactError, match="with the SHA-256"):
        load_checkpoint(folder)


@pytest.mark.parametrize("schema", [2, None])
def test_another_schema_is_refused(folder: Path, schema: int | None) -> None:
    """Of a later version, or of an earlier one, which named none: train again."""
    change(folder, schema=schema)
    with pytest.raises(ArtifactError, match="of schema 1") as refused:
        load_checkpoint(folder)
    assert refused.value.found == f"schema {schema or 'none'}"
    assert "train the model again" in refused.value.mend


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"schema": 1}'])
def test_json_that_is_no_checkpoint_is_refused(folder: Path, text: str) -> None:
    """A list, nothing, half a file, a schema and no more."""
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"clmer train|train the model again"):
        load_checkpoint(folder)
