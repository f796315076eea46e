"""The way of EEG from a stream's raw chunks to the buffer that windows are cut from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clmer_streaming.channels import ChannelPicker, resolve_channels
from clmer_streaming.coalescing import WaitingChunks
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.filters import CausalFilter, design_sos
from clmer_streaming.liveness import Liveness
from clmer_streaming.rate_gate import RateGate
from clmer_streaming.raw_monitor import RawMonitor
from clmer_streaming.resampling import PolyphaseResampler
from clmer_streaming.timeline import Timeline
from clmer_streaming.types import Chunk, Gap, Item, Items, Stage, StreamInfo, StreamStatus
from clmer_streaming.units import UnitGuess

_LOSS_SHARES = (0.4, 0.2, 0.1, 0.05)  # of the samples sent, that are spoken of
_LOSS_AFTER_S = 5.0  # s of samples before a share of losses means anything


class EegPath:
    """Stage: rate, timeline, unit, channels, filter and resampling, for one announced EEG stream.

    Args:
        info: The stream, with its labels (or the names that a map gave them).
        config: The settings of the artefact.

    Raises:
        StreamError: The stream cannot feed the model.
    """

    def __init__(self, info: StreamInfo, config: PreprocessConfig) -> None:
        self.info = info
        self._signal = config.signal
        self._channels = resolve_channels(info, config.signal)
        if info.sfreq:
            design_sos(config.signal, info.sfreq)  # refuses a rate that is too low for the band
        self._gate = RateGate(info, self._channels.counter)
        self.reset()

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        self._gate.reset()
        self._attach(self.info.sfreq or self._signal.sfreq)
        self._waiting = WaitingChunks()
        self._stages: tuple[Stage[Item], ...] | None = (
            None  # behind the timeline; None while the rate is unknown, or too low
        )
        self._too_slow = ""
        self._n_refused = 0
        self.waits = False  # whether what the last push took waits to be filtered
        self.n_samples = 0
        self.t_first = np.nan  # s, the oldest sample that the last push placed in time
        self.last_t = np.nan  # s, the newest sample placed in time

    @property
    def sfreq(self) -> float:
        """Rate in Hz by which samples are counted: the nominal one, or what the stream was found to run at."""
        return self._gate.rate_hz or self.info.sfreq

    @property
    def held(self) -> tuple[float, float]:
        """Stamps in seconds of the first and the newest sample that wait for the rate to be known; NaN without."""
        return self._gate.held

    @property
    def note(self) -> str:
        """What is odd about the stream, in a sentence for people; empty where nothing is."""
        return self._too_slow or self._gate.note or self._loss_note()

    def _loss_note(self) -> str:
        if not self.timeline.n_lost or self.n_samples < _LOSS_AFTER_S * self.sfreq:
            return ""
        share = self.timeline.n_lost / (self.timeline.n_lost + self.n_samples)
        reached = next((limit for limit in _LOSS_SHARES if share >= limit), None)
        return "" if reached is None else f"more than {100 * reached:.0f} % of its samples are lost on the way"

    @property
    def n_dropped(self) -> int:
        """Samples that were received and not used."""
        return self.timeline.n_unusable + self._gate.n_dropped + self._n_refused

    def push(self, item: Item, quiet_until: float = -np.inf) -> list[Item]:
        """Take raw chunks (C_stream, n) and gaps; return filtered chunks (C, m) in microvolts, and gaps.

        Args:
            item: What came.
            quiet_until: Samples before this time in seconds are placed in time, and may wait to be filtered.
        """
        self.t_first = np.nan
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            item = Chunk(item.source, item.t - self.info.delay_s, item.x)
        filtered: list[Item] = []
        placed: list[Chunk | Gap] = []
        for given in self._gate.push(item):
            if isinstance(given, StreamInfo):  # what came before it goes the way of the rate that it had
                filtered += self._filter_all(placed)
                placed = []
                self._begin(given.sfreq)
            else:
                placed += self._place(given)
        chunks = [out for out in placed if isinstance(out, Chunk)]
        self.waits = self.last_t < quiet_until and len(chunks) == len(placed) and not filtered
        if self.waits:
            self._waiting.extend(chunks)
            return []
        return filtered + self._filter_all(placed)

    def _filter_all(self, placed: Iterable[Chunk | Gap]) -> list[Item]:
        """Return what has waited, and what follows it, filtered."""
        return [out for given in (*self._waiting.take(), *placed) for out in self._filter(given)]

    def release(self) -> list[Item]:
        """Return what has waited, filtered."""
        return self._filter_all(())

    def _place(self, item: Item) -> list[Chunk | Gap]:
        """Give samples their time."""
        if self._stages is None:
            self._n_refused += item.t.size if isinstance(item, Chunk) else 0
            return []
        placed = [out for out in self.timeline.push(item) if isinstance(out, Chunk | Gap)]
        self._note_time(placed)
        return placed

    def _filter(self, item: Chunk | Gap) -> list[Item]:
        assert self._stages is not None
        items: Items = [item]
        for stage in self._stages:
            items = [out for given in items for out in stage.push(given)]
        return [out for out in items if isinstance(out, Chunk | Gap)]

    def _begin(self, sfreq: float) -> None:
        """Build the signal path for the rate at which the stream runs from now on."""
        before = self.timeline
        self._attach(sfreq)
        self.timeline.count_on_from(before)
        self._stages, self._too_slow = None, ""
        if self._gate.measured is not None:
            self.timeline.start_from(self._gate.measured)
        try:
            sos = design_sos(self._signal, sfreq)
        except StreamError as error:
            self._too_slow = f"runs at {sfreq:g} Hz, but the model needs {error.expected}: not used"
            return
        self._stages = (
            self.unit,
            ChannelPicker(self._channels),
            self.raw,
            CausalFilter(sos),
            PolyphaseResampler(sfreq, self._signal.sfreq),
        )

    def _attach(self, sfreq: float) -> None:
        """Make the stages that are asked from outside, for a rate in Hz."""
        channels, signal = self._channels, self._signal
        self.timeline = Timeline(
            sfreq,
            [pick for pick in channels.picks if pick >= 0],
            channels.counter,
            channels.interpolate,
            signal.max_bridge_s,
        )
        self.unit = UnitGuess(channels.unit_unknown, sfreq, self.info.unit)
        self.raw = RawMonitor(sfreq, signal.notch_hz)

    def _note_time(self, placed: list[Chunk | Gap]) -> None:
        chunks = [item for item in placed if isinstance(item, Chunk) and item.t.size]
        if chunks:
            self.t_first = float(chunks[0].t[0]) if np.isnan(self.t_first) else self.t_first
            self.last_t = float(chunks[-1].t[-1])

    def status(self, liveness: Liveness) -> StreamStatus:
        """Return what is known now of the stream."""
        rate_hz = self.timeline.rate_hz
        return StreamStatus(
            source=self.info.source,
            kind="eeg",
            name=self.info.name,
            state=liveness.state,
            since=liveness.since,
            reason="; ".join(filter(None, (self.info.note, self.note, self.unit.note, liveness.note))),
            nominal_rate_hz=self.info.sfreq,
            rate_hz=rate_hz,
            drift_ppm=(rate_hz / self.sfreq - 1) * 1e6 if rate_hz else 0.0,
            n_samples=self.n_samples,
            n_gaps=self.timeline.n_gaps,
            n_bridged=self.timeline.n_bridged,
            n_lost=self.timeline.n_lost,
            n_dropped=self.n_dropped,
            chunk_s=liveness.chunk_s,
            delay_s=self.info.delay_s,
        )
