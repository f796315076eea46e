"""The model: found by name or path, checked, and loaded on its device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.config import ModalitySpec
from clmer_model.prediction import Prediction
from clmer_server.session.inference import check_device, load_predictor
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.types import Window

if TYPE_CHECKING:
    from clmer_model.predictor import Predictor


@dataclass(frozen=True)
class Model:
    """A model on its device, as ``load_model`` returns it.

    Attributes:
        artifact: The checked model file.
        predictor: What runs it.

    Example::

        import clmer

        model = clmer.load_model(device="cpu")
        print(model.name, model.labels, model.trained_on)
        print([(one.name, one.shape) for one in model.modalities])
        windows = clmer.windows("session.xdf", model)
        answer = model.predict(windows[-1:])[0]
        print(answer.valid, answer.probs)
    """

    artifact: ArtifactFile = field(repr=False)
    predictor: Predictor = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the model, which predictions carry as ``model.id``."""
        return self.artifact.meta.name

    @property
    def labels(self) -> tuple[str, ...]:
        """The K classes, in the order of the model's output."""
        return self.artifact.meta.labels

    @property
    def modalities(self) -> tuple[ModalitySpec, ...]:
        """Inputs of the model: name, shape of one window, and channels."""
        return self.artifact.meta.modalities

    @property
    def preprocess(self) -> PreprocessConfig:
        """Settings of the model's windows: channels, rate, band, window length, hop."""
        return self.artifact.meta.preprocess

    @property
    def trained_on(self) -> str:
        """Kind of data that the model was trained on; ``simulated`` for the models that ship."""
        return self.artifact.meta.trained_on

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, 64 hex digits."""
        return self.artifact.sha256

    @property
    def device(self) -> str:
        """Device that the model runs on: ``cpu`` or ``cuda:N``."""
        return str(self.predictor.device)

    def predict(self, windows: Iterable[Window]) -> list[Prediction]:
        """Return one prediction for each window, in order.

        A window without any usable modality gets a prediction that is not ``valid``. Windows that are answered
        together share calls of the model, which may change a probability by up to 1e-6 (1e-4 on CUDA) against
        ``clmer.predict``, which asks for each window alone.

        Args:
            windows: As ``clmer.windows`` returns them.

        Raises:
            ArtifactError: A window was made with other settings than the model's.
        """
        return self.predictor.predict(list(windows))

    def __repr__(self) -> str:
        """Return name, labels and device."""
        return f"<clmer.Model {self.name} ({', '.join(self.labels)}), trained on {self.trained_on}, {self.device}>"


def load_model(name_or_path: str | Path | None = None, *, device: str = "auto", sha256: str | None = None) -> Model:
    """Return a model, checked and ready to predict.

    Torch computes in one thread from then on, in the whole program: one small window is faster so, and its
    probabilities are those of the service.

    Args:
        name_or_path: Name of a shipped model, or path of a ``.ts`` or ``.onnx`` file; None for the default model.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        sha256: Hash that the file must have, 64 hex digits. None: it must stand in the shipped manifest, or in the
            ``manifest.toml`` beside the file that ``clmer export`` writes.

    Raises:
        ArtifactError: There is no such file, its hash is not trusted, or it does not fit this version of clmer.
        DeviceError: The device is unknown or absent.

    Example::

        import clmer

        model = clmer.load_model()
        assert model.labels == ("LVLA", "LVHA", "HVLA", "HVHA")
    """
    check_device(device)
    artifact = find_artifact(None if name_or_path is None else str(name_or_path), sha256)
    return Model(artifact, load_predictor(artifact, device))


def as_model(model: Model | str | Path | None) -> Model:
    """Return a loaded model unchanged, or load one by name; None loads the default one."""
    return model if isinstance(model, Model) else load_model(model)


def as_artifact(model: Model | str | Path | None) -> ArtifactFile:
    """Return the checked file of a model; the model itself is not loaded."""
    if isinstance(model, Model):
        return model.artifact
    return find_artifact(None if model is None else str(model))
