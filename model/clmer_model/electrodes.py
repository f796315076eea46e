"""Places of EEG electrodes on the head, by their names.

They are those of the template ``standard_1005`` of MNE-Python (the five percent system of Oostenveld and Praamstra
2001, on one head), projected onto the sphere that fits them best.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from clmer_streaming.pipeline.channels import normalise_label

Position: TypeAlias = tuple[float, float, float]
"""Unit vector from the centre of the head: x right, y front, z up."""

_DIGITS = 6  # decimals that are kept, so that a model is the same wherever it is trained


def electrode_positions(ch_names: Sequence[str]) -> tuple[Position | None, ...]:
    """Return the position of each channel; None where its name is no electrode of the five percent system.

    Args:
        ch_names: Labels, in upper or lower case; ``T3``, ``T4``, ``T5`` and ``T6`` are known too.

    Example::

        electrode_positions(["Cz", "AF3", "3"])  # (nearly above the centre, front left, None)
    """
    if all(not name or name.isdigit() for name in ch_names):  # spares the import of MNE
        return (None,) * len(ch_names)
    known = _standard_positions()
    return tuple(known.get(normalise_label(name)) for name in ch_names)


@functools.cache
def _standard_positions() -> Mapping[str, Position]:
    from mne.channels import make_standard_montage

    metres = make_standard_montage("standard_1005").get_positions()["ch_pos"]
    points = np.array(list(metres.values()), dtype=np.float64)
    # |p - c|^2 = r^2 is linear in the centre c and in r^2 - |c|^2
    system = np.column_stack([2.0 * points, np.ones(len(points))])
    centre = np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]
    unit = points - centre
    unit = np.round(unit / np.linalg.norm(unit, axis=1, keepdims=True), _DIGITS)
    return {normalise_label(name): (x, y, z) for name, (x, y, z) in zip(metres, unit.tolist(), strict=True)}
