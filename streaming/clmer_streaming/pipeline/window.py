"""A window put together from its EEG and its face: bad channels masked, reference taken, reasons named.

The reasons ``eeg_channels_bad``, ``eeg_flat``, ``eeg_noisy`` and ``eeg_muscle`` are given where a quarter of the
channels have that fault. Where the EEG is used all the same, they are warnings.

``Window.quality`` holds, for ``eeg`` and each further signal: ``quality`` (0-1), ``channels_ok``,
``interpolated_frac`` (0-1), ``age_s``; for a further series on slots: ``quality`` (share of slots), ``age_s``; for
``face``: ``present`` (share of slots), ``quality`` (0-1), ``yaw_deg``, ``fps``, ``age_s``. NaN: not measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clmer_streaming.config import FurtherSeries, PhysioConfig, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.pipeline.baseline import against_rest
from clmer_streaming.pipeline.eeg import EegCut
from clmer_streaming.pipeline.extra import SlotCut
from clmer_streaming.pipeline.face import FaceCut
from clmer_streaming.pipeline.quality import MASKING, ChannelJudge, ChannelVerdict
from clmer_streaming.types import BoolArray, ChannelQuality, FloatArray, Reason, RestBaseline, Window

_WARNING_SHARE = 0.25  # of the channels; training drops 10 to 15 % of them, beyond that the model is on new ground
_MOST_FILLED = 0.25  # share of invented values beyond which a channel of a further series is masked
_NO_EEG_QUALITY = {"quality": np.nan, "channels_ok": np.nan, "interpolated_frac": np.nan}


@dataclass
class _Parts:
    series: dict[str, FloatArray] = field(default_factory=dict)
    mask: dict[str, BoolArray] = field(default_factory=dict)
    quality: dict[str, Mapping[str, float]] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    calibration: dict[str, str] = field(default_factory=dict)
    channels: tuple[ChannelQuality, ...] = ()


class WindowAssembler:
    """Makes windows of fixed shape; remembers only which channels were bad, for the hysteresis.

    Args:
        config: The settings of the artifact.

    Attributes:
        rest: The participant's EEG at rest, where it is known.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._config = config
        self.rest: RestBaseline | None = None
        self._judge = ChannelJudge(len(config.signal.ch_names), config.signal.sfreq, config.signal.band[1])

    def reset(self) -> None:
        """Take every channel as good until judged."""
        self._judge.reset()

    def assemble(
        self,
        index: int,
        eeg: EegCut,
        face: FaceCut,
        face_reasons: tuple[Reason, ...],
        further: Mapping[str, EegCut | SlotCut] | None = None,
    ) -> Window:
        """Return the window at a grid index.

        Args:
            index: Grid index; the window ends at ``index * hop``.
            eeg: Its EEG.
            face: Its face.
            face_reasons: What ails the face; with FACE_MISSING, VIDEO_STALE or a mismatch it is masked.
            further: Its further series by name; one that is not there is masked.
        """
        window = self._config.window
        t_end = index * window.hop_s
        parts = _Parts()
        self._add_eeg(parts, eeg, t_end)
        self._add_face(parts, face, face_reasons, t_end)
        for declared in self._config.further:
            self._add_further(parts, declared, (further or {}).get(declared.name), t_end)
        series = {name: parts.series[name] for name in self._config.modalities}
        mask = {name: parts.mask[name] for name in self._config.modalities}
        return Window(
            index=index,
            t_start=t_end - window.window_s,
            t_end=t_end,
            series=series,
            mask=mask,
            quality=parts.quality,
            reasons=tuple(dict.fromkeys(parts.reasons)),
            calibration=parts.calibration,
            channels=parts.channels,
            crc=window_crc(index, series, mask),
        )

    def _add_eeg(self, parts: _Parts, cut: EegCut, t_end: float) -> None:
        n_channels = len(self._config.signal.ch_names)
        x = parts.series["eeg"] = np.zeros((n_channels, self._config.n_times))
        parts.mask["eeg"] = np.zeros(n_channels, dtype=np.bool_)
        parts.calibration["eeg"] = "none" if self._measured_rest is None else "rest"
        parts.reasons.extend(cut.reasons)
        if cut.x is None or cut.filled is None:
            parts.quality["eeg"] = {**_NO_EEG_QUALITY, "age_s": t_end - cut.t_last}
            return
        verdict = self._judge.judge(cut.x, cut.filled, cut.evidence)
        good = verdict.good
        parts.channels = verdict.channels(self._config.signal.ch_names)
        parts.quality["eeg"] = _quality(cut.filled, good, t_end - cut.t_last)
        usable = 2 * np.sum(good) >= n_channels
        parts.reasons.extend(_warnings(verdict) if usable else _refusal(verdict))
        if not usable:
            return
        parts.mask["eeg"] = good
        if good.all():  # as a rule; without copies of the good channels
            np.subtract(cut.x, self._reference(cut.x), out=x)
        else:
            x[good] = cut.x[good] - self._reference(cut.x[good])
        if self._measured_rest is not None:
            x[good] = against_rest(x, self._measured_rest)[good]
        elif self._config.eeg_calibration == "rest":
            parts.reasons.append(Reason.UNCALIBRATED)

    @property
    def _measured_rest(self) -> RestBaseline | None:
        """What the EEG is measured against; None where the model does not want it, or nothing that fits is known."""
        wanted = self._config.eeg_calibration == "rest" and self.rest is not None
        fits = self.rest is not None and self.rest.signal == self._config.signal.signal_hash
        return self.rest if wanted and fits else None

    def _add_further(self, parts: _Parts, config: FurtherSeries, cut: EegCut | SlotCut | None, t_end: float) -> None:
        if isinstance(config, SlotSeriesConfig):
            self._add_slots(parts, config, cut if isinstance(cut, SlotCut) else None, t_end)
        else:
            self._add_physio(parts, config, cut if isinstance(cut, EegCut) else None, t_end)

    def _add_slots(self, parts: _Parts, config: SlotSeriesConfig, cut: SlotCut | None, t_end: float) -> None:
        n_slots = self._config.window.face_slots
        if cut is None:
            cut = SlotCut(np.zeros((n_slots, len(config.ch_names))), np.zeros(n_slots, dtype=np.bool_), np.nan)
        parts.series[config.name], parts.mask[config.name] = cut.x, cut.mask
        share = float(np.mean(cut.mask)) or np.nan
        parts.quality[config.name] = {"quality": share, "age_s": t_end - cut.t_last}

    def _add_physio(self, parts: _Parts, config: PhysioConfig, cut: EegCut | None, t_end: float) -> None:
        n_times = self._config.physio_times(config)
        parts.series[config.name] = np.zeros((len(config.ch_names), n_times))
        parts.mask[config.name] = np.zeros(len(config.ch_names), dtype=np.bool_)
        if cut is None or cut.x is None or cut.filled is None:
            parts.quality[config.name] = {**_NO_EEG_QUALITY, "age_s": np.nan if cut is None else t_end - cut.t_last}
            return
        good = np.mean(cut.filled, axis=1) <= _MOST_FILLED
        parts.quality[config.name] = _quality(cut.filled, good, t_end - cut.t_last)
        parts.mask[config.name] = good
        parts.series[config.name][good] = cut.x[good]

    def _reference(self, x_good: FloatArray) -> FloatArray:
        if self._config.signal.reference == "none":
            return np.zeros(x_good.shape[1])
        reference: FloatArray = np.mean(x_good, axis=0)
        return reference

    def _add_face(self, parts: _Parts, cut: FaceCut, reasons: tuple[Reason, ...], t_end: float) -> None:
        absent = {Reason.FACE_MISSING, Reason.VIDEO_STALE, Reason.FACE_EXTRACTOR_MISMATCH}
        usable = not absent.intersection(reasons)
        n_slots = self._config.window.face_slots
        parts.series["landmarks"] = cut.landmarks if usable else np.zeros((n_slots, N_LANDMARKS, 3))
        parts.series["aus"] = cut.aus if usable else np.zeros((n_slots, len(AU_NAMES), 2))
        parts.series["gaze"] = cut.gaze if usable else np.zeros((n_slots, 2))
        mask = cut.mask if usable else np.zeros(n_slots, dtype=np.bool_)
        parts.mask.update(landmarks=mask, aus=mask, gaze=mask)
        parts.quality["face"] = cut.quality(t_end, self._config.window.window_s)
        parts.calibration["face"] = cut.valid[-1].calibration if cut.valid else "none"
        parts.reasons.extend(reasons)
        if usable and parts.calibration["face"] in ("none", "prior"):
            parts.reasons.append(Reason.UNCALIBRATED)


