"""Where a session's data comes from: live streams, or a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clmer_server.messages import SourceMode
from clmer_streaming.config import SignalConfig
from clmer_streaming.types import Source, StreamStatus

if TYPE_CHECKING:
    from clmer_streaming.sources.replay import ReplaySource


@dataclass(frozen=True)
class SessionConfig:
    """What one session is to do; plain values, so that it can be sent to another process."""

    session: str  # unique name
    replay: Path | None = None  # a recording; None: live
    eeg: str = "auto"  # the live EEG stream: its name, or "auto" for the only one there is
    eeg_map: str | None = None  # names for channels without labels
    speed: float = 1.0  # of a replay, in recorded seconds per second; inf: as fast as possible
    loop: bool = False  # start a replay again at its end

    @property
    def mode(self) -> SourceMode:
        """Whether the data is live or read from a recording."""
        return "live" if self.replay is None else "replay"


@dataclass(frozen=True)
class Inputs:
    """The sources of one session, ready to run."""

    mode: SourceMode
    sources: tuple[Source, ...]
    expected: tuple[StreamStatus, ...] = ()  # streams to wait for, said before they are found
    warnings: tuple[str, ...] = ()  # sentences for people


def open_recording(config: SessionConfig) -> ReplaySource:
    """Open the recording that the configuration names.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or without usable samples.
        StreamError: The channel map does not fit the recording.
    """
    from clmer_streaming.sources.replay import ReplaySource

    assert config.replay is not None
    return ReplaySource(config.replay, eeg_map=config.eeg_map, speed=config.speed, loop=config.loop)


def replay_inputs(recording: ReplaySource, signal: SignalConfig) -> Inputs:
    """Return the inputs of a replay, checked against what the model needs.

    Raises:
        StreamError: The recording's EEG cannot feed the model.
    """
    from clmer_streaming.channels import resolve_channels

    for info in recording.infos:
        if info.kind == "eeg":
            resolve_channels(info, signal)
    return Inputs(mode="replay", sources=(recording,), warnings=tuple(recording.warnings))


def live_inputs(config: SessionConfig, signal: SignalConfig) -> Inputs:
    """Return the inputs of a live session; a stream that is not there yet is waited for."""
    from clmer_streaming.sources.lsl import LslEegSource

    expected = StreamStatus(
        source="eeg",
        kind="eeg",
        name=config.eeg,
        state="connecting",
        since=float("nan"),
        reason="no EEG stream found yet",
    )
    return Inputs(mode="live", sources=(LslEegSource(config.eeg, signal),), expected=(expected,))
