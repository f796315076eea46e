"""ONNX Runtime in place of torch, for model files in ONNX: about half the time of TorchScript on one CPU core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clmer_streaming.errors import ArtefactError

_ERRORS_ONLY = 3  # ONNX Runtime's severity; what goes wrong is raised, and told once


class OnnxRunner:
    """Computes logits by ONNX Runtime, in one thread.

    Args:
        content: The ONNX file, whose hash and metadata were checked.
        name: What the file is called in errors.

    Raises:
        ArtefactError: ONNX Runtime is not installed, or it cannot load the file.
    """

    name = "onnxruntime"
    tolerance = 1e-5  # largest difference of a logit from the module as written; one processor, float32

    def __init__(self, content: bytes, name: str) -> None:
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exceptions have no other base
            raise ArtefactError(
                expected=f"{name} to be a model that ONNX Runtime {runtime.__version__} loads",
                found=str(error).strip().splitlines()[0],
                mend="export the model again with this version of clmer (clmer export)",
            ) from error
        self.version = f"ONNX Runtime {runtime.__version__}"

    def logits(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) from series and masks on the CPU, as the module's ``forward`` has them."""
        given = {name: series.numpy() for name, series in x.items()}
        given |= {mask_name(name): known.numpy() for name, known in mask.items()}
        (logits,) = self._session.run(["logits"], given)
        return torch.from_numpy(logits)


def mask_name(modality: str) -> str:
    """Return how the mask of a modality is called among the inputs of an ONNX model."""
    return f"{modality}_mask"


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ArtefactError(
            expected="ONNX Runtime, for a model file in ONNX",
            found="none",
            mend="pip install onnxruntime, or use the .ts file of the model",
        ) from error
    return onnxruntime
