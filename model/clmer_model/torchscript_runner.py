"""Runs a TorchScript file, whose hash was checked. One of the two places that touch ``torch.jit``."""

from __future__ import annotations

import io

import torch
from torch import Tensor

from clmer_streaming.errors import ArtefactError


class TorchScriptRunner:
    """Computes logits by a scripted module, moved to the device and frozen there.

    Args:
        content: The TorchScript file, whose hash and metadata were checked.
        name: What the file is called in errors.
        device: Where it runs.

    Raises:
        ArtefactError: torch cannot load the file.
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
            raise ArtefactError(
                expected=f"{name} to be a TorchScript module that {self.version} loads",
                found=str(error).strip().splitlines()[0],
                mend="export the model again with this version of torch",
            ) from error

    def logits(self, x: dict[str, Tensor], mask: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K) from series and masks on the device, as the module's ``forward`` has them."""
        with torch.inference_mode():
            logits: Tensor = self._module(x, mask)
        return logits
