"""The way of EEG from a stream's raw chunks to the buffer that windows are cut from."""

from __future__ import annotations

import dataclasses

import numpy as np

from clmer_streaming.channels import ChannelPicker, resolve_channels
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.filters import CausalFilter, design_sos
from clmer_streaming.raw_monitor import RawMonitor
from clmer_streaming.resampling import PolyphaseResampler
from clmer_streaming.timeline import Timeline
from clmer_streaming.types import Chunk, Gap, Item, Items, StreamInfo
from clmer_streaming.units import UnitGuess


class EegPath:
    """Stage: timeline, then unit, channels, filter and resampling, for one announced EEG stream.

    Args:
        info: The stream, with its labels (or the names that a map gave them).
        config: The settings of the artefact.

    Raises:
        StreamError: The stream cannot feed the model.
    """

    def __init__(self, info: StreamInfo, config: PreprocessConfig) -> None:
        channel_map = resolve_channels(info, config.signal)
        self.info = info
        self.timeline = Timeline(
            info.sfreq,
            [pick for pick in channel_map.picks if pick >= 0],
            channel_map.counter,
            channel_map.interpolate,
            config.signal.max_bridge_s,
        )
        self.unit = UnitGuess(channel_map.unit_unknown, info.sfreq, info.unit)
        self.raw = RawMonitor(info.sfreq, config.signal.notch_hz)
        self._stages = (
            self.timeline,
            self.unit,
            ChannelPicker(channel_map),
            self.raw,
            CausalFilter(design_sos(config.signal, info.sfreq)),
            PolyphaseResampler(info.sfreq, config.signal.sfreq),
        )
        self.n_samples = 0
        self.last_t = np.nan  # s, the newest sample placed in time

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        for stage in self._stages:
            stage.reset()
        self.n_samples, self.last_t = 0, np.nan

    def push(self, item: Item) -> list[Item]:
        """Take raw chunks (C_stream, n) and gaps; return filtered chunks (C, m) in microvolts, and gaps."""
        if isinstance(item, Chunk):
            self.n_samples += item.t.size
            item = dataclasses.replace(item, t=item.t - self.info.delay_s)
        items: Items = [item]
        for stage in self._stages:
            items = [out for given in items for out in stage.push(given)]
            if stage is self.timeline:
                self._note_time(items)
        return [out for out in items if isinstance(out, Chunk | Gap)]

    def _note_time(self, items: Items) -> None:
        chunks = [item for item in items if isinstance(item, Chunk) and item.t.size]
        if chunks:
            self.last_t = float(chunks[-1].t[-1])
