"""Messages about windows, streams and markers, made from what the pipeline computes. Pure: times are arguments.

To be read in this order: what events share, the events, then their parts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clmer_model.prediction import Prediction
from clmer_server.protocol.outbound import (
    ChannelEntry,
    MarkedWindows,
    MarkerMessage,
    QualityMessage,
    StreamStatusMessage,
)
from clmer_server.protocol.parts import (
    Calibration,
    EegQuality,
    EmotionEvent,
    FaceQuality,
    Latency,
    Modalities,
    ModelInfo,
    ModelRef,
    SeriesQuality,
    SourceMode,
    StreamEntry,
)
from clmer_streaming.config import WindowConfig
from clmer_streaming.types import Marker, Reason, StreamStatus, Window

_LATEST_S = 1e12  # s; beyond it, a window is less than the distance of two numbers

FACE_MODALITIES = frozenset({"landmarks", "aus", "gaze"})
"""Modalities of the model that a face gives."""


@dataclass(frozen=True, slots=True)
class EventContext:
    """Fields that all events of one run of a session share."""

    session: str
    model: ModelInfo
    source: SourceMode
    participant: str | None = None  # pseudonym
    first_seq: int = 0  # of the first event; a session that is started again counts on


@dataclass(frozen=True, slots=True)
class EventTimes:
    """Times in the processing of one window, in seconds of the LSL clock; ``unix`` in Unix time."""

    ready: float  # the window was complete
    answered: float  # the model had answered
    out: float  # the event is handed to the clients
    unix: float  # the same moment on the wall clock
    acquire_s: float = math.nan  # how old the newest EEG sample was when it came, before the window was complete
    face_s: float = math.nan  # how old the newest frame was when its numbers came


def emotion_event(
    seq: int, window: Window, prediction: Prediction | None, context: EventContext, times: EventTimes
) -> EmotionEvent:
    """Return the event of one window.

    Args:
        seq: Number of the event within its session.
        window: What the model was to see.
        prediction: What it answered; None where it was not asked, because it was late.
        context: What all events of the session share.
        times: When the window was ready, answered and published.
    """
    return EmotionEvent(
        **_origin(context),
        seq=seq,
        t_start=window.t_start,
        t_end=window.t_end,
        t_out=times.out,
        unix_time=times.unix,
        reasons=_reasons(window, prediction),
        **_estimate(prediction),
        modalities=_modalities(window, frozenset(prediction.used if prediction else ())),
        latency_ms=_latency(window, prediction, context.source, times),
        batch=prediction.batch if prediction else 0,
        calibration=Calibration(face=window.calibration.get("face"), eeg=window.calibration.get("eeg")),
        crc=window.crc,
    )


def status_message(status: StreamStatus, session: str) -> StreamStatusMessage:
    """Return the message about a stream's status; rates that are not known yet become null."""
    return StreamStatusMessage(session=session, **status_entry(status).model_dump())


def marker_message(marker: Marker, session: str, windows: MarkedWindows | None = None) -> MarkerMessage:
    """Return the message about an event of the experiment, with the windows that it falls in."""
    return MarkerMessage(
        session=session,
        t=marker.t,
        id=marker.id,
        label=marker.label,
        value=marker.value,
        source=marker.source,
        uncertainty_s=marker.uncertainty_s,
        windows=windows,
    )


def marked_windows(t: float, window: WindowConfig, newest: tuple[int, int] | None) -> MarkedWindows | None:
    """Return the windows with ``t_start <= t < t_end``; None where ``t`` is no time.

    Args:
        t: Of a marker, in seconds.
        window: Their length and hop.
        newest: Number within the session, and index on the grid, of any window so far; None before the first.
    """
    if not abs(t) < _LATEST_S:
        return None
    first = math.floor(t / window.hop_s) + 1
    last = math.floor((t + window.window_s) / window.hop_s)
    seqs = None if newest is None else (first - newest[1] + newest[0], last - newest[1] + newest[0])
    known = seqs if seqs is not None and seqs[1] >= 0 else None  # the session began behind them all
    return MarkedWindows(
        t_end_first=first * window.hop_s,
        t_end_last=last * window.hop_s,
        seq_first=max(0, known[0]) if known else None,
        seq_last=known[1] if known else None,
    )


