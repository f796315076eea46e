"""A live EEG stream from Lab Streaming Layer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from clmer_streaming.channels import apply_eeg_map, resolve_channels
from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.filters import design_sos
from clmer_streaming.sources.announcement import announcement
from clmer_streaming.sources.lsl_rest import Rest, WindowGrid
from clmer_streaming.sources.lsl_stream import LslStream, Wish
from clmer_streaming.sources.selection import StreamQuery
from clmer_streaming.sources.stream_claims import Claim
from clmer_streaming.types import Chunk, FloatArray, Item, StreamInfo
from clmer_streaming.xdf.description import StreamDescription

SOURCE = "eeg"
"""The source key of this stream's items."""

OWN_ID_PREFIX = "clmer-"
"""Source ids of this project's own outlets, which are never taken as input."""


def load_pylsl() -> Any:
    """Import pylsl.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """
    try:
        import pylsl
    except (ImportError, RuntimeError, OSError) as error:
        raise StreamError(
            expected="the liblsl library, for live streams",
            found=str(error).strip().splitlines()[0],
            mend="pip install mne-lsl, then set PYLSL_LIB to the liblsl file in its folder mne_lsl/lsl/lib",
        ) from error
    return pylsl


class LslEegSource:
    """Source: one EEG stream of the network, taken up again by itself when it was lost; see LslStream.

    Args:
        query: "auto" for the only EEG stream that the model can use, a name, or what ``StreamQuery`` reads.
        signal: The settings that tell which streams the model can use.
        eeg_map: Names for channels, as in ``AF3=1,F7=2``.
        grid: Of the windows, whose ends are waited for; samples between them are taken together. None: each is taken
            when it comes.
        claim: What may be taken of the network, beside other sessions; None: all.

    Raises:
        SettingsError: The query cannot be read.
    """

    def __init__(
        self,
        query: str,
        signal: SignalConfig,
        eeg_map: str | None = None,
        *,
        grid: WindowGrid | None = None,
        claim: Claim | None = None,
    ) -> None:
        self._query = StreamQuery.parse(query)
        self._signal = signal
        self._eeg_map = eeg_map
        self._grid = grid
        fits, claim = self._fits, claim or Claim()
        wish = Wish(SOURCE, "--eeg", "EEG stream", self._query, fits, self._describe, _chunks, self._rest, claim)
        self._stream = LslStream(wish)

    @property
    def reason(self) -> str:
        """Why nothing comes now, in a sentence for people; "" while samples come."""
        return self._stream.reason

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: At first, more than one stream fits, or the named one cannot feed the model. Once a stream
                was there, such things are said in ``reason`` and waited out.
        """
        self._stream.run(load_pylsl(), put, stop)

    def _rest(self, info: StreamInfo) -> Rest | None:
        if self._grid is None:
            return None
        return Rest.of(info.sfreq, info.delay_s + self._grid.delay_s, self._signal.sfreq, self._grid.hop_s)

    def _fits(self, header: StreamDescription) -> bool:
        if header.channel_format == "string" or header.source_id.startswith(OWN_ID_PREFIX):
            return False
        return self._query.fits(header, usual_type="EEG")

    def _describe(self, header: StreamDescription) -> StreamInfo:
        """Return the stream's announcement.

        Raises:
            StreamError: The model cannot use it.
        """
        info = announcement(header, "eeg")
        info = apply_eeg_map(info, self._eeg_map) if self._eeg_map else info
        resolve_channels(info, self._signal)
        if info.sfreq:
            design_sos(self._signal, info.sfreq)
        return info


def _chunks(t: FloatArray, rows: Any) -> list[Item]:
    """Return samples (n, C) with their stamps (n,) as one chunk."""
    return [Chunk(SOURCE, t, np.ascontiguousarray(rows.T, dtype=np.float64))]
