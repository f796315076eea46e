"""The two tables of a data set of sessions, ``manifest.csv`` and ``trials.csv``, read with their row numbers.

Row numbers are those of a spreadsheet: the header is row 1. Unknown columns are skipped and reported. ``read_tables``
returns both; last come the schemes by which ratings become labels.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clmer_model.config import LABELS_VA4
from clmer_streaming.errors import DatasetError
from clmer_streaming.pipeline.baseline import USUAL_S

MANIFEST, TRIALS = "manifest.csv", "trials.csv"


MANIFEST_COLUMNS = (
    "file",
    "participant",
    "session",
    "eeg",
    "eeg_map",
    "eeg_map_force",
    "eeg_rate",
    "eeg_unit",
    "video",
    "video_offset",
    "rest_marker",
    "rest_s",
)


_YES = ("yes", "true", "1")


TRIAL_COLUMNS = (
    "file", "participant", "trial", "t_start", "t_end", "start", "stop", "duration",
    "label", "valence", "arousal", "stimulus",
)  # fmt: skip


@dataclass(frozen=True)
class EegReading:
    """How the EEG of a recording is found and read; each field is the option, and the column, of that name."""

    eeg: str = "auto"
    eeg_map: str | None = None
    eeg_map_force: bool = False
    eeg_rate: float | None = None  # Hz
    eeg_unit: str | None = None


def read_tables(root: Path, scheme: str | None, reading: EegReading = EegReading()) -> Tables:
    """Return the tables of the data set in this folder.

    Args:
        root: Folder of ``manifest.csv`` and ``trials.csv``; files are named relative to it.
        scheme: A name of ``SCHEMES`` by which ratings become labels; None: the column ``label``, else ``va4``.
        reading: For what a row of the manifest leaves empty.

    Raises:
        DatasetError: A table, a column, a value or a file is missing or does not fit.
    """
    manifest, unused = _read(root / MANIFEST, MANIFEST_COLUMNS, ("file", "participant"))
    trials, unused_too = _read(root / TRIALS, TRIAL_COLUMNS, ("file",))
    _check_unique(manifest)
    files = [row.text("file") for row in manifest]
    recordings = tuple(_recording(row, root, reading, shared=files.count(row.text("file")) > 1) for row in manifest)
    known = {recording.file for recording in recordings}
    scheme = scheme or (None if any(row.text("label") for row in trials) else "va4")
    numbers: dict[str, int] = {}
    read = []
    for row in trials:
        if row.needed("file") not in known:
            raise row.error(f"a file that {MANIFEST} names", repr(row.text("file")))
        whose = row.text("participant")
        of = [r for r in recordings if r.file == row.text("file") and whose in ("", r.participant)]
        if not of:
            raise row.error(f"a participant that {MANIFEST} names for this file", repr(whose))
        for recording in of:
            numbers[recording.name] = numbers.get(recording.name, 0) + 1
            read.append(_trial(row, numbers[recording.name], scheme, recording.name))
    if not read:
        raise DatasetError("trials", f"none in {root / TRIALS}", "write a row for each trial")
    return Tables(recordings, tuple(read), (*unused, *unused_too))


@dataclass(frozen=True)
class Tables:
    """A data set's tables, checked against each other.

    Example::

        tables = read_tables(Path("study"), scheme="va4")
        for recording in tables.recordings:
            print(recording.name, [trial.label for trial in tables.trials_of(recording)])
    """

    recordings: tuple[Recording, ...]
    trials: tuple[TrialRow, ...]
    unused: tuple[str, ...]  # columns that were passed over, as "trials.csv: mood"

    def trials_of(self, recording: Recording) -> tuple[TrialRow, ...]:
        """Return the trials of one recording, in the order of the table."""
        return tuple(trial for trial in self.trials if trial.file == recording.name)


@dataclass(frozen=True)
class Recording:
    """One row of the manifest."""

    row: int
    name: str  # of the recording: the file as the tables name it, with the EEG where several people share the file
    file: str  # as the tables name it
    path: Path
    participant: str
    session: str = "1"
    eeg: str = "auto"  # as --eeg
    eeg_map: str | None = None  # as --eeg-map
    eeg_map_force: bool = False  # as --eeg-map-force
    eeg_rate: float | None = None  # Hz, as --eeg-rate
    eeg_unit: str | None = None  # as --eeg-unit
    video: Path | None = None  # of the face, or what OpenFace (CSV) or clmer serialize (XDF) made of it
    video_offset_s: float = 0.0  # s from the first EEG sample to the video's first frame
    rest_marker: str = ""  # label of the marker at which the participant begins to rest; "" where there is no rest
    rest_s: float = USUAL_S  # s, how long


@dataclass(frozen=True)
class TrialRow:
    """One row of the table of trials: the place of a trial in the recording, its label and stimulus.

    It lies between two stamps, or begins at the marker ``start`` and ends at the next marker ``stop`` or after
    ``duration_s``. Rows of one file with the same ``start`` are the first, second, ... marker of that label.
    """

    row: int
    file: str  # name of its recording
    trial: str
    label: str
    stimulus: str  # "" where none is named
    t_start: float = math.nan  # s, of the recording's clock
    t_end: float = math.nan  # s
    start: str = ""
    stop: str = ""
    duration_s: float = math.nan

    @property
    def place(self) -> tuple[object, ...]:
        """The fields that place the trial in the recording; they decide the windows, the label does not."""
        times = (str(self.t_start), str(self.t_end), str(self.duration_s))  # str: NaN equals itself then
        return (self.start, self.stop, *times)


def _read(path: Path, known: Sequence[str], needed: Iterable[str]) -> tuple[list[_Row], tuple[str, ...]]:
    """Return the non-empty rows of a table, and its unknown columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"a table {path}", str(error), "write it as CSV, UTF-8; see docs/training.md") from error
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=";" if ";" in head and "," not in head else ",")
    columns = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in needed if name not in columns]
    if missing:
        raise DatasetError(f"a column {missing[0]}", f"{', '.join(columns) or 'nothing'} in {path}, row 1", "add it")
    rows = [
        _Row(path, reader.line_num, dict(zip(columns, (cell.strip() for cell in cells), strict=False)))
        for cells in reader
        if any(cell.strip() for cell in cells)
    ]
    return rows, tuple(f"{path.name}: {name}" for name in columns if name and name not in known)


