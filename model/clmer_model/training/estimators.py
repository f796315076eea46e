"""What ``clmer evaluate`` trains on every fold: the network, and baselines of scikit-learn on log band powers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from clmer_model.data.examples import Examples, concatenate
from clmer_model.data.features import feature_matrix
from clmer_model.network.clmer import Clmer
from clmer_model.training.calibrate import N_FOLDS
from clmer_model.training.config import LogCallback, TrainConfig
from clmer_model.training.evaluate import Floats, Labels, predict_logits
from clmer_model.training.splits import PeopleSplit, SplitExamples
from clmer_model.training.train import train_model
from clmer_streaming.config import PreprocessConfig

Advance = Callable[[float], None]
"""Called with the share of a call's work that was done since the last call; the shares add up to 1."""


class Estimator(Protocol):
    """Trains on training and validation set and predicts the test set."""

    def fit_predict(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        subsets: Mapping[str, Sequence[str]],
        advance: Advance,
    ) -> dict[str, Floats]:
        """Return the probabilities (n_test, K) float64 for each subset of modalities.

        Args:
            train: Windows to fit on.
            validation: Windows to choose on, or to fit on where there is nothing to choose; may be empty.
            test: Windows to predict; nothing is fitted on them.
            subsets: Modalities that are not masked, by name of the subset.
            advance: Called as the work proceeds.
        """

    def work(self, n_train: int, n_validation: int) -> float:
        """Return the work that a call with so many windows is, in a unit of the estimator's own."""


@dataclass(frozen=True)
class NetworkEstimator:
    """CLMER trained from scratch: normalizers, contrastive stage, supervised stage, temperature.

    With modality dropout one network is trained, which predicts from any subset. Without it, as in the paper's recipe,
    a network has never seen a window without a face: for each smaller subset another network is trained on that subset
    alone.
    """

    config: TrainConfig
    report: LogCallback  # called with every line of the log

    def fit_predict(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        subsets: Mapping[str, Sequence[str]],
        advance: Advance,
    ) -> dict[str, Floats]:
        """Return the probabilities for each subset; modalities that are not in it are masked."""
        shared = self.config.fit.modality_dropout > 0
        shown = {name: frozenset(train.series if shared else modalities) for name, modalities in subsets.items()}
        n_models = len(set(shown.values()))
        models: dict[frozenset[str], Clmer] = {}
        predicted = {}
        for name, modalities in subsets.items():
            seen = shown[name]
            if seen not in models:
                parts = [part.showing(seen) for part in (train, validation, test)]
                models[seen] = self._trained(parts, lambda share: advance(share / n_models))
            logits = predict_logits(models[seen], test, modalities)
            predicted[name] = logits.softmax(1).numpy().astype(np.float64)
        return predicted

    def work(self, n_train: int, n_validation: int) -> float:
        """Return windows times trainings of one model."""
        return n_train * _trainings(n_validation)

    def _trained(self, parts: Sequence[Examples], advance: Advance) -> Clmer:
        train, validation, test = parts
        people = (tuple(np.unique(part.person).tolist()) for part in parts)
        n_epochs = self.config.fit.epochs + self.config.pretrain.epochs * len(parts[0].series)
        share, done = 1.0 / (n_epochs * _trainings(len(parts[1]))), 0.0

        def report(line: dict[str, Any]) -> None:
            nonlocal done
            self.report(line)
            if "epoch" in line and done + share <= 1.0:
                done += share
                advance(share)

        model, _ = train_model(self.config, SplitExamples(PeopleSplit(*people), train, validation, test), report)
        advance(1.0 - done)
        return model


def _trainings(n_validation: int) -> int:
    """Return how many trainings on the whole training set one model takes.

    Without a validation set it is calibrated by folds of the training set, each of which trains on the others.
    """
    return 1 if n_validation else 1 + N_FOLDS - 1


BASELINES: Mapping[str, str] = {
    "lda": "LDA, automatic shrinkage",
    "logistic": "logistic regression, C = 0.1",
    "trees": "ExtraTrees, 300 trees",
}
"""Titles of the baselines."""


@dataclass(frozen=True)
class BaselineEstimator:
    """A classifier of scikit-learn on log band powers of every signal and the mean of every other series.

    Features are standardized by the training windows; what was not measured counts as average.

    Raises:
        KeyError: There is no such baseline.
    """

    name: str  # of ``BASELINES``
    preprocess: PreprocessConfig  # of the windows
    n_classes: int
    seed: int = 1  # of the trees

    def fit_predict(
        self,
        train: Examples,
        validation: Examples,
        test: Examples,
        subsets: Mapping[str, Sequence[str]],
        advance: Advance,
    ) -> dict[str, Floats]:
        """Return the probabilities for each subset; the validation windows are trained on, too."""
        known = concatenate([train, validation])
        predicted = {}
        for name, modalities in subsets.items():
            x, x_test = (feature_matrix(part, modalities, self.preprocess) for part in (known, test))
            predicted[name] = self._predict(x, known.label, x_test)
            advance(1.0 / len(subsets))
        return predicted

    def work(self, n_train: int, n_validation: int) -> float:
        """Return the number of windows."""
        return n_train + n_validation

    def _predict(self, x: Floats, label: Labels, x_test: Floats) -> Floats:
        rows, columns = np.isfinite(x).any(1), np.isfinite(x).any(0)
        probs = np.zeros((len(x_test), self.n_classes))
        classes = np.unique(label[rows])
        if len(classes) < 2:  # nothing to tell apart: the class that there is, or none in particular
            probs[:, classes] = 1.0
            return probs if len(classes) else probs + 1.0 / self.n_classes
        pipeline = _pipeline(self.name, self.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Only one sample available", category=UserWarning)
            pipeline.fit(x[np.ix_(rows, columns)], label[rows])
        probs[:, pipeline.classes_] = pipeline.predict_proba(x_test[:, columns])
        return probs


def _pipeline(name: str, seed: int) -> Pipeline:
    classifiers = {
        "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "logistic": lambda: LogisticRegression(C=0.1, max_iter=2000),
        "trees": lambda: ExtraTreesClassifier(300, random_state=seed),
    }
    return make_pipeline(StandardScaler(), SimpleImputer(strategy="constant", fill_value=0.0), classifiers[name]())
