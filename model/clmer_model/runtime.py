"""The two runtimes that compute logits: TorchScript (with ``export`` the only user of ``torch.jit``) and ONNX Runtime.

Both take the content of a file whose hash and metadata were checked, and have the same interface: ``name``,
``version``, ``tolerance`` and ``logits(x, mask)``.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from clmer_streaming.errors import ArtifactError

_ERRORS_ONLY = 3  # ONNX Runtime's log severity; errors are raised, and reported once


class TorchScriptRunner:
    """Computes logits with a scripted module, moved to the device and frozen there.

    Args:
        content: The TorchScript file, whose hash and metadata were checked.
        name: Name of the file for error messages.
        device: Where it runs.

    Raises:
        ArtifactError: torch cannot load the file.
    """

    name = "torchscript"
    tolerance = 1e-4  # largest difference of a logit between devices and versions of torch

    def __init__(self, content: bytes, name: str, device: torch.device) -> None:
        self.version = f"torch {torch.__version__}"
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # its 10-bit mantissa would break the tolerance
        try:
            module = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
            self._module: torch.jit.ScriptModule = torch.jit.freeze(module.eval())
        except RuntimeError as error:
            raise ArtifactError(
                expected=f"{name} to be a TorchScript module that {self.version} loads",
                found=str(error).strip().splitlines()[0],
                mend="export the model again with this version of torch",
            ) from error

    def logits(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) float32.

        Args:
            x: Series (B, ...) float32 by modality, on the device.
            mask: Masks (B, n) bool by modality, on the device.
        """
        with torch.inference_mode():
            logits: Tensor = self._module(x, mask)
        return logits


class OnnxRunner:
    """Computes logits with ONNX Runtime on the CPU, in one thread.

    Args:
        content: The ONNX file, whose hash and metadata were checked.
        name: Name of the file for error messages.

    Raises:
        ArtifactError: ONNX Runtime is not installed, or it cannot load the file.
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
            raise ArtifactError(
                expected=f"{name} to be a model that ONNX Runtime {runtime.__version__} loads",
                found=str(error).strip().splitlines()[0],
                mend="export the model again with this version of clmer (clmer export)",
            ) from error
        self.version = f"ONNX Runtime {runtime.__version__}"

    def logits(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) float32 from series and masks by modality, on the CPU."""
        given = {name: series.numpy() for name, series in x.items()}
        given |= {mask_name(name): known.numpy() for name, known in mask.items()}
        (logits,) = self._session.run(["logits"], given)
        return torch.from_numpy(logits)


def mask_name(modality: str) -> str:
    """Return the name of a modality's mask among the inputs of an ONNX model."""
    return f"{modality}_mask"


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ArtifactError(
            expected="ONNX Runtime, for a model file in ONNX",
            found="none",
            mend="pip install onnxruntime, or use the .ts file of the model",
        ) from error
    return onnxruntime
