"""Comparison of estimators over the four kinds of split, as in ``clmer evaluate``.

``compare`` trains an estimator on every split, with controls, ``summary`` scores the predictions, ``make_report`` and
``read_split_scores`` write the report and read it for an export. The two estimators, the network and a
nearest-neighbour baseline, come last.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

from clmer_model.checkpoint import Checkpoint
from clmer_model.config import modality_spec
from clmer_model.data.examples import Examples
from clmer_model.data.store import WindowStore
from clmer_model.network.clmer import Clmer
from clmer_model.training.config import LogCallback, TrainConfig, recipe_of
from clmer_model.training.evaluate import (
    CLASS_SCORES,
    Floats,
    Labels,
    bootstrap_intervals,
    compute_scores,
    confusion,
    predict_logits,
)
from clmer_model.training.splits import (
    PROTOCOLS,
    PeopleSplit,
    Split,
    SplitExamples,
    SplitKind,
    check_disjoint,
    reason_uncomputable,
)
from clmer_model.training.train import train_model
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import DatasetError

ROWS: Mapping[str, str] = {
    "all": "all modalities",
    "eeg": "EEG alone",
    "all_below_20_hz": "all, EEG above 20 Hz removed",
    "eeg_below_20_hz": "EEG alone, above 20 Hz removed",
}
"""Titles of what is scored: the model, and controls. Muscle activity reflects the face: what EEG loses without it did
not come from the brain.
"""


def compare(
    store: WindowStore,
    splits: Mapping[SplitKind, Sequence[Split]],
    estimator: Estimator,
    progress: SplitProgress,
    controls: bool = True,
) -> dict[SplitKind, dict[str, list[SplitPredictions]]]:
    """Return the predictions for each shuffle, by kind of split and row of ``ROWS``.

    A model is trained anew for each, and with ``controls`` once more on EEG without the range above 20 Hz.

    Args:
        store: The windows.
        splits: The shuffles of each kind of split.
        estimator: What is trained.
        progress: Wraps all splits.
        controls: Whether to train without the range of muscle activity, too.

    Raises:
        DatasetError: Two sets of a split share a group that must be unseen.

    Example::

        store = open_store(Path("build/store"))
        splits = {"people": [draw_split(store, "people", k, seed=1) for k in (1, 2, 3)]}
        baseline = NeighborEstimator(len(store.labels), store.preprocess)
        predictions = compare(store, splits, baseline, progress=lambda splits: splits)
        summary(store, predictions)["people"]["rows"]["all"]["mean"]["accuracy"]
    """
    predictions: dict[SplitKind, dict[str, list[SplitPredictions]]] = {protocol: {} for protocol in splits}
    slowed = controls and "eeg" in store.examples.series
    slow = without_muscle(store.examples, store.preprocess.signal.sfreq) if slowed else None
    for split in progress([split for shuffles in splits.values() for split in shuffles]):
        check_disjoint(split, store)
        for suffix, examples in (("", store.examples), ("_below_20_hz", slow)):
            if examples is not None:
                for row, prediction in _predict_split(examples, split, estimator, len(store.labels)).items():
                    predictions[split.protocol].setdefault(row + suffix, []).append(prediction)
    return predictions


def _predict_split(
    examples: Examples, split: Split, estimator: Estimator, n_classes: int
) -> dict[str, SplitPredictions]:
    train, validation, test = (examples.take(rows) for rows in split.by_set.values())
    everything = tuple(examples.series)
    subsets = {"all": everything, **({"eeg": ("eeg",)} if "eeg" in everything else {})}
    probabilities = estimator.fit_predict(train, validation, test, subsets)
    shares = np.bincount(train.label, minlength=n_classes) / len(train)
    predictions = {}
    for name, probs in probabilities.items():
        known = np.any([test.mask[modality].any(1) for modality in subsets[name]], axis=0)
        if known.any():
            truth = test.label[known]
            predictions[name] = SplitPredictions(
                truth=truth,
                probs=probs[known],
                person=test.person[known],
                rows=split.test[known],
                majority=float((truth == shares.argmax()).mean()),
                prior=float(shares[truth].mean()),
            )
    return predictions


@dataclass(frozen=True, eq=False)
class SplitPredictions:
    """Predictions for the test windows of one split."""

    truth: Labels  # (n,)
    probs: Floats  # (n, K)
    person: Labels  # (n,)
    rows: Labels  # (n,) of the store
    majority: float  # accuracy of always predicting the most frequent class of the training set
    prior: float  # accuracy of drawing from the class shares of the training set

    @property
    def predicted(self) -> Labels:
        """The most probable class of each window (n,)."""
        chosen: Labels = self.probs.argmax(1)
        return chosen


SplitProgress = Callable[[Iterable[Split]], Iterable[Split]]
"""Wraps the splits, to display progress."""


MUSCLE_FREE_HZ = 20.0
"""Hz; above it lies most of what muscles of face and scalp give to EEG, as for ``muscle_share`` of a channel."""


def without_muscle(examples: Examples, sfreq: float) -> Examples:
    """Return the examples with EEG above 20 Hz removed (Butterworth filter of order 8, forward and backward)."""
    eeg = examples.series["eeg"]
    sos = butter(8, MUSCLE_FREE_HZ, output="sos", fs=sfreq)
    slow = np.concatenate([sosfiltfilt(sos, eeg[i : i + 256], axis=2) for i in range(0, len(eeg), 256)])
    slow = np.where(examples.mask["eeg"][..., None], slow, 0.0).astype(np.float32)
    return dataclasses.replace(examples, series={**examples.series, "eeg": slow})


def summary(
    store: WindowStore, predictions: Mapping[SplitKind, Mapping[str, Sequence[SplitPredictions]]], seed: int = 0
) -> dict[str, Any]:
    """Return the scores of every row by kind of split, or why it cannot be computed, as plain JSON values.

    All four kinds are in the result, whatever was asked for: the score of random windows is never reported alone.

    Args:
        store: The windows.
        predictions: As ``compare`` returned them.
        seed: Of the bootstrap.
    """
    plain: dict[str, Any] = {}
    for protocol, title in PROTOCOLS.items():
        rows = predictions.get(protocol, {})
        reason = reason_uncomputable(store, protocol) or ("" if rows else "not computed")
        plain[protocol] = {"title": title, "reason": reason} | (
            {} if reason else {"rows": {name: _row(shuffles, store.labels, seed) for name, shuffles in rows.items()}}
        )
    return plain


def _row(shuffles: Sequence[SplitPredictions], labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Return mean and SD over the shuffles of every score, and intervals over the people of all shuffles.

    Calibration errors shrink where windows are pooled: their mean may lie above the interval.
    """
    found = [{**compute_scores(one.truth, one.probs), "majority": one.majority, "prior": one.prior} for one in shuffles]
    values = {name: [scores[name] for scores in found] for name in found[0]}
    truth, probs, person = (
        np.concatenate(parts) for parts in zip(*((one.truth, one.probs, one.person) for one in shuffles), strict=True)
    )
    n_people = len(np.unique(person))
    intervals = bootstrap_intervals(truth, probs, person, seed) if n_people > 1 else {}  # one person alone has none
    matrix = confusion(truth, probs.argmax(1), len(labels))
    return {
        "mean": {name: round(float(np.mean(parts)), 4) for name, parts in values.items()},
        "sd": {name: round(float(np.std(parts)), 4) for name, parts in values.items()},
        "shuffles": {name: [round(part, 4) for part in parts] for name, parts in values.items()},
        "interval": {name: [round(edge, 4) for edge in edges] for name, edges in intervals.items()},
        "classes": _classes(matrix, labels),
        "confusion": matrix.astype(int).tolist(),
        "n_windows": [len(one.truth) for one in shuffles],
        "n_people": n_people,
    }


