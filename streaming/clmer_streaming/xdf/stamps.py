"""Which stamps of a damaged recording can be believed."""

from __future__ import annotations

import numpy as np

from clmer_streaming.types import BoolArray, FloatArray
from clmer_streaming.xdf.format import MAX_STAMP_S

_STRAY_RUN = 3  # samples; fewer of them, far from all others, are damage and no run of a clock
_STRAY_REGULAR_S = 3600.0  # s; how far, in streams of a regular rate
_STRAY_IRREGULAR_S = 86400.0  # s; markers may lie hours apart


def plausible_stamps(t: FloatArray, *, regular: bool) -> BoolArray:
    """Tell which stamps can be a time: not those out of any clock's range, nor a few far from all others.

    Args:
        t: (n,) stamps in seconds, in file order.
        regular: Whether the stream has a nominal rate.
    """
    stray_s = _STRAY_REGULAR_S if regular else _STRAY_IRREGULAR_S
    with np.errstate(invalid="ignore"):
        kept = np.abs(t) <= MAX_STAMP_S
    good = np.flatnonzero(kept)
    runs = np.split(good, np.flatnonzero(np.abs(np.diff(t[good])) > stray_s) + 1)
    least = min(_STRAY_RUN, max(len(run) for run in runs))
    for run in runs:
        if len(run) < least:
            kept[run] = False
    return kept
