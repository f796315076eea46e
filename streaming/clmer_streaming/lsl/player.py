"""Publishing a recording on the network: every stream of it, as if the devices were there again.

``Playback`` moves all stamps of the file alike: onto the recorder's clock by the clock offsets, then by one affine map
to the present. Streams keep their relation, and gaps, bursts and steps back stay as recorded; a sample is pushed when
its stamp has come, never before.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.lsl.setup import load_pylsl
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.format import NUMERIC_DTYPES
from clmer_streaming.xdf.reader import XdfFile, XdfStream

PLAYED_ID_PREFIX = "play-"
"""Prefix of the source_id of every played stream, so that it never equals that of the device itself."""

_LEAD_S = 0.05  # s between the start and the first sample
_LINGER_S = 1.0  # s for which outlets stay after the last sample, so that every inlet receives it
_POLL_S = 0.1  # s between two looks for inlets
_SETTLE_S = 1.0  # s from the first inlet to the first sample, for further inlets
_LONG_S = 24 * 3600.0  # s; streams further apart than a day were not recorded together
_BUFFER_S = 360.0  # s of the recording that LSL keeps for a slow inlet


class Playback:
    """The streams of a recording on the network, while its context lasts.

    Example::

        with Playback(read_xdf(path)) as playback:
            playback.run(stop)

    Args:
        file: The recording.
        speed: Seconds of the recording per second; it divides the distances of stamps and multiplies nominal rates.
        loop: Start again at the end.
        names: Names of the streams to publish; empty: all of them.

    Attributes:
        streams: What is published, streams without samples included.
        duration_s: Seconds of the recording from the first to the last sample.
        warnings: Sentences for the user.
        n_pushed: Samples published so far.

    Raises:
        SettingsError: The speed is not a finite number above 0, or a name is not in the file.
        RecordingError: The chosen streams have no samples.
        StreamError: pylsl finds no liblsl library on this platform.
    """

    def __init__(self, file: XdfFile, *, speed: float = 1.0, loop: bool = False, names: Sequence[str] = ()) -> None:
        if not 0 < speed < math.inf:
            raise SettingsError("a speed that is a number above 0", f"{speed:g}", "use 1 for real time")
        self._pylsl = load_pylsl()
        self._speed, self._loop = speed, loop
        chosen = _choose(file, names)
        ids = _source_ids(chosen)
        self.streams = tuple(
            PlayedStream(stream, stream.name or f"stream-{stream.stream_id}", source_id, stream.sfreq * speed)
            for stream, source_id in zip(chosen, ids, strict=True)
        )
        self._schedule = _Schedule(chosen)
        self.duration_s = self._schedule.duration_s
        self.warnings = (*file.warnings, *_too_long(self.duration_s))
        self.n_pushed = 0
        self._outlets: list[Any] = []

    def __enter__(self) -> Self:
        buffer_s = max(1, math.ceil(_BUFFER_S / self._speed))
        self._outlets = [_make_outlet(self._pylsl, stream, buffer_s) for stream in self.streams]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outlets.clear()

    def wait_for_listener(self, stop: threading.Event) -> bool:
        """Wait until an inlet is connected, and a second longer for others; return False if ``stop`` was set."""
        while not any(outlet.have_consumers() for outlet in self._outlets):
            if stop.wait(_POLL_S):
                return False
        return not stop.wait(_SETTLE_S)

    def run(self, stop: threading.Event) -> None:
        """Publish every sample when its stamp has come; return a second after the last one, or when ``stop`` is set."""
        begin = local_clock() + _LEAD_S
        for lap in itertools.count() if self._loop else range(1):
            if not self._run_lap(begin + lap * self._schedule.lap_s / self._speed, stop):
                return
        stop.wait(_LINGER_S)

    def _run_lap(self, begin: float, stop: threading.Event) -> bool:
        """Publish the recording once with ``begin`` as its first stamp; return False if ``stop`` was set."""
        schedule = self._schedule
        due = begin + schedule.due / self._speed
        stamps = [begin + t / self._speed for t in schedule.stamps]
        done, at = [0] * len(stamps), 0
        while at < due.size:
            while (wait_s := due[at] - local_clock()) > 0:
                if stop.wait(wait_s):
                    return False
            if stop.is_set():
                return False
            until = int(np.searchsorted(due, local_clock(), side="right"))
            for stream, n in enumerate(np.bincount(schedule.stream[at:until], minlength=len(stamps)).tolist()):
                self._push(stream, stamps[stream], done[stream], n)
                done[stream] += n
            at = until
        return True

    def _push(self, stream: int, stamps: FloatArray, first: int, n: int) -> None:
        if n:
            rows = _rows(self.streams[stream].xdf, first, first + n)
            self._outlets[stream].push_chunk(rows, stamps[first : first + n].tolist())
            self.n_pushed += n


@dataclass(frozen=True)
class PlayedStream:
    """One stream of a recording as it is published."""

    xdf: XdfStream
    name: str  # not empty, as LSL requires
    source_id: str
    sfreq: float  # Hz, announced; 0 for an irregular stream

    @property
    def n_samples(self) -> int:
        """Samples in the recording."""
        return int(self.xdf.t.size)


class _Schedule:
    """When each sample of each stream is due, in seconds from the first stamp of the recording."""

    def __init__(self, streams: Sequence[XdfStream]) -> None:
        filled = [stream for stream in streams if stream.t.size]
        begin = min(float(np.min(stream.t_synced)) for stream in filled)
        self.stamps = [stream.t_synced - begin for stream in streams]
        due = np.concatenate([np.maximum.accumulate(t) for t in self.stamps])
        stream = np.repeat(np.arange(len(streams)), [t.size for t in self.stamps])
        order = np.argsort(due, kind="stable")
        self.due: FloatArray = due[order]
        self.stream = stream[order]  # (n,) index of the stream of each sample
        self.duration_s = float(self.due[-1])
        slowest = min((stream.sfreq for stream in filled if stream.sfreq), default=1.0)
        self.lap_s = self.duration_s + 1.0 / slowest


def _choose(file: XdfFile, names: Sequence[str]) -> list[XdfStream]:
    missing = [name for name in names if name not in {stream.name for stream in file.streams}]
    if missing:
        found = ", ".join(repr(stream.name) for stream in file.streams)
        raise SettingsError(f"a stream named {missing[0]!r} in {file.path}", found, "name one of these with --stream")
    chosen = [stream for stream in file.streams if not names or stream.name in names]
    if not any(stream.t.size for stream in chosen):
        raise RecordingError(
            expected="a recording with samples to publish",
            found=f"{file.path} with {len(chosen)} stream(s) and no sample",
            mend="check that the devices were running when the recording was made",
        )
    return chosen


def _source_ids(streams: Sequence[XdfStream]) -> list[str]:
    """Return a unique source_id for each stream, the same at every start, with ``PLAYED_ID_PREFIX``."""
    ids = [PLAYED_ID_PREFIX + (stream.source_id or f"{stream.name}-{stream.stream_id}") for stream in streams]
    several = Counter(ids)
    return [
        name if several[name] == 1 else f"{name}-{i}" for i, name in enumerate(ids)
    ]  # LSL recovers no stream whose id is there twice


def _rows(stream: XdfStream, first: int, last: int) -> npt.NDArray[np.generic] | list[list[str]]:
    """Return samples ``first`` to ``last`` as rows, in the stream's own format."""
    if stream.channel_format == "string":
        return [list(row) for row in stream.strings[first:last]]
    dtype = np.dtype(NUMERIC_DTYPES[stream.channel_format])
    with np.errstate(invalid="ignore"):  # damage can look like a signalling NaN
        return np.ascontiguousarray(stream.samples.read(first, last).T, dtype=dtype)


