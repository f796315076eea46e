"""From a checked model file to a warm model, and to what clients are told of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from clmer_server.protocol.parts import ModelInfo

if TYPE_CHECKING:
    from clmer_model.artefact import ArtefactFile
    from clmer_model.predictor import Predictor
    from clmer_streaming.config import PreprocessConfig


def check_device(device: str) -> None:
    """Refuse a device that is not there, before anything else is read.

    Raises:
        DeviceError: The device is unknown or absent.
    """
    if device not in ("auto", "cpu"):  # these are always there: no reason to wait for torch yet
        from clmer_model.predictor import choose_device

        choose_device(device)


def load_predictor(artefact: ArtefactFile, device: str) -> Predictor:
    """Return the model on its device, warm; torch then keeps to one thread.

    Raises:
        ArtefactError: The model cannot be run here.
        DeviceError: The device is unknown or absent.
    """
    from clmer_model.predictor import Predictor, limit_threads

    limit_threads()
    predictor = Predictor(artefact, device)
    predictor.warm_up()
    return predictor


def model_info(artefact: ArtefactFile, predictor: Predictor, preprocess: PreprocessConfig) -> ModelInfo:
    """Return what clients are told of the model, and by which signal settings it is fed."""
    meta = artefact.meta
    return ModelInfo(
        id=meta.name,
        sha256=artefact.sha256,
        config_hash=preprocess.config_hash,
        labels=meta.labels,
        trained_on=meta.trained_on,
        runner=predictor.runner,
        device=str(predictor.device),
        eeg_ch_names=preprocess.signal.ch_names,
        eeg_rate_hz=preprocess.signal.sfreq,
    )


def model_card(artefact: ArtefactFile) -> dict[str, Any]:
    """Return the artefact's description of itself as plain JSON values, without the bulky reference input."""
    card: dict[str, Any] = json.loads(artefact.meta.to_json())
    del card["reference"]
    return card
