"""Training in two processes on one computer, as torchrun starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from clmer_model.checkpoint import load_checkpoint
from clmer_model.training.distributed import rank_rows, world_size
from tests.support.paths import ROOT

TORCHRUN = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def torchrun(*command: str) -> None:
    """Run a Python script with arguments in two processes; what they said is in the error if they fail."""
    rooms = [str(ROOT / room) for room in ("server", "streaming", "model", ".")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(rooms), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([*TORCHRUN, *command], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two processes of ``rank_worker.py`` ended with."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(str(ROOT / "tests" / "support" / "rank_worker.py"), str(folder))
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights(said: list[dict[str, Any]]) -> None:
    """After both stages the weights and statistics are the same bits, and so are the validation losses."""
    assert said[0]["weights"] == said[1]["weights"]
    validation = [[line["validation"] for line in part["log"] if line["stage"] == "fit"] for part in said]
    assert len(validation[0]) == 2
    assert validation[0] == validation[1]


@pytest.mark.slow
def test_each_process_sees_its_own_share(said: list[dict[str, Any]]) -> None:
    """The training losses of the two differ, since their rows and views do."""
    losses = [[line["loss"] for line in part["log"]] for part in said]
    assert all(first != second for first, second in zip(*losses, strict=True))


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_batch(said: list[dict[str, Any]]) -> None:
    """The mean over the processes equals the gradient of one process with all eight ramps, their mean."""
    whole = torch.arange(24.0).view(8, 3).mean(0).tolist()
    assert said[0]["gradient"] == pytest.approx(whole)
    assert said[1]["gradient"] == pytest.approx(whole)


def test_one_process_takes_whole_batches() -> None:
    """Alone, a share is the batch."""
    assert world_size() == 1
    assert [rows.tolist() for rows in rank_rows([torch.arange(3), torch.arange(2)])] == [[0, 1, 2], [0, 1]]


@pytest.mark.deep
def test_the_command_runs_under_torchrun(tmp_path: Path) -> None:
    """``clmer train`` in two processes writes one log and a checkpoint that loads."""
    options = ("--people", "5", "--trials", "2", "--sim-preset", "easy", "--epochs", "1", "--pretrain-epochs", "1")
    clmer = str(Path(sys.executable).with_name("clmer"))
    torchrun(clmer, "train", "--out", str(tmp_path / "run"), *options)
    assert load_checkpoint(tmp_path / "run").training["processes"] == 2
    lines = (tmp_path / "run" / "curves.jsonl").read_text(encoding="utf-8").splitlines()
    stages = [json.loads(line)["stage"] for line in lines]
    assert stages == ["examples", "pretrain eeg", "pretrain landmarks", "pretrain aus", "fit", "calibrate", "test"]
