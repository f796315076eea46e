"""The benchmark of the networks measures each of them in each form, and what it compares with is sound."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
import torch
from model_parts.husformer_like import HusformerLike

from tests.support.model_windows import SPECS, random_input
from tests.support.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))


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
def printed() -> dict[tuple[str, str], tuple[str, ...]]:
    """What the benchmark prints in the shortest time that it can be given: by model and batch, the other cells."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "model.py"), "--shapes", "epoc"]
    models = ["default", "paper", "husformer-like, time", "husformer-like, channels"]
    words = ["--models", *models, "--seconds", "0", "--no-onnx"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    return {(model, batch): (parameters, *figures) for _, model, parameters, batch, *figures in rows}


def test_the_benchmark_prints_a_row_for_each_model_and_batch(printed: dict[tuple[str, str], tuple[str, ...]]) -> None:
    """Every row has its times, eager and frozen; without ONNX Runtime there is a dash."""
    assert [batch for _, batch in printed] == ["1", "64"] * 4
    for _, eager, frozen, onnx in printed.values():
        assert re.fullmatch(r"[\d.]+ / [\d.]+", eager)
        assert re.fullmatch(r"[\d.]+ / [\d.]+", frozen)
        assert onnx == "-"


def test_the_kept_figures_are_of_the_networks_as_they_are(printed: dict[tuple[str, str], tuple[str, ...]]) -> None:
    """A network that changed its size has other figures, and the table must be made again."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    section = results.partition("## model.py")[2].partition("\n## ")[0]
    epoc = section.partition("| EPOC |")[2]
    kept = re.findall(r"\| (`?[\w ,]+`?) \| ([\d,]{5,}) \| 1 \|", "| " + epoc.lstrip())
    assert [parameters for _, parameters in kept] == [
        printed[model, "1"][0] for model, batch in printed if batch == "1"
    ]
