"""The benchmark of the networks measures each of them in each form, and what it compares with is sound."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from model_parts.husformer_like import HusformerLike  # noqa: E402  benchmarks are no package

from model_windows import SPECS, random_input  # noqa: E402


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


def test_the_benchmark_prints_a_row_for_each_model_and_batch() -> None:
    """In the shortest time that it can be given, without the exports to ONNX."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "model.py")]
    words = ["--shapes", "epoc", "--models", "default", "husformer-like, channels", "--seconds", "0", "--no-onnx"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"epoc\W+(\w[\w ,-]+\w)\s*│\s*([\d,]+)\s*│\s*(\d+)\s*│ ([\d.]+ / [\d.]+)\s*│ ([\d.]+ / [\d.]+)", done.stdout
    )
    assert [(name, batch) for name, _, batch, *_ in rows] == [
        ("default", "1"), ("default", "64"), ("husformer-like, channels", "1"), ("husformer-like, channels", "64"),
    ]  # fmt: skip
