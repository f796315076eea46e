"""Replaying a session that clmer recorded: the very items that the Preprocessor was fed, in file order."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from clmer_streaming.clock import StreamClock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.pipeline.channels import apply_eeg_map, resolve_channels
from clmer_streaming.pipeline.extra import physio_source
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.sources.replay import Pace
from clmer_streaming.types import Chunk, FaceSample, Gap, Item, Marker, RestBaseline, Source, StreamInfo, Tick

_BETWEEN_LAPS_S = 2.5  # s; longer than the longest chunk of a headset, 256 samples at 128 Hz
_STEP_BACK_S = 5.0  # s; a clock that steps back further has jumped, and the replay goes on from there


class SessionReplaySource:
    """Delivers a recorded session: announcements, chunks as they were cut, faces, markers, ticks and gaps.

    Args:
        path: A file that ``is_session_recording``.
        eeg_map: Other names for EEG channels; None keeps those of the session.
        speed: Seconds of the recording per second; ``math.inf``: as fast as the items are taken.
        loop: Go on from the beginning at the end, for ever, with later stamps.
        preprocess: The signal settings of now.

    Attributes:
        pace: Holds it and changes its speed.
        warnings: Sentences for people on what is damaged, or other than when the session was recorded.
        duration_s: Seconds from the first to the last stamp.
        participant: Pseudonym of whose session it is; None: nobody was named.

    Raises:
        RecordingError: The file is no recorded session, or damaged at its beginning.
        StreamError: Its EEG cannot feed the model, or the map does not fit it.
        SettingsError: The speed is not above 0.
    """

    def __init__(
        self,
        path: Path,
        *,
        eeg_map: str | None = None,
        speed: float = 1.0,
        loop: bool = False,
        preprocess: PreprocessConfig | None = None,
    ) -> None:
        if not speed > 0:
            raise SettingsError("a replay speed above 0", f"{speed:g}", "use 1 for real time, max for full speed")
        self._reader = SessionReader(path)
        self._eeg_map = eeg_map
        self.pace = Pace(speed)
        self._loop = loop
        self.warnings = (*self._reader.survey.warnings, *_other_settings(self._reader, preprocess))
        self.duration_s = self._reader.survey.last - self._reader.survey.first
        named = self._reader.header.get("participant")
        self.participant = named if isinstance(named, str) else None
        first_eeg = next((item for item in self._lap() if isinstance(item, StreamInfo) and item.kind == "eeg"), None)
        if first_eeg is not None:
            resolve_channels(first_eeg, (preprocess or PreprocessConfig()).signal)

    def items(self) -> Iterator[Item]:
        """Yield what ``run`` delivers, without waiting; endless when looping."""
        yield from self._lap()
        for lap in itertools.count(1) if self._loop else ():
            shift_s = lap * (self.duration_s + _BETWEEN_LAPS_S)
            yield from (item if isinstance(item, StreamInfo) else shifted(item, shift_s) for item in self._lap())

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the session, each item when its newest sample is due, until its end or until stopped."""
        clock, due = StreamClock(self._reader.survey.first), self._reader.survey.first
        self.pace.begin()
        for item in self.items():
            t = clock.take(item)
            due = t if t > due or t < due - _STEP_BACK_S else due
            if self.pace.stopped_before(due, stop):
                return
            put(item)

    def _lap(self) -> Iterator[Item]:
        for item in self._reader.items():
            if self._eeg_map is not None and isinstance(item, StreamInfo) and item.kind == "eeg":
                yield apply_eeg_map(item, self._eeg_map)
            else:
                yield item


def _other_settings(reader: SessionReader, preprocess: PreprocessConfig | None) -> tuple[str, ...]:
    """Return a sentence where the session was recorded with other signal settings than those of now."""
    recorded = reader.header.get("preprocess")
    if preprocess is None or recorded is None or recorded == preprocess.to_dict():
        return ()
    return ("The session was recorded with other signal settings: its windows are not those of then.",)


def shifted(item: Chunk | FaceSample | Marker | Tick | Gap | RestBaseline, shift_s: float) -> Item:
    """Return an item that happens ``shift_s`` seconds later."""
    if isinstance(item, Gap):
        return replace(item, t0=item.t0 + shift_s, t1=item.t1 + shift_s)
    if isinstance(item, Chunk):
        return replace(item, t=item.t + shift_s)
    return replace(item, t=item.t + shift_s)


class NamedSeries:
    """Source: another one, whose streams of these names or types are announced as series of the model.

    A session is recorded with every stream that was there, whatever the model of that day knew. Streams that were
    series then keep their names.

    Args:
        source: The other one.
        streams: By series: name or type of the stream that gives it; the first such stream is taken.
    """

    def __init__(self, source: Source, streams: Mapping[str, str]) -> None:
        self._source = source
        self._wanted = {series: stream.lower() for series, stream in streams.items()}
        self._renamed: dict[str, str] = {}  # by source key of the other one: the series' key

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the other source's items until it ends or is stopped."""
        self._source.run(lambda item: put(self._named(item)), stop)

    def _named(self, item: Item) -> Item:
        if isinstance(item, StreamInfo) and item.kind in ("other", "contact"):
            self._note(item)
            if item.source in self._renamed:
                return dataclasses.replace(item, source=self._renamed[item.source], kind="physio")
        if isinstance(item, Chunk | Gap | Tick) and item.source in self._renamed:
            return dataclasses.replace(item, source=self._renamed[item.source])
        return item

    def _note(self, info: StreamInfo) -> None:
        for series, wanted in self._wanted.items():
            key = physio_source(series)
            if wanted in (info.name.lower(), info.type.lower()) and key not in self._renamed.values():
                self._renamed.setdefault(info.source, key)
