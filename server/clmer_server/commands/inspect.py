"""``clmer inspect``: print the content of XDF recordings, and what is wrong with them.

With ``--json`` one object is printed, ``{"files": [...]}``, with one entry per file in the order given:

- ``file``, ``bytes``, ``readable_share`` (bytes of intact chunks / bytes), ``warnings`` (sentences), ``streams``;
- or ``file`` and ``error`` {``expected``, ``found``, ``to_do``} where nothing could be read.

Each stream: ``id``, ``name``, ``type``, ``source_id``, ``hostname``, ``channels``, ``labels``, ``unit``, ``format``,
``nominal_rate_hz`` (0: irregular), ``measured_rate_hz`` (between gaps; null where unknown), ``samples``,
``first_s``, ``last_s`` (the recorder's clock; null without samples), ``span_s``, ``gaps`` {``number``, ``longest_s``,
``short_losses``}, ``losses`` {``counted``, samples that a packet counter proves to be missing, null without one;
``estimated``, those that seem to be missing by the stamps}, ``clock`` {``offsets``, ``offset_s``, ``outliers``,
``restarts``, ``drift_ppm`` (null where unknown)}, ``faults`` [{``code``, ``text``}] and ``model`` {``usable``,
``why``}, which is null for streams that are not EEG; in a file without a stream of type EEG, those that the model can
use by their name have one. Fields are only added.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_server.cli import error_text, progress_bar
from clmer_streaming.errors import ClmerError, RecordingError, StreamError

if TYPE_CHECKING:
    from rich.table import Table

    from clmer_streaming.config import SignalConfig
    from clmer_streaming.xdf.clock import ClockHealth
    from clmer_streaming.xdf.inspect import Inspection, StreamInspection
    from clmer_streaming.xdf.reader import XdfStream


HELP = "tell what is in XDF recordings, and what is wrong with them"

_COLUMNS = ("id", "name", "type", "ch", "format", "rate Hz", "samples", "span s", "gaps", "offset s", "drift ppm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="XDF recordings")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument(
        "--model", help="a shipped model's name or the path of a .ts or .onnx file, to judge the EEG by"
    )
    parser.add_argument("--model-sha256", help="hash that the model file must have")


def run(args: argparse.Namespace) -> int:
    """Inspect every file, and go on after one that cannot be read; return an error code if none could be."""
    from clmer_model.artifact import find_artifact
    from clmer_streaming.xdf.inspect import inspect
    from clmer_streaming.xdf.reader import read_xdf

    signal = find_artifact(args.model, args.model_sha256).meta.preprocess.signal
    entries: list[dict[str, Any]] = []
    n_read = 0
    for path in args.files:
        try:
            with progress_bar(f"reading {path.name}") as progress:
                inspection = inspect(read_xdf(path, progress))
        except RecordingError as error:
            entries.append({"file": str(path), "error": _error_entry(error)})
            print(error_text(error), file=sys.stderr)
            continue
        n_read += 1
        entries.append(inspection_entry(inspection, signal))
        if not args.json:
            print_inspection(inspection, signal)
    if args.json:
        print(json.dumps({"files": entries}, indent=2, ensure_ascii=False, allow_nan=False))
    return 0 if n_read else ClmerError.exit_code


def _error_entry(error: ClmerError) -> dict[str, str]:
    return {"expected": error.expected, "found": error.found, "to_do": error.mend}


def inspection_entry(inspection: Inspection, signal: SignalConfig) -> dict[str, Any]:
    """Return the inspection of a file as plain JSON values.

    Args:
        inspection: The inspected file.
        signal: Settings of the model that each EEG stream is checked against.
    """
    return {
        "file": str(inspection.path),
        "bytes": inspection.n_bytes,
        "readable_share": inspection.readable_share,
        "warnings": list(inspection.warnings),
        "streams": [
            _stream_entry(stream, model)
            for stream, model in zip(inspection.streams, _model_entries(inspection, signal), strict=True)
        ],
    }


def _stream_entry(found: StreamInspection, model: dict[str, Any] | None) -> dict[str, Any]:
    from clmer_streaming.pipeline.channels import find_counter

    stream, spacing = found.stream, found.spacing
    return {
        "id": stream.stream_id,
        "name": stream.name,
        "type": stream.type,
        "source_id": stream.source_id,
        "hostname": stream.hostname,
        "channels": stream.n_channels,
        "labels": list(stream.ch_names),
        "unit": stream.unit,
        "format": stream.channel_format,
        "nominal_rate_hz": stream.sfreq,
        "measured_rate_hz": spacing.rate_hz or None,
        "samples": stream.t.size,
        "first_s": found.first_s,
        "last_s": found.last_s,
        "span_s": found.span_s,
        "losses": {
            "counted": None if find_counter(stream.ch_names) is None else spacing.n_lost,
            "estimated": spacing.n_lost_estimated,
        },
        "gaps": {
            "number": len(spacing.gaps),
            "longest_s": found.longest_gap_s,
            "short_losses": spacing.n_short_losses,
        },
        "clock": _clock_entry(found.clock),
        "faults": [{"code": fault.code.value, "text": fault.text} for fault in found.faults],
        "model": model,
    }


def _clock_entry(clock: ClockHealth) -> dict[str, Any]:
    return {
        "offsets": clock.n_offsets,
        "offset_s": clock.offset_s,
        "outliers": clock.n_outliers,
        "restarts": clock.n_restarts,
        "drift_ppm": clock.drift_ppm,
    }


def _model_entries(inspection: Inspection, signal: SignalConfig) -> list[dict[str, Any] | None]:
    """Return, for each stream, whether the model can use it as EEG, and why not; None for streams that are not EEG.

    In a file without a stream of type EEG those that the model can use by their name are no longer None.
    """
    streams = [found.stream for found in inspection.streams]
    entries = [_model_entry(stream, signal) if stream.type.lower() == "eeg" else None for stream in streams]
    if any(entries):
        return entries
    by_name: list[dict[str, Any] | None] = []
    for stream in streams:
        entry = _model_entry(stream, signal)
        why = f"its type is {stream.type!r}: it has to be named, --eeg {shlex.quote(stream.name)}"
        by_name.append({"usable": True, "why": why} if entry and entry["usable"] else None)
    return by_name


def _model_entry(stream: XdfStream, signal: SignalConfig) -> dict[str, Any] | None:
    from clmer_streaming.pipeline.channels import resolve_channels
    from clmer_streaming.xdf.header import announcement

    if stream.channel_format == "string":
        return None
    if not stream.t.size:
        return {"usable": False, "why": "it has no samples"}
    try:
        resolve_channels(announcement(stream, "eeg"), signal)
    except StreamError as error:
        return {"usable": False, "why": f"{error.found}; {error.mend}"}
    return {"usable": True, "why": ""}


def print_inspection(inspection: Inspection, signal: SignalConfig) -> None:
    """Print the inspection of a file.

    Args:
        inspection: The inspected file.
        signal: Settings of the model that each EEG stream is checked against.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    console.print(
        f"{inspection.path}: {inspection.n_bytes} bytes, {_percent(inspection.readable_share)} readable", soft_wrap=True
    )
    console.print(_table(inspection))
    for found, model in zip(inspection.streams, _model_entries(inspection, signal), strict=True):
        prefix = f"{found.stream.stream_id} {found.stream.name!r}:"
        if model is not None:
            text = "the model can use it" if model["usable"] else "the model cannot use it"
            text += f": {model['why'].rstrip('.')}." if model["why"] else "."
            console.print(prefix, text, soft_wrap=True)
        for fault in found.faults:
            console.print(prefix, fault.text, soft_wrap=True)
    for warning in inspection.warnings:
        console.print(warning, soft_wrap=True)
    console.print()


