"""Names in a BIDS folder: labels hold letters and digits alone, files are named after what they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_NO_LABEL = re.compile(r"[^A-Za-z0-9]")


def bids_label(name: str) -> str:
    """Return a name without everything that a BIDS label cannot hold; ``""`` where nothing is left."""
    return _NO_LABEL.sub("", name)


@dataclass(frozen=True)
class BidsNames:
    """Where the files of one session lie below the data set."""

    subject: str  # labels, without sub- and ses-
    session: str
    task: str
    run: int | None = None  # from 1; None where there is only one

    @property
    def subject_folder(self) -> Path:
        """Of the participant."""
        return Path(f"sub-{self.subject}")

    @property
    def session_folder(self) -> Path:
        """Of the session."""
        return self.subject_folder / f"ses-{self.session}"

    def of_run(self, run: int | None) -> BidsNames:
        """Return the names of one run."""
        return replace(self, run=run)

    def eeg(self, ending: str, *entities: str) -> Path:
        """Return a file of the EEG folder, such as ``..._eeg.edf``; ``entities`` stand before the ending."""
        stem = "_".join([self._stem(), f"task-{self.task}", *self._run(), *entities])
        return self.session_folder / "eeg" / f"{stem}_{ending}"

    def motion(self, tracksys: str, ending: str) -> Path:
        """Return a file of a tracking system, such as ``..._motion.tsv``."""
        stem = "_".join([self._stem(), f"task-{self.task}", f"tracksys-{tracksys}", *self._run()])
        return self.session_folder / "motion" / f"{stem}_{ending}"

    def scans(self) -> Path:
        """Return the list of the session's recordings."""
        return self.session_folder / f"{self._stem()}_scans.tsv"

    def _run(self) -> list[str]:
        return [] if self.run is None else [f"run-{self.run}"]

    def _stem(self) -> str:
        return f"sub-{self.subject}_ses-{self.session}"
