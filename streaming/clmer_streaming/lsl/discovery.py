"""Listing the streams of the network: their headers, measured rates and clocks, and whether a model can use them."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from clmer_streaming.clock import ClockDomain, identify_clock, local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import is_clmer_face
from clmer_streaming.lsl.resolve import format_error, parse_headers
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.pipeline.channels import resolve_channels
from clmer_streaming.pipeline.rate import measure_rate
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.header import StreamDescription, announcement, parse_stream_header

_POLL_S = 0.5  # s between two looks at the results of the resolver
_MAX_POLLS = 6  # of which two in a row should agree; else the last one counts
_LEAST_ARRIVALS = 3  # of chunks, for a rate
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction
_PULL_S = 0.1  # s that one pull waits
_MAX_AT_ONCE = 32  # streams read at the same time; each takes 8 threads of liblsl


@dataclass(frozen=True)
class FoundStream:
    """One stream of the network."""

    header: StreamDescription
    n_samples: int = 0  # received while listening
    rate_hz: float = math.nan  # measured from the stamps; NaN where too few came
    clock: ClockDomain = "unknown"
    trouble: str = ""  # why it could not be read


def find_streams(listen_s: float) -> list[FoundStream]:
    """Return every stream of the network, sorted by name and source_id.

    Example::

        for stream in find_streams(listen_s=2.0):
            print(stream.header.name, stream.rate_hz)

    Args:
        listen_s: Seconds for which each numeric stream is read, all at the same time; 0: headers only.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
    """
    pylsl = load_pylsl()
    found = _resolve_all(pylsl)
    if not found:
        return []
    with ThreadPoolExecutor(min(len(found), _MAX_AT_ONCE)) as threads:
        futures = [threads.submit(_examine, pylsl, stream, header, listen_s) for stream, header in found]
        streams = [future.result() for future in futures]
    return sorted(streams, key=lambda stream: (stream.header.name, stream.header.source_id))


def _resolve_all(pylsl: Any) -> list[tuple[Any, StreamDescription]]:
    """Poll until two results agree; ``resolve_streams`` may take several times as long as it is given."""
    resolver = pylsl.ContinuousResolver()
    seen: set[str] | None = None
    for _ in range(_MAX_POLLS):
        threading.Event().wait(_POLL_S)
        results = resolver.results()
        uids = {stream.uid() for stream in results}
        if uids == seen:
            break
        seen = uids
    return parse_headers(results)


def _examine(pylsl: Any, stream: Any, header: StreamDescription, listen_s: float) -> FoundStream:
    """Return a stream with its whole header and what was measured of its samples."""
    inlet = pylsl.StreamInlet(stream, recover=False, processing_flags=pylsl.proc_none)
    try:
        header = parse_stream_header(0, inlet.info(_CONNECT_S).as_xml().encode())
        if header.channel_format == "string" or listen_s <= 0:
            return FoundStream(header)
        inlet.open_stream(_CONNECT_S)
        correction = inlet.time_correction(_CONNECT_S)
        stamps, arrivals, behind = _listen(inlet, listen_s)
    except (pylsl.util.LostError, pylsl.util.TimeoutError) as error:
        return FoundStream(header, trouble=f"it does not answer ({type(error).__name__})")
    except ValueError as error:
        return FoundStream(header, trouble=f"its header cannot be read: {error}")
    if not stamps.size:
        return FoundStream(header)
    clock = identify_clock(behind - correction, float(stamps[-1]))
    return FoundStream(header, stamps.size, _rate(stamps, arrivals, header.sfreq), clock)


def _listen(inlet: Any, listen_s: float) -> tuple[FloatArray, FloatArray, float]:
    """Return what is received in ``listen_s`` seconds.

    Returns:
        The stamps (n,), when each sample was received (n,), and how far the newest stamp was behind then, in seconds.
    """
    inlet.flush()
    received: list[FloatArray] = []
    arrived: list[FloatArray] = []
    behind = math.nan
    end = local_clock() + listen_s
    while (now := local_clock()) < end:
        _, stamps = inlet.pull_chunk(timeout=min(_PULL_S, end - now), min_samples=1, as_numpy=True)
        if len(stamps):
            now = local_clock()
            behind = now - float(stamps[-1])
            received.append(np.array(stamps, dtype=np.float64))
            arrived.append(np.full(len(stamps), now))
    if not received:
        return np.empty(0), np.empty(0), behind
    return np.concatenate(received), np.concatenate(arrived), behind


def _rate(stamps: FloatArray, arrivals: FloatArray, nominal_hz: float) -> float:
    """Return the rate in Hz of the samples, by their stamps (n,) or, where these are even, by their arrivals (n,).

    NaN where fewer than three chunks came: the rate within a burst is not that of the stream.
    """
    for t in (stamps, arrivals):
        measured = measure_rate(t, None, nominal_hz)
        if measured.n_arrivals >= _LEAST_ARRIVALS:
            return measured.rate_hz or math.nan
    return math.nan


def why_not_eeg(stream: FoundStream, config: PreprocessConfig) -> str:
    """Return why ``--eeg auto`` does not use a stream, as one sentence; "" if it does.

    Args:
        stream: The stream.
        config: The settings of the model.
    """
    header = stream.header
    if stream.trouble:
        return stream.trouble
    if header.channel_format == "string":
        return "it carries text"
    if header.source_id.startswith(OWN_ID_PREFIX):
        return "it is one of clmer's own"
    if header.type.casefold() != "eeg":
        kind = f"of type {header.type}" if header.type else "of no type"
        return f"it is {kind}, and auto takes EEG; --eeg NAME takes any"
    try:
        resolve_channels(announcement(header, "eeg"), config.signal)
    except StreamError as error:
        return format_error(error)
    return ""


def why_not_face(stream: FoundStream, config: PreprocessConfig) -> str:
    """Return why a model cannot use a stream as a face, as one sentence; "" if it can.

    Args:
        stream: The stream.
        config: The settings of the model.
    """
    header = stream.header
    if not is_clmer_face(header.ch_names):
        return "it has not the channels of CLMER-Face"
    if (extractor := header.desc_text("extractor")) != config.extractor:
        return f"its extractor is {extractor or 'unknown'}, the model knows {config.extractor}"
    return ""
