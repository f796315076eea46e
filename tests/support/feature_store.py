"""Window stores in memory, for the tests of splits and scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clmer_model.data.examples import Examples
from clmer_model.data.store import NO_STIMULUS, WindowStore
from clmer_model.training.evaluate import Labels
from tests.support.model_windows import CONFIG

LABELS = ("a", "b")


def small_store(
    n_people: int = 10, stimuli_per_label: int = 4, windows_per_trial: int = 3, labels: Sequence[str] = LABELS
) -> WindowStore:
    """Return windows in which everybody sees every stimulus once; EEG is noise, its first value the window's number."""
    n_stimuli = len(labels) * stimuli_per_label
    person = np.repeat(np.arange(n_people), n_stimuli * windows_per_trial)
    stimulus = np.tile(np.repeat(np.arange(n_stimuli), windows_per_trial), n_people)
    trial = np.repeat(np.arange(n_people * n_stimuli), windows_per_trial)
    names = [f"s{k}" for k in range(n_stimuli)]
    return in_memory(person, trial, stimulus, stimulus // stimuli_per_label, stimuli=names, labels=labels)


def in_memory(
    person: Labels,
    trial: Labels,
    stimulus: Labels,
    label: Labels,
    *,
    stimuli: Sequence[str] = (),
    labels: Sequence[str] = LABELS,
) -> WindowStore:
    """Return a store of EEG noise with these numbers."""
    n = len(label)
    eeg = np.random.default_rng(0).standard_normal((n, 2, 64)).astype(np.float32)
    eeg[:, 0, 0] = np.arange(n)
    examples = Examples({"eeg": eeg}, {"eeg": np.ones((n, 2), dtype=np.bool_)}, label, person, trial)
    return WindowStore(
        examples=examples,
        stimulus=stimulus if len(stimuli) else np.full(n, NO_STIMULUS),
        labels=tuple(labels),
        people=tuple(f"P{k}" for k in range(int(person.max()) + 1)),
        stimuli=tuple(stimuli),
        trials=tuple(f"t{k}" for k in range(int(trial.max()) + 1)),
        preprocess=CONFIG,
        key="0" * 64,
        trained_on="simulated",
    )
