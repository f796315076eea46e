"""The one composition of stages: items in, windows out, the same live, replayed and offline."""

from __future__ import annotations

import dataclasses

import numpy as np

from clmer_streaming.align import FaceCut, FaceSlots
from clmer_streaming.assembly import WindowAssembler
from clmer_streaming.channel_quality import Evidence
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.contact_quality import ContactQuality
from clmer_streaming.eeg_path import EegPath
from clmer_streaming.liveness import Liveness
from clmer_streaming.physio_path import PhysioPath, PhysioPaths
from clmer_streaming.rate_gate import LONGEST_HOLD_S
from clmer_streaming.types import (
    Chunk,
    FaceSample,
    FloatArray,
    Gap,
    Item,
    Marker,
    Reason,
    StreamInfo,
    StreamStatus,
    Tick,
    Window,
)
from clmer_streaming.windows import EegBuffer, EegCut

_LONGEST_GRID_GAP_S = 600.0  # s; a clock that jumps further ahead moves the grid with it


class Preprocessor:
    """Turns the items of one participant into windows on the absolute grid ``t_end = k * hop``.

    A window closes when every live source has passed its end, or when one (or a tick) has passed it by
    ``max_lateness_s`` and the longest chunk of a live source. From the first item on every grid point
    gives a window; what could not be measured is masked in it, with the reason.

    Args:
        config: The settings of the artefact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget everything, announced streams included."""
        signal, window = self.config.signal, self.config.window
        self._eeg: EegPath | None = None
        self._face: StreamInfo | None = None
        self._buffer = EegBuffer(self.config.n_times, signal.sfreq, window.window_s, signal.settle_s)
        self._assembler = WindowAssembler(self.config)
        self._slots = FaceSlots(window)
        self._live: dict[str, Liveness] = {}
        self._now = -np.inf  # s, the furthest that any source or tick has come
        self._next_index: int | None = None
        self._n_face = 0
        self._contact: dict[str, ContactQuality] = {}
        self._physio = PhysioPaths(self.config)

    def push(self, item: Item) -> list[Window]:
        """Take one item and return the windows that it closes, in order.

        Raises:
            StreamError: An announced EEG stream cannot feed the model.
        """
        match item:
            case StreamInfo():
                self._announce(item)
            case Chunk() | Gap() if self._eeg is not None and item.source == self._eeg.info.source:
                self._take_eeg(self._eeg, item)
            case Chunk() | Gap() if item.source in self._physio.by_source:
                self._take_physio(self._physio.by_source[item.source], item)
            case Chunk() | Gap() if item.source in self._contact:
                self._contact[item.source].push(item)
                return []
            case FaceSample() if self._face is not None and self._face_fits:
                self._take_face(item, self._face.delay_s)
            case Tick():
                self._begin_grid(item.t)
                self._now = max(self._now, item.t)
            case Marker() | Chunk() | Gap() | FaceSample():
                return []
        return self._close_windows()

    @property
    def _face_fits(self) -> bool:
        return self._face is not None and self._face.extractor == self.config.extractor

    def _announce(self, info: StreamInfo) -> None:
        if info.kind == "eeg":
            if self._eeg is not None and np.isfinite(self._eeg.last_t):
                self._buffer.push(Gap(self._eeg.last_t, self._eeg.last_t, info.source, "stream_restarted"))
            self._eeg = EegPath(info, self.config)
        elif info.kind == "face":
            self._face = info
        elif info.kind == "contact":
            self._contact[info.source] = ContactQuality(info, self.config.signal.ch_names)
            return
        elif info.kind != "physio" or not self._physio.announce(info, self._now):
            return
        self._live[info.source] = Liveness(self._now if np.isfinite(self._now) else np.nan)

    def _take_physio(self, path: PhysioPath, item: Chunk | Gap) -> None:
        before = path.last_t
        path.push(item)
        if isinstance(item, Chunk) and path.last_t != before:
            chunk_s = (item.t.size - 1) / path.info.sfreq
            self._live[item.source].observe(path.last_t - chunk_s, path.last_t, chunk_s)
        if np.isfinite(path.t_first):
            self._begin_grid(path.t_first)
        self._now = max(self._now, path.watermark)

    def _take_eeg(self, path: EegPath, item: Chunk | Gap) -> None:
        for out in path.push(item):
            if isinstance(out, Chunk | Gap):
                self._buffer.push(out)
            if isinstance(out, Chunk) and out.t.size:
                self._begin_grid(float(out.t[0]))
        if isinstance(item, Chunk) and np.isfinite(path.t_first):
            chunk_s = (item.t.size - 1) / path.sfreq
            self._live[item.source].observe(path.t_first, path.last_t, chunk_s)
        self._now = max(self._now, self._buffer.watermark)
        if self._next_index is not None and np.isfinite(path.held[1]):
            self._now = max(self._now, path.held[1])  # what waits for the rate must not come late and pass for live

    def _take_face(self, sample: FaceSample, delay_s: float) -> None:
        sample = dataclasses.replace(sample, t=sample.t - delay_s) if delay_s else sample
        self._n_face += 1
        self._begin_grid(sample.t)
        self._slots.push(sample)
        self._live[sample.source].observe(sample.t, sample.t, 0.0)
        self._now = max(self._now, self._slots.watermark)

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
            self._slots.forget_before(windows[-1].t_end)
            self._physio.forget_before(windows[-1].t_end)
            if self._eeg is not None:
                self._eeg.raw.forget_before(windows[-1].t_end - self.config.window.window_s)
        return windows

    def _complete(self, t_end: float) -> bool:
        marks = self._live_watermarks()
        if marks and min(marks.values()) >= t_end:
            return True
        chunk_s = max((self._live[source].chunk_s for source in marks), default=0.0)
        return self._now >= t_end + self.config.window.max_lateness_s + chunk_s

    def _live_watermarks(self) -> dict[str, float]:
        marks = {}
        if self._eeg is not None:
            marks[self._eeg.info.source] = self._buffer.watermark
        if self._face is not None and self._face_fits:
            marks[self._face.source] = self._slots.watermark
        marks.update(self._physio.watermarks())
        return {source: mark for source, mark in marks.items() if self._live[source].state == "live"}

    def _window(self, index: int) -> Window:
        t_end = index * self.config.window.hop_s
        face = self._slots.cut(t_end)
        eeg, physio = self._cut_eeg(t_end), self._physio.cuts(t_end)
        return self._assembler.assemble(index, eeg, face, self._face_reasons(face), physio)

    def _cut_eeg(self, t_end: float) -> EegCut:
        cut = self._buffer.cut(t_end)
        if cut.x is None or self._eeg is None:
            return cut
        raw = self._eeg.raw.view(t_end - self.config.window.window_s, t_end)
        return dataclasses.replace(cut, evidence=Evidence(raw, self._contact_at(t_end)))

    def _contact_at(self, t_end: float) -> FloatArray | None:
        """Return the worst contact (C,) that any stream reports of each channel; None without such a stream."""
        if not self._contact:
            return None
        values = [contact.at(t_end) for contact in self._contact.values()]
        worst: FloatArray = np.fmin.reduce(values)
        return worst

    def _face_reasons(self, cut: FaceCut) -> tuple[Reason, ...]:
        if self._face is None:
            return (Reason.FACE_MISSING,)
        return cut.reasons() if self._face_fits else (Reason.FACE_EXTRACTOR_MISMATCH,)

    def statuses(self) -> tuple[StreamStatus, ...]:
        """Return what is known now of each announced EEG and face stream, and of those that give further series."""
        eeg = (self._eeg_status(self._eeg),) if self._eeg is not None else ()
        face = (self._face_status(self._face),) if self._face is not None else ()
        return (*eeg, *face, *self._physio.statuses(self._live))

    def _eeg_status(self, path: EegPath) -> StreamStatus:
        liveness, rate_hz = self._live[path.info.source], path.timeline.rate_hz
        return StreamStatus(
            source=path.info.source,
            kind="eeg",
            name=path.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (path.info.note, path.note, path.unit.note, liveness.note))),
            nominal_rate_hz=path.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / path.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=path.n_samples,
            n_gaps=path.timeline.n_gaps,
            n_bridged=path.timeline.n_bridged,
            n_lost=path.timeline.n_lost,
            n_dropped=path.n_dropped,
            chunk_s=liveness.chunk_s,
        )

    def _face_status(self, info: StreamInfo) -> StreamStatus:
        liveness = self._live[info.source]
        mismatch = (
            f"made by extractor {info.extractor or 'unknown'!r}, the model wants {self.config.extractor!r}: not used"
        )
        return StreamStatus(
            source=info.source,
            kind="face",
            name=info.name,
            state=liveness.state,
            since=liveness.since,
            reason="" if self._face_fits else mismatch,
            nominal_rate_hz=info.sfreq,
            n_samples=self._n_face,
        )
