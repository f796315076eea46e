"""The live sources of EEG and of faces from Lab Streaming Layer."""

from __future__ import annotations

from typing import Any

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES, FACE_SOURCE, is_clmer_face, row_to_face
from clmer_streaming.lsl.inlet import LslSource, ReadPacing, WindowGrid
from clmer_streaming.lsl.resolve import AUTO, Claim, announce_eeg
from clmer_streaming.lsl.setup import OWN_ID_PREFIX
from clmer_streaming.types import Chunk, FloatArray, Item, StreamInfo
from clmer_streaming.xdf.header import StreamDescription, announcement
from clmer_streaming.xdf.scan import values_of

EEG_SOURCE = "eeg"
"""Source key of the EEG."""


class LslEegSource(LslSource):
    """Source: one EEG stream of the network; a lost stream is found again by itself, see ``LslSource``.

    Example::

        source = LslEegSource("auto", SignalConfig())
        source.run(items.append, stop)  # in a thread of its own

    Args:
        query: "auto" for the only EEG stream that the model can use, a name, or what ``StreamQuery.parse`` accepts.
        signal: The signal settings of the model, which decide what streams can be used.
        eeg_map: Names for channels, as in ``AF3=1,F7=2``; see ``apply_eeg_map``.
        force_map: Whether the map may contradict the labels of the stream.
        sfreq: Rate in Hz at which the samples come, in place of the one that the stream declares; None: as it declares.
        grid: Grid of the windows; between their ends, samples are read together. None: each is read when it comes.
        claim: Claim of the session; None: there is no other session.

    Raises:
        SettingsError: The query cannot be parsed.
    """

    def __init__(  # noqa: PLR0913 - each is an option of the user, given by name
        self,
        query: str,
        signal: SignalConfig,
        eeg_map: str | None = None,
        *,
        force_map: bool = False,
        sfreq: float | None = None,
        grid: WindowGrid | None = None,
        claim: Claim | None = None,
    ) -> None:
        super().__init__(EEG_SOURCE, "--eeg", "EEG stream", query, claim, sfreq=sfreq)
        self._signal = signal
        self._eeg_map = eeg_map
        self._force_map = force_map
        self._grid = grid

    def _matches(self, header: StreamDescription) -> bool:
        if header.source_id.startswith(OWN_ID_PREFIX):
            return False
        if header.channel_format == "string" and not self._query.names_stream:
            return False
        return self._query.matches(header, usual_type="EEG")

    def _describe(self, header: StreamDescription) -> StreamInfo:
        return announce_eeg(header, self._signal, self._eeg_map, force_map=self._force_map, sfreq=self._sfreq)

    def _decode(self, t: FloatArray, rows: Any) -> list[Item]:
        return [Chunk(EEG_SOURCE, t, values_of(rows))]

    def _pacing(self, info: StreamInfo) -> ReadPacing | None:
        if self._grid is None:
            return None
        delay_s = info.delay_s + self._grid.delay_s
        return ReadPacing.for_stream(
            self._sfreq or info.sfreq, delay_s, self._signal.sfreq, self._grid.hop_s, self._signal.band[1]
        )


class LslFaceSource(LslSource):
    """Source: one CLMER-Face stream of the network; a lost stream is found again by itself, see ``LslSource``.

    Example::

        LslFaceSource("CLMER-Face").run(items.append, stop)  # in a thread of its own

    Args:
        query: The stream's name, "auto" for the only one there is, or what ``StreamQuery.parse`` accepts.
        claim: Claim of the session; None: there is no other session.

    Raises:
        SettingsError: The query cannot be parsed.
    """

    def __init__(self, query: str, claim: Claim | None = None) -> None:
        super().__init__(FACE_SOURCE, "--face-stream", "face stream", query, claim)

    def _matches(self, header: StreamDescription) -> bool:
        if self._query.text == AUTO:
            return header.n_channels == len(FACE_CH_NAMES) and header.type == "MoCap"
        return self._query.matches(header)

    def _describe(self, header: StreamDescription) -> StreamInfo:
        info = announcement(header, "face", header.desc_text("extractor"))
        if not is_clmer_face(info.ch_names):
            raise StreamError(
                expected="a stream with the 249 channels of CLMER-Face",
                found=f"{info.name!r} with {len(info.ch_names)} channels: {', '.join(info.ch_names[:4])}...",
                mend="publish it with clmer face-stream, and give its name to --face-stream",
            )
        return info

    def _decode(self, t: FloatArray, rows: Any) -> list[Item]:
        return [row_to_face(float(stamp), row, FACE_SOURCE) for stamp, row in zip(t, rows, strict=True)]
