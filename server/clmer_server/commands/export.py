"""``clmer export``: write a checkpoint as a model file for the service, in TorchScript or ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn a checkpoint into a model file for the service"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", type=Path, help="folder that clmer train wrote")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="model file NAME.ts, or NAME.onnx for ONNX Runtime; its hash is entered into manifest.toml beside it",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="report.json of clmer evaluate, whose scores by four splits the model then carries "
        "(report.json in the checkpoint's folder, if there is one)",
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        metavar="P",
        help="confidence under which the model gives no label (low_confidence)",
    )


def run(args: argparse.Namespace) -> int:
    """Export the checkpoint, and print the file's hash."""
    from clmer_model.checkpoint import load_checkpoint
    from clmer_model.export import export
    from clmer_model.training.compare import REPORT_NAME, read_split_scores

    checkpoint = load_checkpoint(args.checkpoint)
    default_report = args.checkpoint / REPORT_NAME
    report = args.report or (default_report if default_report.is_file() else None)
    split_scores = None if report is None else read_split_scores(report, checkpoint)
    digest = export(checkpoint, args.out, args.abstain_below, split_scores)
    print(f"{args.out}: {args.out.stat().st_size} bytes, SHA-256 {digest}")
    print(f"entered into {args.out.parent / 'manifest.toml'}")
    if report is not None:
        print(f"with the scores by four splits of {report}")
    return 0
