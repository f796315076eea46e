"""Where a replay cuts the EEG of a recording: at every item of the other streams, or at those that matter.

At full speed EEG runs ahead of steady streams by up to a quarter of a second, and is cut in a tenth of the places. Its
windows are the same, because a stream that is less than a second behind is waited for. Where a stream falls silent, or
time is still being learnt, the order of single items counts: there EEG is cut at all of them.
"""

from __future__ import annotations

import numpy as np

from clmer_streaming.rate_gate import LONGEST_HOLD_S
from clmer_streaming.types import BoolArray, FloatArray, IndexArray

LONGEST_CHUNK_S = 0.25
"""Seconds of the longest chunk of EEG."""

_SILENT_S = 0.5  # s between two items of another stream; with a chunk of EEG still less than the second of a stall
_ODD_STEP_S = 0.25  # s between two samples of EEG
_BEHIND_S = 2.0  # s behind such a step in which a stall, or the end of a segment, may show


def chunk_edges(due: FloatArray, n_longest: int, forced: FloatArray) -> IndexArray:
    """Return where the chunks begin, and the last one ends: as long as they may be, but cut where it is forced.

    Args:
        due: (n,) seconds, when the samples are delivered; never steps back.
        n_longest: Samples of a chunk at most.
        forced: (m,) seconds at which to cut, behind samples of equal time.
    """
    stops = np.unique(np.concatenate([np.searchsorted(due, forced, side="right"), [due.size]]))
    too_late = np.searchsorted(due, due + LONGEST_CHUNK_S, side="right").tolist()
    edges = [0]
    for stop in stops.tolist():
        while edges[-1] < stop:
            edges.append(min(stop, edges[-1] + n_longest, too_late[edges[-1]]))
    return np.array(edges, dtype=np.intp)


def that_matter(due: FloatArray, t: FloatArray) -> FloatArray:
    """Return those of another stream's items, due at (m,) seconds, that a replay at full speed cuts the EEG at.

    Args:
        due: (m,) seconds, when they are delivered; never steps back.
        t: (n,) stamps of the EEG in seconds.
    """
    matter: BoolArray = np.diff(due, prepend=-np.inf) > _SILENT_S
    reached, steps = np.maximum.accumulate(t), np.abs(np.diff(t))
    odd = np.flatnonzero(steps > _ODD_STEP_S)
    begins = np.concatenate([reached[:1], reached[odd]])
    ends = np.concatenate([reached[:1] + LONGEST_HOLD_S, reached[odd + 1] + steps[odd]]) + _BEHIND_S
    for first, last in np.searchsorted(due, (begins, ends)).T.tolist():
        matter[first:last] = True
    return due[matter]
