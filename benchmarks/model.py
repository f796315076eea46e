"""How large the networks are and how long they take on one core: CLMER's presets beside models like Husformer.

Run with ``python -m benchmarks.model``; ``--models default --shapes epoc`` measures less, ``--no-onnx`` saves the
exports to ONNX, which take longer than the rest. Nothing is asserted. The networks are untrained:
speed does not depend on the weights.
"""

from __future__ import annotations

import dataclasses
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from benchmarks.support.networks import HusformerLike
from benchmarks.support.report import Report, Table, Value, make_parser, percentiles_ms
from clmer_model.artifact import Reference
from clmer_model.config import PRESETS, ModalitySpec
from clmer_model.export import onnx_content
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import limit_threads
from clmer_model.runtime import OnnxRunner
from clmer_streaming.errors import ArtifactError

BATCHES = (1, 64)
MIN_CALLS, MAX_CALLS = 12, 300
WARM_UP_CALLS = 4

Inputs = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Series and masks by modality."""

Forward = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]
"""A network, in whatever form."""


@dataclass(frozen=True)
class Shape:
    """The windows of a data set."""

    n_channels: int  # of the signal
    n_times: int  # samples of the signal
    slots: int  # frames of the face
    n_classes: int
    paper_width: int  # the paper's token length L for it

    def specs(self) -> tuple[ModalitySpec, ...]:
        """Return the modalities."""
        shapes = {
            "eeg": (self.n_channels, self.n_times),
            "landmarks": (self.slots, 68, 3),
            "aus": (self.slots, 17, 2),
        }
        return tuple(ModalitySpec(name, shape, tuple(map(str, range(shape[0])))) for name, shape in shapes.items())

    def inputs(self, n: int) -> Inputs:
        """Return n fully measured windows of noise."""
        rng = torch.Generator().manual_seed(0)
        x = {spec.name: 5.0 * torch.randn(n, *spec.shape, generator=rng) for spec in self.specs()}
        return x, {spec.name: torch.ones(n, spec.n_masked, dtype=torch.bool) for spec in self.specs()}


SHAPES = {
    "deap": Shape(40, 128, 1, 9, 50),
    "amigos": Shape(17, 128, 1, 4, 15),
    "epoc": Shape(14, 256, 8, 4, 15),
}
"""DEAP and AMIGOS as in the paper, a second with one frame; EPOC as the shipped model has it."""


def make(name: str, shape: Shape) -> nn.Module:
    """Return the network of this name, untrained, in evaluation mode."""
    torch.manual_seed(0)
    if name.startswith("husformer"):
        model: nn.Module = HusformerLike(shape.specs(), shape.n_classes, by_channel=name.endswith("channels"))
    else:
        dims = PRESETS[name].dims
        dims = dataclasses.replace(dims, width=shape.paper_width) if name == "paper" else dims
        model = Clmer(shape.specs(), shape.n_classes, dims)
    return model.eval().requires_grad_(False)


def main() -> int:
    """Measure and print; return the exit code."""
    models = [*PRESETS, "husformer-like, time", "husformer-like, channels"]
    parser = make_parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=models, default=models, metavar="NAME", help=", ".join(models))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=3.0, help="s for each figure; 0: one call")
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    args = parser.parse_args()
    if args.tiny:
        args.models, args.shapes, args.seconds, args.no_onnx = args.models[:1], args.shapes[:1], 0.0, True
    limit_threads()
    formats = {f"{form}_{p}_ms": ".2f" for form in ("eager", "frozen", "onnx") for p in ("p50", "p99")}
    title = f"One thread, torch {torch.__version__}"
    table = Table("speed", title, shape="", model="", parameters=",d", batch="d", **formats)
    for shape in args.shapes:
        for name in args.models:
            for row in rows(name, SHAPES[shape], args.seconds, not args.no_onnx):
                table.add(shape=shape, model=name, **row)
    with Report("model", args.json) as report:
        report.show(table)
    return 0


def rows(name: str, shape: Shape, seconds: float, with_onnx: bool) -> list[dict[str, Value]]:
    """Return a row of figures for each batch size."""
    model = make(name, shape)
    forms: dict[str, Forward | None] = {
        "eager": model,
        "frozen": frozen(model),
        "onnx": onnx(model, shape) if with_onnx else None,
    }
    n_parameters = sum(p.numel() for p in model.parameters())
    made = []
    for batch in BATCHES:
        inputs = shape.inputs(batch)
        row: dict[str, Value] = {"parameters": n_parameters, "batch": batch}
        for form, network in forms.items():
            p50, p99 = (None, None) if network is None else percentiles_ms(timed(network, inputs, seconds), 50, 99)
            row |= {f"{form}_p50_ms": p50, f"{form}_p99_ms": p99}
        made.append(row)
    return made


def frozen(model: nn.Module) -> Forward:
    """Return the network as the service runs it: scripted, saved, loaded, frozen."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model), file)
    file.seek(0)
    return cast(Forward, torch.jit.freeze(torch.jit.load(file).eval()))  # type: ignore[no-untyped-call]


def onnx(model: nn.Module, shape: Shape) -> Forward | None:
    """Return the network in ONNX Runtime; None where that is not installed."""
    x, mask = shape.inputs(2)
    arrays = [{name: tensor.numpy() for name, tensor in given.items()} for given in (x, mask)]
    reference = Reference(arrays[0], arrays[1], model(x, mask).numpy())
    try:
        return OnnxRunner(onnx_content(model, reference, {}), "benchmark").logits
    except ArtifactError:
        return None


def timed(form: Forward, inputs: Inputs, seconds: float) -> Sequence[float]:
    """Return the seconds that each call took, after the calls that warm the network up."""
    spent: list[float] = []
    warm_up_calls, min_calls = (WARM_UP_CALLS, MIN_CALLS) if seconds else (0, 1)
    with torch.inference_mode():
        for _ in range(warm_up_calls):
            form(*inputs)
        end = time.perf_counter() + seconds
        while len(spent) < min_calls or (len(spent) < MAX_CALLS and time.perf_counter() < end):
            start = time.perf_counter()
            form(*inputs)
            spent.append(time.perf_counter() - start)
    return spent


if __name__ == "__main__":
    sys.exit(main())
