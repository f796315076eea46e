"""One training: a network, a seed and a learning rate, from nothing to what it answers; kept as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison_parts.cohort import Cohort, end_of_windows
from comparison_parts.contenders import CONTENDERS

from clmer_model.config import DEFAULT, LABELS_VA4, PRESETS, modality_specs
from clmer_model.data.examples import Examples
from clmer_model.network.clmer import Clmer
from clmer_model.training.config import FitConfig, PretrainConfig
from clmer_model.training.contrastive import pretrain
from clmer_model.training.evaluate import (
    calibration_error,
    confusion_by_person,
    fit_temperature,
    predict_logits,
    scored_subsets,
)
from clmer_model.training.fit import SupervisedStage
from clmer_model.training.optimizer import ResumePoint
from clmer_model.training.splits import SplitExamples
from clmer_model.training.train import fit_normalizers
from clmer_streaming.config import PREPROCESSOR_ID
from clmer_streaming.simulation.config import SIMULATOR_ID


@dataclass(frozen=True)
class Run:
    """Everything that decides a training; but for network and learning rate it is the same for all."""

    contender: str
    seed: int
    rate: float  # learning rate of all parameters
    epochs: int = 6
    batch: int = 64
    contrast_epochs: int = 10  # of contenders with a contrastive stage
    cohort: Cohort = field(default_factory=Cohort)

    def fit_config(self) -> FitConfig:
        """Return the settings of the supervised stage: views, dropout and schedule of the shipped recipe."""
        return FitConfig(
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.rate,
            encoder_learning_rate=self.rate,
            seed=self.seed,
        )

    def plain(self) -> dict[str, Any]:
        """Return all that decides the result, as plain JSON values."""
        sizes = {preset.name: preset.dims.to_dict() for preset in PRESETS.values()}
        ids = {"simulator": SIMULATOR_ID, "preprocessor": PREPROCESSOR_ID, "presets": sizes}
        plain: dict[str, Any] = json.loads(json.dumps({**dataclasses.asdict(self), **ids}))
        return plain

    def path(self, out: Path) -> Path:
        """Return the file of the result; another setting is another file."""
        key = hashlib.sha256(json.dumps(self.plain(), sort_keys=True).encode()).hexdigest()[:8]
        words = self.contender.replace(",", "").replace("'", "").replace(" ", "-")
        return out / f"{words}-rate{self.rate:g}-seed{self.seed}-{key}.json"


def result_of(run: Run, data: SplitExamples | None, out: Path) -> dict[str, Any] | None:
    """Return the result of a run: from its file, or by training, which leaves the file.

    Args:
        run: What to train.
        sides: The cohort's windows, as preset ``default`` has them; None: do not train, but return None.
        out: Folder of the results.
    """
    path = run.path(out)
    if not path.is_file():
        if data is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(train(run, data), indent=1), encoding="utf-8")
        unfinished.replace(path)
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plain


def train(run: Run, data: SplitExamples) -> dict[str, Any]:
    """Train, calibrate and ask; return the result as plain JSON values."""
    contender, config = CONTENDERS[run.contender], run.fit_config()
    if contender.preprocess != DEFAULT.preprocess:
        data = end_of_windows(data, DEFAULT.preprocess, contender.preprocess)
    start = time.process_time()
    torch.manual_seed(run.seed)
    model = contender.make(modality_specs(contender.preprocess), len(LABELS_VA4))
    examples = data.train.tensors()
    fit_normalizers(model, *examples, config.views, run.seed)
    if contender.contrast:
        pretrain(
            model, examples, PretrainConfig(epochs=run.contrast_epochs, seed=run.seed), lambda line: None, ResumePoint()
        )
    fitting = SupervisedStage(model, data.train, data.validation, config)
    lines = []
    while not fitting.finished:
        lines.append(fitting.run_epoch())
    loss = fitting.finish()
    return {
        "run": run.plain(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "windows": data.n_windows(),
        "people": dataclasses.asdict(data.split),
        "curve": [[round(line[name], 4) for name in ("loss", "validation")] for line in lines],
        "best_epoch": 1 + int(np.argmin([line["validation"] for line in lines])),
        "validation_loss": loss,
        "temperature": fit_temperature(model, data.validation),
        "validation": answers_of(model, data.validation),
        "test": answers_of(model, data.test),
        "cpu_s": round(time.process_time() - start, 1),
    }


def answers_of(model: Clmer, examples: Examples) -> dict[str, Any]:
    """Return by subset of modalities the confusion matrix of each person and the calibration error.

    Windows in which a subset has nothing measured are not asked.
    """
    answers = {}
    for subset, names in scored_subsets(model).items():
        known = np.any([examples.mask[name].any(1) for name in names], axis=0)
        part = examples.take(np.flatnonzero(known))
        probs = predict_logits(model, part, names).softmax(1).numpy()
        chosen = probs.argmax(1).astype(np.int64)
        matrices = confusion_by_person(part.label, chosen, part.person, len(LABELS_VA4))
        answers[subset] = {
            "people": np.unique(part.person).tolist(),
            "matrices": matrices.astype(int).tolist(),
            "calibration_error": round(calibration_error(probs.max(1), chosen == part.label), 4),
        }
    return answers