def _too_long(duration_s: float) -> list[str]:
    if duration_s <= _LONG_S:
        return []
    return [f"Its streams lie {duration_s / 3600:.0f} hours apart; choose those of one clock with --stream."]


def _make_outlet(pylsl: Any, played: PlayedStream, buffer_s: int) -> Any:
    """Return an outlet with the whole ``<desc>`` of the recorded header; host, session and times are LSL's own.

    Args:
        pylsl: The module.
        played: What is published.
        buffer_s: Seconds that are kept for a slow inlet (hundreds of samples for an irregular stream).
    """
    header = played.xdf
    plain = pylsl.StreamInfo(
        played.name, header.type, header.n_channels, played.sfreq, header.channel_format, played.source_id
    )
    _fill_desc(pylsl, plain, header.desc)
    return pylsl.StreamOutlet(plain, max_buffered=buffer_s)


def _fill_desc(pylsl: Any, info: Any, desc: ET.Element) -> None:
    """Copy a whole ``<desc>`` into a pylsl StreamInfo, attributes and mixed text included.

    pylsl's own functions cannot set attributes, but they can copy elements from a StreamInfo that liblsl parsed.
    """
    root = ET.fromstring(info.as_xml())
    root.append(desc)
    empty, uid = root.find("desc"), root.find("uid")
    assert empty is not None and uid is not None  # liblsl always writes both
    root.remove(empty)
    uid.text = "to be copied from"  # liblsl reads none without
    from_xml = pylsl.lib.lib.lsl_streaminfo_from_xml
    from_xml.restype = ctypes.c_void_p
    read = pylsl.StreamInfo(handle=from_xml(ET.tostring(root, encoding="utf-8")))
    child = read.desc().first_child()
    while not child.empty():
        info.desc().append_copy(child)
        child = child.next_sibling()
