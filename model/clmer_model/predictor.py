"""Inference: ``Predictor`` runs an artifact, windows in and predictions out.

Below it are the functions it is made of: the model's input from windows, and the choice of a device.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from clmer_model.artifact import ONNX_SUFFIX, ArtifactFile, ArtifactMeta
from clmer_model.config import ModalitySpec, affect
from clmer_model.prediction import Prediction
from clmer_model.runtime import OnnxRunner, TorchScriptRunner
from clmer_streaming.errors import ArtifactError, DeviceError
from clmer_streaming.types import Reason, Window

MAX_BATCH = 64  # windows evaluated together; bounds memory when a replay runs at full speed
WARM_UP_CALLS = 3  # TorchScript specialises during the first two calls of each batch size
WARM_UP_BATCHES = (1, 4)  # a single session; several sessions or a burst


class Predictor:
    """A model on its device, checked against the reference output of its export.

    Args:
        artifact: As ``find_artifact`` returned it.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``; ONNX files run on the CPU.

    Raises:
        DeviceError: The device is unknown, absent, or not supported for this kind of file.
        ArtifactError: The file has changed, cannot be loaded, or does not compute its reference output.

    Example::

        predictor = Predictor(find_artifact("clmer-va4"), device="cpu")
        preprocessor = Preprocessor(predictor.meta.preprocess)
        windows = [window for item in items for window in preprocessor.push(item)]
        for prediction in predictor.predict(windows):
            print(prediction.label, prediction.confidence)
    """

    def __init__(self, artifact: ArtifactFile, device: str = "auto") -> None:
        self.meta: ArtifactMeta = artifact.meta
        is_onnx = artifact.path.suffix == ONNX_SUFFIX
        self.device: torch.device = _onnx_device(device) if is_onnx else choose_device(device)
        content = artifact.read_bytes()
        self._runner: TorchScriptRunner | OnnxRunner = (
            OnnxRunner(content, str(artifact.path))
            if is_onnx
            else TorchScriptRunner(content, str(artifact.path), self.device)
        )
        self.runner = self._runner.name
        self._check_reference()

    def warm_up(self, batches: Sequence[int] = WARM_UP_BATCHES) -> None:
        """Run the model until it answers at its lasting speed for these batch sizes."""
        for n in batches:
            x, mask = self._reference_input(n)
            for _ in range(WARM_UP_CALLS):
                self._runner.logits(x, mask)

    def predict(self, windows: Sequence[Window]) -> list[Prediction]:
        """Return one prediction for each window, in order.

        Windows without any usable modality are marked invalid without running the model.

        Raises:
            ArtifactError: A window was made with other settings than the model's.
        """
        used = [used_modalities(window, self.meta.modalities) for window in windows]
        usable = [i for i, names in enumerate(used) if names]
        answers: dict[int, Prediction] = {}
        for first in range(0, len(usable), MAX_BATCH):
            batch = usable[first : first + MAX_BATCH]
            probs, seconds = self._probabilities([windows[i] for i in batch])
            for i, row in zip(batch, probs, strict=True):
                answers[i] = self._prediction(windows[i], used[i], row, len(batch), seconds)
        return [answers.get(i) or _invalid_prediction(window.reasons, (), 0, 0.0) for i, window in enumerate(windows)]

    def _probabilities(self, windows: Sequence[Window]) -> tuple[list[list[float]], float]:
        try:
            x, mask = stack_windows(windows, self.meta.modalities, self.device)
        except ValueError as error:
            raise ArtifactError("windows made with the model's own settings", str(error), "make them again") from error
        start = time.perf_counter()
        logits = self._runner.logits(x, mask).cpu()
        seconds = time.perf_counter() - start
        rows: list[list[float]] = logits.double().softmax(1).tolist()
        return rows, seconds

    def _prediction(
        self, window: Window, used: tuple[str, ...], probs: list[float], batch: int, seconds: float
    ) -> Prediction:
        if not all(math.isfinite(p) for p in probs):
            return _invalid_prediction((*window.reasons, Reason.MODEL_ERROR), used, batch, seconds)
        labels = self.meta.labels
        best = max(range(len(probs)), key=probs.__getitem__)
        confident = self.meta.abstain_below is None or probs[best] >= self.meta.abstain_below
        dimensions, by_label = affect(labels, probs), dict(zip(labels, probs, strict=True))
        sets, modalities = self.meta.conformal, [spec.name for spec in self.meta.modalities]
        return Prediction(
            valid=True,
            probs=by_label,
            label=labels[best] if confident else None,
            confidence=probs[best],
            entropy=normalized_entropy(probs),
            valence=dimensions.valence,
            arousal=dimensions.arousal,
            prediction_set=None if sets is None else sets.prediction_set(by_label, used, modalities),
            coverage=None if sets is None else sets.coverage,
            used=used,
            reasons=(*window.reasons, *self._warnings(used, confident)),
            batch=batch,
            model_s=seconds,
        )

    def _warnings(self, used: tuple[str, ...], confident: bool) -> Iterator[Reason]:
        if len(used) < len(self.meta.modalities):
            yield Reason.MODALITY_FALLBACK
        if not confident:
            yield Reason.LOW_CONFIDENCE

    def _reference_input(self, n: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return n windows of the reference input, repeated as often as needed."""
        reference = self.meta.reference
        rows = [i % len(reference.logits) for i in range(n)]
        x = {name: torch.from_numpy(series[rows]).to(self.device) for name, series in reference.x.items()}
        mask = {name: torch.from_numpy(known[rows]).to(self.device) for name, known in reference.mask.items()}
        return x, mask

    def _check_reference(self) -> None:
        expected = torch.from_numpy(self.meta.reference.logits)
        found = self._runner.logits(*self._reference_input(len(expected))).cpu()
        difference = (found - expected).abs().max().item() if found.shape == expected.shape else math.inf
        if not difference <= self._runner.tolerance:
            raise ArtifactError(
                expected=f"{self.meta.name} to compute its reference output within {self._runner.tolerance:g}",
                found=f"a difference of {difference:g} on {self.device} with {self._runner.version}",
                mend="export the model again with this version, or choose --device cpu",
            )


