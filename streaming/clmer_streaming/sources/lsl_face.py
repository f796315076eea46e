"""A face stream from Lab Streaming Layer: the samples that ``clmer face-stream`` publishes on another computer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES, is_clmer_face, row_to_face
from clmer_streaming.sources.announcement import announcement
from clmer_streaming.sources.lsl import load_pylsl
from clmer_streaming.sources.selection import AUTO, StreamQuery, the_only_one, watch_network, why_none, with_headers
from clmer_streaming.types import Item, StreamInfo, Tick
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header

SOURCE = "face"
"""The source key of this stream's items."""

_LOOK_S = 0.5  # s between two looks at the network
_FORGET_S = 2.0  # s after which a stream that no longer answers is forgotten
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction
_PULL_S = 0.5  # s of silence after which a tick is put
_MAX_SAMPLES = 256  # samples taken by one pull
_GIVE_UP_S = 10.0  # s of silence after which the stream is searched anew


class LslFaceSource:
    """Source: one CLMER-Face stream of the network; while there is none it puts ticks.

    Args:
        query: The stream's name, "auto" for the only one there is, or what ``StreamQuery`` reads.

    Attributes:
        reason: Why there is no stream now; "" while there is one.

    Raises:
        SettingsError: The query cannot be read.
    """

    def __init__(self, query: str) -> None:
        self._query = StreamQuery.parse(query)
        self.reason = why_none(None, self._query, "face stream")

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: More than one stream fits, or the one that was asked for has another layout.
        """
        pylsl = load_pylsl()
        gone = (pylsl.util.LostError, pylsl.util.TimeoutError)
        while not stop.is_set():
            try:
                inlet = self._search(pylsl, put, stop)
                if inlet is None:
                    return
                put(face_stream_info(inlet.info(_CONNECT_S).as_xml()))
                inlet.open_stream(_CONNECT_S)
                inlet.time_correction(_CONNECT_S)
                inlet.flush()
                self._read(inlet, put, stop)
            except gone:
                put(Tick(local_clock(), SOURCE))

    def _search(self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event) -> Any:
        """Look for the stream, putting ticks, until two looks agree on what there is; None when stopped."""
        network = watch_network(pylsl, self._query, _FORGET_S)
        seen: set[str] = set()
        while not stop.wait(_LOOK_S):
            put(Tick(local_clock(), SOURCE))
            known = with_headers(network.results())
            found = [(stream, header) for stream, header in known if self._wanted(header)]
            uids = {stream.uid() for stream, _ in found}
            if not uids:
                self.reason = why_none((header for _, header in known), self._query, "face stream")
            elif uids == seen:
                the_only_one([announcement(header, "face") for _, header in found], "--face-stream", "face stream")
                self.reason = ""
                return pylsl.StreamInlet(found[0][0], recover=True, processing_flags=pylsl.proc_clocksync)
            seen = uids
        return None

    def _wanted(self, header: StreamDescription) -> bool:
        if self._query.text == AUTO:
            return header.n_channels == len(FACE_CH_NAMES) and header.type == "MoCap"
        return self._query.fits(header)

    def _read(self, inlet: Any, put: Callable[[Item], None], stop: threading.Event) -> None:
        last_heard = local_clock()
        while not stop.is_set() and local_clock() - last_heard < _GIVE_UP_S:
            rows, stamps = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
            now = local_clock()
            if not len(stamps):
                put(Tick(now, SOURCE))
                continue
            last_heard = now
            for t, row in zip(stamps, rows, strict=True):
                put(row_to_face(float(t), row, SOURCE))


def face_stream_info(xml: str) -> StreamInfo:
    """Return what a face stream's own XML says of it.

    Raises:
        StreamError: It has another layout.
    """
    header = parse_stream_header(0, xml.encode())
    info = announcement(header, "face", header.desc_text("extractor"))
    if not is_clmer_face(info.ch_names):
        raise StreamError(
            expected="a stream with the 249 channels of CLMER-Face",
            found=f"{info.name!r} with {len(info.ch_names)} channels: {', '.join(info.ch_names[:4])}...",
            mend="publish it with clmer face-stream, and give its name to --face-stream",
        )
    return info
