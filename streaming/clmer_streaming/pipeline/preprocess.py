"""The preprocessor: items of all streams in, windows out, the same live, replayed and offline."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from clmer_streaming.config import PhysioConfig, PreprocessConfig, series_name
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.channels import ContactQuality, worst_contact
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.rate import LONGEST_HOLD_S
from clmer_streaming.pipeline.sampled import SampledCut, SampledTrack, eeg_series, physio_series
from clmer_streaming.pipeline.slotted import SlotCut, SlottedTrack
from clmer_streaming.pipeline.track import Track
from clmer_streaming.pipeline.window import WindowAssembler
from clmer_streaming.types import (
    CLOCK_KINDS,
    INPUT_KINDS,
    BoolArray,
    Chunk,
    FaceSample,
    FloatArray,
    Gap,
    Item,
    RestBaseline,
    StreamInfo,
    StreamStatus,
    Tick,
    Window,
)

AnyTrack: TypeAlias = Track[SampledCut | SlotCut]
"""The track of EEG, a face, or a further series."""

_LONGEST_GRID_GAP_S = 600.0  # s; a clock that jumps further ahead moves the grid with it
_KIND_ORDER = ("eeg", "face", "physio")  # of the statuses


class Preprocessor:
    """Turns the items of one participant into windows on the absolute grid ``t_end = k * hop``.

    A window closes when every live stream has passed its end, or when one (or a Tick) has passed it by
    ``max_lateness_s`` and the longest chunk of a live stream. From the first EEG, face or Tick on every grid
    point gives a window (further series alone begin none); what was not measured is masked in it, with the reason.

    Args:
        config: The settings of the artifact.
        at_once: Filter every chunk when it comes, at more cost and for the same windows, rather than when a window
            could close.

    Example::

        preprocessor = Preprocessor(PreprocessConfig())
        preprocessor.push(StreamInfo("eeg", "eeg", "EPOC", EPOC_CH_NAMES, 128.0, unit="uV"))
        for window in preprocessor.push(Chunk("eeg", t, x)):  # t (n,) seconds, x (14, n)
            print(window.t_end, window.mask["eeg"].sum(), window.reasons)
    """

    def __init__(self, config: PreprocessConfig, *, at_once: bool = False) -> None:
        self.config = config
        self._at_once = at_once
        self._hop_s = config.window.hop_s
        self.reset()

    def reset(self) -> None:
        """Forget everything, announced streams included."""
        self._tracks: dict[str, AnyTrack] = {}  # by source
        self._eeg: SampledTrack | None = None  # the one of them whose samples may wait to be filtered
        self._refused: dict[str, StreamStatus] = {}  # by source: streams that cannot give their series
        self._contact: dict[str, ContactQuality] = {}  # by source
        self._assembler = WindowAssembler(self.config)
        self._now = -np.inf  # s, the furthest that any stream or tick has come
        self._next_index: int | None = None  # of the next window; None before the grid has begun
        self._quiet_until = -np.inf  # s; before it, samples of live streams close no window and change no state

    def push(self, item: Item) -> list[Window]:
        """Process one item and return the windows that it closes, in order.

        Raises:
            StreamError: An announced EEG stream cannot feed the model.
        """
        match item:
            case Chunk() | FaceSample() | Gap() if item.source in self._tracks:
                closes = self._push_samples(self._tracks[item.source], item)
            case _:
                self._release()
                closes = self._push_other(item)
        return self._close_windows() if closes else []

    def _push_samples(self, track: AnyTrack, item: Chunk | FaceSample | Gap) -> bool:
        """Push samples to their track; return whether a window may close or a state change."""
        if isinstance(item, Chunk) and item.x.dtype != np.float64:
            item = replace(item, x=item.x.astype(np.float64))
        quiet = self._is_quiet(track, item)
        may_wait = track is self._eeg
        if not (quiet or may_wait):
            self._release()
        closes = track.push(item, self._now, self._quiet_until if may_wait else -math.inf)
        if track.sets_time:
            self._begin_grid(track.t_first)
            self._now = max(self._now, track.watermark)
            if self._next_index is not None:  # what waits for the rate will come late, and must not count as live
                self._now = max(self._now, track.held[1])
        return closes and not quiet

    def _push_other(self, item: Item) -> bool:
        """Take an item that is no sample of a track; return whether a window may close or a state change."""
        match item:
            case StreamInfo():
                self._announce(item)
                return True
            case Tick():
                self._begin_grid(item.t)
                self._now = max(self._now, item.t)
                return True
            case Chunk() | Gap() if item.source in self._contact:
                self._contact[item.source].push(item)
            case RestBaseline():
                self._assembler.rest = item
        return False

    def _announce(self, info: StreamInfo) -> None:
        """Make the track of a stream, or go on with the one that there is."""
        if info.kind == "contact":
            self._contact[info.source] = ContactQuality(info, self.config.signal.ch_names)
        if info.kind not in INPUT_KINDS:
            return
        before = self._tracks.get(info.source)
        if info.kind in CLOCK_KINDS:  # there is one stream of EEG and one of faces: the last that was announced
            before = next((track for track in self._tracks.values() if track.info.kind == info.kind), None)
        liveness = Liveness(self._now if math.isfinite(self._now) else math.nan)
        track: AnyTrack | None = before
        if not (isinstance(before, SlottedTrack) and before.resume(info, liveness)):
            track = self._new_track(info, liveness)
        self._tracks = {source: one for source, one in self._tracks.items() if one is not before}
        if isinstance(track, SampledTrack) and info.kind == "eeg":
            if self._eeg is not None:
                track.continue_from(self._eeg)
            self._eeg = track
        if track is not None:
            self._tracks[info.source] = track

    def _new_track(self, info: StreamInfo, liveness: Liveness) -> AnyTrack | None:
        """Return the track of a stream; None where the model has no use of it, or it cannot give its series."""
        config = self.config
        if info.kind == "eeg":
            return SampledTrack(info, eeg_series(info, config.signal), config, liveness)
        if info.kind == "face":
            return SlottedTrack(info, None, config, liveness)
        self._refused.pop(info.source, None)
        series = config.further_of(series_name(info.source))
        try:
            if isinstance(series, PhysioConfig):
                return SampledTrack(info, physio_series(info, series), config, liveness)
            return None if series is None else SlottedTrack(info, series, config, liveness)
        except StreamError as error:
            reason = f"not used: expected {error.expected}, found {error.found}; {error.mend}"
            self._refused[info.source] = StreamStatus(
                info.source, "physio", info.name, "connecting", self._now, reason, nominal_rate_hz=info.sfreq
            )
            return None

    def _begin_grid(self, t: float) -> None:
        """Begin the grid at ``t`` seconds, or with the EEG that waits for its rate to be known; NaN begins none."""
        if self._next_index is None and math.isfinite(t):
            held = math.nan if self._eeg is None else self._eeg.held[0]
            t = held if 0 < t - held < LONGEST_HOLD_S else t
            self._next_index = int(np.floor(t / self._hop_s)) + 1

    def _close_windows(self) -> list[Window]:
        """Return the windows that are complete, drop what no later one needs, and find how long EEG may wait."""
        if self._next_index is None:
            return []
        for track in self._tracks.values():
            track.liveness.advance(self._now)
        reached = int(np.floor(self._now / self._hop_s))
        if reached - self._next_index > _LONGEST_GRID_GAP_S / self._hop_s:
            self._next_index = reached
        windows = []
        while self._next_index <= reached and self._is_complete(self._next_index * self._hop_s):
            windows.append(self._window(self._next_index))
            self._next_index += 1
        if windows:
            for track in self._tracks.values():
                track.trim(windows[-1].t_end, self._now)
        self._quiet_until = self._find_quiet(self._next_index * self._hop_s)
        return windows

    def _is_complete(self, t_end: float) -> bool:
        live = [track for track in self._tracks.values() if track.in_time and track.liveness.state == "live"]
        if live and min(track.watermark for track in live) >= t_end:
            return True
        chunk_s = max((track.liveness.chunk_s for track in live), default=0.0)
        return self._now >= t_end + self.config.window.max_lateness_s + chunk_s

    def _window(self, index: int) -> Window:
        t_end = index * self._hop_s
        cuts = {track.series: track.cut(t_end) for track in self._tracks.values() if track.in_time}
        return self._assembler.assemble(index, cuts, worst_contact(self._contact.values(), t_end))

    def _find_quiet(self, t_next: float) -> float:
        """Return the time in seconds before which no sample of a live stream closes a window or changes a state.

        Args:
            t_next: End of the next window in seconds.
        """
        if self._at_once or self._eeg is None or self._eeg.liveness.state != "live" or self._now >= t_next:
            return -math.inf
        return min(t_next, *(track.liveness.unchanged_until for track in self._tracks.values()))

    def _is_quiet(self, track: AnyTrack, item: Item) -> bool:
        """Return whether a face can neither close a window nor change a state.

        One of a live stream cannot while it stays before the end of the next window and moves no clock, whatever
        else has come before.
        """
        if self._at_once or not isinstance(item, FaceSample) or self._next_index is None:
            return False
        t, liveness = item.t - track.info.delay_s, track.liveness
        if liveness.state != "live" or t < liveness.last_t:
            return False
        return t < self._quiet_until or (t < self._next_index * self._hop_s and t <= self._now)

    def _release(self) -> None:
        """Filter the EEG that waits, and bring time and states to where they would be without waiting."""
        if self._eeg is not None and math.isfinite(self._quiet_until):
            self._eeg.release()
            self._now = max(self._now, self._eeg.watermark)
            for track in self._tracks.values():
                track.liveness.advance(self._now)

    def filtered_eeg(self, after: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return the filtered EEG newer than ``after`` seconds, by segment: times (n,) and values (C, n) uV.

        At most the last windows and a second are kept. Bad channels are in it, those that the stream lacks are 0, and
        no reference is taken off. These are
        views, good until the next item.
        """
        return [] if self._eeg is None else self._eeg.filtered(after)

    @property
    def eeg_present(self) -> BoolArray:
        """Which of the model's EEG channels the stream has, (C,)."""
        n_channels = len(self.config.signal.ch_names)
        return np.zeros(n_channels, dtype=np.bool_) if self._eeg is None else self._eeg.present

    @property
    def n_kept(self) -> dict[str, int]:
        """Number of samples that are kept, by source."""
        return {source: track.n_kept for source, track in self._tracks.items()}

    def statuses(self) -> tuple[StreamStatus, ...]:
        """Return what is known now of each announced stream that windows are made of: EEG, face, then the others."""
        tracks = sorted(self._tracks.values(), key=lambda track: _KIND_ORDER.index(track.info.kind))
        return (*(track.status() for track in tracks), *self._refused.values())
