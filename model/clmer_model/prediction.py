"""What the model says about one window."""

from __future__ import annotations

from dataclasses import dataclass

from clmer_streaming.types import Reason


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one window. Where ``valid`` is false, every value is None and ``reasons`` says why."""

    valid: bool  # a modality of the artifact was usable and the model answered with finite numbers
    probs: dict[str, float] | None  # by label, in the model's order; they sum to one
    label: str | None  # the most probable one; None too where the model is not sure enough (low_confidence)
    confidence: float | None  # its calibrated probability
    entropy: float | None  # of probs, 0 (certain) to 1 (knows nothing)
    valence: float | None  # P(high), or expected rating; see labels.affect
    arousal: float | None
    used: tuple[str, ...]  # modalities of the artifact with any measured value
    reasons: tuple[Reason, ...]  # the window's, then the model's
    batch: int  # windows evaluated together; 0 where the model was not asked
    model_s: float  # s the model took for that batch
