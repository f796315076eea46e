"""Which stream of the network is the one from before, and what became of one that fell silent."""

from __future__ import annotations

from typing import Any

from clmer_streaming.sources.selection import AUTO, StreamQuery, watch_network, with_headers
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.description import StreamDescription

FORGET_S = 2.0
"""Seconds after which a stream that no longer answers is forgotten."""

_ZOMBIE_S = 5.0  # s of silence after which another outlet of the same identity is preferred, though this one answers
_REOPEN_S = 15.0  # s for which a silent outlet answers before the connection to it is taken for dead


def same_stream(header: StreamDescription, info: StreamInfo) -> bool:
    """Tell whether a stream is the announced one, whatever its channels and its rate are now.

    Name, type and source_id decide; the host does too where there is no source_id.
    """
    if (header.name, header.type, header.source_id) != (info.name, info.type, info.source_id):
        return False
    return bool(info.source_id) or header.hostname == info.hostname


class SilenceWatch:
    """Looks at the network while a connected stream is silent.

    Args:
        pylsl: The library.
        info: The stream.
        uid: Its outlet; another one of the same stream has another uid.
    """

    def __init__(self, pylsl: Any, info: StreamInfo, uid: str) -> None:
        self._network = watch_network(pylsl, StreamQuery(AUTO), FORGET_S)
        self._info = info
        self._uid = uid
        self._answers_since: float | None = None
        self.answers = False  # whether the outlet was there at the last look

    def connection_is_dead(self, silent_s: float, now: float) -> bool:
        """Tell whether to connect anew: to an outlet that took the place of this one, or to this one again.

        An outlet that does not answer may be frozen, and then goes on without loss: it is waited for.

        Args:
            silent_s: Seconds since the last sample.
            now: Seconds of the LSL clock.
        """
        found = with_headers(self._network.results())
        uids = {stream.uid() for stream, header in found if same_stream(header, self._info)}
        self.answers = self._uid in uids
        self._answers_since = (self._answers_since or now) if self.answers else None
        replaced = len(uids) > self.answers and (not self.answers or silent_s > _ZOMBIE_S)
        return replaced or (self._answers_since is not None and now - self._answers_since > _REOPEN_S)
