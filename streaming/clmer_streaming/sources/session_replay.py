"""Replaying a session that CLMER recorded: the very items that the Preprocessor was fed, in file order."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from clmer_streaming.clock import StreamClock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.lsl.resolve import AUTO
from clmer_streaming.pipeline.channels import apply_eeg_map, resolve_channels
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.sources.replay import Pace
from clmer_streaming.sources.replay_streams import EegChoice
from clmer_streaming.types import Chunk, FaceSample, Gap, Item, Marker, RestBaseline, StreamInfo, Tick

_BETWEEN_LAPS_S = 2.5  # s; longer than the longest chunk of a headset, 256 samples at 128 Hz
_STEP_BACK_S = 5.0  # s; a clock that steps back further has jumped, and the replay goes on from there


class SessionReplaySource:
    """Source: a recorded session, with its announcements, chunks as they were cut, faces, markers, ticks and gaps.

    Example::

        source = SessionReplaySource(Path("session.xdf"), speed=math.inf)
        windows = [window for item in source.items() for window in preprocessor.push(item)]

    Args:
        path: A file for which ``is_session_recording`` is true.
        eeg: Which stream has to be the EEG, and other names for its channels; by default those of the session.
        speed: Seconds of the recording per second; ``math.inf``: as fast as ``put`` allows.
        loop: Start again at the end, without end, with later stamps.
        preprocess: Signal settings of the present model; None: not known.

    Attributes:
        pace: Pauses the replay and changes its speed.
        warnings: Sentences for the user on what is damaged, or differs from when the session was recorded.
        duration_s: Seconds from the first to the last stamp.
        participant: Pseudonym of the participant; None if the session has none.

    Raises:
        RecordingError: The file is not a recorded session, or is damaged at its beginning.
        StreamError: Its EEG cannot feed the model, or the map does not fit it.
        SettingsError: The speed is not above 0, or the choice of the EEG cannot be parsed.
    """

    def __init__(
        self,
        path: Path,
        *,
        eeg: EegChoice = EegChoice(),  # noqa: B008 - frozen
        speed: float = 1.0,
        loop: bool = False,
        preprocess: PreprocessConfig | None = None,
    ) -> None:
        if not speed > 0:
            raise SettingsError("a replay speed above 0", f"{speed:g}", "use 1 for real time, max for full speed")
        self._reader = SessionReader(path)
        self._eeg = eeg
        self._signal = (preprocess or PreprocessConfig()).signal
        self.pace = Pace(speed)
        self._loop = loop
        self.warnings = (*self._reader.summary.warnings, *_other_settings(self._reader, preprocess))
        self.duration_s = self._reader.summary.last - self._reader.summary.first
        named = self._reader.header.get("participant")
        self.participant = named if isinstance(named, str) else None
        first_eeg = next((item for item in self._lap() if isinstance(item, StreamInfo) and item.kind == "eeg"), None)
        _check_choice(first_eeg, eeg)
        if first_eeg is not None:
            resolve_channels(first_eeg, self._signal)

    def items(self) -> Iterator[Item]:
        """Yield what ``run`` delivers, without waiting; endless when looping."""
        yield from self._lap()
        for lap in itertools.count(1) if self._loop else ():
            shift_s = lap * (self.duration_s + _BETWEEN_LAPS_S)
            yield from (item if isinstance(item, StreamInfo) else shifted(item, shift_s) for item in self._lap())

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver each item when its newest sample is due, until the end of the session or until ``stop`` is set."""
        clock, due = StreamClock(self._reader.summary.first), self._reader.summary.first
        self.pace.begin()
        for item in self.items():
            t = clock.update(item)
            due = t if t > due or t < due - _STEP_BACK_S else due
            if self.pace.wait_until(due, stop):
                return
            put(item)

    def _lap(self) -> Iterator[Item]:
        for item in self._reader.items():
            if self._eeg.eeg_map is not None and isinstance(item, StreamInfo) and item.kind == "eeg":
                yield apply_eeg_map(item, self._eeg.eeg_map, self._signal.ch_names, force=self._eeg.force_map)
            else:
                yield item


def _check_choice(eeg: StreamInfo | None, choice: EegChoice) -> None:
    """Check that the EEG of a recorded session is the one that the user asks for.

    Raises:
        StreamError: It is another one.
        SettingsError: The choice cannot be parsed.
    """
    query = choice.parsed()
    if query.text == AUTO or (eeg is not None and query.matches_info(eeg)):
        return
    raise StreamError(
        expected=f"a session whose EEG is {query.text!r}",
        found="none" if eeg is None else f"{eeg.name!r} (source_id {eeg.source_id or 'none'}), as it was recorded",
        mend="leave --eeg out: a session that clmer recorded keeps the EEG that it had",
    )


def _other_settings(reader: SessionReader, preprocess: PreprocessConfig | None) -> tuple[str, ...]:
    """Return a sentence if the session was recorded with other signal settings than the present ones."""
    recorded = reader.header.get("preprocess")
    if preprocess is None or recorded is None or recorded == preprocess.to_dict():
        return ()
    return ("The session was recorded with other signal settings: its windows are not those of then.",)


def shifted(item: Chunk | FaceSample | Marker | Tick | Gap | RestBaseline, shift_s: float) -> Item:
    """Return an item with its stamps moved by ``shift_s`` seconds."""
    if isinstance(item, Gap):
        return replace(item, t0=item.t0 + shift_s, t1=item.t1 + shift_s)
    if isinstance(item, Chunk):
        return replace(item, t=item.t + shift_s)
    return replace(item, t=item.t + shift_s)
