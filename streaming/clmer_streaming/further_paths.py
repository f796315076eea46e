"""The ways of all further series into windows, by the streams that give them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from clmer_streaming.config import FurtherSeries, PhysioConfig, PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.liveness import Liveness
from clmer_streaming.physio_path import PhysioPath, resolve_series, series_name
from clmer_streaming.slot_path import SlotCut, SlotPath
from clmer_streaming.types import Chunk, Gap, StreamInfo, StreamStatus
from clmer_streaming.windows import EegCut


class FurtherPaths:
    """The paths of all further series, signals and those on slots, by the source of their streams.

    Args:
        config: The settings of the artefact.
    """

    def __init__(self, config: PreprocessConfig) -> None:
        self._config = config
        self.by_source: dict[str, PhysioPath | SlotPath] = {}
        self._refused: dict[str, StreamStatus] = {}

    def announce(self, info: StreamInfo, now: float) -> bool:
        """Tell whether a stream gives one of the model's series; where it should and cannot, its status says why.

        A stream on slots that comes back as it was goes on where it was, as a face does.
        """
        before = self.by_source.pop(info.source, None)
        if isinstance(before, SlotPath) and before.info == info:
            self.by_source[info.source] = before
            return True
        self._refused.pop(info.source, None)
        series = self._config.further_of(series_name(info.source))
        if series is None:
            return False
        try:
            self.by_source[info.source] = self._path(info, series)
        except StreamError as error:
            reason = f"not used: expected {error.expected}, found {error.found}; {error.mend}"
            self._refused[info.source] = StreamStatus(
                info.source, "physio", info.name, "connecting", now, reason, nominal_rate_hz=info.sfreq
            )
        return info.source in self.by_source

    def _path(self, info: StreamInfo, series: FurtherSeries) -> PhysioPath | SlotPath:
        if isinstance(series, PhysioConfig):
            return PhysioPath(info, series, self._config)
        return SlotPath(info, series, resolve_series(info, series), self._config.window)

    def take(self, item: Chunk | Gap, now: float, liveness: Liveness) -> None:
        """Take samples of a stream that gives a series, at ``now`` seconds; -inf where no other stream tells the time.

        They move no time, which a series on a clock of its own would spoil.
        """
        path = self.by_source[item.source]
        before = path.last_t
        path.push(item, now if math.isfinite(now) else math.nan)
        if isinstance(item, Chunk) and math.isfinite(path.last_t) and path.last_t != before:
            chunk_s = path.span_s(item)
            liveness.observe(path.last_t - chunk_s, path.last_t, chunk_s)

    @property
    def n_kept(self) -> dict[str, int]:
        """Samples that are kept, by source."""
        return {source: path.n_kept for source, path in self.by_source.items()}

    def watermarks(self, live: Mapping[str, Liveness]) -> dict[str, float]:
        """Return by source the seconds before which every sample has arrived; none of a stream on another clock."""
        return {source: path.watermark for source, path in self.by_source.items() if not live[source].far_away}

    def cuts(self, t_end: float, live: Mapping[str, Liveness]) -> dict[str, EegCut | SlotCut]:
        """Return by series the window that ends at ``t_end``; none of a stream on another clock."""
        paths = (path for source, path in self.by_source.items() if not live[source].far_away)
        return {path.series.name: path.cut(t_end) for path in paths}

    def forget_before(self, t: float, now: float) -> None:
        """Drop samples that no window ending after ``t`` needs, and those too far ahead of ``now``."""
        for path in self.by_source.values():
            path.forget_before(t, now)

    def statuses(self, live: Mapping[str, Liveness]) -> tuple[StreamStatus, ...]:
        """Return what is known now of every stream that gives a series, or should."""
        return (*(path.status(live[source]) for source, path in self.by_source.items()), *self._refused.values())
