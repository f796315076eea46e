"""Whether the samples of a stream arrive, decided in stream time by samples and ticks, never by the wall clock.

``Liveness`` is the state of one stream that windows are made of; ``ExtraStreams`` follows all other streams.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from clmer_streaming.clock import FAR_S
from clmer_streaming.types import INPUT_KINDS, Chunk, Item, Marker, StreamInfo, StreamState, StreamStatus

_STALLED_S = 1.0  # s of silence, or two measured chunk intervals if that is more
_LOST_S = 5.0  # s of silence
_LATENCY_BUDGET_S = 1.0  # s that a sample may wait at its sender
_REMEMBERED_CHUNKS = 16
_PERIOD_S, _PERIODS = 1.5, 3  # s of other streams, and how many such periods show a constant offset
_CONSTANT_S = 0.5  # s within which a constant offset stays, and below which it is none
_HABIT = 2  # long chunks among them, that are no exception


class _Lateness:
    """How far the stamps of one stream are behind the time of the others, period by period."""

    def __init__(self) -> None:
        self._begin = math.nan  # s, of the period
        self._least_s = math.inf  # by which a sample of the period was behind
        self._seen = math.nan  # s, the time at the latest sample
        self._in_time = True  # for the whole period
        self._periods: deque[float] = deque(maxlen=_PERIODS)  # s, the least of each; infinite where it was in time

    def update(self, now: float, behind_s: float = math.inf, *, in_time: bool) -> None:
        """Take note of a sample that is ``behind_s`` seconds late at ``now`` seconds, or of the time alone.

        Of samples at one and the same time only the first tells: the time waits for the next chunk of another stream.
        """
        if math.isnan(self._begin):
            self._begin = now
        if now - self._begin >= _PERIOD_S:
            self._periods.append(math.inf if self._in_time else self._least_s)
            self._begin, self._least_s, self._in_time = now, math.inf, True
        if math.isfinite(behind_s) and now != self._seen:
            self._seen, self._least_s = now, min(self._least_s, behind_s)
        self._in_time = self._in_time and in_time

    @property
    def offset_s(self) -> float:
        """Seconds by which it is constantly behind, though it sends; 0 where it is not."""
        if len(self._periods) < _PERIODS or math.isinf(max(self._periods)):
            return 0.0
        least_s = min(self._periods)
        return least_s if least_s > _CONSTANT_S and max(self._periods) - least_s <= _CONSTANT_S else 0.0


class Liveness:
    """The state of one stream: connecting, live, stalled or lost.

    Args:
        t: Time of the announcement in seconds; NaN where no time is known yet.

    Attributes:
        state: What the state is.
        since: Time in seconds when it was entered.
        last_t: Time in seconds of the newest sample; NaN before one.

    Example::

        liveness = Liveness(100.0)
        liveness.observe(100.0, 100.1, chunk_s=0.1)
        liveness.advance(102.0)
        assert (liveness.state, liveness.since) == ("stalled", 101.1)
    """

    def __init__(self, t: float = np.nan) -> None:
        self.state: StreamState = "connecting"
        self.since = t
        self.last_t = np.nan
        self._now = t  # s, the latest known time
        self._timely = False  # a sample has come in time, by the time of other streams
        self._late = False  # samples come, and none has ever come in time
        self._lateness = _Lateness()
        self._spans: deque[float] = deque(maxlen=_REMEMBERED_CHUNKS)

    @property
    def chunk_s(self) -> float:
        """Length in seconds of the longest of the last chunks, by which a stream may lag."""
        return max(self._spans, default=0.0)

    @property
    def stalled_after_s(self) -> float:
        """Seconds of silence after which the stream counts as stalled."""
        return max(_STALLED_S, 2 * self.chunk_s)

    @property
    def unchanged_until(self) -> float:
        """Time in seconds until which the state cannot change, unless samples of a stream come that is not live."""
        if self.state == "live":
            return self.last_t + _STALLED_S  # chunks to come may be shorter than those behind ``stalled_after_s``
        return self.last_t + max(_LOST_S, self.stalled_after_s) if self.state == "stalled" else np.inf

    @property
    def on_other_clock(self) -> bool:
        """Whether the stamps are so far from the time of other streams that they are on another clock."""
        silent_s = self._now - self.last_t
        return silent_s < -FAR_S or (self._late and silent_s > FAR_S)

    @property
    def offset_s(self) -> float:
        """Seconds by which the stamps are constantly behind the other streams, too far to be in time; else 0."""
        return self._lateness.offset_s

    @property
    def clock_note(self) -> str:
        """A sentence for people where the stamps keep the stream out of every window; else empty."""
        silent_s = self._now - self.last_t
        too_late = self._late and silent_s > self.stalled_after_s
        if not (self.on_other_clock or too_late):
            return ""
        where = f"{silent_s:.0f} s behind" if silent_s > 0 else f"{-silent_s:.0f} s ahead of"
        return f"its stamps are {where} the other streams: let the sender stamp in LSL time"

    @property
    def note(self) -> str:
        """A sentence for people where the chunks are too long to be timely; else empty.

        One long chunk does not count: it may be the end of a backlog.
        """
        if sum(span_s > _LATENCY_BUDGET_S for span_s in self._spans) < _HABIT:
            return ""
        return f"comes {self.chunk_s:.1f} s at a time, and so late: let the sender send shorter chunks"

    def observe(self, t_first: float, t_last: float, chunk_s: float) -> None:
        """Report samples from ``t_first`` to ``t_last`` seconds, in a chunk of ``chunk_s`` seconds.

        A backlog does not make a stream live before it has caught up with the known time.
        """
        if self.state not in ("stalled", "lost"):  # a backlog does not show how the source delivers
            self._spans.append(chunk_s)
        self.last_t = t_last
        late = self._now - t_last > self.stalled_after_s
        self._timely = self._timely or (math.isfinite(self._now) and not late)
        self._late = late and not self._timely
        if math.isfinite(self._now):
            self._lateness.update(self._now, self._now - t_last, in_time=not late)
        if self.state != "live" and not late:
            self.state, self.since = "live", t_first

    def advance(self, now: float) -> None:
        """Set the time to ``now`` seconds, by another stream's samples or a tick."""
        self._now = now
        if np.isnan(self.since):
            self.since = now
        silent_s = now - self.last_t
        if math.isfinite(silent_s):
            self._lateness.update(now, in_time=silent_s <= self.stalled_after_s)
        if self.state == "live" and silent_s > self.stalled_after_s:
            self.state, self.since = "stalled", self.last_t + self.stalled_after_s
        if self.state == "stalled" and silent_s > max(_LOST_S, self.stalled_after_s):
            self.state, self.since = "lost", self.last_t + max(_LOST_S, self.stalled_after_s)


