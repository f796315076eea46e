"""Layout of a BIDS data set, to which sessions are added one by one.

In reading order: the files at the top of the data set, the names of a session's files, and the runs of its EEG.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clmer_server.archive.bids.eeg import RegularSignal, eeg_channels, regular_signals
from clmer_server.archive.sessions import SessionFacts
from clmer_server.archive.tables import Cell, Table, tsv_text
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.types import Item, StreamInfo

_BIDS_VERSION = "1.10.0"
_GENERATOR = "clmer"
_DESCRIPTION = "dataset_description.json"
_PARTICIPANTS = "participants.tsv"

_README = """# Sessions recorded with CLMER

Made by `clmer session export`. EEG is raw: no filter, no new reference, no resampling.

- EDF cannot hold gaps. Where samples were never received, the file holds straight lines between the samples on either
  side; `events.tsv` has a row `gap` for each such place, and the EDF an annotation `BAD_gap`, which MNE leaves out.
  Losses of at most 0.1 s are bridged without a row; `BridgedSamples` in `eeg.json` counts them.
- EDF holds whole seconds: the last value is held up to the next one (row `padding`, annotation `BAD_padding`).
- A gap of more than ten minutes, a jump of the clock or another headset begins a new run.
- Times of events are those of the sample that they met: the headset's clock may drift against that of the computer.
- `derivatives/clmer` has what the model answered, window by window.
- `motion` has the face in numbers, a row per frame as the camera gave it, never resampled: `EEG_TIME` is its time in
  the EEG. The 68 points are there only where they were asked for.
- Series of numbers that come at odd times, as HOG or those of a tracker do, are not exported: `physio` has a constant
  rate, and rows on an even grid would be invented. They are in the recording.
- Participants are pseudonyms. EEG can point to a person all the same, and the points of a face more so: keep it where
  only those see it who need it.
"""

_PARTICIPANT_COLUMNS = {
    "participant_id": {"Description": "Participant, letters and digits of the pseudonym"},
    "pseudonym": {"Description": "Pseudonym as the service was given it; n/a: none was given"},
}


def prepare_dataset(root: Path) -> None:
    """Create a data set, or check that a session can be added to the existing one.

    Args:
        root: Folder of the data set; created if it does not exist.

    Raises:
        SettingsError: The folder holds something else, or cannot be written to.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (root / _DESCRIPTION).exists() and any(root.iterdir()):
            raise SettingsError("a new folder, or one of clmer session export", f"{root} with other files", "name one")
        if (root / _DESCRIPTION).exists() and not _made_by_clmer(root / _DESCRIPTION):
            raise SettingsError(
                "a data set that clmer session export made", f"{root} by another", "name a new folder: --to FOLDER"
            )
        write_json(root / _DESCRIPTION, _description("raw", "Sessions recorded with CLMER"))
        (root / "README.md").write_text(_README, encoding="utf-8")
        derived = root / "derivatives" / _GENERATOR
        derived.mkdir(parents=True, exist_ok=True)
        write_json(derived / _DESCRIPTION, _description("derivative", "Predictions of CLMER, window by window"))
    except OSError as error:
        raise write_error(root, error) from error


def add_participant(root: Path, label: str, pseudonym: str | None) -> None:
    """Add a participant to ``participants.tsv``, unless it is listed already.

    Args:
        root: Folder of the data set.
        label: BIDS label of the participant, without ``sub-``.
        pseudonym: Pseudonym; None where none was given.

    Raises:
        SettingsError: Another pseudonym has the same label.
    """
    path = root / _PARTICIPANTS
    pseudonyms: dict[str, Cell] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            pseudonyms = {row["participant_id"]: row["pseudonym"] for row in csv.DictReader(file, delimiter="\t")}
    name, text = f"sub-{label}", pseudonym or "n/a"
    if pseudonyms.setdefault(name, text) != text:
        raise SettingsError(
            "pseudonyms that differ in letters or digits",
            f"{pseudonyms[name]} and {text}",
            "export it to another folder",
        )
    table = Table(tuple(_PARTICIPANT_COLUMNS), tuple(sorted(pseudonyms.items())))
    path.write_text(tsv_text(table), encoding="utf-8")
    write_json(root / "participants.json", _PARTICIPANT_COLUMNS)


