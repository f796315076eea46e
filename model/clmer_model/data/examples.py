"""Labelled windows, made from the items of a session by the live signal path.

``Examples`` holds the arrays; ``make_examples`` fills them from a session whose markers enclose its trials.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.trials import parse_trial_marker
from clmer_streaming.types import Item, Marker, Window

Series = Mapping[str, npt.NDArray[np.float32]]
Masks = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows with labels, persons and trials, as arrays.

    Example::

        train = examples.of_people([0, 1, 2])
        x, mask = train.tensors()  # inputs of Clmer
    """

    series: Series  # by modality, (n, ...) float32
    mask: Masks  # by modality, (n, ...) bool
    label: npt.NDArray[np.int64]  # (n,) class index
    person: npt.NDArray[np.int64]  # (n,) number of the participant
    trial: npt.NDArray[np.int64]  # (n,) number of the trial within the participant's session

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: npt.NDArray[np.int64]) -> Examples:
        """Return the examples of these rows, in this order."""
        return Examples(
            series={name: values[rows] for name, values in self.series.items()},
            mask={name: values[rows] for name, values in self.mask.items()},
            label=self.label[rows],
            person=self.person[rows],
            trial=self.trial[rows],
        )

    def of_people(self, people: Iterable[int]) -> Examples:
        """Return the examples of these participants, in their present order."""
        return self.take(np.flatnonzero(np.isin(self.person, list(people))))

    def showing(self, modalities: Collection[str]) -> Examples:
        """Return the examples with every modality masked that is not named."""
        hidden = {name: known if name in modalities else np.zeros_like(known) for name, known in self.mask.items()}
        return dataclasses.replace(self, mask=hidden)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return series and masks as torch tensors by modality, the inputs of the model."""
        return (
            {name: torch.from_numpy(values) for name, values in self.series.items()},
            {name: torch.from_numpy(values) for name, values in self.mask.items()},
        )


@dataclass(frozen=True)
class LabelledTrial:
    """A span of a session with one label."""

    number: int
    label: str
    t_start: float  # seconds
    t_end: float  # seconds

    def contains(self, window: Window) -> bool:
        """Return whether the whole window lies inside the trial."""
        return self.t_start <= window.t_start and window.t_end <= self.t_end


def make_examples(
    items: Iterable[Item], config: PreprocessConfig, labels: Sequence[str], person: int, every: int = 1
) -> Examples:
    """Return the labelled windows of one participant's session.

    A window is kept when it lies wholly inside one trial and any modality was measured in it.

    Args:
        items: The session as a source delivers it, markers included.
        config: Settings of the Preprocessor.
        labels: Class names; a trial of another label is left out.
        person: The participant's number.
        every: Keep only each ``every``-th window of a trial; neighbours share most of their samples.
    """
    preprocessor = Preprocessor(config)
    windows: list[Window] = []
    markers: list[Marker] = []
    for item in items:
        windows.extend(preprocessor.push(item))
        if isinstance(item, Marker):
            markers.append(item)
    kept = [
        (window, trial)
        for trial in labelled_trials(markers)
        if trial.label in labels
        for window in [window for window in windows if trial.contains(window)][::every]
        if any(window.mask[name].any() for name in config.modalities)
    ]
    return Examples(
        series={name: np.array([w.series[name] for w, _ in kept], np.float32) for name in config.modalities},
        mask={name: np.array([w.mask[name] for w, _ in kept], np.bool_) for name in config.modalities},
        label=np.array([labels.index(trial.label) for _, trial in kept], dtype=np.int64),
        person=np.full(len(kept), person, dtype=np.int64),
        trial=np.array([trial.number for _, trial in kept], dtype=np.int64),
    )


def labelled_trials(markers: Iterable[Marker]) -> list[LabelledTrial]:
    """Return the trials that start and end markers enclose, in order of their end."""
    started: dict[int, float] = {}
    trials = []
    for marker in markers:
        parsed = parse_trial_marker(marker.label)
        if parsed is None:
            continue
        if parsed.kind == "trial_start":
            started[parsed.trial_id] = marker.t
        elif parsed.trial_id in started:
            trials.append(LabelledTrial(parsed.trial_id, parsed.label, started.pop(parsed.trial_id), marker.t))
    return trials


def concatenate(parts: Sequence[Examples]) -> Examples:
    """Return the examples of all parts, one after the other; parts without examples are left out.

    Raises:
        ValueError: No part has an example.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        raise ValueError("expected examples, got none: no window lies wholly inside a labelled trial")
    return Examples(
        series={name: np.concatenate([part.series[name] for part in parts]) for name in parts[0].series},
        mask={name: np.concatenate([part.mask[name] for part in parts]) for name in parts[0].mask},
        label=np.concatenate([part.label for part in parts]),
        person=np.concatenate([part.person for part in parts]),
        trial=np.concatenate([part.trial for part in parts]),
    )
