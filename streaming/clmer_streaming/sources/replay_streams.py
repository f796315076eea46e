"""Which streams of a recording a replay uses, and how it announces them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clmer_streaming.channels import apply_eeg_map, resolve_channels
from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import RecordingError, StreamError
from clmer_streaming.face.layout import is_clmer_face
from clmer_streaming.physio_path import physio_source
from clmer_streaming.sources.announcement import announcement
from clmer_streaming.sources.marker_words import marker_words
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.reader import XdfFile, XdfStream

_FACE_LABEL = re.compile(r"(LM|AU)_?\d", re.IGNORECASE)  # LM00_X, AU12_r, AU_12; not AUX
_FACE_TYPES = ("mocap", "landmark", "landmarks")


@dataclass(frozen=True, eq=False)
class UsedStream:
    """A stream of the recording and its announcement."""

    info: StreamInfo
    xdf: XdfStream


@dataclass(frozen=True, eq=False)
class UsedStreams:
    """What a replay delivers."""

    eeg: UsedStream | None
    face: UsedStream | None
    foreign_face: StreamInfo | None  # announced only: another extractor's numbers are not what the model learnt
    markers: tuple[UsedStream, ...]
    physio: tuple[UsedStream, ...]  # further series of the model
    warnings: tuple[str, ...]  # sentences for people

    @property
    def infos(self) -> tuple[StreamInfo, ...]:
        """Announcements, in the order in which they are made; several marker streams share one."""
        used = [stream.info for stream in (self.eeg, self.face, *self.physio, *self.markers[:1]) if stream is not None]
        return tuple(used) if self.foreign_face is None else (*used, self.foreign_face)


def choose_streams(  # noqa: PLR0913 - a recording, and each choice of the user's
    file: XdfFile,
    eeg_map: str | None,
    signal: SignalConfig,
    extractor: str,
    physio: Mapping[str, str] | None = None,
    *,
    beside: Sequence[XdfStream] = (),
) -> UsedStreams:
    """Choose by type, labels and extractor, further series by name or type; streams without samples do not count.

    Args:
        file: The recording.
        eeg_map: Names for channels without labels.
        signal: What the EEG must give.
        extractor: Whose faces are wanted.
        physio: By further series: name or type of the stream that gives it.
        beside: Streams of a video beside the recording, which may give further series, too.

    Raises:
        RecordingError: There are neither EEG nor usable face samples.
        StreamError: There is EEG, but none that can feed the model.
    """
    warnings: list[str] = []
    filled = [stream for stream in file.streams if stream.t.size]
    eeg = _choose_eeg(filled, eeg_map, signal, warnings)
    face, foreign = _choose_face(filled, extractor, warnings)
    if eeg is None and face is None:
        raise _nothing_usable(file)
    markers = tuple(
        UsedStream(announcement(stream, "markers"), stream)
        for stream in filled
        if "marker" in stream.type.lower() and any(words is not None for words in marker_words(stream))
    )
    others = [stream for stream in filled if eeg is None or stream is not eeg.xdf]
    series = _choose_physio([*others, *beside], physio, warnings)
    return UsedStreams(eeg, face, foreign, markers, series, tuple(warnings))


def _choose_physio(
    streams: Sequence[XdfStream], physio: Mapping[str, str] | None, warnings: list[str]
) -> tuple[UsedStream, ...]:
    chosen = []
    for series, wanted in (physio or {}).items():
        named = [
            s for s in streams if s.channel_format != "string" and wanted.lower() in (s.name.lower(), s.type.lower())
        ]
        if not named:
            there = ", ".join(repr(stream.name) for stream in streams) or "nothing else"
            warnings.append(f"No stream {wanted!r} for the series {series!r}; the recording has {there}.")
            continue
        if len(named) > 1:
            warnings.append(
                f"{len(named)} streams are called {wanted!r}; the series {series!r} is taken from the first."
            )
        info = dataclasses.replace(announcement(named[0], "physio"), source=physio_source(series))
        chosen.append(UsedStream(info, named[0]))
    return tuple(chosen)


def _choose_eeg(
    streams: Sequence[XdfStream], eeg_map: str | None, signal: SignalConfig, warnings: list[str]
) -> UsedStream | None:
    candidates = [s for s in streams if s.type.lower() == "eeg" and s.channel_format != "string"]
    candidates.sort(key=lambda stream: "eeg" not in stream.name.lower())
    usable: list[UsedStream] = []
    refusals: list[StreamError] = []
    for stream in candidates:
        try:
            info = announcement(stream, "eeg")
            info = info if eeg_map is None else apply_eeg_map(info, eeg_map)
            resolve_channels(info, signal)
            usable.append(UsedStream(info, stream))
        except StreamError as error:
            refusals.append(error)
    if refusals and not usable:
        raise refusals[0]
    warnings.extend(
        f"The EEG stream {other.info.name!r} (id {other.xdf.stream_id}) is not used; "
        f"{usable[0].info.name!r} (id {usable[0].xdf.stream_id}) is."
        for other in usable[1:]
    )
    return usable[0] if usable else None


def _choose_face(
    streams: Sequence[XdfStream], extractor: str, warnings: list[str]
) -> tuple[UsedStream | None, StreamInfo | None]:
    """Return the face stream to use, or the announcement of one that another extractor made."""
    faces = [stream for stream in streams if stream.channel_format != "string" and _is_face(stream)]
    for stream in faces:
        if is_clmer_face(stream.ch_names) and stream.desc_text("extractor") == extractor:
            return UsedStream(announcement(stream, "face", extractor), stream), None
    if not faces:
        return None, None
    said = faces[0].desc_text("extractor")
    warnings.append(
        f"The face stream {faces[0].name!r} is not used: it comes from another extractor "
        f"({said or 'which it does not name'}), and the model wants {extractor!r}."
    )
    return None, announcement(faces[0], "face", said if said != extractor else "")


def _is_face(stream: XdfStream) -> bool:
    kind = stream.type.lower()
    if kind == "eeg":
        return False
    named = kind in _FACE_TYPES and "face" in stream.name.lower()
    return named or any(_FACE_LABEL.match(label) for label in stream.ch_names)


def _nothing_usable(file: XdfFile) -> RecordingError:
    found = ", ".join(
        f"{s.name!r} ({s.type or 'no type'}, {s.n_channels} channels, {s.t.size} samples)" for s in file.streams
    )
    return RecordingError(
        expected="a recording with samples of an EEG stream (type EEG) or of a CLMER-Face stream",
        found=f"{file.path} with {found}",
        mend="check that the headset's stream was selected and running when the recording was made",
    )
