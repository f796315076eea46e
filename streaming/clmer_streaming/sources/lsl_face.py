"""A face stream from Lab Streaming Layer: the samples that ``clmer face-stream`` publishes on another computer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES, is_clmer_face, row_to_face
from clmer_streaming.sources.announcement import announcement
from clmer_streaming.sources.lsl import load_pylsl
from clmer_streaming.sources.lsl_stream import LslStream, Wish
from clmer_streaming.sources.selection import AUTO, StreamQuery
from clmer_streaming.sources.stream_claims import Claim
from clmer_streaming.types import FloatArray, Item, StreamInfo
from clmer_streaming.xdf.description import StreamDescription

SOURCE = "face"
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
        wish = Wish(SOURCE, "--face-stream", what, self._query, fits, face_stream_info, _faces, claim=claim)
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
    return [row_to_face(float(stamp), row, SOURCE) for stamp, row in zip(t, rows, strict=True)]