def _table(inspection: Inspection) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS)
    for found in inspection.streams:
        table.add_row(*(Text(cell) for cell in _row(found)))
    return table


def _row(found: StreamInspection) -> tuple[str, ...]:
    stream, spacing, clock = found.stream, found.spacing, found.clock
    nominal = f"{stream.sfreq:g}" if stream.sfreq else "-"
    measured = f"{spacing.rate_hz:.2f}" if spacing.rate_hz else "-"
    gaps = f"{len(spacing.gaps)}, longest {found.longest_gap_s:.2f} s" if spacing.gaps else "0"
    gaps += f"; {spacing.n_short_losses} short" if spacing.n_short_losses else ""
    gaps += f"; {spacing.n_lost} lost" if spacing.n_lost else ""
    gaps += f"; about {spacing.n_lost_estimated} lost" if spacing.n_lost_estimated else ""
    offset = f"{clock.offset_s:z.4f} ({clock.n_offsets}, {clock.n_outliers} wild)" if clock.n_offsets else "-"
    return (
        str(stream.stream_id),
        stream.name,
        stream.type,
        str(stream.n_channels),
        stream.channel_format,
        f"{nominal} / {measured}",
        str(stream.t.size),
        f"{found.span_s:.2f}",
        gaps,
        offset,
        "-" if clock.drift_ppm is None else f"{clock.drift_ppm:+.1f}",
    )


def _percent(share: float) -> str:
    """Return a share in percent; ``100 %`` only where nothing is missing."""
    return "100 %" if share == 1 else f"{min(99.9, 100 * share):.1f} %"
