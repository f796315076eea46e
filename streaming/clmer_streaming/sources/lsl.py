"""A live EEG stream from Lab Streaming Layer: found, announced, read, and taken up again when it returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from clmer_streaming.channels import apply_eeg_map, resolve_channels
from clmer_streaming.clock import local_clock
from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.sources.announcement import announcement
from clmer_streaming.sources.selection import StreamQuery, one_line, the_only_one, watch_network, why_none, with_headers
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo, Tick
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header

SOURCE = "eeg"
"""The source key of this stream's items."""

OWN_ID_PREFIX = "clmer-"
"""Source ids of this project's own outlets, which are never taken as input."""

_LOOK_S = 0.5  # s between two looks at the network
_FORGET_S = 2.0  # s after which a stream that no longer answers is forgotten
_CONNECT_S = 5.0  # s, for metadata, opening and the first clock correction (0.64 s on a quiet network)
_PULL_S = 0.5  # s of silence after which a tick is put
_MAX_SAMPLES = 1024  # samples taken by one pull
_GIVE_UP_S = 10.0  # s of silence after which the inlet is dropped and the stream searched anew
_FOREIGN_CLOCK_S = 10.0  # s; stamps further from now than this are not on the LSL clock


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
    """Source: one EEG stream of the network.

    While there is none it puts ticks; a stream that falls silent for good is searched anew. Stamps come on
    this machine's LSL clock (clock synchronisation on, de-jitter off).

    Args:
        query: "auto" for the only EEG stream that the model can use, a name, or what ``StreamQuery`` reads.
        signal: The settings that tell which streams the model can use.
        eeg_map: Names for channels, as in ``AF3=1,F7=2``.

    Attributes:
        reason: Why there is no stream now; "" while there is one.

    Raises:
        SettingsError: The query cannot be read.
    """

    def __init__(self, query: str, signal: SignalConfig, eeg_map: str | None = None) -> None:
        self._query = StreamQuery.parse(query)
        self._signal = signal
        self._eeg_map = eeg_map
        self.reason = why_none(None, self._query, "EEG stream")

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: More than one stream fits, or the named one cannot feed the model.
        """
        pylsl = load_pylsl()
        gone = (pylsl.util.LostError, pylsl.util.TimeoutError)
        while not stop.is_set():
            found = self._search(pylsl, put, stop)
            if found is None:
                continue
            inlet, info = found
            try:
                _open(inlet)
                put(info)
                self._read(inlet, info, put, stop)
            except gone:
                put(Tick(local_clock(), SOURCE))

    def _search(self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event) -> tuple[Any, StreamInfo] | None:
        """Look for the stream, putting ticks, until two looks agree on what there is; None when stopped."""
        network = watch_network(pylsl, self._query, _FORGET_S)
        seen: set[str] = set()
        while not stop.wait(_LOOK_S):
            put(Tick(local_clock(), SOURCE))
            found = with_headers(network.results())
            candidates = [candidate for candidate, header in found if self._wanted(header)]
            uids = {candidate.uid() for candidate in candidates}
            if not uids:
                self.reason = why_none((header for _, header in found), self._query, "EEG stream")
            if uids and uids == seen:
                return self._choose(pylsl, candidates)
            seen = uids
        return None

    def _choose(self, pylsl: Any, candidates: list[Any]) -> tuple[Any, StreamInfo] | None:
        """Return the inlet and description of the one stream that fits; None to look again."""
        usable: list[tuple[Any, StreamInfo]] = []
        unfit: list[StreamError] = []
        for candidate in candidates:
            inlet = pylsl.StreamInlet(candidate, recover=True, processing_flags=pylsl.proc_clocksync)
            try:
                info = self._describe(pylsl, inlet)
            except StreamError as error:
                unfit.append(error)
            else:
                usable += [(inlet, info)] if info is not None else []
        the_only_one([info for _, info in usable], "--eeg", "EEG stream")
        if unfit and not usable and self._query.means_one:
            raise unfit[0]
        self.reason = "" if usable else "; ".join(map(one_line, unfit))
        return usable[0] if usable else None

    def _wanted(self, header: StreamDescription) -> bool:
        if header.channel_format == "string" or header.source_id.startswith(OWN_ID_PREFIX):
            return False
        return self._query.fits(header, usual_type="EEG")

    def _describe(self, pylsl: Any, inlet: Any) -> StreamInfo | None:
        """Return the stream's description; None to look again.

        Raises:
            StreamError: The model cannot use it.
        """
        try:
            xml = inlet.info(_CONNECT_S).as_xml()
        except (pylsl.util.LostError, pylsl.util.TimeoutError):
            return None
        info = announcement(parse_stream_header(0, xml.encode()), "eeg")
        info = apply_eeg_map(info, self._eeg_map) if self._eeg_map else info
        resolve_channels(info, self._signal)
        return info

    def _read(self, inlet: Any, info: StreamInfo, put: Callable[[Item], None], stop: threading.Event) -> None:
        last_heard = local_clock()
        foreign_clock = False
        while not stop.is_set() and local_clock() - last_heard < _GIVE_UP_S:
            x, t = inlet.pull_chunk(timeout=_PULL_S, max_samples=_MAX_SAMPLES, min_samples=1, as_numpy=True)
            now = local_clock()
            if inlet.was_clock_reset():
                put(Gap(last_heard, now, SOURCE, "stream_restarted"))
            if not len(t):
                put(Tick(now, SOURCE))
                continue
            last_heard = now
            foreign_clock = foreign_clock or abs(now - t[-1]) > _FOREIGN_CLOCK_S
            stamps = arrival_stamps(now, len(t), info.sfreq) if foreign_clock else t
            put(Chunk(SOURCE, stamps, np.ascontiguousarray(x.T, dtype=np.float64)))


def _open(inlet: Any) -> None:
    """Open the inlet, wait for the first clock correction, and drop what grew stale meanwhile."""
    inlet.open_stream(_CONNECT_S)
    inlet.time_correction(_CONNECT_S)
    inlet.flush()


def arrival_stamps(now: float, n: int, sfreq: float) -> FloatArray:
    """Return (n,) stamps for samples whose own ones are on another clock: the newest arrives now."""
    return now - np.arange(n - 1, -1, -1) / sfreq
