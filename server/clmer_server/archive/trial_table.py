"""One row for each trial of a session, for statistics in R: means, spreads, what was valid and what was not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from clmer_server.archive.facts import SessionFacts
from clmer_server.archive.tables import Cell, Table
from clmer_server.archive.trial_spans import TrialSpan
from clmer_server.archive.window_table import model_labels
from clmer_streaming.errors import DatasetError
from clmer_streaming.types import Reason

_NUMBERS = ("valence", "arousal", "confidence", "entropy")


def trial_table(facts: SessionFacts, spans: Sequence[TrialSpan]) -> Table:
    """Return a row for each trial, in the order given.

    A window counts for a trial when it lies wholly inside it: ``t_start`` and ``t_end`` of the window are within
    those of the trial, edges included. Means and standard deviations (n - 1) are over its valid windows; a cell is
    empty where there are too few of them. Reasons are counted in all its windows, valid or not.

    Raises:
        DatasetError: A further column of the trials has the name of one of these.
        RecordingError: The session was not recorded by ``clmer-serve``.
    """
    labels = model_labels(facts)
    rows = []
    for number, span in enumerate(spans, start=1):
        inside = [p for p in facts.contents.predictions if span.t_start <= p["t_start"] and p["t_end"] <= span.t_end]
        row = _row(facts, number, span, inside, labels)
        if taken := sorted(row.keys() & span.fields.keys()):
            raise DatasetError("columns with names of their own", f"{taken[0]!r} among yours", "rename it")
        rows.append({**row, **span.fields})
    return Table.of(rows)


def _row(
    facts: SessionFacts, number: int, span: TrialSpan, inside: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, Cell]:
    n_valid = sum(bool(prediction["valid"]) for prediction in inside)
    model = facts.contents.header["model"]
    return {
        "session": facts.stored.name,
        "participant": facts.participant,
        "trial": number,
        "name": span.name,
        "t_start": span.t_start,
        "t_end": span.t_end,
        "session_s": span.t_start - facts.contents.t0,
        "duration_s": span.t_end - span.t_start,
        "windows": len(inside),
        "windows_valid": n_valid,
        "valid_share": n_valid / len(inside) if inside else None,
        **_answers(inside, labels),
        "model": model.get("id"),
        "artefact_sha256": model.get("sha256"),
        "trained_on": model.get("trained_on"),
    }


def _answers(inside: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Cell]:
    """Return what was answered in a trial: spreads over its valid windows, and reasons counted in all of them."""
    valid = [prediction for prediction in inside if prediction["valid"]]
    cells: dict[str, Cell] = {}
    for label in labels:
        cells |= _spread(f"p_{label}", [p["probs"][label] for p in valid if label in (p["probs"] or {})])
    for name in _NUMBERS:
        cells |= _spread(name, [p[name] for p in valid if p[name] is not None])
    reasons = Counter(reason for prediction in inside for reason in prediction["reasons"])
    return cells | {f"reason_{reason.value}": reasons[reason.value] for reason in Reason}


def _spread(name: str, values: Sequence[float]) -> dict[str, Cell]:
    """Return mean and standard deviation, the latter with n - 1 as R's sd has it."""
    n = len(values)
    mean = math.fsum(values) / n if n else None
    square = math.fsum((value - mean) ** 2 for value in values) if mean is not None else 0.0
    return {f"{name}_mean": mean, f"{name}_sd": math.sqrt(square / (n - 1)) if n > 1 else None}
