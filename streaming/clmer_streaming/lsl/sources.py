"""A live EEG stream from Lab Streaming Layer."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES, is_clmer_face, row_to_face
from clmer_streaming.lsl.inlet import LslStream, Rest, StreamRequest, WindowGrid
from clmer_streaming.lsl.resolve import AUTO, Claim, StreamQuery
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.pipeline.channels import apply_eeg_map, resolve_channels, with_unit
from clmer_streaming.pipeline.filters import design_sos
from clmer_streaming.types import Chunk, FloatArray, Item, Source, StreamInfo
from clmer_streaming.xdf.header import StreamDescription, announcement

EEG_SOURCE = "eeg"
"""The source key of this stream's items."""


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
        wish = StreamRequest(
            EEG_SOURCE, "--eeg", "EEG stream", self._query, fits, self._describe, _chunks, self._rest, claim
        )
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
    return [Chunk(EEG_SOURCE, t, np.ascontiguousarray(rows.T, dtype=np.float64))]


FACE_SOURCE = "face"
"""The source key of this stream's items."""


class LslFaceSource:
    """Source: one CLMER-Face stream of the network, taken up again by itself when it was lost; see LslStream.

    Args:
        query: The stream's name, "auto" for the only one there is, or what ``StreamQuery`` reads.
        claim: What may be taken of the network, beside other sessions; None: all.

    Raises:
        SettingsError: The query cannot be read.
    """

    def __init__(self, query: str, claim: Claim | None = None) -> None:
        self._query = StreamQuery.parse(query)
        fits, what = self._fits, "face stream"
        claim = claim or Claim()
        wish = StreamRequest(
            FACE_SOURCE, "--face-stream", what, self._query, fits, face_stream_info, _faces, claim=claim
        )
        self._stream = LslStream(wish)

    @property
    def reason(self) -> str:
        """Why nothing comes now, in a sentence for people; "" while samples come."""
        return self._stream.reason

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: At first, more than one stream fits, or the named one has another layout. Once a stream was
                there, such things are said in ``reason`` and waited out.
        """
        self._stream.run(load_pylsl(), put, stop)

    def _fits(self, header: StreamDescription) -> bool:
        if self._query.text == AUTO:
            return header.n_channels == len(FACE_CH_NAMES) and header.type == "MoCap"
        return self._query.fits(header)


def face_stream_info(header: StreamDescription) -> StreamInfo:
    """Return the announcement of a face stream.

    Raises:
        StreamError: It has another layout.
    """
    info = announcement(header, "face", header.desc_text("extractor"))
    if not is_clmer_face(info.ch_names):
        raise StreamError(
            expected="a stream with the 249 channels of CLMER-Face",
            found=f"{info.name!r} with {len(info.ch_names)} channels: {', '.join(info.ch_names[:4])}...",
            mend="publish it with clmer face-stream, and give its name to --face-stream",
        )
    return info


def _faces(t: FloatArray, rows: Any) -> list[Item]:
    """Return samples (n, 249) with their stamps (n,) as faces."""
    return [row_to_face(float(stamp), row, FACE_SOURCE) for stamp, row in zip(t, rows, strict=True)]


@dataclass(frozen=True)
class EegCorrections:
    """What is known of the EEG beside what its stream says."""

    unit: str | None = None  # in place of the declared one
    delay_s: float = 0.0  # on top of the declared one

    def applied_to(self, item: Item) -> Item:
        """Return the announcement of an EEG stream corrected; every other item as it is."""
        if not isinstance(item, StreamInfo) or item.kind != "eeg":
            return item
        info = item if self.unit is None else with_unit(item, self.unit)
        return dataclasses.replace(info, delay_s=info.delay_s + self.delay_s) if self.delay_s else info


class AdjustedSource:
    """Source: another one, with its EEG announced as corrected.

    Args:
        source: The other one.
        corrections: What is known better.
    """

    def __init__(self, source: Source, corrections: EegCorrections) -> None:
        self._source = source
        self._corrections = corrections

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the other source's items until it ends or is stopped."""
        self._source.run(lambda item: put(self._corrections.applied_to(item)), stop)
