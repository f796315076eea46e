"""Tables of a session's windows and trials, and their files: CSV, TSV and Parquet.

In reading order: ``Table`` and the files it is written to, ``window_table``, the trials of a session, ``trial_table``.
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
"""One value; None where it is missing."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Example::

        write_csv(window_table(session_facts(stored)), Path("windows.csv"))
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Cell]]) -> Table:
        """Return the table of one or more rows, which all have the same keys."""
        names = tuple(rows[0])
        return cls(names, tuple(tuple(row[name] for name in names) for row in rows))


def write_csv(table: Table, path: Path) -> None:
    """Write a table as CSV for R and pandas: floats in full precision, TRUE and FALSE, empty cells where missing."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows([_text(cell, "") for cell in row] for row in table.rows)


def tsv_text(table: Table, *, head: bool = True) -> str:
    """Return a table as TSV for BIDS: ``n/a`` for missing values, no tab or line break within a cell.

    Args:
        table: The table.
        head: Whether the names of the columns come first.
    """
    lines = [table.columns] if head else []
    rows = [[" ".join(_text(cell, "n/a").split()) or "n/a" for cell in row] for row in table.rows]
    return "".join("\t".join(row) + "\n" for row in (*lines, *rows))


def write_gzip(text: str, path: Path) -> None:
    """Write text compressed by gzip; the same text gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write(text.encode())
    path.write_bytes(buffer.getvalue())


def check_parquet() -> None:
    """Check that Parquet can be written.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            "pyarrow, which writes Parquet", str(error), 'pip install -c constraints.txt -e ".[parquet]", or take csv'
        ) from error


def write_parquet(table: Table, path: Path) -> None:
    """Write a table as Parquet with one type for each column: string, int64, float64 or bool.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    columns = zip(*table.rows, strict=True)
    arrays = [pyarrow.array(cells, type=_arrow_type(pyarrow, cells)) for cells in columns]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(table.columns)), path)


def _arrow_type(pyarrow: Any, cells: Sequence[Cell]) -> Any:
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


_EEG_FIELDS = ("used", "quality", "channels_ok", "interpolated_frac")
_FACE_FIELDS = ("used", "present", "confidence", "yaw_deg", "fps")
_SERIES_FIELDS = ("used", "quality")


def window_table(facts: SessionFacts) -> Table:
    """Return the table of a session's windows, one row for each, in order.

    ``t_start`` and ``t_end`` are seconds of the LSL clock, ``session_s`` is the end of the window in seconds from the
    session's first sample, ``unix_time`` the Unix time at the end of the window (missing for a replay, whose stamps
    are older), ``unix_time_sent`` that of the prediction.

    Raises:
        RecordingError: The session has no window, or was not recorded by ``clmer-serve``.
    """
    labels = model_labels(facts)
    predictions = facts.contents.predictions
    if not predictions:
        raise RecordingError("a session with windows", f"none in {facts.stored.recording}", "it ended before its first")
    series = sorted({name for prediction in predictions for name in prediction["modalities"].get("series", {})})
    rows = [_window_row(prediction, facts, labels, series) for prediction in predictions]
    return Table.from_rows(rows)


def model_labels(facts: SessionFacts) -> tuple[str, ...]:
    """Return the classes of a session's model, in order.

    Raises:
        RecordingError: The recording names none.
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
        "prediction_set": " ".join(prediction.get("prediction_set") or ()) or None,
        "coverage": prediction.get("coverage"),
        **_input_columns(prediction["modalities"], series),
        "calibration_face": prediction["calibration"]["face"],
        "calibration_eeg": prediction["calibration"]["eeg"],
        "model": prediction["model"]["id"],
        "artefact_sha256": prediction["model"]["sha256"],
        "trained_on": prediction["trained_on"],
        "crc": prediction["crc"],
        "source": prediction["source"],
    }


def _input_columns(modalities: Mapping[str, Any], series: Sequence[str]) -> dict[str, Cell]:
    """Return the quality of a window's modalities, one column for each field."""
    further = modalities.get("series", {})
    return {
        **_prefixed("eeg", modalities["eeg"], _EEG_FIELDS),
        "eeg_channels_bad": " ".join(modalities["eeg"].get("channels_bad", ())),
        **_prefixed("face", modalities["face"], _FACE_FIELDS),
        **{name: cell for key in series for name, cell in _prefixed(key, further.get(key, {}), _SERIES_FIELDS).items()},
    }