def quality_message(seq: int, window: Window, event: EmotionEvent) -> QualityMessage:
    """Return the quality of the inputs of a window, channel by channel.

    Args:
        seq: Number of the window's event.
        window: What the model was to see.
        event: What it answered.
    """
    return QualityMessage(
        session=event.session,
        seq=seq,
        t_end=window.t_end,
        reasons=event.reasons,
        modalities=event.modalities,
        channels=tuple(ChannelEntry.model_validate(dataclasses.asdict(channel)) for channel in window.channels),
    )


def status_entry(status: StreamStatus) -> StreamEntry:
    """Return the status as messages carry it."""
    return StreamEntry(
        source=status.source,
        kind=status.kind,
        name=status.name,
        state=status.state,
        since=status.since,
        reason=status.reason,
        nominal_rate_hz=status.nominal_rate_hz or None,
        rate_hz=status.rate_hz or None,
        drift_ppm=status.drift_ppm if status.rate_hz else None,
        n_samples=status.n_samples,
        n_gaps=status.n_gaps,
        n_bridged=status.n_bridged,
        n_lost=status.n_lost,
        n_lost_estimated=status.n_lost_estimated,
        n_dropped=status.n_dropped,
        chunk_s=status.chunk_s,
        delay_s=status.delay_s,
    )


def _origin(context: EventContext) -> dict[str, Any]:
    """Return the fields that all events of one run have in common."""
    model = context.model
    return {
        "session": context.session,
        "participant": context.participant,
        "source": context.source,
        "model": ModelRef(id=model.id, sha256=model.sha256, config_hash=model.config_hash),
        "runner": model.runner,
        "trained_on": model.trained_on,
    }


def _estimate(prediction: Prediction | None) -> dict[str, Any]:
    """Return the fields of an event that are the model's answer; all are null where it was not asked."""
    fields = ("probs", "label", "valence", "arousal", "confidence", "entropy", "prediction_set", "coverage")
    found = {name: getattr(prediction, name) if prediction else None for name in fields}
    return {"valid": prediction is not None and prediction.valid, **found}


def _reasons(window: Window, prediction: Prediction | None) -> tuple[str, ...]:
    reasons = (*window.reasons, Reason.OVERLOAD_SKIPPED) if prediction is None else prediction.reasons
    return tuple(str(reason) for reason in reasons)


def _modalities(window: Window, used: frozenset[str]) -> Modalities:
    eeg, face = window.quality.get("eeg", {}), window.quality.get("face", {})
    return Modalities(
        eeg=EegQuality(
            used="eeg" in used,
            quality=eeg.get("quality"),
            age_ms=_milliseconds(eeg, "age_s"),
            channels_ok=_count(eeg, "channels_ok"),
            interpolated_frac=eeg.get("interpolated_frac"),
            channels_bad=tuple(channel.name for channel in window.channels if not channel.good),
            faults={channel.name: channel.faults for channel in window.channels if channel.faults},
        ),
        face=FaceQuality(
            used=bool(used & FACE_MODALITIES),
            present=face.get("present"),
            confidence=face.get("quality"),
            yaw_deg=face.get("yaw_deg"),
            fps=face.get("fps"),
            age_ms=_milliseconds(face, "age_s"),
        ),
        series={
            name: SeriesQuality(used=name in used, quality=given.get("quality"), age_ms=_milliseconds(given, "age_s"))
            for name, given in window.quality.items()
            if name not in ("eeg", "face")
        },
    )


def _count(quality: Mapping[str, float], key: str) -> int | None:
    return round(quality[key]) if math.isfinite(quality.get(key, math.nan)) else None


def _milliseconds(quality: Mapping[str, float], key: str) -> float | None:
    return quality[key] * 1e3 if key in quality else None


def _latency(window: Window, prediction: Prediction | None, source: SourceMode, times: EventTimes) -> Latency:
    """Return where the time went; against the stamps of a recording, latencies would mean nothing."""
    live = source == "live"
    return Latency(
        acquire=times.acquire_s * 1e3 if live else None,
        face=times.face_s * 1e3 if live else None,
        window=(times.ready - window.t_end) * 1e3 if live else None,
        model=prediction.model_s * 1e3 if prediction and prediction.batch else None,
        publish=(times.out - times.answered) * 1e3,
        total=(times.out - window.t_end) * 1e3 if live else None,
    )
