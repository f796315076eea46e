"""Checks of the model: the file, what it computes, how fast, on which device."""

from __future__ import annotations

import time

from clmer_model.artefact import ArtefactFile, find_artefact
from clmer_server.checks.check import Check, failed
from clmer_server.model_loading import check_device, load_predictor
from clmer_streaming.errors import ArtefactError, ClmerError

_MUCH_OF_A_HOP = 0.2  # of the time between two windows; more leaves little for the rest


def find_model(name: str | None, sha256: str | None) -> ArtefactFile | Check:
    """Return the model file, or what is wrong with it."""
    try:
        return find_artefact(name, sha256)
    except ArtefactError as error:
        return failed("model", error)


def check_gpu(device: str) -> Check:
    """Return where the model would run.

    Args:
        device: As ``--device`` has it.
    """
    from clmer_model.predictor import choose_device, device_name

    try:
        check_device(device)
        chosen = choose_device(device)
    except ClmerError as error:
        return failed("device", error)
    without = ", no GPU that PyTorch can use" if device == "auto" and chosen.type == "cpu" else ""
    return Check("device", "ok", f"the model runs on {device_name(chosen)}{without}")


def check_model(artefact: ArtefactFile, device: str) -> Check:
    """Return whether the model computes what it was exported with, and how long a prediction takes.

    Args:
        artefact: The model file.
        device: As ``--device`` has it.
    """
    try:
        predictor = load_predictor(artefact, device)
    except ClmerError as error:
        return failed("model", error)
    from clmer_model.predictor import WARM_UP_CALLS

    start = time.perf_counter()
    predictor.warm_up(batches=(1,))
    seconds = (time.perf_counter() - start) / WARM_UP_CALLS
    meta = artefact.meta
    found = f"{meta.name} gives its reference output; {seconds * 1e3:.1f} ms a prediction; trained on {meta.trained_on}"
    if seconds > _MUCH_OF_A_HOP * meta.preprocess.window.hop_s:
        return Check("model", "warning", found, "close other programs, or use --device cuda: windows will be left out")
    return Check("model", "ok", found)
