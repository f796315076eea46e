"""Where the trials of a session lie: between its markers, or as a table says."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from clmer_streaming.errors import DatasetError, SettingsError
from clmer_streaming.types import Marker

_BEGIN, _END = "/start", "/end"


@dataclass(frozen=True)
class TrialSpan:
    """A stretch of a session."""

    name: str
    t_start: float  # s, LSL clock
    t_end: float  # s
    fields: Mapping[str, str] = field(default_factory=dict)  # further columns of the table that it comes from


@dataclass(frozen=True)
class TrialRule:
    """How trials are found among markers; without patterns by pairs such as ``clip3/start`` and ``clip3/end``."""

    start: str | None = None  # pattern of the labels at which a trial begins; * and ? stand for any text and letter
    stop: str | None = None  # of the labels at which it ends
    trial_s: float | None = None  # s, its length, in place of an end

    def __post_init__(self) -> None:
        if self.stop is not None and self.start is None:
            raise SettingsError(
                "--start with --stop", "--stop alone", "say which markers begin a trial: --start PATTERN"
            )
        if self.start is not None and (self.stop is None) == (self.trial_s is None):
            raise SettingsError("--start with either --stop or --trial-s", "both or neither", "say how a trial ends")
        if self.trial_s is not None and not 0 < self.trial_s < math.inf:
            raise SettingsError("--trial-s above 0", f"{self.trial_s:g}", "give the length of a trial in seconds")


def trials_from_markers(markers: Sequence[Marker], rule: TrialRule) -> tuple[list[TrialSpan], list[str]]:
    """Return the trials, in order of time, and a sentence for each one whose end is not there.

    Raises:
        SettingsError: No marker begins a trial.
    """
    ordered = sorted((marker for marker in markers if math.isfinite(marker.t)), key=lambda marker: marker.t)
    spans: list[TrialSpan] = []
    notes: list[str] = []
    begins = [marker for marker in ordered if _begins(marker.label, rule)]
    if not begins:
        raise _no_trials(ordered, rule)
    for marker in begins:
        name = marker.label.removesuffix(_BEGIN)
        t_end = _end_of(marker, ordered, rule)
        if math.isnan(t_end):
            notes.append(f"the trial {name!r} at {marker.t:.3f} s has no end and is left out")
        else:
            spans.append(TrialSpan(name, marker.t, t_end))
    return spans, notes


def _begins(label: str, rule: TrialRule) -> bool:
    return fnmatchcase(label, rule.start) if rule.start is not None else label.endswith(_BEGIN)


def _end_of(begin: Marker, ordered: Sequence[Marker], rule: TrialRule) -> float:
    """Return where a trial ends: NaN where nothing ends it before it begins once more."""
    if rule.trial_s is not None:
        return begin.t + rule.trial_s
    for marker in ordered:
        if marker.t > begin.t and _ends(marker.label, begin.label, rule):
            return marker.t
        if marker.t > begin.t and _begins_again(marker.label, begin.label, rule):
            break
    return math.nan


def _ends(label: str, begun: str, rule: TrialRule) -> bool:
    if rule.stop is not None:
        return fnmatchcase(label, rule.stop)
    return label == begun.removesuffix(_BEGIN) + _END


def _begins_again(label: str, begun: str, rule: TrialRule) -> bool:
    return _begins(label, rule) if rule.start is not None else label == begun


def _no_trials(markers: Sequence[Marker], rule: TrialRule) -> SettingsError:
    labels = list(dict.fromkeys(marker.label for marker in markers))
    shown = ", ".join(map(repr, labels[:12])) + (", ..." if len(labels) > 12 else "")
    wanted = f"markers like {rule.start!r}" if rule.start is not None else f"markers NAME{_BEGIN} and NAME{_END}"
    return SettingsError(
        expected=wanted,
        found=f"{len(markers)} markers: {shown}" if labels else "no marker",
        mend="name yours: --start PATTERN with --stop PATTERN or --trial-s SECONDS; or give a table: --trials FILE",
    )


def trials_from_table(path: Path, t0: float) -> list[TrialSpan]:
    """Return the trials of a CSV file with the columns ``onset`` and ``duration`` in seconds, and any others.

    Args:
        path: The file. ``onset`` counts from the session's first sample; a column ``t_start`` in place of it holds
            seconds of the LSL clock. A column ``trial`` names the trial.
        t0: The session's first sample, in seconds of the LSL clock.

    Raises:
        DatasetError: The file cannot be read, or a number is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"a table of trials at {path}", str(error), "write it as CSV, UTF-8, with commas") from error
    if not rows:
        raise DatasetError(f"trials in {path}", "no row", "write a row for each trial")
    absolute = "t_start" in rows[0]
    spans = []
    for number, row in enumerate(rows, start=2):
        begin = _number(row, "t_start" if absolute else "onset", path, number)
        length = _number(row, "duration", path, number)
        if length <= 0:
            raise DatasetError("a duration above 0", f"{length:g} in {path}, row {number}", "mend this row")
        begin += 0.0 if absolute else t0
        rest = {str(key): str(value or "") for key, value in row.items() if key not in _READ}
        spans.append(TrialSpan(row.get("trial") or str(number - 1), begin, begin + length, rest))
    return spans


_READ = ("t_start", "onset", "duration", "trial", None)  # None: cells beyond the head


def _number(row: Mapping[str, str | None], column: str, path: Path, number: int) -> float:
    try:
        value = float(row.get(column) or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(
            expected=f"a number of seconds in the column {column}",
            found=f"{row.get(column)!r} in {path}, row {number}",
            mend="the columns are onset (or t_start) and duration, trial if you like, and any others",
        )
    return value
