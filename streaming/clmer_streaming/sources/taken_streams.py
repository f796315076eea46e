"""Which streams of the network other sources have taken."""

from __future__ import annotations

import threading
from collections.abc import Callable

from clmer_streaming.sources.stream_claims import Claim, StreamIdentity
from clmer_streaming.types import Item, Source, StreamInfo
from clmer_streaming.xdf.description import parse_xml


class TakenStreams:
    """The streams that were announced, and those of other sessions; for any thread.

    They are known by the uid that LSL gives each start of an outlet, and, since an inlet recovers without a new
    announcement, by what stays when an outlet is started again.

    Args:
        claim: What this session may take beside other sessions; None: all.
    """

    def __init__(self, claim: Claim | None = None) -> None:
        self._claim = claim
        self._lock = threading.Lock()
        self._known: set[str | tuple[str, str, str]] = set()
        self._kinds: set[str] = set()

    def note(self, info: StreamInfo) -> None:
        """Take note of an announcement."""
        with self._lock:
            self._kinds.add(info.kind)
            self._known.add(stream_uid(info.xml))
            if info.source_id:
                self._known.add((info.name, info.source_id, info.hostname))

    def has(self, uid: str, name: str, source_id: str, hostname: str) -> bool:
        """Tell whether a stream was taken, or is another session's."""
        if self._claim is not None and self._claim.is_of_another(StreamIdentity(uid, name, source_id, hostname)):
            return True
        with self._lock:
            return uid in self._known or (name, source_id, hostname) in self._known

    def has_kind(self, kind: str) -> bool:
        """Tell whether any stream of this kind was taken."""
        with self._lock:
            return kind in self._kinds


class Noting:
    """Source: what another source delivers; its announcements are noted before they are passed on.

    Args:
        source: Delivers the items.
        taken: Where the announcements are noted.
    """

    def __init__(self, source: Source, taken: TakenStreams) -> None:
        self._source = source
        self._taken = taken

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        """Deliver until the source ends or ``stop`` is set."""

        def put_noted(item: Item) -> None:
            if isinstance(item, StreamInfo):
                self._taken.note(item)
            put(item)

        self._source.run(put_noted, stop)


def stream_uid(xml: str) -> str:
    """Return the uid in a stream's header; "" where there is none."""
    try:
        return (parse_xml(xml.encode()).findtext("uid") or "").strip()
    except ValueError:
        return ""