_REFRESH_S = 0.5  # s of stream time between two checks of which streams are silent
_RATE_S = 10.0  # s of stamps by which a rate is measured


class _ExtraStream:
    """One stream that is no input. Any sample makes it live, whatever clock its stamps are on."""

    def __init__(self, info: StreamInfo, now: float) -> None:
        self.info = info
        self._liveness = Liveness(now)
        self._n_samples = 0
        self._marks: deque[tuple[float, int]] = deque()  # stamps in s, and how many samples there were by then

    def push(self, item: Chunk | Marker, now: float) -> None:
        n = item.t.size if isinstance(item, Chunk) else 1
        self._n_samples += n
        self._liveness.observe(now, now, n / self.info.sfreq if self.info.sfreq else 0.0)
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
        return (n1 - n0) / (t1 - t0) if self.info.sfreq and t1 - t0 >= _RATE_S else 0.0

    def refresh(self, now: float, silence: str) -> None:
        """Update the state: a stream without a rate, such as markers, is silent only once it is disconnected."""
        liveness = self._liveness
        state: StreamState = "lost" if silence else "live"
        if self.info.sfreq:
            liveness.advance(now)
        elif state != liveness.state:
            liveness.state, liveness.since = state, now

    def status(self, silence: str) -> StreamStatus:
        liveness = self._liveness
        return StreamStatus(
            source=self.info.source,
            kind=self.info.kind,
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason=self.info.note if liveness.state == "live" else silence,
            nominal_rate_hz=self.info.sfreq,
            rate_hz=self._rate_hz,
            n_samples=self._n_samples,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )


class ExtraStreams:
    """Follows every announced stream that is no input of the model.

    Marker columns of another stream share its state, and have no status of their own.

    Args:
        silence: Returns why nothing can come from a source now, in a sentence for people; "" while it is connected.
    """

    def __init__(self, silence: Callable[[str], str] = lambda source: "") -> None:
        self._silence = silence
        self._announced: set[str] = set()
        self._streams: dict[str, _ExtraStream] = {}
        self._statuses: tuple[StreamStatus, ...] = ()
        self._refreshed = -math.inf  # s

    def push(self, item: Item, now: float) -> tuple[StreamStatus, ...]:
        """Add an item of any stream at ``now`` seconds of stream time; return the status of each stream followed."""
        now = now if math.isfinite(now) else math.nan
        if isinstance(item, StreamInfo):
            self._announce(item, now)
        elif isinstance(item, Chunk | Marker) and item.source in self._streams:
            self._streams[item.source].push(item, now)
        if (self._streams or self._statuses) and not abs(now - self._refreshed) < _REFRESH_S:
            self._refresh(now)
        return self._statuses

    def _announce(self, info: StreamInfo, now: float) -> None:
        self._announced.add(info.source)
        if info.kind in INPUT_KINDS:
            self._forget(info)
        is_column = info.source.rpartition(":")[0] in self._announced
        if info.kind not in INPUT_KINDS and not is_column:
            self._streams[info.source] = _ExtraStream(info, now)
            self._refreshed = -math.inf

    def _forget(self, info: StreamInfo) -> None:
        """Stop following a stream that has become an input."""
        became = [source for source, stream in self._streams.items() if info.xml and stream.info.xml == info.xml]
        for source in became:
            del self._streams[source]
            self._refreshed = -math.inf

    def _refresh(self, now: float) -> None:
        self._refreshed = now
        silences = {source: self._silence(source) for source in self._streams}
        for source, stream in self._streams.items():
            stream.refresh(now, silences[source])
        self._statuses = tuple(stream.status(silences[source]) for source, stream in self._streams.items())