def _prefixed(prefix: str, part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Cell]:
    return {f"{prefix}_{name}": part.get(name) for name in names}


_START_SUFFIX, _END_SUFFIX = "/start", "/end"


@dataclass(frozen=True)
class TrialSpan:
    """The span of one trial in a session."""

    name: str
    t_start: float  # s, LSL clock
    t_end: float  # s
    fields: Mapping[str, str] = field(default_factory=dict)  # further columns of the user's table of trials


@dataclass(frozen=True)
class TrialRule:
    """A rule that finds trials by markers; without patterns, by pairs such as ``clip3/start`` and ``clip3/end``.

    Raises:
        SettingsError: The fields contradict each other, or the length is not positive.
    """

    start: str | None = (
        None  # pattern of the labels at which a trial begins, as of fnmatch: * any text, ? one character
    )
    stop: str | None = None  # pattern of the labels at which a trial ends
    trial_s: float | None = None  # s, length of a trial, in place of stop

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
    """Return the trials that markers enclose.

    Args:
        markers: Markers of the session; those without a finite time are ignored.
        rule: Which markers begin and end a trial.

    Returns:
        The trials in order of time, and a sentence for each trial that has no end and is left out.

    Raises:
        SettingsError: No marker begins a trial.
    """
    ordered = sorted((marker for marker in markers if math.isfinite(marker.t)), key=lambda marker: marker.t)
    spans: list[TrialSpan] = []
    notes: list[str] = []
    starts = [marker for marker in ordered if _is_start(marker.label, rule)]
    if not starts:
        raise _no_trials_error(ordered, rule)
    for marker in starts:
        name = marker.label.removesuffix(_START_SUFFIX)
        t_end = _trial_end(marker, ordered, rule)
        if math.isnan(t_end):
            notes.append(f"the trial {name!r} at {marker.t:.3f} s has no end and is left out")
        else:
            spans.append(TrialSpan(name, marker.t, t_end))
    return spans, notes


def _is_start(label: str, rule: TrialRule) -> bool:
    return fnmatchcase(label, rule.start) if rule.start is not None else label.endswith(_START_SUFFIX)


def _trial_end(start: Marker, ordered: Sequence[Marker], rule: TrialRule) -> float:
    """Return the end of a trial in seconds; NaN where no marker ends it before its start comes again."""
    if rule.trial_s is not None:
        return start.t + rule.trial_s
    for marker in ordered:
        if marker.t > start.t and _is_end(marker.label, start.label, rule):
            return marker.t
        if marker.t > start.t and _is_repeated_start(marker.label, start.label, rule):
            break
    return math.nan


def _is_end(label: str, start_label: str, rule: TrialRule) -> bool:
    if rule.stop is not None:
        return fnmatchcase(label, rule.stop)
    return label == start_label.removesuffix(_START_SUFFIX) + _END_SUFFIX


def _is_repeated_start(label: str, start_label: str, rule: TrialRule) -> bool:
    return _is_start(label, rule) if rule.start is not None else label == start_label


def _no_trials_error(markers: Sequence[Marker], rule: TrialRule) -> SettingsError:
    labels = list(dict.fromkeys(marker.label for marker in markers))
    shown = ", ".join(map(repr, labels[:12])) + (", ..." if len(labels) > 12 else "")
    wanted = (
        f"markers like {rule.start!r}"
        if rule.start is not None
        else f"markers NAME{_START_SUFFIX} and NAME{_END_SUFFIX}"
    )
    return SettingsError(
        expected=wanted,
        found=f"{len(markers)} markers: {shown}" if labels else "no marker",
        mend="name yours: --start PATTERN with --stop PATTERN or --trial-s SECONDS; or give a table: --trials FILE",
    )


