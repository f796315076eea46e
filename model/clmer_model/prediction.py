"""The prediction of a model for one window; imported without torch."""

from __future__ import annotations

from dataclasses import dataclass

from clmer_streaming.types import Reason


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction for one window.

    Where ``valid`` is false, every value is None and ``reasons`` holds the causes. On a valid prediction ``reasons``
    are warnings.

    Example::

        (prediction,) = predictor.predict([window])
        if prediction.valid:
            print(prediction.label, prediction.confidence, prediction.valence)
    """

    valid: bool  # a modality of the artifact was usable and the model answered with finite numbers
    probs: dict[str, float] | None  # by label, in the model's order; they sum to one
    label: str | None  # the most probable one; None too where the model is not sure enough (low_confidence)
    confidence: float | None  # its calibrated probability
    entropy: float | None  # of probs, over that of the uniform distribution: 0 (certain) to 1
    valence: float | None  # P(high), or expected rating; see config.affect
    arousal: float | None
    prediction_set: tuple[str, ...] | None  # classes not excluded, the most probable first; None: the model has no sets
    coverage: float | None  # share of windows whose class is to be in the set
    used: tuple[str, ...]  # modalities of the artifact with any measured value
    reasons: tuple[Reason, ...]  # the window's, then the model's
    batch: int  # windows evaluated together; 0 where the model was not run
    model_s: float  # s that the model took for that batch
