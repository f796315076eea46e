"""Tables of windows and of trials, and the files that they are written to: CSV, TSV and Parquet.

To be read in this order: ``Table`` and its files, the table of windows, trials, the table of trials.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from clmer_server.archive.sessions import SessionFacts
from clmer_streaming.errors import DatasetError, RecordingError, SettingsError
from clmer_streaming.types import Marker, Reason

Cell: TypeAlias = str | float | int | bool | None
"""One value; None where nothing was measured."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Cell]]) -> Table:
        """Return a table of one or more rows, which all have the same keys."""
        names = tuple(rows[0])
        return cls(names, tuple(tuple(row[name] for name in names) for row in rows))


def write_csv(table: Table, path: Path) -> None:
    """Write a table as R and pandas read it: numbers in full, TRUE and FALSE, nothing where nothing was measured."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([_text(cell, "") for cell in row] for row in table.rows)


def tsv_text(table: Table, *, head: bool = True) -> str:
    """Return a table as BIDS wants it: tabs, ``n/a`` for what is missing, no tab or line break within a cell."""
    lines = [table.columns] if head else []
    rows = [[" ".join(_text(cell, "n/a").split()) or "n/a" for cell in row] for row in table.rows]
    return "".join("\t".join(row) + "\n" for row in (*lines, *rows))


def write_gzip(text: str, path: Path) -> None:
    """Write text compressed; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(buffer.getvalue())


def check_parquet() -> None:
    """Check whether Parquet can be written.

    Raises:
        SettingsError: The library for it is not there.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "pyarrow, which writes Parquet", str(error), 'pip install -c constraints.txt -e ".[parquet]", or take csv'
        ) from error


def write_parquet(table: Table, path: Path) -> None:
    """Write a table with a type for each column: text, whole numbers, numbers, or true and false.

    Raises:
        SettingsError: The library for it is not there.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    columns = zip(*table.rows, strict=True)
    arrays = [pyarrow.array(cells, type=_type(pyarrow, cells)) for cells in columns]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(table.columns)), path)


def _type(pyarrow: Any, cells: Sequence[Cell]) -> Any:
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {bool} and kinds:
        return pyarrow.bool_()
    if kinds <= {int} and kinds:
        return pyarrow.int64()
    return pyarrow.string() if str in kinds else pyarrow.float64()


def _text(cell: Cell, missing: str) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return missing
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    return repr(cell) if isinstance(cell, float) else str(cell)


_EEG = ("used", "quality", "channels_ok", "interpolated_frac")
_FACE = ("used", "present", "confidence", "yaw_deg", "fps")
_SERIES = ("used", "quality")


def window_table(facts: SessionFacts) -> Table:
    """Return the windows of a session, in their order.

    Times are seconds of the LSL clock, ``unix_time`` is the wall clock at the end of the window (none in a replay,
    whose stamps are of another day), ``unix_time_sent`` that of the answer, ``session_s`` the end of the window in
    seconds from the session's first sample.

    Raises:
        RecordingError: The session has no window, or was not recorded by ``clmer-serve``.
    """
    labels = model_labels(facts)
    predictions = facts.contents.predictions
    if not predictions:
        raise RecordingError("a session with windows", f"none in {facts.stored.recording}", "it ended before its first")
    series = sorted({name for prediction in predictions for name in prediction["modalities"].get("series", {})})
    rows = [_window_row(prediction, facts, labels, series) for prediction in predictions]
    return Table.of(rows)


def model_labels(facts: SessionFacts) -> tuple[str, ...]:
    """Return the classes of the model that answered.

    Raises:
        RecordingError: The session names none.
    """
    try:
        return tuple(facts.contents.header["model"]["labels"])
    except (KeyError, TypeError) as error:
        raise RecordingError(
            "a session of clmer-serve", f"{facts.stored.recording} without a model", "see clmer-serve --record"
        ) from error


def _window_row(
    prediction: Mapping[str, Any], facts: SessionFacts, labels: Sequence[str], series: Sequence[str]
) -> dict[str, Cell]:
    probs = prediction["probs"] or {}
    return {
        "session": facts.stored.name,
        "participant": prediction.get("participant") or facts.participant,
        "seq": prediction["seq"],
        "t_start": prediction["t_start"],
        "t_end": prediction["t_end"],
        "session_s": prediction["t_end"] - facts.contents.t0,
        "unix_time": facts.unix_of(prediction["t_end"]),
        "unix_time_sent": prediction["unix_time"],
        "valid": prediction["valid"],
        "reasons": " ".join(prediction["reasons"]),
        "label": prediction["label"],
        **{f"p_{label}": probs.get(label) for label in labels},
        **{name: prediction[name] for name in ("valence", "arousal", "confidence", "entropy")},
        **_inputs(prediction["modalities"], series),
        "calibration_face": prediction["calibration"]["face"],
        "calibration_eeg": prediction["calibration"]["eeg"],
        "model": prediction["model"]["id"],
        "artefact_sha256": prediction["model"]["sha256"],
        "trained_on": prediction["trained_on"],
        "crc": prediction["crc"],
        "source": prediction["source"],
    }


def _inputs(modalities: Mapping[str, Any], series: Sequence[str]) -> dict[str, Cell]:
    """Return the inputs of the window's prediction, one by one."""
    further = modalities.get("series", {})
    return {
        **_part("eeg", modalities["eeg"], _EEG),
        "eeg_channels_bad": " ".join(modalities["eeg"].get("channels_bad", ())),
        **_part("face", modalities["face"], _FACE),
        **{name: cell for key in series for name, cell in _part(key, further.get(key, {}), _SERIES).items()},
    }


def _part(prefix: str, part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Cell]:
    return {f"{prefix}_{name}": part.get(name) for name in names}


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
        row = _trial_row(facts, number, span, inside, labels)
        if taken := sorted(row.keys() & span.fields.keys()):
            raise DatasetError("columns with names of their own", f"{taken[0]!r} among yours", "rename it")
        rows.append({**row, **span.fields})
    return Table.of(rows)


def _trial_row(
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
    """Return the predictions of a trial: means and spreads over its valid windows, and reasons counted in all."""
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