_KNOWN_COLUMNS = ("t_start", "onset", "duration", "trial", None)  # None: cells beyond the last column


def trials_from_table(path: Path, t0: float) -> list[TrialSpan]:
    """Return the trials of a CSV file.

    The columns are ``onset`` (s from the session's first sample) or ``t_start`` (s of the LSL clock), ``duration`` (s),
    optionally ``trial`` (the name), and any others, which are kept as ``TrialSpan.fields``.

    Args:
        path: The file.
        t0: Time of the session's first sample, in seconds of the LSL clock.

    Raises:
        DatasetError: The file cannot be read, is empty, or a number is missing or out of range.
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
        t_start = _parse_number(row, "t_start" if absolute else "onset", path, number)
        duration = _parse_number(row, "duration", path, number)
        if duration <= 0:
            raise DatasetError("a duration above 0", f"{duration:g} in {path}, row {number}", "mend this row")
        t_start += 0.0 if absolute else t0
        fields = {str(key): str(value or "") for key, value in row.items() if key not in _KNOWN_COLUMNS}
        spans.append(TrialSpan(row.get("trial") or str(number - 1), t_start, t_start + duration, fields))
    return spans


def _parse_number(row: Mapping[str, str | None], column: str, path: Path, number: int) -> float:
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


_AVERAGED_FIELDS = ("valence", "arousal", "confidence", "entropy")


def trial_table(facts: SessionFacts, spans: Sequence[TrialSpan]) -> Table:
    """Return the table of a session's trials, one row for each, in the given order.

    A window belongs to a trial if it lies wholly inside it, edges included. Means and standard deviations (n - 1) are
    over the valid windows of the trial, and missing where there are too few of them; reasons are counted over all its
    windows, valid or not.

    Args:
        facts: The session.
        spans: The trials; their further fields become columns.

    Raises:
        DatasetError: A further field has the name of a column.
        RecordingError: The session was not recorded by ``clmer-serve``.
    """
    labels = model_labels(facts)
    rows = []
    for number, span in enumerate(spans, start=1):
        inside = [p for p in facts.contents.predictions if span.t_start <= p["t_start"] and p["t_end"] <= span.t_end]
        row = _trial_row(facts, number, span, inside, labels)
        if shared := sorted(row.keys() & span.fields.keys()):
            raise DatasetError("columns with names of their own", f"{shared[0]!r} among yours", "rename it")
        rows.append({**row, **span.fields})
    return Table.from_rows(rows)


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
        **_prediction_statistics(inside, labels),
        "model": model.get("id"),
        "artefact_sha256": model.get("sha256"),
        "trained_on": model.get("trained_on"),
    }


def _prediction_statistics(inside: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Cell]:
    """Return means and standard deviations over the valid windows, and counts of reasons over all windows."""
    valid = [prediction for prediction in inside if prediction["valid"]]
    cells: dict[str, Cell] = {}
    for label in labels:
        cells |= _mean_and_sd(f"p_{label}", [p["probs"][label] for p in valid if label in (p["probs"] or {})])
    for name in _AVERAGED_FIELDS:
        cells |= _mean_and_sd(name, [p[name] for p in valid if p[name] is not None])
    reasons = Counter(reason for prediction in inside for reason in prediction["reasons"])
    return cells | {f"reason_{reason.value}": reasons[reason.value] for reason in Reason}


def _mean_and_sd(name: str, values: Sequence[float]) -> dict[str, Cell]:
    """Return mean and standard deviation with n - 1, as R's ``sd``; None where there are too few values."""
    n = len(values)
    mean = math.fsum(values) / n if n else None
    square = math.fsum((value - mean) ** 2 for value in values) if mean is not None else 0.0
    return {f"{name}_mean": mean, f"{name}_sd": math.sqrt(square / (n - 1)) if n > 1 else None}
