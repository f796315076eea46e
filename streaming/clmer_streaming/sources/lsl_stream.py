"""One live stream of the network: found, announced, read, and taken up again when it returns."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clmer_streaming.clock import local_clock
from clmer_streaming.errors import StreamError
from clmer_streaming.sources.lsl_connection import Deliver, LslConnection
from clmer_streaming.sources.lsl_rest import Rest
from clmer_streaming.sources.lsl_watch import FORGET_S, same_stream
from clmer_streaming.sources.selection import (
    AUTO,
    StreamQuery,
    one_line,
    the_only_one,
    watch_network,
    why_none,
    with_headers,
)
from clmer_streaming.sources.stream_claims import Claim, StreamIdentity
from clmer_streaming.types import Item, StreamInfo, Tick
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header

_LOOK_S = 0.5  # s between two looks at the network
_CONNECT_S = 5.0  # s, for metadata
_OTHERS_S = 10.0  # s for which a lost stream is waited for before another one that fits is taken


@dataclass(frozen=True)
class Wish:
    """What a source wants of the network."""

    source: str  # the source key of its items
    option: str  # that says which stream, as ``--eeg``
    what: str  # what it is, as ``EEG stream``
    query: StreamQuery
    fits: Callable[[StreamDescription], bool]  # by what is known of a stream before it is opened
    describe: Callable[[StreamDescription], StreamInfo]  # its announcement; raises StreamError where it is no use
    deliver: Deliver
    rest: Callable[[StreamInfo], Rest | None] = lambda info: None  # when the reader of a stream may rest
    claim: Claim = field(default_factory=Claim)  # what may be taken of the network, beside other sessions


class LslStream:
    """Delivers one stream of the network, whatever becomes of it.

    While there is none it puts ticks. A stream that is lost is looked for by its identity and taken up again by
    itself, with a Gap, or announced anew where it is not what it was. Stamps come on this machine's LSL clock
    (clock synchronisation on, de-jitter off).

    Args:
        wish: Which stream, and what is made of it.
    """

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self._reason = why_none(None, wish.query, wish.what)
        self._connection: LslConnection | None = None

    @property
    def reason(self) -> str:
        """Why nothing comes now, in a sentence for people; "" while samples come."""
        return self._reason if self._connection is None else self._connection.reason

    def run(self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver the stream until ``stop`` is set.

        Raises:
            StreamError: At first, more than one stream fits, or the named one is no use. Once a stream was there,
                such things are said in ``reason`` and waited out.
        """
        before: LslConnection | None = None
        while not stop.is_set():
            found = self._search(pylsl, put, stop, before)
            if found is None:
                continue
            self._connection = found
            try:
                found.open()
                if before is not None and before.uid == found.uid and before.lives:
                    self._connection = found = before  # both have what came meanwhile; this one without a gap
                elif before is not None and not _what_changed(before.info, found.info):
                    found.take_over(before)
                else:
                    put(found.info)
                before = found
                found.read(put, stop)
            except (pylsl.util.LostError, pylsl.util.TimeoutError):
                put(Tick(local_clock(), self._wish.source))
            self._reason = f"{found.info.name} is gone; waiting for it to come back"
            self._connection = None

    def _search(
        self, pylsl: Any, put: Callable[[Item], None], stop: threading.Event, before: LslConnection | None
    ) -> LslConnection | None:
        """Look for the stream, putting ticks, until two looks agree on what there is; None when nothing can be used."""
        wish = self._wish
        network = watch_network(pylsl, wish.query if before is None else StreamQuery(AUTO), FORGET_S)
        seen: set[str] = set()
        began = local_clock()
        while not stop.wait(_LOOK_S):
            now = local_clock()
            put(Tick(now, wish.source))
            found = with_headers(network.results())
            candidates = self._candidates(found, before, now - began)
            uids = {candidate.uid() for candidate in candidates}
            if not uids and before is None:
                self._reason = self._why_none(found)
            if uids and uids == seen:
                return self._choose(pylsl, candidates) if before is None else self._retake(pylsl, candidates, before)
            seen = uids
        return None

    def _candidates(
        self, found: list[tuple[Any, StreamDescription]], before: LslConnection | None, waited_s: float
    ) -> list[Any]:
        """Return what may be taken: at first all that is meant; later the stream from before, while it may return."""
        if before is not None:
            again = [stream for stream, header in found if same_stream(header, before.info)]
            others = [stream for stream in again if stream.uid() != before.uid]
            if again or waited_s < _OTHERS_S or self._wish.query.is_predicate:
                return others or again
        return [stream for stream, header in found if self._wish.fits(header) and self._is_free(stream)]

    def _retake(self, pylsl: Any, candidates: list[Any], before: LslConnection) -> LslConnection | None:
        """Return a connection to the stream that came back; None, and why, where it cannot be used."""
        try:
            found = self._choose(pylsl, candidates)
        except StreamError as error:
            self._reason = one_line(error)
            return None
        if found is not None and (changed := _what_changed(before.info, found.info)):
            found.info = dataclasses.replace(found.info, note=changed)
        return found

    def _choose(self, pylsl: Any, candidates: list[Any]) -> LslConnection | None:
        """Return a connection to the one stream that fits; None to look again."""
        wish = self._wish
        usable: list[LslConnection] = []
        unfit: list[StreamError] = []
        for candidate in candidates:
            inlet = pylsl.StreamInlet(candidate, recover=False, processing_flags=pylsl.proc_clocksync)
            try:
                info = self._describe(pylsl, inlet)
            except StreamError as error:
                unfit.append(error)
            else:
                found = (
                    []
                    if info is None
                    else [LslConnection(pylsl, inlet, info, candidate.uid(), wish.deliver, rest=wish.rest(info))]
                )
                usable += found
        the_only_one([connection.info for connection in usable], wish.option, wish.what)
        if unfit and not usable and wish.query.means_one:
            raise unfit[0]
        self._reason = "" if usable else "; ".join(map(one_line, unfit))
        taken = usable and wish.claim.take(StreamIdentity.of(usable[0].uid, usable[0].info))
        return usable[0] if taken else None

    def _is_free(self, stream: Any) -> bool:
        """Tell whether no other session has the stream; ``auto`` leaves them what they ask for by name, too."""
        claim, found = self._wish.claim, StreamIdentity.found(stream)
        return not (claim.is_of_another(found) if self._wish.query.text == AUTO else claim.holder(found))

    def _why_none(self, found: list[tuple[Any, StreamDescription]]) -> str:
        wish = self._wish
        if any(wish.fits(header) for _, header in found):
            return f"every {wish.what} that fits {wish.query.text!r} is another session's"
        return why_none((header for _, header in found), wish.query, wish.what)

    def _describe(self, pylsl: Any, inlet: Any) -> StreamInfo | None:
        """Return the stream's announcement; None to look again.

        Raises:
            StreamError: It is no use.
        """
        try:
            header = parse_stream_header(0, inlet.info(_CONNECT_S).as_xml().encode())
        except (pylsl.util.LostError, pylsl.util.TimeoutError, ValueError):
            return None
        return self._wish.describe(header)


def _what_changed(before: StreamInfo, now: StreamInfo) -> str:
    """Return what a stream that came back has otherwise than before, in a sentence for people; "" if nothing."""
    if dataclasses.replace(before, note="") == dataclasses.replace(now, note=""):
        return ""
    if (before.name, before.source_id) != (now.name, now.source_id):
        return f"took the place of {before.name} (source_id {before.source_id or 'none'}), which is gone"
    layouts = [f"{len(info.ch_names)} channels at {info.sfreq:g} Hz" for info in (before, now)]
    if layouts[0] == layouts[1]:
        return "came back with another description"
    return f"came back with {layouts[1]}; before it had {layouts[0]}"
