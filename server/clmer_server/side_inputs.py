"""What a live session takes beside its EEG and its face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from clmer_streaming.types import Source

if TYPE_CHECKING:
    from clmer_streaming.sources.stream_claims import Claim


def side_sources(
    sources: Sequence[Source], choice: str, physio: Mapping[str, str], claim: Claim | None = None
) -> tuple[tuple[Source, ...], Callable[[str], str]]:
    """Return live sources, with the markers among their samples, and with the other streams of the network.

    Beside them: a function that tells of each of those other streams why it is silent; see LslSideSource.silence.

    Args:
        sources: Of EEG and face.
        choice: Which other streams; see LslSideSource.
        physio: By further series of the model: the stream that gives it.
        claim: What the session may take of the network, beside other sessions; None: all.
    """
    from clmer_streaming.sources.lsl_side import LslSideSource
    from clmer_streaming.sources.marker_columns import MarkerColumns
    from clmer_streaming.sources.taken_streams import Noting, TakenStreams

    taken = TakenStreams(claim)
    noted = tuple(Noting(MarkerColumns(source), taken) for source in sources)
    others = LslSideSource(choice, taken, physio)
    return (*noted, MarkerColumns(others)), others.silence
