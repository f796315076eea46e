"""The CLMER model: network, training, artifacts and prediction.

Modules in reading order; each imports only modules below it in this list:

- ``training``: training and evaluation (a package).
- ``data``: labelled windows from recordings, arrays and simulated people (a package).
- ``export``: a checkpoint as an artifact.
- ``predictor``: ``Predictor``, which runs an artifact.
- ``runtime``: TorchScript and ONNX Runtime.
- ``checkpoint``: a trained model on disk.
- ``network``: the network (a package).
- ``artifact``: model files, their metadata and hashes.
- ``prediction``: ``Prediction``, the result for one window.
- ``conformal``: prediction sets of a stated coverage.
- ``electrodes``: places of EEG electrodes, by their names.
- ``config``: sizes, modalities, presets and labels.

The names below are public; they are imported when first used, so that importing ``clmer_model`` does not load torch.

Example::

    from clmer_model import Predictor
    from clmer_model.artifact import find_artifact

    predictor = Predictor(find_artifact(), device="cpu")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clmer_model.network.clmer import Clmer
    from clmer_model.prediction import Prediction
    from clmer_model.predictor import Predictor
    from clmer_model.training.evaluate import evaluate
    from clmer_model.training.train import train

__all__ = ["Clmer", "Prediction", "Predictor", "evaluate", "train"]

_MODULES = {
    "Clmer": "clmer_model.network.clmer",
    "Prediction": "clmer_model.prediction",
    "Predictor": "clmer_model.predictor",
    "evaluate": "clmer_model.training.evaluate",
    "train": "clmer_model.training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, too, for completion."""
    return sorted({*globals(), *__all__})
