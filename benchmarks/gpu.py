"""The shipped model on a GPU against the CPU, and an epoch of training; needs torch and numpy alone.

Run with ``PYTHONPATH=streaming:model python benchmarks/gpu.py`` in a checkout, on any machine with CUDA; nothing has to
be installed but torch and numpy. Without CUDA it says so and ends with code 2; ``--device cpu`` measures the CPU
against itself, with ``--tiny`` in seconds, which shows that the program works. Nothing is asserted. This file uses
nothing of ``benchmarks/support``, so that it can be run alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.config import DEFAULT, ModalitySpec
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import device_name
from clmer_model.runtime import TorchScriptRunner

NO_CUDA = 2  # exit code, as of other benchmarks that lack something
BATCHES = (1, 16, 64, 512)
COMPARED = 512  # windows
WARM_UP_CALLS = 5  # for each batch size
DEAP_WINDOWS = 52440  # 874 videos of faces, 60 s each, a second per window
DEAP_CLASSES = 9
TRAIN_BATCH = 64  # as in the paper
LEARNING_RATE = 1e-3  # as in the paper

TINY_COMPARED, TINY_BATCHES, TINY_CALLS, TINY_WINDOWS = 32, (1, 2), 2, 2 * TRAIN_BATCH

Row = dict[str, str | int | float | None]
"""One figure, or some that belong together, as JSON has them."""

Arrays = dict[str, npt.NDArray[np.generic]]
"""Series or masks by modality."""


def main() -> int:
    """Measure and print; return the exit code."""
    args = options()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"no CUDA: torch {torch.__version__} finds no GPU here; --device cpu tries the program", file=sys.stderr)
        return NO_CUDA
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if args.tiny:
        args.batches, args.calls, args.windows = TINY_BATCHES, TINY_CALLS, TINY_WINDOWS
    device = torch.device(args.device)
    artifact = find_artifact(args.model)
    file = sys.stderr if args.json == "-" else sys.stdout
    print(f"{device_name(device)}, torch {torch.__version__}, TF32 off; model {artifact.meta.name}", file=file)
    rows: list[Row] = []
    for row, text in measure(artifact, device, args):
        print(text, file=file, flush=True)
        rows.append({"benchmark": "gpu", **row})
    if args.json is not None:
        text = json.dumps(rows, indent=1) + "\n"
        sys.stdout.write(text) if args.json == "-" else Path(args.json).write_text(text, encoding="utf-8")
    return 0


def measure(artifact: ArtifactFile, device: torch.device, args: argparse.Namespace) -> Iterator[tuple[Row, str]]:
    """Yield each figure, with a sentence that prints it."""
    yield compare(artifact, device, TINY_COMPARED if args.tiny else COMPARED)
    yield from latencies(artifact, device, args.batches, args.calls)
    yield from train(device, args.windows)


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", help="a shipped model's name or the path of a .ts file")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="windows in one call")
    parser.add_argument("--calls", type=int, default=300, help="for each batch size")
    parser.add_argument("--windows", type=int, default=DEAP_WINDOWS, help="of the epoch of training")
    parser.add_argument("--tiny", action="store_true", help="measure for seconds only, to show that the program works")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too; - for standard output")
    return parser.parse_args()


def compare(artifact: ArtifactFile, device: torch.device, n: int) -> tuple[Row, str]:
    """Return the largest differences between the device and the CPU, over n windows."""
    x, mask = noise(artifact.meta.modalities, n)
    mask = {name: np.random.default_rng(1).random(known.shape) < 0.8 for name, known in mask.items()}
    cpu, other = (runner(artifact, torch.device(kind)).logits for kind in ("cpu", device))
    rows = range(n)
    expected = cpu(*on(torch.device("cpu"), x, mask, rows)).double()
    found = other(*on(device, x, mask, rows)).cpu().double()
    logits = (found - expected).abs().max().item()
    probs = (found.softmax(1) - expected.softmax(1)).abs().max().item()
    text = f"largest difference from the CPU over {n} windows: logits {logits:.2e}, probabilities {probs:.2e}"
    return {"table": "difference", "windows": n, "logits": logits, "probabilities": probs}, text


def latencies(
    artifact: ArtifactFile, device: torch.device, batches: Sequence[int], n_calls: int
) -> Iterator[tuple[Row, str]]:
    """Yield how long windows take from the host's memory to logits in the host's memory."""
    model = runner(artifact, device)
    for n in batches:
        x, mask = noise(artifact.meta.modalities, n)
        spent = timed(lambda x=x, mask=mask, n=n: model.logits(*on(device, x, mask, range(n))).cpu(), n_calls)  # type: ignore[misc]
        p50, p99 = (float(value) for value in np.percentile(spent, [50, 99]) * 1e3)
        rate = 1e3 * n / p50
        text = f"batch {n:3d}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, {rate:.0f} windows a second"
        yield {"table": "latency", "batch": n, "p50_ms": p50, "p99_ms": p99, "windows_per_s": rate}, text


def train(device: torch.device, n_windows: int) -> Iterator[tuple[Row, str]]:
    """Yield how long an epoch takes over noise of DEAP's size, in float32 and in mixed precision."""
    specs = tuple(
        ModalitySpec(name, shape, tuple(map(str, range(shape[0]))))
        for name, shape in {"eeg": (40, 128), "landmarks": (1, 68, 3), "aus": (1, 17, 2)}.items()
    )
    x, mask = noise(specs, n_windows)
    truth = torch.from_numpy(np.random.default_rng(2).integers(DEAP_CLASSES, size=n_windows))
    for mixed in (False, True):
        torch.manual_seed(0)
        model = Clmer(specs, DEAP_CLASSES, DEFAULT.dims).to(device)
        start = time.perf_counter()
        loss = epoch(model, device, (x, mask, truth), mixed)
        seconds = time.perf_counter() - start
        precision = "bfloat16 where it fits" if mixed else "float32"
        text = (
            f"an epoch of {n_windows} windows like DEAP's, batch {TRAIN_BATCH}, {precision}: {seconds:.2f} s, "
            f"{n_windows / seconds:.0f} windows a second, loss {loss:.3f}"
        )
        yield {"table": "epoch", "windows": n_windows, "precision": precision, "s": seconds, "loss": loss}, text
    if device.type == "cuda":
        largest = torch.cuda.max_memory_allocated(device)
        yield {"table": "memory", "max_bytes": largest}, f"largest memory in use: {largest / 2**20:.0f} MiB"


