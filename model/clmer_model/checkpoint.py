"""A trained model on disk: weights as safetensors, everything else as JSON. Reading it cannot run code.

The JSON states its schema, the SHA-256 of the weights and that of itself. Both are checked before the weights are
opened, since another order of the labels, or weights of the same shape from another training, would load without an
error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from clmer_model.config import ClmerDims, modality_specs
from clmer_model.conformal import ConformalSets
from clmer_model.network.clmer import Clmer
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "checkpoint.json"
CHECKPOINT_SCHEMA = 1
_MEND = "train the model again with this version of clmer"
_MEND_FILES = "put back the files that clmer train wrote together, or train the model again"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with its labels, settings and scores.

    Example::

        checkpoint = train(config, run)  # also written to run.out
        assert load_checkpoint(run.out).labels == checkpoint.labels
    """

    model: Clmer
    labels: tuple[str, ...]
    preprocess: PreprocessConfig
    dims: ClmerDims
    trained_on: str  # "simulated", or the data set's name
    training: Mapping[str, Any]  # the recipe, as plain JSON values; see training.config.recipe_of
    scores: Mapping[str, Any]  # by split, on the test set
    conformal: ConformalSets | None = None  # prediction sets; None: not calibrated

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``checkpoint.json`` into the folder, which is created if needed."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = save({name: t.contiguous() for name, t in self.model.state_dict().items()})
        (folder / WEIGHTS_NAME).write_bytes(weights)
        plain = {
            "schema": CHECKPOINT_SCHEMA,
            "labels": list(self.labels),
            "preprocess": self.preprocess.to_dict(),
            "dims": self.dims.to_dict(),
            "trained_on": self.trained_on,
            "training": dict(self.training),
            "scores": dict(self.scores),
            "conformal": None if self.conformal is None else self.conformal.to_dict(),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        text = json.dumps({**plain, "sha256": _digest(plain)}, indent=1, allow_nan=False)
        (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the model that ``Checkpoint.save`` wrote, in evaluation mode.

    Raises:
        ArtifactError: The folder holds no checkpoint, one of another schema, or one that was changed.
    """
    try:
        plain = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS_NAME).read_bytes()
        _check(folder, plain, weights)
        return _checkpoint(plain, weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        found = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{folder} to hold a checkpoint of clmer train", found, _MEND) from error


def _check(folder: Path, plain: dict[str, Any], weights: bytes) -> None:
    schema = plain.get("schema", "none") if isinstance(plain, dict) else "none"
    if schema != CHECKPOINT_SCHEMA:
        raise ArtifactError(f"{folder / CONFIG_NAME} of schema {CHECKPOINT_SCHEMA}", f"schema {schema}", _MEND)
    stated = {name: value for name, value in plain.items() if name != "sha256"}
    if plain["sha256"] != _digest(stated):
        expected = f"{folder / CONFIG_NAME} as clmer train wrote it"
        raise ArtifactError(expected, "one that was changed since", _MEND_FILES)
    found = hashlib.sha256(weights).hexdigest()
    if found != plain["weights_sha256"]:
        expected = f"{folder / WEIGHTS_NAME} with the SHA-256 {plain['weights_sha256']}"
        raise ArtifactError(expected, found, _MEND_FILES)


def _checkpoint(plain: dict[str, Any], weights: bytes) -> Checkpoint:
    preprocess = PreprocessConfig.from_dict(plain["preprocess"])
    dims = ClmerDims.from_dict(plain["dims"])
    model = Clmer(modality_specs(preprocess), len(plain["labels"]), dims)
    model.load_state_dict(load(weights))
    return Checkpoint(
        model=model.eval(),
        labels=tuple(plain["labels"]),
        preprocess=preprocess,
        dims=dims,
        trained_on=plain["trained_on"],
        training=plain["training"],
        scores=plain["scores"],
        conformal=None if plain["conformal"] is None else ConformalSets.from_dict(plain["conformal"]),
    )


def _digest(plain: dict[str, Any]) -> str:
    """Return the SHA-256 of the values as JSON reads them back, in hex digits."""
    read_back = json.loads(json.dumps(plain))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
