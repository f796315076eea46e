"""The runs of a session in BIDS: each a stretch of EEG on one even grid, with the names of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clmer_server.archive.bids_eeg import eeg_channels
from clmer_server.archive.bids_names import BidsNames
from clmer_server.archive.facts import SessionFacts
from clmer_server.archive.regular_signals import RegularSignal, regular_signals
from clmer_streaming.errors import RecordingError
from clmer_streaming.types import Item, StreamInfo


@dataclass(frozen=True)
class BidsRun:
    """A run of EEG and its names."""

    names: BidsNames
    signal: RegularSignal


def bids_runs(items: Sequence[Item], names: BidsNames, facts: SessionFacts) -> list[BidsRun]:
    """Return the runs of a session, in order of time; one alone has no number.

    Raises:
        RecordingError: The session holds no EEG.
    """
    info = next((item for item in items if isinstance(item, StreamInfo) and item.kind == "eeg"), None)
    if info is None:
        raise RecordingError("a session with EEG", f"none in {facts.stored.recording}", "export csv or trials instead")
    signals = regular_signals(items, info.source, tuple(eeg_channels(info)))
    if not signals:
        raise RecordingError("EEG with a rate", f"none in {facts.stored.recording}", "export csv or trials instead")
    several = len(signals) > 1
    return [BidsRun(names.of_run(n if several else None), signal) for n, signal in enumerate(signals, start=1)]


def run_at(t: float, runs: Sequence[BidsRun]) -> BidsRun:
    """Return the run that had begun last at a time in seconds of the LSL clock; the first one, where none had."""
    return next((run for run in reversed(runs) if run.signal.t0 <= t), runs[0])
