"""The card of a model trained on simulated people: written by the program, from what was measured."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_model.export import export
from clmer_model.predictor import Predictor
from clmer_model.training.config import FitConfig, PretrainConfig, TrainConfig, recipe
from clmer_model.training.estimators import BASELINES
from clmer_model.training.splits import PROTOCOLS
from clmer_model.training.train import Run, train
from scripts.release import NULLS, EvidenceConfig, card_text, gather, machine, measure_latency, simulated_store
from tests.support.model_windows import SMALL

TINY = TrainConfig(
    n_people=5,
    n_trials=8,
    sim_preset="easy",
    dims=SMALL,
    preprocess=recipe().preprocess,
    caps=("epoc", "cap36"),
    pretrain=PretrainConfig(epochs=0),
    fit=FitConfig(epochs=1),
)


def test_the_latency_names_the_machine(small_artifact: ArtifactFile) -> None:
    """Two times in milliseconds, the median first, and what they were measured on."""
    said = measure_latency(Predictor(small_artifact, "cpu"), n_calls=20)
    assert 0 < said["p50_ms"] <= said["p99_ms"]
    assert said["machine"] == machine()
    assert "cores, torch" in said["machine"]


def test_simulated_people_form_a_store_that_knows_its_stimuli(tmp_path: Path) -> None:
    """Every trial has one person, one label and one stimulus, which is of that label."""
    store = simulated_store(dataclasses.replace(TINY, n_people=2, n_trials=4).recipes(), tmp_path)
    assert len(store.trials) == 8
    assert store.people == ("1000", "1001")
    for trial in range(8):
        rows = store.examples.trial == trial
        assert {len(set(values[rows])) for values in (store.examples.person, store.examples.label, store.stimulus)} == {
            1
        }
    for stimulus, label in zip(store.stimulus.tolist(), store.examples.label.tolist(), strict=True):
        assert store.stimuli[stimulus].startswith(store.labels[label])


@pytest.mark.deep
def test_the_whole_way_to_a_card_in_small(tmp_path: Path) -> None:
    """From people to a card that has every split, control, null figure and warning; no field is left open."""
    run = Run(tmp_path / "run", tmp_path / "people", lambda line: None, lambda made, _: made)
    checkpoint = train(TINY, run)
    export(checkpoint, tmp_path / "small.ts")
    artifact = find_artifact(str(tmp_path / "small.ts"))
    told: list[str] = []
    config = EvidenceConfig(TINY, run.cache, null_people=4, null_folds=1, cap_people=2, workers=2)
    evidence = gather(config, checkpoint.model, told.append)
    n_estimators, n_caps = 1 + len(BASELINES), 5
    assert len(told) == n_estimators * len(PROTOCOLS) + len(NULLS) * len(PROTOCOLS) + 1 + n_caps
    text = card_text(
        artifact.meta, 1000, 1000, {**evidence, "latency": measure_latency(Predictor(artifact, "cpu"), n_calls=20)}
    )
    for word in (
        *PROTOCOLS.values(),
        *NULLS,
        "EEG above 20 Hz removed",
        "EEG alone",
        "Temperature",
        "By cap",
        *BASELINES.values(),
        "Do not use it",
    ):
        assert word in text, word
    assert "5 simulated people" in text
    assert "the same 5 people, one fold of 5 of each split" in text
    for name in ("all", "eeg", "face"):
        values = artifact.meta.scores["unseen simulated people"][name]
        assert f"| {values['accuracy']:.3f} |" in text
    assert re.search(r"\bnan\b|None|\{", text) is None
    assert all(0 < found["p"] <= 1 for preset in NULLS for found in evidence["nulls"][preset].values())
