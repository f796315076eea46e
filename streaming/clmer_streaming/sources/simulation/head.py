"""Where the electrodes of an EPOC lie on a round head, and how far sources and muscles reach them."""

from __future__ import annotations

import numpy as np

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.types import FloatArray

SITES = (*EPOC_CH_NAMES, "P3")
"""Where the sources lie: under each electrode, and under P3, the headset's reference (CMS)."""

_ANGLES_DEG: dict[str, tuple[float, float]] = {
    "AF3": (57, 115), "F7": (72, 144), "F3": (46, 130), "FC5": (60, 160), "T7": (72, 180),
    "P7": (72, 216), "O1": (72, 252), "O2": (72, 288), "P8": (72, 324), "T8": (72, 0),
    "FC6": (60, 20), "F4": (46, 50), "F8": (72, 36), "AF4": (57, 65), "P3": (46, 230),
}  # fmt: skip
"""Polar angle from the vertex and azimuth (0 right, 90 front) on a sphere, after the 10-10 system's 18 degree steps."""

BLINK_REACH = {
    "AF3": 1.0, "AF4": 1.0, "F7": 0.55, "F8": 0.55, "F3": 0.45, "F4": 0.45, "FC5": 0.2, "FC6": 0.2,
    "T7": 0.06, "T8": 0.06,
}  # fmt: skip
"""Share of a blink's voltage at each electrode; the eyes are dipoles, seen mainly from the front."""

MUSCLE_REACH: dict[str, dict[str, float]] = {
    "AU01": {"AF3": 0.8, "AF4": 0.8, "F3": 0.4, "F4": 0.4},
    "AU02": {"AF3": 0.5, "AF4": 0.5, "F7": 0.6, "F8": 0.6},
    "AU04": {"AF3": 1.0, "AF4": 1.0, "F7": 0.4, "F8": 0.4, "F3": 0.3, "F4": 0.3},
    "AU06": {"F7": 0.5, "F8": 0.5, "AF3": 0.3, "AF4": 0.3},
    "AU12": {"T7": 1.0, "T8": 1.0, "F7": 0.8, "F8": 0.8, "FC5": 0.6, "FC6": 0.6},
    "AU17": {"T7": 0.3, "T8": 0.3},
    "AU20": {"T7": 0.5, "T8": 0.5, "FC5": 0.3, "FC6": 0.3},
    "AU23": {"T7": 0.5, "T8": 0.5, "F7": 0.3, "F8": 0.3},
}
"""How strongly the muscle of an action unit is picked up: brow muscles in front, cheek and jaw at the temples."""


def directions(sites: tuple[str, ...] = SITES) -> FloatArray:
    """Return unit vectors (n, 3) of the sites: x right, y front, z up."""
    polar, azimuth = np.deg2rad(np.asarray([_ANGLES_DEG[site] for site in sites])).T
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)


def conduction(spread_deg: float) -> FloatArray:
    """Return the mixing (15, 15) of sources into potentials: a Gaussian in angle, rows of unit power."""
    towards = directions()
    angle = np.rad2deg(np.arccos(np.clip(towards @ towards.T, -1.0, 1.0)))
    mixing = np.exp(-0.5 * (angle / spread_deg) ** 2)
    unit: FloatArray = mixing / np.linalg.norm(mixing, axis=1, keepdims=True)
    return unit


def reach(table: dict[str, float]) -> FloatArray:
    """Return a table of electrodes as a vector (14,) in the headset's order, 0 where it names none."""
    return np.asarray([table.get(name, 0.0) for name in EPOC_CH_NAMES])
