"""The benchmark of the networks measures each of them in each form, and what it compares with is sound."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.support.networks import HusformerLike
from tests.support.model_windows import SPECS, random_input
from tests.support.paths import ROOT


@pytest.mark.parametrize("by_channel", [True, False])
def test_the_model_to_compare_with_never_reads_what_is_masked(by_channel: bool) -> None:
    """Whatever stands behind a mask, the logits are the same bits; with nothing measured they are finite."""
    torch.manual_seed(0)
    model = HusformerLike(SPECS, 4, by_channel).eval()
    x, mask = random_input(3)
    mask["eeg"][0, 2:7] = mask["landmarks"][1] = mask["aus"][1, :3] = False
    for known in mask.values():
        known[2] = False
    with torch.no_grad():
        expected = model(x, mask)
        x["eeg"][0, 2:7] = x["landmarks"][1] = x["aus"][1, :3] = math.nan
        assert torch.equal(model(x, mask), expected)
    assert expected.isfinite().all()


@pytest.mark.parametrize("by_channel", [True, False])
def test_every_modality_counts_in_the_model_to_compare_with(by_channel: bool) -> None:
    """A change of one modality changes the logits, and every parameter gets a gradient."""
    torch.manual_seed(0)
    model = HusformerLike(SPECS, 4, by_channel).eval()
    x, mask = random_input(2)
    logits = model(x, mask)
    for name in x:
        assert not torch.allclose(model({**x, name: 2.0 + x[name].flip(-1)}, mask), logits)
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """What the benchmark measures in the shortest time that it can be given."""
    models = ["default", "paper", "husformer-like, time", "husformer-like, channels"]
    options = ["--shapes", "epoc", "--models", *models, "--seconds", "0", "--no-onnx", "--json", "-"]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.model", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_benchmark_has_a_row_for_each_model_and_batch(rows: list[dict[str, Any]]) -> None:
    """Every row has its times, eager and frozen; without ONNX Runtime there is none."""
    assert [row["batch"] for row in rows] == [1, 64] * 4
    for row in rows:
        assert 0 < row["eager_p50_ms"] <= row["eager_p99_ms"]
        assert 0 < row["frozen_p50_ms"] <= row["frozen_p99_ms"]
        assert row["onnx_p50_ms"] is None


def test_the_kept_figures_are_of_the_networks_as_they_are(rows: list[dict[str, Any]]) -> None:
    """A network that changed its size has other figures, and the table must be made again."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    section = results.partition("## model.py")[2].partition("\n## ")[0]
    epoc = section.partition("| EPOC |")[2]
    kept = re.findall(r"\| (`?[\w ,]+`?) \| ([\d,]{5,}) \| 1 \|", "| " + epoc.lstrip())
    assert [parameters for _, parameters in kept] == [f"{row['parameters']:,}" for row in rows if row["batch"] == 1]
