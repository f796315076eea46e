"""``clmer doctor``: looks at everything that a session needs, and says what to mend."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.logs import set_up_logging
from clmer_server.lsl_option import add_lsl_config

if TYPE_CHECKING:
    from clmer_server.checks.check import Check

HELP = "check this computer, and say what to mend"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--device", default="auto", help="where the model is to run: auto, cpu, cuda or cuda:N")
    parser.add_argument("--camera", help="index, device, URL or video file; none goes without (default 0)")
    parser.add_argument("--record", type=Path, default=Path(), help="folder that recordings go to (default: this one)")
    parser.add_argument("--model", help="a shipped model's name or the path of a .ts or .onnx file")
    parser.add_argument("--model-sha256", help="hash that the model file must have")
    parser.add_argument("--host", default="127.0.0.1", help="where the service is to listen (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="port of the service (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_lsl_config(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check; 0 where none failed, 1 otherwise."""
    set_up_logging("error")
    checks = []
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            _print(check)
    if args.json:
        print(json.dumps({"checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    return int(any(check.state == "fail" for check in checks))


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    """Yield the answers as they come, the quick ones first."""
    from clmer_model.artefact import ArtefactFile
    from clmer_server.checks import camera, lsl, machine, model

    yield machine.check_python()
    yield machine.check_disk(args.record)
    yield machine.check_port(args.host, args.port)
    yield machine.check_open_files()
    device = model.check_gpu(args.device)
    yield device
    artefact = model.find_model(args.model, args.model_sha256)
    if isinstance(artefact, ArtefactFile):
        yield model.check_model(artefact, args.device if device.state == "ok" else "cpu")
    else:
        yield artefact
    found = lsl.check_lsl(args.lsl_config)
    yield from found
    if isinstance(artefact, ArtefactFile) and found[0].state == "ok":
        yield lsl.check_eeg(artefact.meta.preprocess)
    if args.camera != "none":
        yield camera.check_camera(args.camera or "0", asked_for=args.camera is not None)


def _print(check: Check) -> None:
    print(f"{check.state:8} {check.name:10} {check.found}", flush=True)
    if check.mend:
        print(f"{'':19} -> {check.mend}", flush=True)
