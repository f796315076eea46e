"""The one composition of stages: items in, windows out, the same live, replayed and offline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.pipeline.channels import ContactQuality, worst_contact
from clmer_streaming.pipeline.eeg import EegBuffer, EegCut, EegPath
from clmer_streaming.pipeline.extra import FurtherPaths
from clmer_streaming.pipeline.face import FacePath
from clmer_streaming.pipeline.filters import quiet_until
from clmer_streaming.pipeline.liveness import Liveness
from clmer_streaming.pipeline.quality import Evidence
from clmer_streaming.pipeline.rate import LONGEST_HOLD_S
from clmer_streaming.pipeline.window import WindowAssembler
from clmer_streaming.types import (
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

_LONGEST_GRID_GAP_S = 600.0  # s; a clock that jumps further ahead moves the grid with it


class Preprocessor:
    """Turns the items of one participant into windows on the absolute grid ``t_end = k * hop``.

    A window closes when every live source has passed its end, or when one (or a tick) has passed it by
    ``max_lateness_s`` and the longest chunk of a live source. From the first EEG, face or tick on every grid
    point gives a window (further series alone begin none); what was not measured is masked in it, with the reason.

    Args:
        config: The settings of the artifact.
        at_once: Filter every chunk when it comes, at more cost and for the same windows, rather than when a window
            could close.
    """

    def __init__(self, config: PreprocessConfig, *, at_once: bool = False) -> None:
        self.config = config
        self._at_once = at_once
        self.reset()

    def reset(self) -> None:
        """Forget everything, announced streams included."""
        signal, window_s = self.config.signal, self.config.window.window_s
        self._eeg: EegPath | None = None
        self._face = FacePath(self.config)
        self._buffer = EegBuffer(self.config.n_times, signal.sfreq, window_s, signal.settle_s)
        self._assembler = WindowAssembler(self.config)
        self._live: dict[str, Liveness] = {}
        self._now = -np.inf  # s, the furthest that any source or tick has come
        self._next_index: int | None = None
        self._contact: dict[str, ContactQuality] = {}
        self._further = FurtherPaths(self.config)
        self._quiet_until = -np.inf  # s; before it, samples of live streams close no window and change no state

    def push(self, item: Item) -> list[Window]:
        """Take one item and return the windows that it closes, in order.

        Raises:
            StreamError: An announced EEG stream cannot feed the model.
        """
        match item:
            case Chunk() if self._eeg is not None and item.source == self._eeg.info.source:
                self._take_eeg(self._eeg, item)
                decides = not self._eeg.waits
            case FaceSample() if self._is_quiet(item):
                self._take_face(item)
                decides = False
            case _:
                self._release()
                decides = self._take(item)
        return self._close_windows() if decides else []

    def _is_quiet(self, sample: FaceSample) -> bool:
        """Tell whether a face sample can neither close a window nor change a state.

        One of a live stream cannot while it stays before the end of the next window and moves no clock, whatever
        else has come before.
        """
        if self._at_once or not self._face.fits or self._next_index is None:
            return False
        t, liveness = self._face.stamp(sample), self._live[sample.source]
        if liveness.state != "live" or t < liveness.last_t:
            return False
        return t < self._quiet_until or (t < self._next_index * self.config.window.hop_s and t <= self._now)

    def _release(self) -> None:
        """Bring everything to where it would be, had no EEG waited."""
        if self._eeg is not None and math.isfinite(self._quiet_until):
            self._keep(self._eeg.release())
            for liveness in self._live.values():
                liveness.advance(self._now)

    def _take(self, item: Item) -> bool:
        """Take an item other than EEG; tell whether it can close a window or change a state."""
        match item:
            case StreamInfo():
                self._announce(item)
            case Gap() if self._eeg is not None and item.source == self._eeg.info.source:
                self._take_eeg(self._eeg, item)
            case Chunk() | Gap() if item.source in self._further.by_source:
                self._further.take(item, self._now, self._live[item.source])
            case Chunk() | Gap() if item.source in self._contact:
                self._contact[item.source].push(item)
                return False
            case FaceSample() if self._face.fits:
                self._take_face(item)
            case RestBaseline():
                self._assembler.rest = item
                return False
            case Tick():
                self._begin_grid(item.t)
                self._now = max(self._now, item.t)
            case _:
                return False
        return True

    def _announce(self, info: StreamInfo) -> None:
        if info.kind == "eeg":
            if self._eeg is not None and np.isfinite(self._eeg.last_t):
                self._buffer.push(Gap(self._eeg.last_t, self._eeg.last_t, info.source, "stream_restarted"))
            self._eeg = EegPath(info, self.config)
        elif info.kind == "face":
            self._face.info = info
        elif info.kind == "contact":
            self._contact[info.source] = ContactQuality(info, self.config.signal.ch_names)
            return
        elif info.kind != "physio" or not self._further.announce(info, self._now):
            return
        self._live[info.source] = Liveness(self._now if np.isfinite(self._now) else np.nan)

    def _take_eeg(self, path: EegPath, item: Chunk | Gap) -> None:
        self._keep(path.push(item, self._quiet_until))
        if isinstance(item, Chunk) and math.isfinite(path.t_first):
            chunk_s = (item.t.size - 1) / path.sfreq
            self._live[item.source].observe(path.t_first, path.last_t, chunk_s)
        held = path.held[1]
        if self._next_index is not None and math.isfinite(held):
            self._now = max(self._now, held)  # what waits for the rate must not come late and pass for live

    def _keep(self, filtered: Iterable[Item]) -> None:
        for item in filtered:
            if isinstance(item, Chunk | Gap):
                self._buffer.push(item)
            if isinstance(item, Chunk) and item.t.size:
                self._begin_grid(float(item.t[0]))
        self._now = max(self._now, self._buffer.watermark)

    def _take_face(self, sample: FaceSample) -> None:
        t = self._face.stamp(sample)
        self._begin_grid(t)
        self._face.push(sample)
        self._live[sample.source].observe(t, t, 0.0)
        self._now = max(self._now, self._face.slots.watermark)

    def _begin_grid(self, t: float) -> None:
        if self._next_index is None:
            held = np.nan if self._eeg is None else self._eeg.held[0]
            t = held if 0 < t - held < LONGEST_HOLD_S else t
            self._next_index = int(np.floor(t / self.config.window.hop_s)) + 1

    def _close_windows(self) -> list[Window]:
        if self._next_index is None:
            return []
        for liveness in self._live.values():
            liveness.advance(self._now)
        hop_s = self.config.window.hop_s
        reached = int(np.floor(self._now / hop_s))
        if reached - self._next_index > _LONGEST_GRID_GAP_S / hop_s:
            self._next_index = reached
        windows = []
        while self._next_index <= reached and self._complete(self._next_index * hop_s):
            windows.append(self._window(self._next_index))
            self._next_index += 1
        if windows:
            self._buffer.forget_before(windows[-1].t_end)
            self._face.slots.forget_before(windows[-1].t_end)
            self._further.forget_before(windows[-1].t_end, self._now)
            if self._eeg is not None:
                self._eeg.raw.forget_before(windows[-1].t_end - self.config.window.window_s)
        self._quiet_until = self._find_quiet()
        return windows

    def _find_quiet(self) -> float:
        if self._at_once or self._eeg is None or self._next_index is None:
            return -np.inf
        t_next = self._next_index * self.config.window.hop_s
        return quiet_until(t_next, self._now, self._live[self._eeg.info.source], self._live.values())

    def _complete(self, t_end: float) -> bool:
        marks = self._live_watermarks()
        if marks and min(marks.values()) >= t_end:
            return True
        chunk_s = max((self._live[source].chunk_s for source in marks), default=0.0)
        return self._now >= t_end + self.config.window.max_lateness_s + chunk_s

    def _live_watermarks(self) -> dict[str, float]:
        marks = self._further.watermarks(self._live)
        if self._eeg is not None:
            marks[self._eeg.info.source] = self._buffer.watermark
        if self._face.info is not None and self._face.fits:
            marks[self._face.info.source] = self._face.slots.watermark
        return {source: mark for source, mark in marks.items() if self._live[source].state == "live"}

    def _window(self, index: int) -> Window:
        t_end = index * self.config.window.hop_s
        eeg, face = self._cut_eeg(t_end), self._face.slots.cut(t_end)
        further = self._further.cuts(t_end, self._live)
        return self._assembler.assemble(index, eeg, face, self._face.reasons(face), further)

    def _cut_eeg(self, t_end: float) -> EegCut:
        cut = self._buffer.cut(t_end)
        if cut.x is None or self._eeg is None:
            return cut
        raw = self._eeg.raw.view(t_end - self.config.window.window_s, t_end)
        return dataclasses.replace(cut, evidence=Evidence(raw, worst_contact(self._contact.values(), t_end)))

    def filtered_eeg(self, after: float) -> list[tuple[FloatArray, FloatArray]]:
        """Return the filtered EEG newer than ``after`` seconds, by segment: times (n,) and values (C, n) uV.

        At most the last windows and a second are kept. Bad channels are in it, and no reference is taken off. These are
        views, good until the next item.
        """
        return self._buffer.after(after)

    @property
    def n_kept(self) -> dict[str, int]:
        """Samples of further series that are kept, by source."""
        return self._further.n_kept

    def statuses(self) -> tuple[StreamStatus, ...]:
        """Return what is known now of each announced EEG and face stream, and of those that give further series."""
        eeg = (self._eeg.status(self._live[self._eeg.info.source]),) if self._eeg is not None else ()
        info = self._face.info
        face = (self._face.status(info, self._live[info.source]),) if info is not None else ()
        return (*eeg, *face, *self._further.statuses(self._live))