def epoch(model: Clmer, device: torch.device, data: tuple[Arrays, Arrays, Tensor], mixed: bool) -> float:
    """Train once over all windows in random order; return the mean loss."""
    x, mask, truth = data
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    total = torch.zeros((), device=device)
    for rows in shuffled(len(truth)):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss = F.cross_entropy(model(*on(device, x, mask, rows)), truth[rows].to(device))
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimizer.step()
        total += loss.detach() * len(rows)
    return total.item() / len(truth)


def shuffled(n: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the rows of each batch."""
    order = np.random.default_rng(3).permutation(n)
    for first in range(0, n, TRAIN_BATCH):
        yield np.sort(order[first : first + TRAIN_BATCH])


def runner(artifact: ArtifactFile, device: torch.device) -> TorchScriptRunner:
    """Return the model as the service runs it."""
    return TorchScriptRunner(artifact.read_bytes(), str(artifact.path), device)


def noise(specs: Sequence[ModalitySpec], n: int) -> tuple[Arrays, Arrays]:
    """Return n fully measured windows of noise and their masks."""
    rng = np.random.default_rng(0)
    x: Arrays = {spec.name: rng.standard_normal((n, *spec.shape), dtype=np.float32) for spec in specs}
    return x, {spec.name: np.ones((n, spec.n_masked), dtype=np.bool_) for spec in specs}


def on(
    device: torch.device, x: Arrays, mask: Arrays, rows: Sequence[int] | npt.NDArray[np.int64]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return some of the windows on the device."""
    chosen = np.asarray(rows)
    return (
        {name: torch.from_numpy(series[chosen]).to(device) for name, series in x.items()},
        {name: torch.from_numpy(known[chosen]).to(device) for name, known in mask.items()},
    )


def timed(call: Callable[[], object], n_calls: int) -> list[float]:
    """Return the seconds that each call took, after those that warm the model up."""
    for _ in range(WARM_UP_CALLS):
        call()
    spent = []
    for _ in range(n_calls):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return spent


if __name__ == "__main__":
    sys.exit(main())