def _classes(matrix: Floats, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of each class over all shuffles together."""
    values = {name: value(matrix) for name, value in CLASS_SCORES.items()}
    return {label: {name: round(float(of[k]), 4) for name, of in values.items()} for k, label in enumerate(labels)}


REPORT_NAME = "report.json"
"""What ``clmer evaluate`` writes; in the folder of a checkpoint, ``clmer export`` takes it up."""


NEIGHBOURS = "neighbours"
"""The preset of a report on the nearest-neighbour baseline."""


_KEPT = ("mean", "sd", "interval", "n_windows", "n_people")
_CHANCE = ("seed", "mixed_precision")  # what changes the figures, but not the recipe


def make_report(store: WindowStore, splits: Mapping[str, Any], config: TrainConfig | None, seed: int) -> dict[str, Any]:
    """Return a report as plain JSON values.

    Args:
        store: The windows.
        splits: As ``summary`` returned them.
        config: Settings of the network that was trained for every split; None: nearest neighbours.
        seed: Of the splits.
    """
    recipe = {} if config is None else {"recipe": {**recipe_of(config, store.key), "dims": config.dims.to_dict()}}
    return {
        "store": store.key,
        "trained_on": store.trained_on,
        "labels": list(store.labels),
        "preset": NEIGHBOURS if config is None else config.preset,
        "seed": seed,
        **recipe,
        "splits": dict(splits),
    }


def read_split_scores(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the scores in a report that a model file keeps, as plain JSON values.

    Args:
        path: The report.
        checkpoint: The model, which must have been trained by the same recipe on the same data.

    Raises:
        DatasetError: There is no such report, or it belongs to another recipe or other data.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        stated = report["recipe"] if report["preset"] != NEIGHBOURS else {"preset": NEIGHBOURS}
        labels = tuple(report["labels"])
        splits = {protocol: _brief(split) for protocol, split in report["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"a report of clmer evaluate in {path}", str(error), "run clmer evaluate again") from error
    own = json.loads(json.dumps({**checkpoint.training, "dims": checkpoint.dims.to_dict()}))
    others = sorted(_differences(stated, {name: own.get(name) for name in stated}))
    if others or labels != checkpoint.labels:
        raise DatasetError(
            expected="a report of the recipe and the data that made the model",
            found=f"{path} with other {', '.join(others) or 'labels'}",
            mend="run clmer evaluate on the same store with the options of clmer train, or move the report away",
        )
    return splits


def _brief(split: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: {key: row[key] for key in _KEPT} for name, row in split.get("rows", {}).items()}
    return {"title": split["title"], "reason": split["reason"], **({"rows": rows} if rows else {})}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield the names of the differences between two trees of plain values, except those of ``_CHANCE``."""
    for name in one.keys() | other.keys():
        mine, theirs = one.get(name), other.get(name)
        if name in _CHANCE or mine == theirs:
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{place}{name}.")
        else:
            yield f"{place}{name}"


class Estimator(Protocol):
    """Trains on training and validation set and predicts the test set."""

    def fit_predict(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities (n_test, K) float64 for each subset of modalities.

        Everything is fitted on ``train``; ``validation`` may choose the epoch and the temperature.

        Args:
            train: Windows to fit on.
            validation: Windows to choose on.
            test: Windows to predict.
            subsets: Modalities that are not masked, by name of the subset.
        """


@dataclass(frozen=True)
class NetworkEstimator:
    """CLMER trained from scratch: normalizers, contrastive stage, supervised stage, temperature.

    With modality dropout one network is trained, which predicts from any subset. Without it, as in the paper's recipe,
    a network has never seen a window without a face: for each smaller subset another network is trained on that subset
    alone.
    """

    config: TrainConfig
    report: LogCallback

    def fit_predict(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities for each subset; modalities that are not in it are masked."""
        shared = self.config.fit.modality_dropout > 0
        models: dict[frozenset[str], Clmer] = {}
        predicted = {}
        for name, modalities in subsets.items():
            shown = frozenset(train.series if shared else modalities)
            if shown not in models:
                models[shown] = self._trained(*(part.showing(shown) for part in (train, validation, test)))
            logits = predict_logits(models[shown], test, modalities)
            predicted[name] = logits.softmax(1).numpy().astype(np.float64)
        return predicted

    def _trained(self, train: Examples, validation: Examples, test: Examples) -> Clmer:
        people = (tuple(np.unique(part.person).tolist()) for part in (train, validation, test))
        return train_model(self.config, SplitExamples(PeopleSplit(*people), train, validation, test), self.report)


Bands = tuple[tuple[float, float], ...]
"""Lower and upper edges, in Hz."""


EEG_BANDS: Bands = ((4, 8), (8, 13), (13, 20), (20, 30), (30, 45))


FURTHER_BANDS: Bands = ((0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32))
"""Slow waves, as of breath and skin, then octaves, as of the pulse; the constant level belongs to the first band."""


@dataclass(frozen=True)
class NeighborEstimator:
    """The k nearest training windows by band power and mean face: a quick baseline that shows a leak quickly."""

    n_classes: int
    preprocess: PreprocessConfig  # of the windows: the rate of every signal
    k: int = 5

    def fit_predict(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the share of each class among the neighbours, one count added to each; ``validation`` is not used."""
        del validation
        predicted = {}
        for name, modalities in subsets.items():
            raw = [np.concatenate([self.features(part, m) for m in modalities], axis=1) for part in (train, test)]
            mean = np.nan_to_num(np.nanmean(raw[0], axis=0, where=np.isfinite(raw[0])))
            sd = np.maximum(np.nan_to_num(np.nanstd(raw[0], axis=0)), 1e-6)
            train_features, test_features = (np.nan_to_num((values - mean) / sd) for values in raw)
            distance = (train_features**2).sum(1) - 2 * test_features @ train_features.T
            nearest = train.label[np.argpartition(distance, min(self.k, len(train_features)) - 1, axis=1)[:, : self.k]]
            counts = 1.0 + np.stack([(nearest == c).sum(1) for c in range(self.n_classes)], axis=1)
            predicted[name] = counts / counts.sum(1, keepdims=True)
        return predicted

    def features(self, examples: Examples, modality: str) -> Floats:
        """Return the features (n, m) of one modality; NaN where it was not measured.

        For a signal they are the logarithms of its power, by channel and in each by band from slow to fast, as far as
        its rate allows. For a face series they are the means over its slots.
        """
        x, mask = examples.series[modality], examples.mask[modality]
        if modality_spec(modality, self.preprocess).kind == "signal":
            values = band_powers(x, *self._bands_of(modality))
            values = np.where(mask[..., None], np.log(values + 1e-6), np.nan)
            return values.reshape(len(x), -1)
        n = np.maximum(mask.sum(1), 1).reshape(-1, *[1] * (x.ndim - 2))
        mean = np.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0.0).sum(1) / n
        mean[~mask.any(1)] = np.nan
        flat: Floats = mean.reshape(len(x), -1).astype(np.float64)
        return flat

    def _bands_of(self, modality: str) -> tuple[float, Bands]:
        """Return rate in Hz and bands of a signal."""
        series = self.preprocess.physio_of(modality)
        if series is None:
            return self.preprocess.signal.sfreq, EEG_BANDS
        return series.sfreq, tuple((low, high) for low, high in FURTHER_BANDS if low < series.sfreq / 2)


def band_powers(x: npt.NDArray[np.float32], sfreq: float, bands: Bands) -> Floats:
    """Return the power (n, C, bands) of signals (n, C, T).

    Args:
        x: The signals.
        sfreq: Their rate, Hz.
        bands: Each from its lower edge up to, but without, its upper edge.
    """
    power = np.abs(np.fft.rfft(x, axis=2)) ** 2
    hz = np.fft.rfftfreq(x.shape[2], 1 / sfreq)
    return np.stack([power[..., (hz >= low) & (hz < high)].sum(2) for low, high in bands], axis=2)
