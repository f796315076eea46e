"""The way of a face stream's samples to the slots of a window."""

from __future__ import annotations

import dataclasses

from clmer_streaming.align import FaceCut, FaceSlots
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.liveness import Liveness
from clmer_streaming.types import FaceSample, Reason, StreamInfo, StreamStatus


class FacePath:
    """Keeps the faces of the stream that was announced last, if the model can use them.

    Args:
        config: The settings of the artefact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._extractor = config.extractor
        self.slots = FaceSlots(config.window)
        self.info: StreamInfo | None = None  # None before any was announced
        self.n_samples = 0

    @property
    def fits(self) -> bool:
        """Whether there is a stream, made by the extractor that the model wants."""
        return self.info is not None and self.info.extractor == self._extractor

    def stamp(self, sample: FaceSample) -> float:
        """Return the time of a sample in seconds, the stream's delay taken off."""
        return sample.t - (self.info.delay_s if self.info is not None else 0.0)

    def push(self, sample: FaceSample) -> None:
        """Keep a sample of the stream."""
        self.n_samples += 1
        t = self.stamp(sample)
        self.slots.push(sample if t == sample.t else dataclasses.replace(sample, t=t))

    def reasons(self, cut: FaceCut) -> tuple[Reason, ...]:
        """Return what ails the face of a window."""
        if self.info is None:
            return (Reason.FACE_MISSING,)
        return cut.reasons() if self.fits else (Reason.FACE_EXTRACTOR_MISMATCH,)

    def status(self, info: StreamInfo, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the announced stream."""
        mismatch = f"made by extractor {info.extractor or 'unknown'!r}, the model wants {self._extractor!r}: not used"
        return StreamStatus(
            source=info.source,
            kind="face",
            name=info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (info.note, "" if self.fits else mismatch))),
            nominal_rate_hz=info.sfreq,
            n_samples=self.n_samples,
            delay_s=info.delay_s,
        )
