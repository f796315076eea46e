"""What can be trained on one side of a split and asked about another: the network, and plain nearest neighbours."""

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
from clmer_model.training.config import Report, TrainConfig, recipe_of
from clmer_model.training.evaluate import CLASS_SCORES, Floats, Labels, confusion, intervals_of, logits_of, scores_of
from clmer_model.training.splits import PROTOCOLS, PeopleSplit, Sides, Split, SplitKind, guard, why_not
from clmer_model.training.train import train_model
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import DatasetError

MUSCLE_FREE_HZ = 20.0
"""Hz; above it lies most of what muscles of face and scalp give to EEG, as for ``muscle_share`` of a channel."""


class Learner(Protocol):
    """Learns from two sides of a split and answers for the third."""

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities (n_test, K) with each subset of modalities.

        Everything is fitted on ``train``; ``validation`` may choose the epoch and the temperature.
        """


@dataclass(frozen=True)
class NetworkLearner:
    """CLMER, trained from nothing: doors, contrastive stage, labels, temperature.

    A recipe that takes whole modalities away while it trains makes one network, which answers from any subset. One
    that does not, as the paper's, makes a network that never saw a window without a face: for a smaller subset another
    is then trained, to which nothing but that subset is ever shown.
    """

    config: TrainConfig
    report: Report

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the probabilities with each subset; what is not in it is masked."""
        shared = self.config.fit.modality_dropout > 0
        models: dict[frozenset[str], Clmer] = {}
        answers = {}
        for name, modalities in subsets.items():
            shown = frozenset(train.series if shared else modalities)
            if shown not in models:
                models[shown] = self._trained(*(part.showing(shown) for part in (train, validation, test)))
            logits = logits_of(models[shown], test, modalities)
            answers[name] = logits.softmax(1).numpy().astype(np.float64)
        return answers

    def _trained(self, train: Examples, validation: Examples, test: Examples) -> Clmer:
        people = (tuple(np.unique(part.person).tolist()) for part in (train, validation, test))
        return train_model(self.config, Sides(PeopleSplit(*people), train, validation, test), self.report)


Bands = tuple[tuple[float, float], ...]
"""From and to, in Hz."""

EEG_BANDS: Bands = ((4, 8), (8, 13), (13, 20), (20, 30), (30, 45))
FURTHER_BANDS: Bands = ((0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 32))
"""Slow waves, as of breath and skin, then octaves, as of the pulse; the level itself is among the slow ones."""


@dataclass(frozen=True)
class NeighbourLearner:
    """The k nearest training windows by band power and mean face: quick, and quick to show a leak."""

    n_classes: int
    preprocess: PreprocessConfig  # of the windows: the rate of every signal
    k: int = 5

    def answer(
        self, train: Examples, validation: Examples, test: Examples, subsets: Mapping[str, Sequence[str]]
    ) -> dict[str, Floats]:
        """Return the share of each class among the neighbours, one count added to each; nothing needs validation."""
        del validation
        answers = {}
        for name, modalities in subsets.items():
            known, asked = (np.concatenate([self.features(e, m) for m in modalities], axis=1) for e in (train, test))
            mean = np.nan_to_num(np.nanmean(known, axis=0, where=np.isfinite(known)))
            sd = np.maximum(np.nan_to_num(np.nanstd(known, axis=0)), 1e-6)
            known, asked = (np.nan_to_num((values - mean) / sd) for values in (known, asked))
            distance = (known**2).sum(1) - 2 * asked @ known.T
            nearest = train.label[np.argpartition(distance, min(self.k, len(known)) - 1, axis=1)[:, : self.k]]
            counts = 1.0 + np.stack([(nearest == c).sum(1) for c in range(self.n_classes)], axis=1)
            answers[name] = counts / counts.sum(1, keepdims=True)
        return answers

    def features(self, examples: Examples, modality: str) -> Floats:
        """Return numbers (n, m) of one modality; NaN where it was not measured.

        Of a signal they are the logarithms of its power, channel by channel and in each the bands from slow to fast,
        as far as its rate has them. Of a face series they are the means over its slots.
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
        """Return rate and bands of a signal."""
        series = self.preprocess.physio_of(modality)
        if series is None:
            return self.preprocess.signal.sfreq, EEG_BANDS
        return series.sfreq, tuple((low, high) for low, high in FURTHER_BANDS if low < series.sfreq / 2)


def band_powers(x: npt.NDArray[np.float32], sfreq: float, bands: Bands) -> Floats:
    """Return the power (n, C, bands) of signals (n, C, T) at ``sfreq`` Hz from the start of each band up to its end."""
    power = np.abs(np.fft.rfft(x, axis=2)) ** 2
    hz = np.fft.rfftfreq(x.shape[2], 1 / sfreq)
    return np.stack([power[..., (hz >= low) & (hz < high)].sum(2) for low, high in bands], axis=2)


def without_muscle(examples: Examples, sfreq: float) -> Examples:
    """Return the examples with EEG above 20 Hz removed (Butterworth of order 8, forwards and backwards)."""
    eeg = examples.series["eeg"]
    sos = butter(8, MUSCLE_FREE_HZ, output="sos", fs=sfreq)
    slow = np.concatenate([sosfiltfilt(sos, eeg[i : i + 256], axis=2) for i in range(0, len(eeg), 256)])
    slow = np.where(examples.mask["eeg"][..., None], slow, 0.0).astype(np.float32)
    return dataclasses.replace(examples, series={**examples.series, "eeg": slow})


ROWS: Mapping[str, str] = {
    "all": "all modalities",
    "eeg": "EEG alone",
    "all_below_20_hz": "all, EEG above 20 Hz removed",
    "eeg_below_20_hz": "EEG alone, above 20 Hz removed",
}
"""What is scored: the model, and controls. Muscle reads the face: what EEG loses without it was not the brain's."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What was answered for the test windows of one shuffle."""

    truth: Labels  # (n,)
    probs: Floats  # (n, K)
    person: Labels  # (n,)
    rows: Labels  # (n,) of the store
    majority: float  # accuracy of always naming the most frequent class of the training side
    prior: float  # accuracy of drawing from the training side's shares of the classes

    @property
    def answer(self) -> Labels:
        """The most probable class of each window (n,)."""
        chosen: Labels = self.probs.argmax(1)
        return chosen


