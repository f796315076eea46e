"""What an artefact says about itself: ``clmer.json``, read and checked without torch."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from clmer_model.dims import ClmerDims
from clmer_model.modalities import ModalitySpec, modality_specs
from clmer_streaming.config import PREPROCESSOR_ID, PreprocessConfig
from clmer_streaming.errors import ArtefactError
from clmer_streaming.face.extractor import is_known_extractor
from clmer_streaming.face.layout import EXTRACTOR_ID

SCHEMA = 1
"""Version of the layout of ``clmer.json``."""

_OPTIONAL = {"abstain_below", "split_scores"}

MEND_EXPORT = "export the model again with this version of clmer (clmer train, clmer export)"

Field = TypeVar("Field")


@dataclass(frozen=True)
class Reference:
    """An input and its logits, by which a loaded model is known to compute what it computed at its export."""

    x: Mapping[str, npt.NDArray[np.float32]]  # by modality, (B, ...)
    mask: Mapping[str, npt.NDArray[np.bool_]]  # by modality, (B, n)
    logits: npt.NDArray[np.float32]  # (B, K)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; series are base64 of little-endian float32."""
        return {
            "x": {name: _encode(series) for name, series in self.x.items()},
            "mask": {name: mask.tolist() for name, mask in self.mask.items()},
            "logits": [[float(value) for value in row] for row in self.logits],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any], specs: tuple[ModalitySpec, ...], n_classes: int) -> Reference:
        """Return the reference that ``to_dict`` wrote.

        Raises:
            ArtefactError: Its shapes are not those of the modalities.
        """
        try:
            logits = np.array(plain["logits"], dtype=np.float32).reshape(-1, n_classes)
            n = len(logits)
            x = {spec.name: _decode(plain["x"][spec.name], (n, *spec.shape)) for spec in specs}
            mask = {s.name: np.array(plain["mask"][s.name], dtype=np.bool_).reshape(n, s.n_masked) for s in specs}
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ArtefactError("a reference input of the model's shape", str(error), MEND_EXPORT) from error
        return cls(x, mask, logits)


@dataclass(frozen=True)
class ArtefactMeta:
    """Everything a service must know to run a model and to say what it is."""

    name: str
    labels: tuple[str, ...]
    modalities: tuple[ModalitySpec, ...]
    preprocess: PreprocessConfig
    dims: ClmerDims
    normalisation: Mapping[str, Any]  # constants inside the model, for people; see door.py
    temperature: float  # by which the model divides its logits
    trained_on: str  # "simulated", or the data sets' names
    training: Mapping[str, Any]  # how it was trained: people, seed, epochs
    scores: Mapping[str, Any]  # by split, each with its baseline and interval
    versions: Mapping[str, str]  # of clmer and torch at export
    reference: Reference
    abstain_below: float | None = None  # confidence under which no label is given; None: always the most probable
    split_scores: Mapping[str, Any] | None = None  # by protocol, of the same recipe trained anew; None: not evaluated

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, finite numbers only, no word of what is not set."""
        plain = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "schema": SCHEMA,
            "labels": list(self.labels),
            "modalities": [spec.to_dict() for spec in self.modalities],
            "preprocess": self.preprocess.to_dict(),
            "dims": self.dims.to_dict(),
            "reference": self.reference.to_dict(),
        }
        plain = {name: value for name, value in plain.items() if name not in _OPTIONAL or value is not None}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ArtefactMeta:
        """Return the checked metadata.

        Raises:
            ArtefactError: It is no JSON, of another schema, lacks a field or has one too many, contradicts
                itself, or was made for another preprocessor or face extractor.
        """
        plain = _parse(text)
        _check_schema(plain)
        preprocess = PreprocessConfig.from_dict(_take(plain, "preprocess", dict))
        _check_ids(preprocess)
        specs = modality_specs(preprocess)
        _check_modalities(_take(plain, "modalities", list), specs)
        labels = _check_labels(_take(plain, "labels", list))
        return cls(
            name=_take(plain, "name", str),
            labels=labels,
            modalities=specs,
            preprocess=preprocess,
            dims=ClmerDims.from_dict(_take(plain, "dims", dict)),
            normalisation=_take(plain, "normalisation", dict),
            temperature=_check_temperature(_take(plain, "temperature", float)),
            trained_on=_take(plain, "trained_on", str),
            training=_take(plain, "training", dict),
            scores=_take(plain, "scores", dict),
            versions=_take(plain, "versions", dict),
            reference=Reference.from_dict(_take(plain, "reference", dict), specs, len(labels)),
            abstain_below=check_threshold(_take(plain, "abstain_below", float)) if "abstain_below" in plain else None,
            split_scores=_take(plain, "split_scores", dict) if "split_scores" in plain else None,
        )


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtefactError("clmer.json in JSON", str(error), MEND_EXPORT) from error
    if not isinstance(plain, dict):
        raise ArtefactError("clmer.json with an object at its top", type(plain).__name__, MEND_EXPORT)
    return plain


def _check_schema(plain: dict[str, Any]) -> None:
    if plain.get("schema") != SCHEMA:
        raise ArtefactError(f"clmer.json of schema {SCHEMA}", f"schema {plain.get('schema')!r}", MEND_EXPORT)
    names = {field.name for field in dataclasses.fields(ArtefactMeta)} | {"schema"}
    required = names - _OPTIONAL
    if not required <= set(plain) <= names:
        found = f"missing {sorted(required - set(plain))}, unknown {sorted(set(plain) - names)}"
        raise ArtefactError("clmer.json with exactly the known fields", found, MEND_EXPORT)


def _take(plain: dict[str, Any], name: str, kind: type[Field]) -> Field:
    value = plain[name]
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind):
        found = f"{type(value).__name__} {str(value)[:60]!r}"
        raise ArtefactError(f"clmer.json with {name} of type {kind.__name__}", found, MEND_EXPORT)
    return value


def _check_ids(preprocess: PreprocessConfig) -> None:
    for what, found, expected, fits in (
        ("preprocessor", preprocess.preprocessor, PREPROCESSOR_ID, preprocess.preprocessor == PREPROCESSOR_ID),
        ("face extractor", preprocess.extractor, EXTRACTOR_ID, is_known_extractor(preprocess.extractor)),
    ):
        if not fits:
            raise ArtefactError(f"a model trained with {what} {expected}", f"{found!r}", MEND_EXPORT)


def _check_modalities(plain: list[Any], specs: tuple[ModalitySpec, ...]) -> None:
    if plain != [spec.to_dict() for spec in specs]:
        raise ArtefactError(
            f"modalities {[s.name for s in specs]} of the shapes that the signal settings make",
            f"{[entry.get('name') if isinstance(entry, dict) else entry for entry in plain]} that differ from them",
            MEND_EXPORT,
        )


def _check_labels(plain: list[Any]) -> tuple[str, ...]:
    if len(plain) < 2 or not all(isinstance(label, str) and label for label in plain) or len(set(plain)) < len(plain):
        raise ArtefactError("two or more different labels", f"{plain!r:.80}", MEND_EXPORT)
    return tuple(plain)


def _check_temperature(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ArtefactError("a positive temperature", repr(value), MEND_EXPORT)
    return value


def check_threshold(value: float) -> float:
    """Return the confidence under which a model gives no label.

    Raises:
        ArtefactError: It is no probability between 0 and 1.
    """
    if not 0.0 < value < 1.0:
        raise ArtefactError("a confidence to abstain below, above 0 and below 1", repr(value), "choose e.g. 0.5")
    return value


def _encode(series: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(series, dtype="<f4").tobytes()).decode()


def _decode(text: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32).reshape(shape)
