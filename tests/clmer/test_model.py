"""The model: what it tells of itself, what it answers, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import clmer
from clmer_model.artifact import find_artifact, shipped_folder


def test_a_model_tells_what_it_is(model: clmer.Model) -> None:
    """Labels, modalities, signal settings, hash and data are those of the file."""
    artifact = find_artifact()
    assert (model.name, model.labels, model.trained_on) == ("clmer-va4", ("LVLA", "LVHA", "HVLA", "HVHA"), "simulated")
    assert model.modalities == artifact.meta.modalities
    assert model.preprocess == artifact.meta.preprocess
    assert model.sha256 == artifact.sha256
    assert model.device == "cpu"
    assert repr(model) == "<clmer.Model clmer-va4 (LVLA, LVHA, HVLA, HVHA), trained on simulated, cpu>"


def test_a_model_is_found_by_name_and_by_path(model: clmer.Model) -> None:
    """Both ways give the same model; a hash that is named must be that of the file."""
    path = shipped_folder() / "clmer-va4.ts"
    assert clmer.load_model("clmer-va4", device="cpu").sha256 == model.sha256
    assert clmer.load_model(path, device="cpu", sha256=model.sha256).sha256 == model.sha256
    with pytest.raises(clmer.ArtifactError, match="get the file again"):
        clmer.load_model(path, sha256="0" * 64)


def test_predictions_together_are_those_of_each_alone(model: clmer.Model, lab: Path) -> None:
    """Windows that share a call of the model are answered as those that ``predict`` asks for one by one."""
    alone = clmer.predict(lab / "session.xdf", model)
    together = model.predict(clmer.windows(lab / "session.xdf", model))
    assert [one.valid for one in together] == [event.valid for event in alone]
    for one, event in zip(together, alone, strict=True):
        assert (one.probs or {}) == pytest.approx(event.probs or {}, abs=1e-6)
        assert tuple(map(str, one.reasons)) == event.reasons


def test_a_program_with_threads_of_its_own_can_load_a_model() -> None:
    """Torch that was told how many threads to use, which it takes once only, is no obstacle."""
    code = "import torch, clmer; torch.set_num_interop_threads(2); print(clmer.load_model(device='cpu').name)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "clmer-va4"), ran.stderr