def _recording(row: _Row, root: Path, reading: EegReading, *, shared: bool) -> Recording:
    path = root / row.needed("file")
    video = root / row.text("video") if row.text("video") else None
    for file in (path, video):
        if file is not None and not file.is_file():
            raise row.error("a file that is there", str(file))
    if row.text("eeg_unit") not in ("", "V", "mV", "uV"):
        raise row.error("eeg_unit V, mV, uV or nothing", repr(row.text("eeg_unit")))
    if row.text("eeg_map_force").lower() not in (*_YES, "", "no", "false", "0"):
        raise row.error("eeg_map_force yes, no or nothing", repr(row.text("eeg_map_force")))
    rate_hz = row.number_of("eeg_rate") if row.text("eeg_rate") else reading.eeg_rate
    force = row.text("eeg_map_force").lower() in _YES if row.text("eeg_map_force") else reading.eeg_map_force
    if rate_hz is not None and not 0 < rate_hz <= 100_000:
        raise row.error("eeg_rate above 0, in Hz, or nothing", repr(row.text("eeg_rate")))
    return Recording(
        row=row.number,
        name=f"{row.text('file')} ({row.text('eeg') or 'auto'})" if shared else row.text("file"),
        file=row.text("file"),
        path=path,
        participant=row.needed("participant"),
        session=row.text("session") or "1",
        eeg=row.text("eeg") or reading.eeg,
        eeg_map=row.text("eeg_map") or reading.eeg_map,
        eeg_map_force=force,
        eeg_rate=rate_hz,
        eeg_unit=row.text("eeg_unit") or reading.eeg_unit,
        video=video,
        video_offset_s=row.number_of("video_offset", 0.0),
        rest_marker=row.text("rest_marker"),
        rest_s=row.number_of("rest_s", USUAL_S),
    )


