"""The EEG channels of a data set: named montages, lists, files of names, or those that its recordings have."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clmer_model.data.tables import Recording
from clmer_streaming.config import CAP36_CH_NAMES, EPOC_CH_NAMES
from clmer_streaming.errors import DatasetError, RecordingError, SettingsError
from clmer_streaming.lsl.resolve import AUTO, StreamQuery
from clmer_streaming.pipeline.channels import is_auxiliary, normalise_label
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.scan import read_in_order

MUSE_CH_NAMES = ("TP9", "AF7", "AF8", "TP10")
"""The four EEG channels of a Muse, in the headset's order."""

MONTAGES: Mapping[str, tuple[str, ...]] = {
    "emotiv14": EPOC_CH_NAMES,
    "muse": MUSE_CH_NAMES,
    "cap36": CAP36_CH_NAMES,
}
"""Montages by name."""

OWN = "all"
"""The channels that the recordings have."""

MAX_CHANNELS = 256


def parse_channels(text: str) -> tuple[str, ...] | None:
    """Return the channels that an option names; None for those that the recordings have.

    Args:
        text: ``all``, a name in ``MONTAGES``, a file of names, or names, separated by commas, blanks or lines.

    Raises:
        SettingsError: A channel is named twice, or there are more than 256.
    """
    if text == OWN:
        return None
    if text.lower() in MONTAGES:
        return MONTAGES[text.lower()]
    try:
        words = Path(text).read_text(encoding="utf-8-sig")
    except OSError:  # no file, but a list
        words = text
    except UnicodeDecodeError as error:
        raise SettingsError("a file of names in UTF-8", f"{text}: {error}", "mend --channels") from error
    names = tuple(name for name in re.split(r"[,;\s]+", words) if name)
    return _checked(names, text)


def channels_of(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Return the channels of the EEG of all recordings, in the order in which they appear first.

    Channels are told by their labels, those without any by their number, from 0. Counters, stamps and columns of
    quality are left out.

    Args:
        recordings: Of the manifest; those that cannot be read, or hold no EEG, are skipped here.

    Raises:
        DatasetError: None has EEG.
        SettingsError: They have more than 256 channels.
    """
    found: dict[str, str] = {}
    for recording in recordings:
        for name in _names_of(recording):
            found.setdefault(normalise_label(name), name)
    for recording in recordings if not found else ():
        if recording.eeg != AUTO:
            raise DatasetError(
                expected=f"an EEG stream {recording.eeg!r} in {recording.file}",
                found=", ".join(f"{one.name} (type {one.type})" for one in _streams(recording.path)) or "no stream",
                mend="say which of these is the EEG: --eeg NAME, or the column eeg of manifest.csv",
            )
    if not found:
        raise DatasetError(
            expected="a recording with EEG, for its channels",
            found="no stream of type EEG, and none that the column eeg of manifest.csv names",
            mend="name it there, or say the channels: --channels emotiv14, or AF3,F7,...",
        )
    return _checked(tuple(found.values()), OWN)


def _names_of(recording: Recording) -> Iterator[str]:
    query = StreamQuery.parse(recording.eeg)
    for stream in _streams(recording.path):
        if stream.channel_format == "string" or not query.matches(stream, usual_type="EEG"):
            continue
        if recording.eeg_map:
            named = (entry.partition("=")[0].strip() for entry in recording.eeg_map.split(","))
            yield from (name for name in named if name and not is_auxiliary(name))
        elif not any(stream.ch_names):
            yield from map(str, range(len(stream.ch_names)))
        else:
            yield from (name for name in stream.ch_names if name and not is_auxiliary(name))
        return


def _streams(path: Path) -> Iterator[StreamDescription]:
    try:
        yield from (entry for entry in read_in_order(path) if isinstance(entry, StreamDescription))
    except RecordingError:
        return


def _checked(names: tuple[str, ...], text: str) -> tuple[str, ...]:
    labels = [normalise_label(name) for name in names]
    twice = sorted({name for name in names if labels.count(normalise_label(name)) > 1})
    if not names or twice or len(names) > MAX_CHANNELS:
        found = f"{', '.join(twice)} more than once" if twice else f"{len(names)} in {text[:80]!r}"
        known = f"{OWN}, {', '.join(MONTAGES)}, a list such as AF3,F7,F3, or a file of names"
        raise SettingsError(f"1 to {MAX_CHANNELS} different channels: {known}", found, "mend --channels")
    return names
