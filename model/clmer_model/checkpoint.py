"""A trained model on disk: weights as safetensors, everything else as JSON. Reading it cannot run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clmer_model.clmer import Clmer
from clmer_model.dims import ClmerDims
from clmer_model.modalities import modality_specs
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtefactError

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "checkpoint.json"
_MEND = "train the model again with this version of clmer"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is known of it."""

    model: Clmer
    labels: tuple[str, ...]
    preprocess: PreprocessConfig
    dims: ClmerDims
    trained_on: str
    training: Mapping[str, Any]
    scores: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``checkpoint.json`` into the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in self.model.state_dict().items()}, folder / WEIGHTS_NAME)
        plain = {
            "labels": list(self.labels),
            "preprocess": self.preprocess.to_dict(),
            "dims": self.dims.to_dict(),
            "trained_on": self.trained_on,
            "training": dict(self.training),
            "scores": dict(self.scores),
        }
        (folder / CONFIG_NAME).write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the model that ``Checkpoint.save`` wrote, in evaluation mode.

    Raises:
        ArtefactError: The folder holds no checkpoint, or one of other sizes.
    """
    try:
        plain = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        preprocess = PreprocessConfig.from_dict(plain["preprocess"])
        dims = ClmerDims.from_dict(plain["dims"])
        model = Clmer(modality_specs(preprocess), len(plain["labels"]), dims)
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
        return Checkpoint(
            model=model.eval(),
            labels=tuple(plain["labels"]),
            preprocess=preprocess,
            dims=dims,
            trained_on=plain["trained_on"],
            training=plain["training"],
            scores=plain["scores"],
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        found = str(error).strip().splitlines()[0]
        raise ArtefactError(f"{folder} to hold a checkpoint of clmer train", found, _MEND) from error
