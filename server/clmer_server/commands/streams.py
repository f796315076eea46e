"""``clmer streams``: list the streams on the LSL network, and which of them the model can use."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clmer_model.artifact import find_artifact
from clmer_server.cli import add_lsl_config
from clmer_streaming.config import PreprocessConfig

if TYPE_CHECKING:
    from clmer_streaming.lsl.discovery import FoundStream


HELP = "list the streams on the network, and what the model can use"

_NO_STREAMS = """\
No LSL stream was found. What to try:
- Is the program that publishes it running, and its LSL output switched on (in EmotivPRO: the LSL outlet started)?
- Are both computers in the same network: no guest Wi-Fi, no VPN?
- Does the firewall let UDP 16571 and TCP and UDP 16572-16604 through, on both?
- A network or container without multicast needs the sender's address: --lsl-config FILE, docs/finding-streams.md.
clmer doctor looks at this computer's side."""

_MAX_LABELS = 4  # of a stream, in the table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to listen to each (default %(default)g)")
    parser.add_argument("--model", help="a shipped model's name or a .ts or .onnx file, whose needs are looked at")
    parser.add_argument("--model-sha256", help="hash that the model file must have")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_lsl_config(parser)


def run(args: argparse.Namespace) -> int:
    """Find, measure and print the streams; return 0 if there are any, else 1."""
    from clmer_streaming.lsl.discovery import find_streams
    from clmer_streaming.lsl.setup import set_up_lsl

    set_up_lsl(args.lsl_config)
    config = find_artifact(args.model, args.model_sha256).meta.preprocess
    streams = find_streams(args.seconds)
    entries = [stream_entry(stream, config) for stream in streams]
    if args.json:
        print(json.dumps({"streams": entries}, indent=2))
    elif entries:
        _print_table(entries)
        print(_advice([entry["name"] for entry in entries if entry["eeg"]["usable"]]))
    else:
        print(_NO_STREAMS)
    return 0 if entries else 1


def _advice(names: Sequence[str]) -> str:
    if not names:
        return "\nNone of these can be used as EEG."
    if len(names) == 1:
        return f"\nclmer-serve --eeg auto takes {names[0]}."
    return f"\n{len(names)} can be used as EEG; say which: clmer-serve --eeg NAME"


def stream_entry(stream: FoundStream, config: PreprocessConfig) -> dict[str, Any]:
    """Return a stream as plain JSON values; None for what was not measured.

    Args:
        stream: The stream.
        config: Settings of the model that it is checked against.
    """
    from clmer_streaming.lsl.discovery import why_not_eeg, why_not_face

    header = stream.header
    not_eeg, not_face = why_not_eeg(stream, config), why_not_face(stream, config)
    return {
        "name": header.name,
        "type": header.type,
        "n_channels": header.n_channels,
        "channel_format": header.channel_format,
        "nominal_rate_hz": header.sfreq or None,
        "rate_hz": stream.rate_hz if math.isfinite(stream.rate_hz) else None,
        "n_samples": stream.n_samples,
        "labels": list(header.ch_names),
        "unit": header.unit,
        "source_id": header.source_id,
        "hostname": header.hostname,
        "manufacturer": header.manufacturer,
        "clock": stream.clock,
        "eeg": {"usable": not not_eeg, "reason": not_eeg},
        "face": {"usable": not not_face, "reason": not_face},
        "warnings": _warnings(stream),
    }


def _warnings(stream: FoundStream) -> list[str]:
    header, warnings = stream.header, []
    if stream.trouble:
        warnings.append(stream.trouble)
    if header.n_labels is not None and header.channel_format != "string":
        warnings.append(f"it has {header.n_labels} labels for {header.n_channels} channels: which is which is unknown")
    if not header.source_id:
        warnings.append("it has no source_id: it cannot be taken up again after a restart without a new search")
    if stream.clock in ("Unix time", "other"):
        warnings.append(f"its stamps are not on the LSL clock ({stream.clock}): samples are stamped as they arrive")
    if header.sfreq and abs(stream.rate_hz / header.sfreq - 1) > 0.05:
        warnings.append(f"it delivers {stream.rate_hz:.4g} samples a second, and announces {header.sfreq:g}")
    if header.sfreq and not stream.n_samples and not stream.trouble and header.channel_format != "string":
        warnings.append("nothing came while listening")
    return warnings


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns = ("name", "type", "channels", "rate Hz", "measured", "unit", "source_id", "host", "clock", "use")
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # names and ids are there to be copied whole
    for entry in entries:
        table.add_row(*map(escape, _cells(entry)))
    console = Console(soft_wrap=False)
    console.print(table)
    for entry in entries:
        for line in _remarks(entry):
            console.print(f"{entry['name']}: {line}", markup=False, highlight=False, soft_wrap=True)


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    labels = [label for label in entry["labels"] if label]
    shown = ", ".join(labels[:_MAX_LABELS]) + (", ..." if len(labels) > _MAX_LABELS else "")
    return (
        entry["name"],
        entry["type"],
        f"{entry['n_channels']} {entry['channel_format']}: {shown or 'no labels'}",
        "irregular" if entry["nominal_rate_hz"] is None else f"{entry['nominal_rate_hz']:g}",
        "-" if entry["rate_hz"] is None else f"{entry['rate_hz']:.2f}",
        entry["unit"] or "-",
        entry["source_id"] or "none",
        entry["hostname"],
        entry["clock"],
        " ".join(use for use in ("eeg", "face") if entry[use]["usable"]) or "-",
    )


def _remarks(entry: dict[str, Any]) -> list[str]:
    """Return the sentences printed below the table: warnings, and why a stream cannot be used."""
    unused = not entry["eeg"]["usable"] and not entry["face"]["usable"]
    reason = "face" if entry["type"] == "MoCap" and len(entry["labels"]) > 1 else "eeg"
    return [*entry["warnings"], *([f"not used: {entry[reason]['reason']}"] if unused else [])]
