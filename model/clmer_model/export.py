"""Checkpoint to artefact: translated, checked, described, hashed. One of the two places that touch ``torch.jit``."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clmer_model.artefact import META_NAME, ONNX_SUFFIX, SUFFIX
from clmer_model.checkpoint import Checkpoint
from clmer_model.clmer import Clmer
from clmer_model.manifest import Manifest
from clmer_model.metadata import ArtefactMeta, Reference, check_threshold
from clmer_model.modalities import ModalitySpec, modality_specs
from clmer_model.onnx_export import onnx_content
from clmer_model.onnx_runner import OnnxRunner
from clmer_streaming.errors import ArtefactError

SCRIPT_TOLERANCE = 1e-6  # largest difference of a logit between the module as written and as scripted
REFERENCE_SEED = 20240
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; when a file was made is not part of the model


def export(
    checkpoint: Checkpoint,
    path: Path,
    abstain_below: float | None = None,
    split_scores: Mapping[str, Any] | None = None,
) -> str:
    """Write the artefact and enter it into the manifest beside it; return its SHA-256.

    Args:
        checkpoint: A trained model.
        path: ``NAME.ts``, or ``NAME.onnx`` for ONNX Runtime; NAME becomes the model's name.
        abstain_below: Confidence under which the model gives no label, between 0 and 1; None: it always gives one.
        split_scores: What the model says of its recipe by four splits; None: nothing.

    Raises:
        ArtefactError: The path has another suffix, the threshold is no probability, what ONNX needs is not
            installed, or the translated module does not compute what the module does.
    """
    if path.suffix not in (SUFFIX, ONNX_SUFFIX):
        found, mend = str(path), f"name it {path.with_suffix(SUFFIX)}"
        raise ArtefactError(f"an output path that ends in {SUFFIX} or {ONNX_SUFFIX}", found, mend)
    if abstain_below is not None:
        check_threshold(abstain_below)
    model = checkpoint.model.eval().requires_grad_(False)
    reference = make_reference(model, modality_specs(checkpoint.preprocess))
    described = _describe(checkpoint, path.stem, reference)
    meta = dataclasses.replace(described, abstain_below=abstain_below, split_scores=split_scores)
    content = (_onnx if path.suffix == ONNX_SUFFIX else _torchscript)(model, meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    entry = path.name if path.suffix == ONNX_SUFFIX else path.stem
    Manifest.read(path.parent).with_model(entry, digest).write(path.parent)
    return digest


def make_reference(model: Clmer, specs: tuple[ModalitySpec, ...]) -> Reference:
    """Return two windows of made-up values and the model's logits for them.

    The first window is fully measured; the second lacks every third channel and slot.
    """
    rng = np.random.default_rng(REFERENCE_SEED)
    x = {spec.name: (5.0 * rng.standard_normal((2, *spec.shape))).astype(np.float32) for spec in specs}
    mask = {spec.name: np.stack([np.ones(spec.n_masked, bool), np.arange(spec.n_masked) % 3 > 0]) for spec in specs}
    with torch.no_grad():
        logits: Tensor = model(*_tensors(x, mask))
    return Reference(x, mask, logits.numpy())


def _torchscript(model: Clmer, meta: ArtefactMeta) -> bytes:
    scripted = torch.jit.script(model)
    _check_equal(scripted, meta.reference, SCRIPT_TOLERANCE, "scripted")
    return _archive(scripted, meta)


def _onnx(model: Clmer, meta: ArtefactMeta) -> bytes:
    content = onnx_content(model, meta.reference, {META_NAME: meta.to_json()})
    runner = OnnxRunner(content, meta.name)
    _check_equal(runner.logits, meta.reference, runner.tolerance, "ONNX")
    return content


def _check_equal(module: Callable[..., Tensor], reference: Reference, tolerance: float, kind: str) -> None:
    with torch.no_grad():
        logits = module(*_tensors(reference.x, reference.mask))
    difference = float(np.abs(logits.numpy() - reference.logits).max())
    if not difference <= tolerance:
        raise ArtefactError(
            expected=f"the {kind} module to equal the module within {tolerance:g}",
            found=f"a difference of {difference:g} with torch {torch.__version__}",
            mend="report this with the version of torch",
        )


def _tensors(
    x: Mapping[str, npt.NDArray[np.float32]], mask: Mapping[str, npt.NDArray[np.bool_]]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return (
        {name: torch.from_numpy(series) for name, series in x.items()},
        {name: torch.from_numpy(known) for name, known in mask.items()},
    )


def _describe(checkpoint: Checkpoint, name: str, reference: Reference) -> ArtefactMeta:
    return ArtefactMeta(
        name=name,
        labels=checkpoint.labels,
        modalities=modality_specs(checkpoint.preprocess),
        preprocess=checkpoint.preprocess,
        dims=checkpoint.dims,
        normalisation=normalisation(checkpoint.model),
        temperature=float(checkpoint.model.temperature),
        trained_on=checkpoint.trained_on,
        training=checkpoint.training,
        scores=checkpoint.scores,
        versions={"clmer": version("clmer"), "torch": torch.__version__.split("+")[0]},
        reference=reference,
    )


def normalisation(model: Clmer) -> dict[str, dict[str, float | list[float]]]:
    """Return the constants of the model's door, by modality."""
    constants: dict[str, dict[str, float | list[float]]] = {name: {} for name in model.names}
    for key, value in model.state_dict().items():
        place, _, rest = key.partition(".door.")
        if rest:
            name = model.names[int(place.rpartition(".")[2])]
            constants[name][rest] = np.round(value.double().numpy(), 6).tolist()
    return constants


def _archive(scripted: torch.jit.ScriptModule, meta: ArtefactMeta) -> bytes:
    """Return the TorchScript file without its debug records, which hold paths of the machine that made it."""
    raw, clean = io.BytesIO(), io.BytesIO()
    torch.jit.save(scripted, raw, _extra_files={META_NAME: meta.to_json()})
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            if not info.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(info.filename, _ZIP_TIME), source.read(info))
    return clean.getvalue()