def write_json(path: Path, plain: dict[str, Any]) -> None:
    """Write plain JSON values, indented."""
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_error(path: Path, error: OSError) -> SettingsError:
    """Return the error for a folder that cannot be written to."""
    return SettingsError(f"a folder that can be written to: {path}", error.strerror or repr(error), "check --to")


def _description(kind: str, name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": kind,
        "GeneratedBy": [{"Name": _GENERATOR, "Version": version("clmer")}],
    }


def _made_by_clmer(path: Path) -> bool:
    try:
        generators = json.loads(path.read_text(encoding="utf-8")).get("GeneratedBy", [])
        return any(generator.get("Name") == _GENERATOR for generator in generators)
    except (OSError, ValueError, AttributeError):
        return False


_NON_LABEL = re.compile(r"[^A-Za-z0-9]")


def bids_label(name: str) -> str:
    """Return a name as a BIDS label: its ASCII letters and digits, ``""`` where it has none."""
    return _NON_LABEL.sub("", name)


@dataclass(frozen=True)
class BidsNames:
    """Paths of the files of one session, relative to the data set.

    Example::

        names = BidsNames("P01", "morning", "emotion")
        names.eeg("eeg.edf")  # sub-P01/ses-morning/eeg/sub-P01_ses-morning_task-emotion_eeg.edf
    """

    subject: str  # label, without sub-
    session: str  # label, without ses-
    task: str
    run: int | None = None  # from 1; None where there is only one

    @property
    def subject_folder(self) -> Path:
        """Folder of the participant."""
        return Path(f"sub-{self.subject}")

    @property
    def session_folder(self) -> Path:
        """Folder of the session."""
        return self.subject_folder / f"ses-{self.session}"

    def of_run(self, run: int | None) -> BidsNames:
        """Return the names of one run; None for the only one."""
        return replace(self, run=run)

    def eeg(self, ending: str, *entities: str) -> Path:
        """Return the path of a file in the EEG folder.

        Args:
            ending: Suffix and extension, such as ``eeg.edf``.
            entities: Further entities, such as ``recording-ecg``.
        """
        stem = "_".join([self._stem(), f"task-{self.task}", *self._run(), *entities])
        return self.session_folder / "eeg" / f"{stem}_{ending}"

    def motion(self, tracksys: str, ending: str) -> Path:
        """Return the path of a file of a tracking system.

        Args:
            tracksys: Name of the tracking system.
            ending: Suffix and extension, such as ``motion.tsv``.
        """
        stem = "_".join([self._stem(), f"task-{self.task}", f"tracksys-{tracksys}", *self._run()])
        return self.session_folder / "motion" / f"{stem}_{ending}"

    def scans(self) -> Path:
        """Return the path of the list of the session's recordings."""
        return self.session_folder / f"{self._stem()}_scans.tsv"

    def _run(self) -> list[str]:
        return [] if self.run is None else [f"run-{self.run}"]

    def _stem(self) -> str:
        return f"sub-{self.subject}_ses-{self.session}"


@dataclass(frozen=True)
class BidsRun:
    """One run of EEG, and the names of its files."""

    names: BidsNames
    signal: RegularSignal


def bids_runs(items: Sequence[Item], names: BidsNames, facts: SessionFacts) -> list[BidsRun]:
    """Return the runs of a session in order of time, numbered from 1; a single run has no number.

    Args:
        items: Items of the session.
        names: Names of the session's files.
        facts: The session.

    Raises:
        RecordingError: The session holds no EEG, or EEG without a rate.
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
    """Return the last run that begins at or before ``t`` seconds of the LSL clock; else the first one."""
    return next((run for run in reversed(runs) if run.signal.t0 <= t), runs[0])
