"""What is on the LSL network: every stream found, described, listened to, and held against what a model needs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import is_clmer_face
from clmer_streaming.lsl.resolve import one_line, with_headers
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl
from clmer_streaming.pipeline.channels import resolve_channels
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.header import StreamDescription, announcement, parse_stream_header

ClockDomain: TypeAlias = Literal["LSL", "Unix time", "other", "unknown"]
"""On which clock a stream stamps its samples; ``unknown`` where none came."""

_LOOK_S = 0.5  # s between two looks at the network
_MAX_LOOKS = 6  # within which two looks should agree; a busy network is taken as the last one saw it
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction
_PULL_S = 0.1  # s between two looks at whether the time is over
_SAME_CLOCK_S = 10.0  # s; stamps further from now than this are on another clock
_MAX_AT_ONCE = 32  # streams listened to at the same time; each takes 8 threads of liblsl


@dataclass(frozen=True)
class FoundStream:
    """One stream of the network."""

    header: StreamDescription
    n_samples: int = 0  # heard while listening
    rate_hz: float = math.nan  # measured by the stamps; NaN where too little came
    clock: ClockDomain = "unknown"
    trouble: str = ""  # why it could not be listened to


def find_streams(listen_s: float) -> list[FoundStream]:
    """Return every stream of the network, sorted by name.

    Args:
        listen_s: How long to listen to each stream of numbers, in seconds; all at once.

    Raises:
        StreamError: The platform's pylsl comes without the liblsl library.
    """
    pylsl = load_pylsl()
    found = _look(pylsl)
    if not found:
        return []
    with ThreadPoolExecutor(min(len(found), _MAX_AT_ONCE)) as threads:
        studies = [threads.submit(_study, pylsl, stream, header, listen_s) for stream, header in found]
        streams = [study.result() for study in studies]
    return sorted(streams, key=lambda stream: (stream.header.name, stream.header.source_id))


def _look(pylsl: Any) -> list[tuple[Any, StreamDescription]]:
    """Look until two looks agree; ``resolve_streams`` was seen to take several times as long as it was given."""
    network = pylsl.ContinuousResolver()
    seen: set[str] | None = None
    for _ in range(_MAX_LOOKS):
        threading.Event().wait(_LOOK_S)
        results = network.results()
        uids = {stream.uid() for stream in results}
        if uids == seen:
            break
        seen = uids
    return with_headers(results)


def _study(pylsl: Any, stream: Any, header: StreamDescription, listen_s: float) -> FoundStream:
    """Return a stream with its whole header and what was heard of it."""
    inlet = pylsl.StreamInlet(stream, recover=False, processing_flags=pylsl.proc_none)
    try:
        header = parse_stream_header(0, inlet.info(_CONNECT_S).as_xml().encode())
        if header.channel_format == "string" or listen_s <= 0:
            return FoundStream(header)
        inlet.open_stream(_CONNECT_S)
        correction = inlet.time_correction(_CONNECT_S)
        stamps, behind = _listen(inlet, listen_s)
    except (pylsl.util.LostError, pylsl.util.TimeoutError, ValueError) as error:
        return FoundStream(header, trouble=f"it does not answer ({type(error).__name__})")
    if not stamps.size:
        return FoundStream(header)
    return FoundStream(header, stamps.size, measured_rate(stamps), _clock_domain(behind - correction, stamps[-1]))


def _listen(inlet: Any, listen_s: float) -> tuple[FloatArray, float]:
    """Return the stamps (n,) heard in ``listen_s`` seconds, and how far the newest was behind this clock, in s."""
    inlet.flush()
    heard: list[FloatArray] = []
    behind = math.nan
    end = local_clock() + listen_s
    while (now := local_clock()) < end:
        _, stamps = inlet.pull_chunk(timeout=min(_PULL_S, end - now), min_samples=1, as_numpy=True)
        if len(stamps):
            behind = local_clock() - float(stamps[-1])
            heard.append(np.array(stamps, dtype=np.float64))
    return np.concatenate(heard) if heard else np.empty(0), behind


def measured_rate(stamps: FloatArray) -> float:
    """Return the rate in Hz of samples with these stamps (n,) s; NaN where they do not tell."""
    span = float(stamps[-1] - stamps[0]) if stamps.size > 1 else 0.0
    return (stamps.size - 1) / span if span > 0 else math.nan


def _clock_domain(behind: float, stamp: float) -> ClockDomain:
    if abs(behind) <= _SAME_CLOCK_S:
        return "LSL"
    return "Unix time" if abs(time.time() - stamp) <= _SAME_CLOCK_S else "other"


def why_not_eeg(stream: FoundStream, config: PreprocessConfig) -> str:
    """Return why a model cannot use a stream as EEG, as one sentence; "" where it can.

    Args:
        stream: The stream.
        config: The settings of the model.
    """
    header = stream.header
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
        return one_line(error)
    return ""


def why_not_face(stream: FoundStream, config: PreprocessConfig) -> str:
    """Return why a model cannot use a stream as a face, as one sentence; "" where it can.

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


def usable_as_eeg(streams: Sequence[FoundStream], config: PreprocessConfig) -> list[FoundStream]:
    """Return the streams among which ``--eeg auto`` chooses."""
    return [stream for stream in streams if not why_not_eeg(stream, config)]
