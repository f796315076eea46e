"""What the headset itself says of its electrodes: the streams Contact-Quality and EEG-Quality of EmotivPRO.

Both give each sensor a value from 0 (no contact, no signal) to 4 (good) about twice a second, beside battery and
overall figures (Emotiv, Cortex API, data streams "dev" and "eq").
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection

import numpy as np

from clmer_streaming.channels import normalise_label
from clmer_streaming.types import Chunk, FloatArray, Gap, StreamInfo

POOR_CONTACT = 1.0
"""A sensor at this value or below gives no usable signal."""

_STALE_S = 5.0  # s after which a value tells nothing of now
_KEEP_S = 30.0  # s of values that are kept, for windows that close late
_PREFIX = re.compile(r"^(CQ|EQ)[\s_.:-]+")  # "CQ_AF3"


class ContactQuality:
    """The latest contact values of one stream.

    Args:
        info: The stream, of kind ``contact``.
        ch_names: The model's channels, C.
    """

    def __init__(self, info: StreamInfo, ch_names: tuple[str, ...]) -> None:
        self.info = info
        names = [normalise_label(_PREFIX.sub("", name.strip().upper())) for name in info.ch_names]
        wanted = [normalise_label(name) for name in ch_names]
        self._picks = np.array([names.index(name) if name in names else -1 for name in wanted], dtype=np.intp)
        self.reset()

    def reset(self) -> None:
        """Forget all values."""
        self._values: deque[tuple[float, FloatArray]] = deque()  # s, (C,)

    def push(self, item: Chunk | Gap) -> None:
        """Take note of the values of a Chunk (C_stream, n); a Gap changes nothing, age decides."""
        if isinstance(item, Gap):
            return
        for t, column in zip((item.t - self.info.delay_s).tolist(), item.x.T, strict=True):
            if np.isfinite(t):
                self._values.append((t, np.where(self._picks >= 0, column[self._picks], np.nan)))
        newest = self._values[-1][0] if self._values else -np.inf
        while self._values and self._values[0][0] < newest - _KEEP_S:
            self._values.popleft()

    def at(self, t_end: float) -> FloatArray:
        """Return the newest values (C,) before ``t_end``; NaN where there is none, or none of the last 5 s."""
        for t, values in reversed(self._values):
            if t < t_end:
                return values if t_end - t <= _STALE_S else np.full(self._picks.size, np.nan)
        return np.full(self._picks.size, np.nan)


def worst_contact(streams: Collection[ContactQuality], t_end: float) -> FloatArray | None:
    """Return the worst contact (C,) that any stream reports of each channel; None without such a stream."""
    if not streams:
        return None
    worst: FloatArray = np.fmin.reduce([stream.at(t_end) for stream in streams])
    return worst
