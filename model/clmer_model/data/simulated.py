"""Examples of simulated people, made in parallel and kept in a cache on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clmer_model.data.examples import Examples, make_examples
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.simulation.config import SIMULATOR_ID, SimulationConfig
from clmer_streaming.simulation.session import simulate

CACHE_LAYOUT = 1  # of the files in the cache
CHUNK_SAMPLES = 64  # EEG samples per chunk; larger than live, and the windows are the same
PEOPLE_PER_PROCESS = 8  # fewer new people are not worth the seconds that a process takes to start


@dataclass(frozen=True)
class PersonRecipe:
    """Everything that decides the examples of one simulated person. Field names are part of the cache key.

    Example::

        session = SimulationConfig(seconds=60.0, seed=1, participant=7)
        recipe = PersonRecipe(session, PreprocessConfig(modalities=MODEL_MODALITIES), LABELS_VA4, every=4)
        examples = examples_of_person(recipe, Path("build/people"))
    """

    simulation: SimulationConfig
    preprocess: PreprocessConfig
    labels: tuple[str, ...]
    every: int  # keep only each ``every``-th window of a trial

    @property
    def key(self) -> str:
        """First 20 hex digits of the SHA-256 of the recipe and of the simulator's version."""
        plain = {"layout": CACHE_LAYOUT, "simulator": SIMULATOR_ID, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:20]


def examples_of_person(recipe: PersonRecipe, cache: Path) -> Examples:
    """Return one person's examples, from the cache if it holds them."""
    path = cache_path(recipe, cache)
    if path.is_file():
        return _load(path, recipe.preprocess.modalities)
    session = simulate(recipe.simulation)
    person = recipe.simulation.participant
    examples = make_examples(
        session.items(CHUNK_SAMPLES), recipe.preprocess, recipe.labels, person=person, every=recipe.every
    )
    _save(path, examples)
    return examples


def examples_of_people(recipes: Sequence[PersonRecipe], cache: Path) -> Iterator[Examples]:
    """Yield each person's examples, in order; many new people are simulated in one process for each core."""
    n_new = sum(not cache_path(recipe, cache).is_file() for recipe in recipes)
    workers = min(os.cpu_count() or 1, n_new // PEOPLE_PER_PROCESS)
    if workers < 2:
        yield from (examples_of_person(recipe, cache) for recipe in recipes)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(examples_of_person, recipes, [cache] * len(recipes))


def cache_path(recipe: PersonRecipe, cache: Path) -> Path:
    """Return the path of the cached examples of this recipe."""
    return cache / f"{recipe.key}.npz"


def _save(path: Path, examples: Examples) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(
        unfinished,
        **{f"series_{name}": values for name, values in examples.series.items()},
        **{f"mask_{name}": values for name, values in examples.mask.items()},
        label=examples.label,
        person=examples.person,
        trial=examples.trial,
    )
    unfinished.replace(path)


def _load(path: Path, modalities: Sequence[str]) -> Examples:
    with np.load(path, allow_pickle=False) as stored:
        return Examples(
            series={name: stored[f"series_{name}"] for name in modalities},
            mask={name: stored[f"mask_{name}"] for name in modalities},
            label=stored["label"],
            person=stored["person"],
            trial=stored["trial"],
        )
