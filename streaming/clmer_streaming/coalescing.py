"""EEG that waits to be filtered together with what follows: the same bits for less work.

A chunk behind the timeline may wait while no window can close and no stream can fall silent. Until then nobody can
tell whether it was filtered at once, because no stage behind the timeline can tell how its input was cut.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from clmer_streaming.liveness import Liveness
from clmer_streaming.types import Chunk


class WaitingChunks:
    """Chunks of one segment, in their order."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def extend(self, chunks: Iterable[Chunk]) -> None:
        """Let chunks wait, which carry ``filled``."""
        self._chunks.extend(chunks)

    def take(self) -> list[Chunk]:
        """Return all of them as one chunk; nothing where none waits."""
        chunks, self._chunks = self._chunks, []
        if len(chunks) <= 1:
            return chunks
        parts = zip(*((chunk.t, chunk.x, chunk.filled) for chunk in chunks), strict=True)
        t, x, filled = (np.concatenate(part, axis=-1) for part in parts)
        return [Chunk(chunks[0].source, t, x, filled)]


def quiet_until(t_next_window: float, now: float, eeg: Liveness, streams: Collection[Liveness]) -> float:
    """Return the time in seconds before which no sample of a live stream closes a window or changes a state.

    Args:
        t_next_window: Seconds, the end of the next window.
        now: Seconds, the furthest that any stream or tick has come.
        eeg: The EEG stream.
        streams: All streams, this one included.
    """
    if eeg.state != "live" or now >= t_next_window:
        return -np.inf
    return min(t_next_window, *(stream.unchanged_until for stream in streams))