Asked = Callable[[Iterable[Split]], Iterable[Split]]
"""Wraps the splits, to show how far it is."""


def compare(
    store: WindowStore,
    splits: Mapping[SplitKind, Sequence[Split]],
    learner: Learner,
    progress: Asked,
    controls: bool = True,
) -> dict[SplitKind, dict[str, list[Answers]]]:
    """Return by protocol and row the answers of each shuffle.

    A model is trained anew for each, and with ``controls`` once more on EEG without what lies above 20 Hz.

    Args:
        store: The windows.
        splits: By protocol the shuffles of it.
        learner: What is trained.
        progress: Wraps all splits.
        controls: Whether to train without what muscles give to EEG, too.
    """
    answers: dict[SplitKind, dict[str, list[Answers]]] = {protocol: {} for protocol in splits}
    slowed = controls and "eeg" in store.examples.series
    slow = without_muscle(store.examples, store.preprocess.signal.sfreq) if slowed else None
    for split in progress([split for shuffles in splits.values() for split in shuffles]):
        guard(split, store)
        for suffix, examples in (("", store.examples), ("_below_20_hz", slow)):
            if examples is not None:
                for row, answer in _ask(examples, split, learner, len(store.labels)).items():
                    answers[split.protocol].setdefault(row + suffix, []).append(answer)
    return answers


def _ask(examples: Examples, split: Split, learner: Learner, n_classes: int) -> dict[str, Answers]:
    train, validation, test = (examples.take(rows) for rows in split.sides.values())
    everything = tuple(examples.series)
    subsets = {"all": everything, **({"eeg": ("eeg",)} if "eeg" in everything else {})}
    given = learner.answer(train, validation, test, subsets)
    shares = np.bincount(train.label, minlength=n_classes) / len(train)
    answers = {}
    for name, probs in given.items():
        known = np.any([test.mask[modality].any(1) for modality in subsets[name]], axis=0)
        if known.any():
            truth = test.label[known]
            answers[name] = Answers(
                truth=truth,
                probs=probs[known],
                person=test.person[known],
                rows=split.test[known],
                majority=float((truth == shares.argmax()).mean()),
                prior=float(shares[truth].mean()),
            )
    return answers


def summary(
    store: WindowStore, answers: Mapping[SplitKind, Mapping[str, Sequence[Answers]]], seed: int = 0
) -> dict[str, Any]:
    """Return by protocol what every row scored, or why it cannot be computed, as plain JSON values.

    All four protocols stand in it, whatever was asked for: the score of random windows is never there alone.
    """
    plain: dict[str, Any] = {}
    for protocol, title in PROTOCOLS.items():
        rows = answers.get(protocol, {})
        reason = why_not(store, protocol) or ("" if rows else "not computed")
        plain[protocol] = {"title": title, "reason": reason} | (
            {} if reason else {"rows": {name: _row(shuffles, store.labels, seed) for name, shuffles in rows.items()}}
        )
    return plain


def _row(shuffles: Sequence[Answers], labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Return mean and SD over the shuffles of every score, and intervals over the people of all of them.

    Calibration errors shrink where windows are put together: their mean may lie above the interval.
    """
    found = [{**scores_of(one.truth, one.probs), "majority": one.majority, "prior": one.prior} for one in shuffles]
    values = {name: [scores[name] for scores in found] for name in found[0]}
    truth, probs, person = (
        np.concatenate(parts) for parts in zip(*((one.truth, one.probs, one.person) for one in shuffles), strict=True)
    )
    n_people = len(np.unique(person))
    intervals = intervals_of(truth, probs, person, seed) if n_people > 1 else {}  # one person alone has none
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
"""The preset of a report without a network."""

_KEPT = ("mean", "sd", "interval", "n_windows", "n_people")
_CHANCE = ("seed", "mixed_precision")  # what changes the figures, but not the recipe


def report_of(store: WindowStore, splits: Mapping[str, Any], config: TrainConfig | None, seed: int) -> dict[str, Any]:
    """Return a report as plain JSON values.

    Args:
        store: The windows.
        splits: What ``summary`` returned.
        config: The network that was trained anew for every split; None: nearest neighbours.
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
    """Return from a report what a model file says of its recipe, as plain JSON values.

    Args:
        path: The report.
        checkpoint: The model, which must have been trained by the same recipe on the same data.

    Raises:
        DatasetError: There is no such report, or it is of another recipe or other data.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        told = report["recipe"] if report["preset"] != NEIGHBOURS else {"preset": NEIGHBOURS}
        labels = tuple(report["labels"])
        splits = {protocol: _brief(split) for protocol, split in report["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"a report of clmer evaluate in {path}", str(error), "run clmer evaluate again") from error
    own = json.loads(json.dumps({**checkpoint.training, "dims": checkpoint.dims.to_dict()}))
    others = sorted(_differences(told, {name: own.get(name) for name in told}))
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
    """Yield the names of what differs between two trees of plain values, but for what is left to chance."""
    for name in one.keys() | other.keys():
        mine, theirs = one.get(name), other.get(name)
        if name in _CHANCE or mine == theirs:
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{place}{name}.")
        else:
            yield f"{place}{name}"
