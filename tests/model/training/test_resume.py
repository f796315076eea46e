"""An interrupted training, taken up again: the same bits, or one clear line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clmer_model.training.config import FitConfig, PretrainConfig
from clmer_model.training.contrastive import pretrain
from clmer_model.training.fit import SupervisedStage
from clmer_model.training.optimizer import RESUME_NAME, ResumeFile, ResumePoint, ResumeState
from clmer_model.training.train import CURVES_NAME, train
from clmer_server.cli import main
from clmer_streaming.errors import SettingsError
from tests.support.model_windows import SPECS, random_input, small_model
from tests.support.tiny_training import config_of_command, run_in, small_examples, tiny

FEW_EPOCHS = ("--pretrain-epochs", "0", "--epochs", "2")


def interrupt(line: dict[str, Any]) -> None:
    """Break the training off when the second epoch with labels is done, but not yet kept."""
    if (line["stage"], line.get("epoch")) == ("fit", 1):
        raise KeyboardInterrupt


def write_arrays(path: Path, mended: Sequence[str] | None = None) -> list[str]:
    """Write windows of noise of five people with two trials of two labels each; return the labels."""
    rng, n = np.random.default_rng(0), 20
    given = {spec.name: rng.uniform(0.0, 1.0, (n, *spec.shape)) for spec in SPECS}
    label = mended or ["moved", "angry"] * (n // 2)
    person, trial = np.arange(n) // 4, np.arange(n) % 2
    np.savez(path, label=label, person=person, trial=trial, **given)
    return list(label)


def prepare(file: Path, store: Path) -> None:
    assert main(["prepare", "--dataset", "arrays", str(file), "--out", str(store)]) == 0


def test_a_resumed_training_is_the_one_without_interruption(tmp_path: Path, people_cache: Path) -> None:
    """Interrupted amid an encoder's epochs and again amid those with labels, weights and curves are the same bits."""
    config = tiny("default")
    config = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, epochs=2))
    train(config, run_in(tmp_path / "whole", people_cache))
    for stage, epoch in (("pretrain landmarks", 1), ("fit", 1)):

        def cut(line: dict[str, Any], stage: str = stage, epoch: int = epoch) -> None:
            if (line["stage"], line.get("epoch")) == (stage, epoch):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(config, run_in(tmp_path / "cut", people_cache, cut, resume=stage == "fit"))
        assert (tmp_path / "cut" / RESUME_NAME).is_file()
    train(config, run_in(tmp_path / "cut", people_cache, resume=True))
    for name in ("model.safetensors", "curves.jsonl", "checkpoint.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / RESUME_NAME).exists()


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resume_state_holds_all_that_decides_the_next_epoch(schedule: Any, tmp_path: Path) -> None:
    """Written to disk and read by a fresh model, two epochs and two more are four, for either schedule."""
    config = FitConfig(epochs=4, batch=8, schedule=schedule, plateau_patience=0)
    examples, file = small_examples(), ResumeFile(tmp_path, {"batch": 8}, "these")
    whole = small_model()
    fitting = SupervisedStage(whole, examples, examples, config)
    lines = [fitting.run_epoch() for _ in range(2)]
    file.write(fitting.resume_state(), n_lines=2)
    lines += [fitting.run_epoch() for _ in range(2)]
    other = small_model(seed=9)
    resumed = SupervisedStage(other, examples, examples, config)
    state, n_lines = file.read()
    assert n_lines == 2
    resumed.restore(state)
    assert [resumed.run_epoch() for _ in range(2)] == lines[2:]
    assert resumed.finish() == fitting.finish()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in other.state_dict().items())


def test_the_contrastive_stage_goes_on_from_any_epoch(tmp_path: Path) -> None:
    """Whichever epoch of whichever encoder was the last one kept, the weights and the rest of the log are the same."""
    config = PretrainConfig(epochs=2, batch=8, lambda_temporal=1.0, sample_of="context")
    examples, file = random_input(12), ResumeFile(tmp_path, {"batch": 8}, "these")
    whole, lines, kept = small_model(), list[dict[str, Any]](), list[ResumeState]()

    def save(state: ResumeState) -> None:
        file.write(state, len(lines))
        kept.append(file.read()[0])

    pretrain(whole, examples, config, lines.append, ResumePoint(save=save))
    assert [(state.values["encoder"], state.values["epoch"]) for state in kept] == [
        (encoder, epoch) for encoder in range(3) for epoch in (1, 2)
    ]
    for n_lines, start in enumerate(kept, 1):
        other, rest = small_model(seed=9), list[dict[str, Any]]()
        pretrain(other, examples, config, rest.append, ResumePoint(start))
        assert rest == lines[n_lines:]
        assert all(torch.equal(value, whole.state_dict()[name]) for name, value in other.state_dict().items())


def test_only_an_unfinished_training_of_the_same_settings_is_resumed(tmp_path: Path) -> None:
    """Without a state, with a file that is none, or with one of other settings, the error says what to do."""
    with pytest.raises(SettingsError, match="train without --resume"):
        ResumeFile(tmp_path, {"seed": 1}, "these").read()
    examples = small_examples()
    reached = SupervisedStage(small_model(), examples, examples, FitConfig()).resume_state()
    ResumeFile(tmp_path, {"seed": 1}, "these").write(reached, 0)
    with pytest.raises(SettingsError, match="other values of seed"):
        ResumeFile(tmp_path, {"seed": 2}, "these").read()
    with pytest.raises(SettingsError, match="the windows that the training began with"):
        ResumeFile(tmp_path, {"seed": 1}, "others").read()
    (tmp_path / RESUME_NAME).write_bytes(b"not a resume file at all")
    with pytest.raises(SettingsError, match="train without --resume"):
        ResumeFile(tmp_path, {"seed": 1}, "these").read()


def test_windows_that_were_prepared_anew_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The label of one window was mended meanwhile: one clear line. The same windows in another folder are taken."""
    file, command = tmp_path / "lab.npz", ["train", "--out", str(tmp_path / "run"), *FEW_EPOCHS]
    label = write_arrays(file)
    prepare(file, tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        train(
            config_of_command([*command, "--store", str(tmp_path / "store")]),
            run_in(tmp_path / "run", tmp_path, interrupt),
        )
    shutil.copytree(tmp_path / "store", tmp_path / "moved")
    write_arrays(file, mended=[label[1], *label[1:]])
    prepare(file, tmp_path / "store")
    capsys.readouterr()
    assert main([*command, "--store", str(tmp_path / "store"), "--resume"]) == 2
    said = capsys.readouterr().err
    assert "clmer prepare" in said
    assert "train without --resume" in said
    assert main([*command, "--store", str(tmp_path / "moved"), "--resume"]) == 0
    stages = [json.loads(line)["stage"] for line in (tmp_path / "run" / CURVES_NAME).read_text().splitlines()]
    assert stages == ["examples", "fit", "fit", "calibrate", "test"]


def test_people_of_another_simulator_are_refused(
    tmp_path: Path, people_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same options another version of the simulator makes other people."""
    config = tiny("default")
    config = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, epochs=0))
    with pytest.raises(KeyboardInterrupt):
        train(config, run_in(tmp_path / "run", people_cache, interrupt))
    monkeypatch.setattr("clmer_model.data.simulated.SIMULATOR_ID", "another")
    with pytest.raises(SettingsError, match="another version of clmer"):
        train(config, run_in(tmp_path / "run", people_cache, resume=True))
