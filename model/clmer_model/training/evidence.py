"""What the card of the shipped model rests on: four splits, people without effects, latency, all measured anew."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clmer_model.clmer import Clmer
from clmer_model.training.chance import p_of_chance
from clmer_model.training.comparison import Answers, compare, summary
from clmer_model.training.evaluate import evaluate
from clmer_model.training.learners import Learner, NeighbourLearner, NetworkLearner
from clmer_model.training.protocols import PROTOCOLS, Protocol, draw_split
from clmer_model.training.simulated_store import simulated_store
from clmer_model.training.store import WindowStore
from clmer_model.training.train import TrainConfig

NULLS: Mapping[str, str] = {
    "null": "labels have nothing to do with the signals",
    "null-stimulus": "each stimulus shows, emotion does not",
}
"""The simulator's presets without any emotion in the signals."""

EVIDENCE_NAME = "evidence.json"
"""What was gathered, in the folder of the checkpoint."""

FIRST_NULL_PERSON = 5000  # far from those who are trained on

Told = Callable[[str], None]
"""Is told what has been measured."""


@dataclass(frozen=True)
class EvidenceConfig:
    """How much is measured."""

    train: TrainConfig  # the recipe, and its people
    cache: Path  # folder in which examples are kept
    split_people: int = 48  # of them, in the four splits, for each of which a model is trained anew
    null_people: int = 16  # of each preset without effects
    shuffles: int = 1  # of each split
    null_shuffles: int = 3  # with four unseen stimuli, fewer never tell chance from more at p 0.001
    workers: int = 2  # processes, of one thread each

    @property
    def of_splits(self) -> TrainConfig:
        """The recipe for the people of the four splits."""
        return dataclasses.replace(self.train, n_people=min(self.split_people, self.train.n_people))

    def nulls(self, preset: str) -> TrainConfig:
        """Return the recipe for people without effects."""
        return dataclasses.replace(
            self.train, n_people=self.null_people, first_person=FIRST_NULL_PERSON, sim_preset=preset
        )


@dataclass(frozen=True)
class Task:
    """One learner, one split of some people."""

    config: TrainConfig
    cache: Path
    learner: str  # "network" or "neighbours"
    protocol: Protocol
    shuffle: int
    controls: bool  # also without what muscles give to EEG


def gather(config: EvidenceConfig, model: Clmer, told: Told) -> dict[str, Any]:
    """Return everything that the card says beside what stands in the model file, as plain JSON values.

    Args:
        config: How much is measured.
        model: The trained model, for its answers about people without effects.
        told: Is told each result.
    """
    return {
        "split_people": config.of_splits.n_people,
        "split_shuffles": config.shuffles,
        "splits": _splits(config, told),
        "nulls": {preset: _null_splits(config, preset, told) for preset in NULLS},
        "unaware": _of_null_people(config, model, told),
    }


def _splits(config: EvidenceConfig, told: Told) -> dict[str, Any]:
    """Return by learner the four splits with controls, each trained anew."""
    people = config.of_splits
    store = simulated_store(people.recipes(), config.cache)
    found = {}
    for learner in ("network", "neighbours"):
        tasks = [
            Task(people, config.cache, learner, protocol, shuffle, controls=True)
            for protocol in PROTOCOLS
            for shuffle in range(1, config.shuffles + 1)
        ]
        answers: dict[Protocol, dict[str, list[Answers]]] = {}
        for task, rows in zip(tasks, _run(tasks, config.workers), strict=True):
            told(f"{learner}, {PROTOCOLS[task.protocol]}: {_accuracy(rows['all']):.3f}")
            for row, answer in rows.items():
                answers.setdefault(task.protocol, {}).setdefault(row, []).append(answer)
        found[learner] = summary(store, answers, people.seed)
    return found


def _null_splits(config: EvidenceConfig, preset: str, told: Told) -> dict[str, Any]:
    """Return by protocol the accuracy of the network and how probable it is by chance."""
    people = config.nulls(preset)
    store = simulated_store(people.recipes(), config.cache)
    tasks = [
        Task(people, config.cache, "network", protocol, shuffle, controls=False)
        for protocol in PROTOCOLS
        for shuffle in range(1, config.null_shuffles + 1)
    ]
    answers: dict[Protocol, list[Answers]] = {}
    for task, rows in zip(tasks, _run(tasks, config.workers), strict=True):
        answers.setdefault(task.protocol, []).append(rows["all"])
    found: dict[str, Any] = {}
    for protocol, shuffles in answers.items():
        accuracy, p = float(np.mean([_accuracy(one) for one in shuffles])), p_of_chance(store, protocol, shuffles)
        told(f"{preset}, {PROTOCOLS[protocol]}: {accuracy:.3f}, p {p:.4f}")
        found[protocol] = {"accuracy": round(accuracy, 4), "p": round(p, 4)}
    return found


def _of_null_people(config: EvidenceConfig, model: Clmer, told: Told) -> dict[str, Any]:
    """Return what the trained model scores on people in whom nothing shows, and how sure it is of it."""
    people = simulated_store(config.nulls("null").recipes(), config.cache).examples
    scores = evaluate(model, people, majority_class=0)
    told(f"people without effects: {scores['all']['accuracy']:.3f}, sure of {scores['all']['mean_confidence']:.3f}")
    return scores


def _run(tasks: Sequence[Task], workers: int) -> Iterable[dict[str, Answers]]:
    """Yield the answers of each task, in order."""
    if workers < 2:
        return map(_answers, tasks)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(_answers, tasks))


def _answers(task: Task) -> dict[str, Answers]:
    """Return by row what one learner, trained on one split, answers."""
    torch.set_num_threads(1)
    store = simulated_store(task.config.recipes(), task.cache)
    split = draw_split(store, task.protocol, task.shuffle, task.config.seed)
    asked = compare(store, {task.protocol: [split]}, _learner(task, store), lambda splits: splits, task.controls)
    return {row: shuffles[0] for row, shuffles in asked[task.protocol].items()}


def _learner(task: Task, store: WindowStore) -> Learner:
    if task.learner == "neighbours":
        return NeighbourLearner(len(store.labels), store.preprocess)
    return NetworkLearner(task.config, report=lambda line: None)


def _accuracy(answers: Answers) -> float:
    return float((answers.answer == answers.truth).mean())