def window_crc(index: int, series: Mapping[str, FloatArray], mask: Mapping[str, BoolArray]) -> int:
    """Return the CRC-32 of a window's grid index, series and masks, by which two runs are compared bit for bit."""
    crc = zlib.crc32(index.to_bytes(8, "little", signed=True))
    for name in sorted(series):
        crc = zlib.crc32(np.ascontiguousarray(series[name]).data, crc)
        crc = zlib.crc32(np.ascontiguousarray(mask[name]).data, crc)
    return crc


def _quality(filled: BoolArray, good: BoolArray, age_s: float) -> dict[str, float]:
    interpolated = 1.0
    if good.any():
        interpolated = float(np.mean(filled[good])) if filled.any() else 0.0
    return {
        "quality": float(np.mean(good)) * (1.0 - interpolated),
        "channels_ok": float(np.sum(good)),
        "interpolated_frac": interpolated,
        "age_s": age_s,
    }


def _refusal(verdict: ChannelVerdict) -> tuple[Reason, ...]:
    """Return why too few channels are left."""
    still, noisy = verdict.share("flat", "railed"), verdict.share("noisy")
    flat = (Reason.EEG_FLAT,) if still > noisy else ()
    return (Reason.EEG_CHANNELS_BAD, *flat, *((Reason.EEG_NOISY,) if noisy > still else ()))


def _warnings(verdict: ChannelVerdict) -> tuple[Reason, ...]:
    shares = {
        Reason.EEG_CHANNELS_BAD: verdict.share(*MASKING),
        Reason.EEG_FLAT: verdict.share("flat", "railed"),
        Reason.EEG_NOISY: verdict.share("noisy", "line"),
        Reason.EEG_MUSCLE: verdict.share("muscle"),
    }
    return tuple(reason for reason, share in shares.items() if share >= _WARNING_SHARE)
