"""A model as an ONNX file, through torch's exporter; the extra ``onnx`` brings what that needs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clmer_model.metadata import Reference
from clmer_model.onnx_runner import mask_name
from clmer_streaming.errors import ArtefactError


class Positional(nn.Module):
    """The model with its inputs in the order of the modalities: those of an ONNX graph are a list, not a mapping."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, x: list[Tensor], mask: list[Tensor]) -> Tensor:
        """Return logits (B, K) from each modality's series and mask."""
        logits: Tensor = self.model(dict(zip(self.names, x, strict=True)), dict(zip(self.names, mask, strict=True)))
        return logits


def onnx_content(model: nn.Module, reference: Reference, properties: dict[str, str]) -> bytes:
    """Return the ONNX file of a model: one file with its weights inside, for batches of any size.

    Inputs are called as the modalities, with their masks as ``NAME_mask``; the output is ``logits``.

    Args:
        model: In evaluation mode; its ``forward`` takes series and masks by modality, as that of ``Clmer``.
        reference: Gives the names, the order and the shapes of the inputs.
        properties: Kept in the file's ``metadata_props``.

    Raises:
        ArtefactError: The extra ``onnx`` is not installed.
    """
    _check_installed()
    names = tuple(reference.x)
    x, mask = [[torch.from_numpy(given[name]) for name in names] for given in (reference.x, reference.mask)]
    batch = [{0: torch.export.Dim("batch")} for _ in names]
    with _without_remarks():
        program = torch.onnx.export(
            Positional(model, names).eval(),
            (x, mask),
            input_names=[*names, *map(mask_name, names)],
            output_names=["logits"],
            dynamic_shapes=(batch, batch),
            dynamo=True,
            verbose=False,
        )
    return _file(program, properties)


def _file(program: Any, properties: dict[str, str]) -> bytes:
    """Return the program as a file without its debug records, which hold paths of the machine that made it."""
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.model.metadata_props.clear()
    program.model.metadata_props.update(properties)
    content = io.BytesIO()
    program.save(content)
    return content.getvalue()


def _check_installed() -> None:
    try:
        import onnxscript  # noqa: F401  torch's exporter asks for it late, and in other words
    except ImportError as error:
        raise ArtefactError(
            expected="onnx and onnxscript, to write ONNX files",
            found=f"no {error.name}",
            mend="pip install onnx onnxscript onnxruntime, or export to a .ts file",
        ) from error


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep the exporter's remarks on itself, and on libraries that are not needed, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
