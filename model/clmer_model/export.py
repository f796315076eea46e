"""Export of a checkpoint to an artifact: translated, compared with the module, described, hashed.

``export`` writes TorchScript or ONNX; the functions of either format stand together below it. With ``runtime`` this
is the only module that uses ``torch.jit``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clmer_model.artifact import META_NAME, ONNX_SUFFIX, SUFFIX, ArtifactMeta, Manifest, Reference, check_threshold
from clmer_model.checkpoint import Checkpoint
from clmer_model.config import ModalitySpec, modality_specs
from clmer_model.electrodes import Position, electrode_positions
from clmer_model.network.clmer import Clmer
from clmer_model.runtime import OnnxRunner, mask_name
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError

SCRIPT_TOLERANCE = 1e-6  # largest difference of a logit between the module as written and as scripted
REFERENCE_SEED = 20240
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold; when a file was made is not part of the model


def export(
    checkpoint: Checkpoint,
    path: Path,
    abstain_below: float | None = None,
    split_scores: Mapping[str, Any] | None = None,
) -> str:
    """Write the artifact, enter it into the manifest beside it, and return its SHA-256 in hex digits.

    Args:
        checkpoint: A trained model.
        path: ``NAME.ts``, or ``NAME.onnx`` for ONNX Runtime; NAME becomes the model's name.
        abstain_below: Confidence under which the model gives no label, between 0 and 1; None: it always gives one.
        split_scores: Scores of its recipe by four splits, to be kept in the metadata; None: none.

    Raises:
        ArtifactError: The path has another suffix, the threshold is not a probability, the packages for ONNX are not
            installed, or the translated module does not compute what the module does.

    Example::

        digest = export(load_checkpoint(Path("build/run")), Path("weights/own.ts"))
        artifact = find_artifact("weights/own.ts")
        assert artifact.sha256 == digest
    """
    if path.suffix not in (SUFFIX, ONNX_SUFFIX):
        found, mend = str(path), f"name it {path.with_suffix(SUFFIX)}"
        raise ArtifactError(f"an output path that ends in {SUFFIX} or {ONNX_SUFFIX}", found, mend)
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
    """Return two windows of random values and the model's logits for them.

    The first window is fully measured; the second lacks every third channel and slot.
    """
    rng = np.random.default_rng(REFERENCE_SEED)
    x = {spec.name: (5.0 * rng.standard_normal((2, *spec.shape))).astype(np.float32) for spec in specs}
    mask = {spec.name: np.stack([np.ones(spec.n_masked, bool), np.arange(spec.n_masked) % 3 > 0]) for spec in specs}
    with torch.no_grad():
        logits: Tensor = model(*_tensors(x, mask))
    return Reference(x, mask, logits.numpy())


def _describe(checkpoint: Checkpoint, name: str, reference: Reference) -> ArtifactMeta:
    return ArtifactMeta(
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
        conformal=checkpoint.conformal,
        electrodes=_electrodes(checkpoint.preprocess),
    )


def _electrodes(preprocess: PreprocessConfig) -> dict[str, Position | None] | None:
    """Return the place of each EEG channel; None for a model without EEG."""
    channels = preprocess.signal.ch_names
    return dict(zip(channels, electrode_positions(channels), strict=True)) if "eeg" in preprocess.modalities else None


def normalisation(model: Clmer) -> dict[str, dict[str, float | list[float]]]:
    """Return the constants of the model's normalizers, by modality, rounded to 6 decimals."""
    constants: dict[str, dict[str, float | list[float]]] = {name: {} for name in model.names}
    for key, value in model.state_dict().items():
        encoder, _, constant = key.partition(".door.")  # attribute of ModalityEncoder
        if constant:
            name = model.names[int(encoder.rpartition(".")[2])]
            constants[name][constant] = np.round(value.double().numpy(), 6).tolist()
    return constants


def _check_equal(module: Callable[..., Tensor], reference: Reference, tolerance: float, kind: str) -> None:
    with torch.no_grad():
        logits = module(*_tensors(reference.x, reference.mask))
    difference = float(np.abs(logits.numpy() - reference.logits).max())
    if not difference <= tolerance:
        raise ArtifactError(
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


def _torchscript(model: Clmer, meta: ArtifactMeta) -> bytes:
    scripted = torch.jit.script(model)
    _check_equal(scripted, meta.reference, SCRIPT_TOLERANCE, "scripted")
    return _archive(scripted, meta)


def _archive(scripted: torch.jit.ScriptModule, meta: ArtifactMeta) -> bytes:
    """Return the TorchScript file without its debug records, which hold paths of the machine that made it."""
    raw, clean = io.BytesIO(), io.BytesIO()
    torch.jit.save(scripted, raw, _extra_files={META_NAME: meta.to_json()})
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            if not info.filename.endswith(".debug_pkl"):
                target.writestr(zipfile.ZipInfo(info.filename, _ZIP_TIME), source.read(info))
    return clean.getvalue()


def _onnx(model: Clmer, meta: ArtifactMeta) -> bytes:
    content = onnx_content(model, meta.reference, {META_NAME: meta.to_json()})
    runner = OnnxRunner(content, meta.name)
    _check_equal(runner.logits, meta.reference, runner.tolerance, "ONNX")
    return content


def onnx_content(model: nn.Module, reference: Reference, properties: dict[str, str]) -> bytes:
    """Return the ONNX file of a model: one file with its weights inside, for batches of any size.

    Inputs are named as the modalities, with their masks as ``NAME_mask``; the output is ``logits``.

    Args:
        model: In evaluation mode; its ``forward`` takes series and masks by modality, as that of ``Clmer``.
        reference: Gives the names, the order and the shapes of the inputs.
        properties: Kept in the file's ``metadata_props``.

    Raises:
        ArtifactError: The extra ``onnx`` is not installed.
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


class Positional(nn.Module):
    """The model with its inputs in the order of the modalities, since the inputs of an ONNX graph are a list."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, x: list[Tensor], mask: list[Tensor]) -> Tensor:
        """Return logits (B, K) from each modality's series and mask."""
        logits: Tensor = self.model(dict(zip(self.names, x, strict=True)), dict(zip(self.names, mask, strict=True)))
        return logits


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
        raise ArtifactError(
            expected="onnx and onnxscript, to write ONNX files",
            found=f"no {error.name}",
            mend="pip install onnx onnxscript onnxruntime, or export to a .ts file",
        ) from error


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Silence the exporter's own log and warnings, which concern it and libraries that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
