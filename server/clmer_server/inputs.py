"""Where a session's data comes from: live streams, or a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clmer_server.messages import SourceMode
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.types import Source, StreamStatus


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


def replay_inputs(config: SessionConfig, preprocess: PreprocessConfig) -> tuple[Inputs, float]:
    """Return the inputs of a replay, checked against what the model needs, and its duration in seconds.

    Raises:
        RecordingError: The file is missing, empty, not XDF, or without usable samples.
        StreamError: Its EEG cannot feed the model, or the channel map does not fit it.
    """
    from clmer_streaming.sources.replay import ReplaySource

    assert config.replay is not None
    recording = ReplaySource(
        config.replay,
        eeg_map=config.eeg_map,
        speed=config.speed,
        loop=config.loop,
        extractor=preprocess.extractor,
        signal=preprocess.signal,
    )
    return Inputs(mode="replay", sources=(recording,), warnings=tuple(recording.warnings)), recording.duration_s


def live_inputs(config: SessionConfig, preprocess: PreprocessConfig) -> Inputs:
    """Return the inputs of a live session; a stream that is not there yet is waited for.

    Raises:
        StreamError: This machine cannot receive live streams.
    """
    from clmer_streaming.sources.lsl import LslEegSource, load_pylsl

    load_pylsl()
    expected = StreamStatus(
        source="eeg",
        kind="eeg",
        name=config.eeg,
        state="connecting",
        since=float("nan"),
        reason="no EEG stream found yet",
    )
    source = LslEegSource(config.eeg, preprocess.signal, config.eeg_map)
    return Inputs(mode="live", sources=(source,), expected=(expected,))
