"""A source whose EEG is announced with what the user knows better: its unit, its delay."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

from clmer_streaming.types import Item, Source, StreamInfo
from clmer_streaming.units import with_unit


@dataclass(frozen=True)
class EegCorrections:
    """What is known of the EEG beside what its stream says."""

    unit: str | None = None  # in place of the declared one
    delay_s: float = 0.0  # on top of the declared one

    def applied_to(self, item: Item) -> Item:
        """Return the announcement of an EEG stream corrected; every other item as it is."""
        if not isinstance(item, StreamInfo) or item.kind != "eeg":
            return item
        info = item if self.unit is None else with_unit(item, self.unit)
        return dataclasses.replace(info, delay_s=info.delay_s + self.delay_s) if self.delay_s else info


class AdjustedSource:
    """Source: another one, with its EEG announced as corrected.

    Args:
        source: The other one.
        corrections: What is known better.
    """

    def __init__(self, source: Source, corrections: EegCorrections) -> None:
        self._source = source
        self._corrections = corrections

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the other source's items until it ends or is stopped."""
        self._source.run(lambda item: put(self._corrections.applied_to(item)), stop)
