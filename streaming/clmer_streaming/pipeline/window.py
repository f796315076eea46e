"""A window put together from its series: bad channels masked, reference taken off, reasons given.

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

from clmer_streaming.config import PhysioConfig, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.pipeline.baseline import normalize_by_rest
from clmer_streaming.pipeline.quality import MASKING, ChannelJudge, ChannelVerdict, Evidence
from clmer_streaming.pipeline.sampled import SampledCut
from clmer_streaming.pipeline.slotted import N_FACE_VALUES, SlotCut, empty_cut, face_quality, split_face
from clmer_streaming.types import BoolArray, ChannelQuality, FloatArray, Reason, RestBaseline, Window

_WARNING_SHARE = 0.25  # of the channels; training drops 10 to 15 % of them, beyond that the model is on new ground
_MOST_FILLED = 0.25  # share of invented values beyond which a channel of a further series is masked
_NOT_MEASURED = {"quality": np.nan, "channels_ok": np.nan, "interpolated_frac": np.nan}
_NO_SIGNAL = SampledCut(None, None, np.nan, (Reason.EEG_MISSING,))
_FACE_UNUSABLE = frozenset({Reason.FACE_MISSING, Reason.VIDEO_STALE, Reason.FACE_EXTRACTOR_MISMATCH})


@dataclass
class _Parts:
    series: dict[str, FloatArray] = field(default_factory=dict)
    mask: dict[str, BoolArray] = field(default_factory=dict)
    quality: dict[str, Mapping[str, float]] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    calibration: dict[str, str] = field(default_factory=dict)
    channels: tuple[ChannelQuality, ...] = ()


class WindowAssembler:
    """Makes windows of fixed shape; its only state are the faults of the channels, for the hysteresis.

    Args:
        config: The settings of the artifact.

    Attributes:
        rest: The participant's EEG at rest; None where it is not known.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._config = config
        self._window = config.window
        self._eeg_shape = (len(config.signal.ch_names), config.n_times)
        self._physio_shapes = {
            series.name: (len(series.ch_names), config.physio_times(series)) for series in config.physio
        }
        self._judge = ChannelJudge(len(config.signal.ch_names), config.signal.sfreq, config.signal.band[1])
        self.rest: RestBaseline | None = None

    def reset(self) -> None:
        """Mark every channel as good until judged."""
        self._judge.reset()

    def assemble(
        self, index: int, cuts: Mapping[str, SampledCut | SlotCut], contact: FloatArray | None = None
    ) -> Window:
        """Return the window at a grid index.

        Args:
            index: Grid index; the window ends at ``index * hop``.
            cuts: Its series by name, ``"eeg"`` and ``"face"`` among them; one that is not there is masked.
            contact: (C,) contact of the EEG channels, 0-4 as the headset reports it; None where it does not.
        """
        t_end = index * self._window.hop_s
        parts = _Parts()
        self._add_eeg(parts, _sampled(cuts, "eeg"), contact, t_end)
        self._add_face(parts, cuts.get("face"), t_end)
        for physio in self._config.physio:
            self._add_physio(parts, physio, _sampled(cuts, physio.name), t_end)
        for slots in self._config.slot_series:
            self._add_slots(parts, slots, cuts.get(slots.name), t_end)
        series = {name: parts.series[name] for name in self._config.modalities}
        mask = {name: parts.mask[name] for name in self._config.modalities}
        return Window(
            index=index,
            t_start=t_end - self._window.window_s,
            t_end=t_end,
            series=series,
            mask=mask,
            quality=parts.quality,
            reasons=tuple(dict.fromkeys(parts.reasons)),
            calibration=parts.calibration,
            channels=parts.channels,
            crc=window_crc(index, series, mask),
        )

    def _add_eeg(self, parts: _Parts, cut: SampledCut, contact: FloatArray | None, t_end: float) -> None:
        config, rest = self._config, self._fitting_rest()
        n_channels = self._eeg_shape[0]
        x = parts.series["eeg"] = np.zeros(self._eeg_shape)
        parts.mask["eeg"] = np.zeros(n_channels, dtype=np.bool_)
        parts.calibration["eeg"] = "none" if rest is None else "rest"
        parts.reasons.extend(cut.reasons)
        if cut.x is None or cut.filled is None:
            parts.quality["eeg"] = {**_NOT_MEASURED, "age_s": t_end - cut.t_last}
            return
        verdict = self._judge.judge(cut.x, cut.filled, Evidence(cut.raw, contact))
        good, filled, ch_names = verdict.good, cut.filled, config.signal.ch_names
        if cut.present is not None and not cut.present.all():  # what the stream does not have is not bad
            verdict, filled = verdict.of(cut.present), filled[cut.present]
            ch_names = tuple(np.array(ch_names)[cut.present].tolist())
        parts.channels = verdict.channels(ch_names)
        parts.quality["eeg"] = _quality(filled, verdict.good, t_end - cut.t_last)
        n_good = int(np.sum(good))
        usable = n_good >= config.signal.least_channels and 2 * n_good >= len(ch_names)
        parts.reasons.extend(_warnings(verdict) if usable else _refusal(verdict))
        if not usable:
            return
        parts.mask["eeg"] = good
        if good.all():  # as a rule; without copies of the good channels
            np.subtract(cut.x, self._reference(cut.x), out=x)
        else:
            x[good] = cut.x[good] - self._reference(cut.x[good])
        if rest is not None:
            x[good] = normalize_by_rest(x, rest)[good]
        elif config.eeg_calibration == "rest":
            parts.reasons.append(Reason.UNCALIBRATED)

    def _fitting_rest(self) -> RestBaseline | None:
        """Return the rest by which EEG is normalized; None where the model wants none, or none that fits is known."""
        if self._config.eeg_calibration != "rest" or self.rest is None:
            return None
        return self.rest if self.rest.signal == self._config.signal.signal_hash else None

    def _reference(self, x_good: FloatArray) -> FloatArray:
        if self._config.signal.reference == "none":
            return np.zeros(x_good.shape[1])
        reference: FloatArray = np.mean(x_good, axis=0)
        return reference

    def _add_face(self, parts: _Parts, cut: SampledCut | SlotCut | None, t_end: float) -> None:
        if not isinstance(cut, SlotCut):
            cut = empty_cut(self._window.face_slots, N_FACE_VALUES, Reason.FACE_MISSING)
        usable = _FACE_UNUSABLE.isdisjoint(cut.reasons)
        landmarks, aus, gaze = split_face(cut.x if usable else np.zeros_like(cut.x))
        mask = cut.mask if usable else np.zeros_like(cut.mask)
        parts.series.update(landmarks=landmarks, aus=aus, gaze=gaze)
        parts.mask.update(landmarks=mask, aus=mask, gaze=mask)
        parts.quality["face"] = face_quality(cut, t_end, self._window.window_s)
        faces = cut.faces
        parts.calibration["face"] = faces[-1].calibration if faces else "none"
        parts.reasons.extend(cut.reasons)
        if usable and parts.calibration["face"] in ("none", "prior"):
            parts.reasons.append(Reason.UNCALIBRATED)

    def _add_physio(self, parts: _Parts, config: PhysioConfig, cut: SampledCut, t_end: float) -> None:
        x = parts.series[config.name] = np.zeros(self._physio_shapes[config.name])
        parts.mask[config.name] = np.zeros(x.shape[0], dtype=np.bool_)
        if cut.x is None or cut.filled is None:
            parts.quality[config.name] = {**_NOT_MEASURED, "age_s": t_end - cut.t_last}
            return
        good = np.mean(cut.filled, axis=1) <= _MOST_FILLED
        parts.quality[config.name] = _quality(cut.filled, good, t_end - cut.t_last)
        parts.mask[config.name] = good
        x[good] = cut.x[good]

    def _add_slots(
        self, parts: _Parts, config: SlotSeriesConfig, cut: SampledCut | SlotCut | None, t_end: float
    ) -> None:
        if not isinstance(cut, SlotCut):
            cut = empty_cut(self._window.face_slots, len(config.ch_names))
        parts.series[config.name], parts.mask[config.name] = cut.x, cut.mask
        share = float(np.mean(cut.mask)) or np.nan
        parts.quality[config.name] = {"quality": share, "age_s": t_end - cut.t_last}


def _sampled(cuts: Mapping[str, SampledCut | SlotCut], name: str) -> SampledCut:
    cut = cuts.get(name)
    return cut if isinstance(cut, SampledCut) else _NO_SIGNAL


def window_crc(index: int, series: Mapping[str, FloatArray], mask: Mapping[str, BoolArray]) -> int:
    """Return the CRC-32 of grid index, series and masks, by which windows of two runs are compared bit for bit."""
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
    """Return the reasons for which too few channels are left."""
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
