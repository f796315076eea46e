"""The benchmark for GPUs runs anywhere: with torch and numpy alone, and on the CPU to show that it works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

ABSENT = ("scipy", "safetensors", "rich", "pylsl", "cv2", "mediapipe", "pydantic", "fastapi", "onnx", "onnxruntime")


def run_gpu(*words: str) -> subprocess.CompletedProcess[str]:
    """Run benchmarks/gpu.py where no GPU is seen and nothing is installed but torch and numpy."""
    code = f"""
import runpy, sys, warnings
warnings.simplefilter("ignore")
sys.modules.update(dict.fromkeys({ABSENT!r}))
sys.argv = ["gpu.py", *sys.argv[1:]]
runpy.run_path({str(ROOT / "benchmarks" / "gpu.py")!r}, run_name="__main__")
"""
    places = os.pathsep.join(str(ROOT / room) for room in ("streaming", "model"))
    environment = {**os.environ, "PYTHONPATH": places, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so_in_one_line() -> None:
    """It ends with code 2, and nothing was measured."""
    done = run_gpu()
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"no CUDA: .*\n", done.stderr)


@pytest.mark.slow
def test_on_the_cpu_every_part_runs() -> None:
    """The CPU equals itself, each batch size is timed, and training learns from noise at chance; all of it as JSON."""
    done = run_gpu("--device", "cpu", "--tiny", "--json", "-")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].startswith("cpu, torch ")
    assert [re.sub(r"[\d.]+", "#", line) for line in lines[2:4]] == [
        "batch   #: p# # ms, p# # ms, # windows a second" for _ in (1, 2)
    ]
    difference, *latencies = (row for row in json.loads(done.stdout) if row["table"] in ("difference", "latency"))
    assert max(difference["logits"], difference["probabilities"]) < 1e-5
    assert [row["batch"] for row in latencies] == [1, 2]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in latencies)
    losses = [row["loss"] for row in json.loads(done.stdout) if row["table"] == "epoch"]
    assert len(losses) == 2
    assert all(1.5 < loss < 4.0 for loss in losses)  # ln 9 is 2.2