def _check_unique(rows: Iterable[_Row]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        key = row.text("file"), row.text("eeg")
        if key in seen:
            expected = "each file once, or once for each EEG stream in it (column eeg)"
            raise row.error(expected, f"{row.text('file')!r}, as in row {seen[key]},")
        seen[key] = row.number


def _trial(row: _Row, number: int, scheme: str | None, recording: str) -> TrialRow:
    trial = TrialRow(
        row=row.number,
        file=recording,
        trial=row.text("trial") or str(number),
        label=row.needed("label") if scheme is None else _rated(row, scheme),
        stimulus=row.text("stimulus"),
        t_start=row.number_of("t_start"),
        t_end=row.number_of("t_end"),
        start=row.text("start"),
        stop=row.text("stop"),
        duration_s=row.number_of("duration"),
    )
    timed = math.isfinite(trial.t_start)
    ends = math.isfinite(trial.t_end) if timed else bool(trial.stop)
    if not (timed or trial.start) or not (ends or math.isfinite(trial.duration_s)):
        raise row.error("t_start and t_end, or markers start and stop, or a duration in place of the end", "neither")
    if trial.t_end <= trial.t_start or trial.duration_s <= 0:
        raise row.error("a trial that ends behind its start", f"{trial.t_start:g} to {trial.t_end:g} s")
    return trial


def _rated(row: _Row, scheme: str) -> str:
    valence, arousal = row.number_of("valence"), row.number_of("arousal")
    for name, value in (("valence", valence), ("arousal", arousal)):
        if not LOWEST <= value <= HIGHEST:
            raise row.error(f"{name} of {LOWEST:g} to {HIGHEST:g}, or a label", row.text(name) or "an empty cell")
    return SCHEMES[scheme](valence, arousal)


class _Row:
    """One row with its place in the file, for error messages."""

    def __init__(self, path: Path, number: int, cells: dict[str, str]) -> None:
        self.path = path
        self.number = number
        self.cells = cells

    def error(self, expected: str, found: str) -> DatasetError:
        return DatasetError(expected, f"{found} in {self.path}, row {self.number}", "mend this row")

    def text(self, column: str) -> str:
        return self.cells.get(column, "")

    def needed(self, column: str) -> str:
        if not self.text(column):
            raise self.error(f"a value for {column}", "an empty cell")
        return self.text(column)

    def number_of(self, column: str, default: float = math.nan) -> float:
        text = self.text(column)
        try:
            value = float(text) if text else default
        except ValueError:
            value = math.inf
        if math.isinf(value) or (text and math.isnan(value)):
            raise self.error(f"a number for {column}", repr(text))
        return value


LOWEST, HIGHEST = 1.0, 9.0
HIGH_ABOVE = 5.0  # of two levels: the middle of the scale is low (DEAP's authors cut there, too)
MEDIUM_FROM, HIGH_FROM = 3.0, 6.0  # of three levels: [1, 3) low, [3, 6) medium, [6, 9] high (paper, section on DEAP)


def _two(rating: float) -> str:
    return "H" if rating > HIGH_ABOVE else "L"


def _three(rating: float) -> str:
    if rating < MEDIUM_FROM:
        return "L"
    return "H" if rating >= HIGH_FROM else "M"


SCHEMES: dict[str, Callable[[float, float], str]] = {
    "va4": lambda valence, arousal: f"{_two(valence)}V{_two(arousal)}A",
    "va9": lambda valence, arousal: f"{_three(valence)}V{_three(arousal)}A",
    "v2": lambda valence, arousal: f"{_two(valence)}V",
    "a2": lambda valence, arousal: f"{_two(arousal)}A",
}
"""Functions that turn a pair of ratings, valence first, into a label."""


LABELS_VA9 = tuple(f"{v}V{a}A" for v in "LMH" for a in "LMH")
"""The paper's nine classes of DEAP; the index is ``3 * V + A``."""


_KNOWN_ORDERS = (LABELS_VA4, LABELS_VA9, ("LV", "HV"), ("LA", "HA"))


def ordered_labels(found: Iterable[str]) -> tuple[str, ...]:
    """Return the labels that occur in class order: quadrants and levels as the model has them, others by name."""
    labels = set(found)
    return next((known for known in _KNOWN_ORDERS if labels <= set(known)), tuple(sorted(labels)))
