"""What becomes of streams that feed no window: contact quality, markers, and whatever is recorded as it is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from clmer_streaming.liveness import Liveness
from clmer_streaming.types import INPUT_KINDS, Chunk, Item, Marker, StreamInfo, StreamState, StreamStatus

_LOOK_S = 0.5  # s of stream time between two looks at who has fallen silent
_RATE_S = 10.0  # s of stamps by which a rate is measured


class _SideStream:
    """One of them. That samples come makes a stream live, whatever clock its stamps are on."""

    def __init__(self, info: StreamInfo, now: float) -> None:
        self._info = info
        self._liveness = Liveness(now)
        self._n_samples = 0
        self._marks: deque[tuple[float, int]] = deque()  # stamps in s, and how many samples there were by then

    def take(self, item: Chunk | Marker, now: float) -> None:
        n = item.t.size if isinstance(item, Chunk) else 1
        self._n_samples += n
        self._liveness.observe(now, now, n / self._info.sfreq if self._info.sfreq else 0.0)
        if isinstance(item, Chunk) and n:
            self._mark(float(item.t[-1]))

    def _mark(self, t: float) -> None:
        if self._marks and t < self._marks[-1][0]:
            self._marks.clear()
        self._marks.append((t, self._n_samples))
        while t - self._marks[0][0] > 2 * _RATE_S:
            self._marks.popleft()

    @property
    def _rate_hz(self) -> float:
        (t0, n0), (t1, n1) = (self._marks[0], self._marks[-1]) if self._marks else ((0.0, 0), (0.0, 0))
        return (n1 - n0) / (t1 - t0) if self._info.sfreq and t1 - t0 >= _RATE_S else 0.0

    def look(self, now: float, silence: str) -> None:
        """Note who is silent: a stream without a rate, such as markers, is not before its connection is gone."""
        liveness = self._liveness
        state: StreamState = "lost" if silence else "live"
        if self._info.sfreq:
            liveness.advance(now)
        elif state != liveness.state:
            liveness.state, liveness.since = state, now

    def status(self, silence: str) -> StreamStatus:
        liveness = self._liveness
        return StreamStatus(
            source=self._info.source,
            kind=self._info.kind,
            name=self._info.name,
            state=liveness.state,
            since=liveness.since,
            reason=self._info.note if liveness.state == "live" else silence,
            nominal_rate_hz=self._info.sfreq,
            rate_hz=self._rate_hz,
            n_samples=self._n_samples,
            chunk_s=liveness.chunk_s,
            delay_s=self._info.delay_s,
        )


class SideStreams:
    """The state of every announced stream that is no input of the model.

    Marker columns of another stream share that one's state, and are none of their own.

    Args:
        silence: Tells of a source why nothing can come from it now, in a sentence for people; "" while it is connected.
    """

    def __init__(self, silence: Callable[[str], str] = lambda source: "") -> None:
        self._silence = silence
        self._announced: set[str] = set()
        self._streams: dict[str, _SideStream] = {}
        self._statuses: tuple[StreamStatus, ...] = ()
        self._looked = -math.inf  # s

    def push(self, item: Item, now: float) -> tuple[StreamStatus, ...]:
        """Take an item of any stream, at ``now`` seconds of stream time, and return what is known of side streams."""
        now = now if math.isfinite(now) else math.nan
        if isinstance(item, StreamInfo):
            self._announce(item, now)
        elif isinstance(item, Chunk | Marker) and item.source in self._streams:
            self._streams[item.source].take(item, now)
        if self._streams and not abs(now - self._looked) < _LOOK_S:
            self._look(now)
        return self._statuses

    def _announce(self, info: StreamInfo, now: float) -> None:
        self._announced.add(info.source)
        is_column = info.source.rpartition(":")[0] in self._announced
        if info.kind not in INPUT_KINDS and not is_column:
            self._streams[info.source] = _SideStream(info, now)
            self._looked = -math.inf

    def _look(self, now: float) -> None:
        self._looked = now
        silences = {source: self._silence(source) for source in self._streams}
        for source, stream in self._streams.items():
            stream.look(now, silences[source])
        self._statuses = tuple(stream.status(silences[source]) for source, stream in self._streams.items())
