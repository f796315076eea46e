"""Recorded sessions told to people: a table of all, and a page of one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_COLUMNS = ("name", "participant", "start", "min:s", "from", "streams", "windows", "valid", "markers", "verified", "MB")


def print_table(sessions: Sequence[Mapping[str, Any]]) -> None:
    """Print sessions, a line each.

    Args:
        sessions: What ``listed`` tells of each.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS)
    for told in sessions:
        table.add_row(*(Text(printable(cell)) for cell in _row(told)))
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160).print(table)


def _row(told: Mapping[str, Any]) -> tuple[str, ...]:
    minutes, seconds = divmod(round(told["duration_s"]), 60)
    return (
        told["name"],
        told["participant"] or "-",
        _local_time(told["unix_start"]),
        f"{minutes}:{seconds:02}",
        told["source"] or "-",
        ", ".join([*told["streams"], *(["video"] if told["video"] else [])]),
        str(told["windows"]),
        "-" if told["valid_share"] is None else f"{100 * told['valid_share']:.0f} %",
        str(told["markers"]),
        told["verified"],
        f"{told['bytes'] / 1e6:.1f}",
    )


def _local_time(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))


def print_page(details: Mapping[str, Any]) -> None:
    """Print one session.

    Args:
        details: What ``details_as_json`` tells of it.
    """
    for name, text in (*_lines(details), *_stream_lines(details), *_export_lines(details)):
        print(f"{name:13} {printable(text)}")


def _lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    share, model = details["valid_share"], details["model"]
    valid = "" if share is None else f", {100 * share:.1f} % valid"
    lost = f", {details['lost_items']} items are missing" if details["lost_items"] else ""
    closed = "closed in order" if details["closed"] else "not closed: it runs, or was broken off"
    yield "session", f"{details['name']} in {details['folder']}, {details['bytes'] / 1e6:.1f} MB"
    yield "participant", details["participant"] or "not named"
    yield "consent", details["consent_ref"] or "no reference given"
    yield "purpose", details["purpose"] or "not said"
    yield "start", f"{_local_time(details['unix_start'])}, {details['source']}, clmer {details['clmer']}"
    yield "duration", f"{details['duration_s']:.1f} s, {closed}{lost}"
    yield "video", ", ".join(details["video"]) or "none was kept"
    yield "model", f"{model['id']}, trained on {model['trained_on']}, SHA-256 {model['sha256']}"
    yield "verified", details["verified"]
    yield "windows", f"{details['windows']}{valid}"
    yield "labels", _counts(details["labels"])
    yield "reasons", _counts(details["reasons"])
    yield "markers", f"{details['markers']}: {_counts(details['marker_labels'])}"


def _stream_lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stream in details["streams"]:
        rate = f"{stream['nominal_rate_hz']:g} Hz" if stream["nominal_rate_hz"] else "irregular"
        delay = f", delay {stream['delay_s']:g} s" if stream["delay_s"] else ""
        yield f"  {stream['kind']}", f"{stream['name']}, {stream['channels']} channels, {rate}{delay}"


def _export_lines(details: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for made in details["exports"]:
        yield "exported", f"{made.get('format')}: {', '.join(made.get('files', []))}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counted.items()) or "none"


def printable(text: object) -> str:
    """Return text without control characters: names and labels come from the network."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))
