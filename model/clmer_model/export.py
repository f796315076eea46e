"""Checkpoint to artefact: scripted, checked, described, hashed. One of the two places that touch ``torch.jit``."""

from __future__ import annotations

import hashlib
import io
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from clmer_model.artefact import META_NAME, SUFFIX
from clmer_model.checkpoint import Checkpoint
from clmer_model.clmer import Clmer
from clmer_model.manifest import Manifest
from clmer_model.metadata import ArtefactMeta, Reference
from clmer_model.modalities import ModalitySpec, modality_specs
from clmer_streaming.errors import ArtefactError

SCRIPT_TOLERANCE = 1e-6  # largest difference of a logit between the module as written and as scripted
REFERENCE_SEED = 20240
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; when a file was made is not part of the model


def export(checkpoint: Checkpoint, path: Path) -> str:
    """Write the artefact and enter it into the manifest beside it; return its SHA-256.

    Args:
        checkpoint: A trained model.
        path: ``NAME.ts``; NAME becomes the model's name.

    Raises:
        ArtefactError: The path has another suffix, or the scripted module does not compute what the module does.
    """
    if path.suffix != SUFFIX:
        raise ArtefactError(f"an output path that ends in {SUFFIX}", str(path), f"name it {path.with_suffix(SUFFIX)}")
    model = checkpoint.model.eval().requires_grad_(False)
    reference = make_reference(model, modality_specs(checkpoint.preprocess))
    scripted = torch.jit.script(model)
    _check_equal(scripted, reference)
    content = _archive(scripted, _describe(checkpoint, path.stem, reference))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    Manifest.read(path.parent).with_model(path.stem, digest).write(path.parent)
    return digest


def make_reference(model: Clmer, specs: tuple[ModalitySpec, ...]) -> Reference:
    """Return two windows of made-up values and the model's logits for them.

    The first window is fully measured; the second lacks every third channel and slot.
    """
    rng = np.random.default_rng(REFERENCE_SEED)
    x = {spec.name: (5.0 * rng.standard_normal((2, *spec.shape))).astype(np.float32) for spec in specs}
    mask = {spec.name: np.stack([np.ones(spec.n_masked, bool), np.arange(spec.n_masked) % 3 > 0]) for spec in specs}
    with torch.no_grad():
        logits = model(
            {name: torch.from_numpy(series) for name, series in x.items()},
            {name: torch.from_numpy(known) for name, known in mask.items()},
        )
    return Reference(x, mask, logits.numpy())


def _check_equal(scripted: torch.jit.ScriptModule, reference: Reference) -> None:
    with torch.no_grad():
        logits = scripted(
            {name: torch.from_numpy(series) for name, series in reference.x.items()},
            {name: torch.from_numpy(known) for name, known in reference.mask.items()},
        )
    difference = float(np.abs(logits.numpy() - reference.logits).max())
    if not difference <= SCRIPT_TOLERANCE:
        raise ArtefactError(
            expected=f"the scripted module to equal the module within {SCRIPT_TOLERANCE:g}",
            found=f"a difference of {difference:g} with torch {torch.__version__}",
            mend="report this with the version of torch",
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
