"""Markers and gaps of a session as BIDS has events: in seconds from the first sample of the EEG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clmer_server.archive.regular_signals import RegularSignal
from clmer_server.archive.tables import Table
from clmer_streaming.types import Marker

EVENT_COLUMNS: dict[str, Any] = {
    "onset": {"Description": "Start of the event", "Units": "s"},
    "duration": {"Description": "Its length; n/a: not known", "Units": "s"},
    "trial_type": {
        "Description": "marker: of the experiment. gap: EEG samples were never received and the file holds straight "
        "lines. padding: the file holds the last value, because EDF holds whole seconds",
        "Levels": {"marker": "an event of the experiment", "gap": "no EEG", "padding": "behind the end of the EEG"},
    },
    "value": {"Description": "Label of a marker, or why there is a gap"},
    "sample": {"Description": "Sample of the EEG at the onset, from 0"},
    "lsl_time": {"Description": "The onset on the LSL clock of the recording computer", "Units": "s"},
    "stream": {"Description": "Stream that the marker came from"},
}
"""What the columns of ``events.tsv`` mean."""


@dataclass(frozen=True)
class BidsEvent:
    """One event."""

    onset_s: float
    duration_s: float  # 0: a moment
    trial_type: str
    value: str
    lsl_time: float | None
    stream: str | None = None

    @property
    def annotation(self) -> str:
        """What it is called within EDF; MNE leaves out what begins with BAD."""
        if self.trial_type != "marker":
            return f"BAD_{self.trial_type}"
        plain = "".join(letter if letter.isprintable() else " " for letter in self.value)
        return plain.replace("@@", "@ @")  # MNE takes what follows @@ for a channel


def bids_events(signal: RegularSignal, n_padded: int, markers: Sequence[Marker]) -> list[BidsEvent]:
    """Return the events of one run of EEG, in order of their onset."""
    found = [
        BidsEvent(signal.seconds_of(marker.t), 0.0, "marker", marker.label or "n/a", marker.t, marker.source)
        for marker in markers
    ]
    found += [BidsEvent(gap.first / signal.sfreq, gap.n / signal.sfreq, "gap", gap.reason, None) for gap in signal.gaps]
    if n_padded:
        found.append(BidsEvent(signal.t.size / signal.sfreq, n_padded / signal.sfreq, "padding", "n/a", None))
    return sorted(found, key=lambda event: event.onset_s)


def event_table(events: Sequence[BidsEvent], sfreq: float) -> Table:
    """Return the events as rows of ``events.tsv``."""
    rows = tuple(
        (
            event.onset_s,
            event.duration_s,
            event.trial_type,
            event.value,
            round(event.onset_s * sfreq),
            event.lsl_time,
            event.stream,
        )
        for event in events
    )
    return Table(tuple(EVENT_COLUMNS), rows)
