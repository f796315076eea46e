"""The one composition of stages: items in, windows out, the same live, replayed and offline.

``Window.quality`` holds, for ``eeg``: ``quality`` (0-1), ``channels_ok``, ``interpolated_frac`` (0-1), ``age_s``;
for ``face``: ``present`` (share of slots), ``quality`` (0-1), ``yaw_deg``, ``fps``, ``age_s``. NaN: not measured.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping

import numpy as np

from clmer_streaming.align import FaceCut, FaceSlots
from clmer_streaming.channel_quality import ChannelJudge, ChannelVerdict
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.eeg_path import EegPath
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.liveness import Liveness
from clmer_streaming.types import (
    BoolArray,
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

_NO_EEG_QUALITY = {"quality": np.nan, "channels_ok": 0.0, "interpolated_frac": np.nan, "age_s": np.nan}


@dataclasses.dataclass
class _Parts:
    """What a window is put together from."""

    series: dict[str, FloatArray] = dataclasses.field(default_factory=dict)
    mask: dict[str, BoolArray] = dataclasses.field(default_factory=dict)
    quality: dict[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    reasons: list[Reason] = dataclasses.field(default_factory=list)
    calibration: dict[str, str] = dataclasses.field(default_factory=dict)


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
        self._judge = ChannelJudge(len(signal.ch_names))
        self._slots = FaceSlots(window)
        self._live: dict[str, Liveness] = {}
        self._now = -np.inf  # s, the furthest that any source or tick has come
        self._next_index: int | None = None
        self._n_face = 0

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
            case FaceSample() if self._face is not None and self._face_fits:
                self._take_face(item, self._face.delay_s)
            case Tick():
                self._now = max(self._now, item.t)
            case Marker() | Chunk() | Gap() | FaceSample():
                return []
        return self._close_windows()

    @property
    def _face_fits(self) -> bool:
        return self._face is not None and self._face.extractor == self.config.extractor

    def _announce(self, info: StreamInfo) -> None:
        if info.kind == "eeg":
            if self._eeg is not None:
                self._buffer.push(Gap(self._eeg.last_t, self._eeg.last_t, info.source, "stream_restarted"))
            self._eeg = EegPath(info, self.config)
        elif info.kind == "face":
            self._face = info
        else:
            return
        self._live[info.source] = Liveness(self._now if np.isfinite(self._now) else np.nan)

    def _take_eeg(self, path: EegPath, item: Chunk | Gap) -> None:
        before = path.last_t
        for out in path.push(item):
            if isinstance(out, Chunk | Gap):
                self._buffer.push(out)
        if isinstance(item, Chunk) and path.last_t != before:
            span_s = (item.t.size - 1) / path.info.sfreq
            self._live[item.source].observe(path.last_t - span_s, path.last_t)
        self._now = max(self._now, self._buffer.watermark)

    def _take_face(self, sample: FaceSample, delay_s: float) -> None:
        sample = dataclasses.replace(sample, t=sample.t - delay_s) if delay_s else sample
        self._n_face += 1
        self._slots.push(sample)
        self._live[sample.source].observe(sample.t, sample.t)
        self._now = max(self._now, self._slots.watermark)

    def _close_windows(self) -> list[Window]:
        if not np.isfinite(self._now):
            return []
        for liveness in self._live.values():
            liveness.advance(self._now)
        hop_s = self.config.window.hop_s
        reached = int(np.floor(self._now / hop_s))
        if self._next_index is None or reached - self._next_index > _LONGEST_GRID_GAP_S / hop_s:
            self._next_index = reached + 1
        windows = []
        while self._next_index <= reached and self._complete(self._next_index * hop_s):
            windows.append(self._window(self._next_index))
            self._next_index += 1
        if windows:
            self._buffer.forget_before(windows[-1].t_end)
            self._slots.forget_before(windows[-1].t_end)
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
        return {source: mark for source, mark in marks.items() if self._live[source].state == "live"}

    def _window(self, index: int) -> Window:
        window = self.config.window
        t_end = index * window.hop_s
        parts = _Parts()
        self._add_eeg(parts, t_end)
        self._add_face(parts, t_end)
        modalities = self.config.modalities
        series = {name: parts.series[name] for name in modalities}
        mask = {name: parts.mask[name] for name in modalities}
        return Window(
            index=index,
            t_start=t_end - window.window_s,
            t_end=t_end,
            series=series,
            mask=mask,
            quality=parts.quality,
            reasons=tuple(dict.fromkeys(parts.reasons)),
            calibration=parts.calibration,
            crc=window_crc(index, series, mask),
        )

    def _add_eeg(self, parts: _Parts, t_end: float) -> None:
        n_channels = len(self.config.signal.ch_names)
        parts.series["eeg"] = np.zeros((n_channels, self.config.n_times))
        parts.mask["eeg"] = np.zeros(n_channels, dtype=np.bool_)
        parts.calibration["eeg"] = "none"
        cut = self._buffer.cut(t_end)
        parts.reasons.extend(cut.reasons)
        if cut.x is None or cut.filled is None:
            parts.quality["eeg"] = _NO_EEG_QUALITY
            return
        verdict = self._judge.judge(cut.x, cut.filled)
        good = verdict.good
        parts.quality["eeg"] = _eeg_quality(cut, good, t_end)
        if 2 * np.sum(good) < n_channels:
            parts.reasons.extend(_channel_reasons(verdict))
            return
        parts.mask["eeg"] = good
        parts.series["eeg"][good] = cut.x[good] - self._reference(cut.x[good])

    def _reference(self, x_good: FloatArray) -> FloatArray:
        if self.config.signal.reference == "none":
            return np.zeros(x_good.shape[1])
        reference: FloatArray = np.mean(x_good, axis=0)
        return reference

    def _add_face(self, parts: _Parts, t_end: float) -> None:
        cut = self._slots.cut(t_end)
        reasons = self._face_reasons(cut)
        usable = Reason.FACE_MISSING not in reasons and bool(cut.mask.any())
        mask = cut.mask if usable else np.zeros_like(cut.mask)
        n_slots = self.config.window.face_slots
        blank = {
            "landmarks": np.zeros((n_slots, N_LANDMARKS, 3)),
            "aus": np.zeros((n_slots, len(AU_NAMES), 2)),
            "gaze": np.zeros((n_slots, 2)),
        }
        measured = {"landmarks": cut.landmarks, "aus": cut.aus, "gaze": cut.gaze}
        parts.series.update(measured if usable else blank)
        parts.mask.update(dict.fromkeys(measured, mask))
        parts.quality["face"] = cut.quality(t_end, self.config.window.window_s)
        parts.calibration["face"] = cut.valid[-1].calibration if cut.valid else "none"
        if usable and parts.calibration["face"] == "none":
            reasons = (*reasons, Reason.UNCALIBRATED)
        parts.reasons.extend(reasons)

    def _face_reasons(self, cut: FaceCut) -> tuple[Reason, ...]:
        if self._face is None:
            return (Reason.FACE_MISSING,)
        return cut.reasons() if self._face_fits else (Reason.FACE_EXTRACTOR_MISMATCH,)

    def statuses(self) -> tuple[StreamStatus, ...]:
        """Return what is known now of each announced EEG and face stream."""
        eeg = (self._eeg_status(self._eeg),) if self._eeg is not None else ()
        face = (self._face_status(self._face),) if self._face is not None else ()
        return (*eeg, *face)

    def _eeg_status(self, path: EegPath) -> StreamStatus:
        liveness, rate_hz = self._live[path.info.source], path.timeline.rate_hz
        return StreamStatus(
            source=path.info.source,
            kind="eeg",
            name=path.info.name,
            state=liveness.state,
            since=liveness.since,
            nominal_rate_hz=path.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / path.info.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=path.n_samples,
            n_gaps=path.timeline.n_gaps,
            n_bridged=path.timeline.n_bridged,
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


def window_crc(index: int, series: Mapping[str, FloatArray], mask: Mapping[str, BoolArray]) -> int:
    """Return the CRC-32 of a window's grid index, series and masks, by which two runs are compared bit for bit."""
    crc = zlib.crc32(index.to_bytes(8, "little", signed=True))
    for name in sorted(series):
        crc = zlib.crc32(np.ascontiguousarray(series[name]).tobytes(), crc)
        crc = zlib.crc32(np.ascontiguousarray(mask[name]).tobytes(), crc)
    return crc


def _eeg_quality(cut: EegCut, good: BoolArray, t_end: float) -> dict[str, float]:
    assert cut.filled is not None
    interpolated = float(np.mean(cut.filled[good])) if good.any() else 1.0
    return {
        "quality": float(np.mean(good)) * (1.0 - interpolated),
        "channels_ok": float(np.sum(good)),
        "interpolated_frac": interpolated,
        "age_s": t_end - cut.t_last,
    }


def _channel_reasons(verdict: ChannelVerdict) -> tuple[Reason, ...]:
    flat = (Reason.EEG_FLAT,) if np.sum(verdict.flat) > np.sum(verdict.noisy) else ()
    noisy = (Reason.EEG_NOISY,) if np.sum(verdict.noisy) > np.sum(verdict.flat) else ()
    return (Reason.EEG_CHANNELS_BAD, *flat, *noisy)