def _invalid_prediction(reasons: tuple[Reason, ...], used: tuple[str, ...], batch: int, seconds: float) -> Prediction:
    return Prediction(
        valid=False,
        probs=None,
        label=None,
        confidence=None,
        entropy=None,
        valence=None,
        arousal=None,
        prediction_set=None,
        coverage=None,
        used=used,
        reasons=reasons,
        batch=batch,
        model_s=seconds,
    )


def stack_windows(
    windows: Sequence[Window], specs: Sequence[ModalitySpec], device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the model's input: series (B, ...) float32 and masks (B, n) bool, by modality.

    Args:
        windows: B windows.
        specs: The model's modalities.
        device: Where the tensors are put.

    Raises:
        ValueError: A window's series does not have the shape of its modality.
    """
    x: dict[str, Tensor] = {}
    mask: dict[str, Tensor] = {}
    for spec in specs:
        for window in windows:
            shape = window.series[spec.name].shape
            if shape != spec.shape:
                raise ValueError(f"expected {spec.name} of shape {spec.shape}, got {shape}")
        series = np.stack([window.series[spec.name] for window in windows])
        with np.errstate(over="ignore"):
            x[spec.name] = torch.from_numpy(series.astype(np.float32)).to(device)
        mask[spec.name] = torch.from_numpy(np.stack([window.mask[spec.name] for window in windows])).to(device)
    return x, mask


def used_modalities(window: Window, specs: Sequence[ModalitySpec]) -> tuple[str, ...]:
    """Return the modalities of which the window holds any measured value."""
    return tuple(spec.name for spec in specs if bool(window.mask[spec.name].any()))


def normalized_entropy(probs: Sequence[float]) -> float:
    """Return the entropy of a distribution over that of the uniform distribution, 0 to 1."""
    return -sum(p * math.log(p) for p in probs if p > 0) / math.log(len(probs))


_DEVICE = re.compile(r"auto|cpu|cuda(?::(\d+))?")


def choose_device(name: str) -> torch.device:
    """Return the torch device of this name.

    Args:
        name: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: The name is unknown, or there is no such device on this machine.
    """
    match = _DEVICE.fullmatch(name)
    if match is None:
        raise DeviceError("a device: auto, cpu, cuda or cuda:N", repr(name), "choose one of these")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    index = int(match.group(1) or 0)
    if index >= n_gpus:
        build = torch.version.cuda or "none: this build of torch is for CPU only"
        raise DeviceError(
            expected=f"CUDA device {index}",
            found=f"{n_gpus} CUDA devices that torch {torch.__version__} can use (its CUDA: {build})",
            mend="install a driver and a CUDA build of torch, or use --device cpu",
        )
    return torch.device("cuda", index)


def _onnx_device(name: str) -> torch.device:
    """Return the CPU, where ONNX files run; refuse a GPU that is named."""
    if name.startswith("cuda"):
        raise DeviceError("--device cpu or auto for a model file in ONNX", repr(name), "use the .ts file on a GPU")
    return choose_device("cpu" if name == "auto" else name)


def gpu_memory_bytes() -> int | None:
    """Return the GPU memory that this process holds, in bytes; None where it uses no GPU."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))


def device_name(device: torch.device) -> str:
    """Return a device for display: ``cpu``, or the name of a GPU with its index."""
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else str(device)


def limit_threads() -> None:
    """Limit torch to one thread, for the whole process.

    The service calls it once, before it loads a model: one small window is faster on one core than on two, and the
    other cores stay free for the face.
    """
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        with contextlib.suppress(RuntimeError):  # a program that has set it, or uses it, cannot change it any more
            torch.set_num_interop_threads(1)
