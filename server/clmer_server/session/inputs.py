"""Where a session's data comes from: live streams and a camera, or a recording, with a video or without."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clmer_server.participants import PSEUDONYM, load_rest, save_neutral, save_rest
from clmer_server.protocol.parts import SourceMode
from clmer_server.session.config import SessionConfig
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.face.hog import HOG_CH_NAMES
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.lsl.sources import AdjustedSource, EegCorrections
from clmer_streaming.pipeline.extra import physio_source
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.types import RestBaseline, Source, StreamStatus

if TYPE_CHECKING:
    from clmer_streaming.lsl.resolve import Claim
    from clmer_streaming.sources.camera import CameraSource
    from clmer_streaming.sources.replay import Pace, ReplaySource
    from clmer_streaming.sources.session_replay import SessionReplaySource
    from clmer_streaming.sources.video import FaceTrack


KeepRest = Callable[[RestBaseline], Path]
"""Keeps the participant's rest, and returns where."""


def extra_sources(
    sources: Sequence[Source], choice: str, physio: Mapping[str, str], claim: Claim | None = None
) -> tuple[tuple[Source, ...], Callable[[str], str]]:
    """Return live sources, with the markers among their samples, and with the other streams of the network.

    Beside them: a function that tells of each of those other streams why it is silent; see LslExtraSource.silence.

    Args:
        sources: Of EEG and face.
        choice: Which other streams; see LslExtraSource.
        physio: By further series of the model: the stream that gives it.
        claim: What the session may take of the network, beside other sessions; None: all.
    """
    from clmer_streaming.lsl.extra import LslExtraSource, Noting, TakenStreams
    from clmer_streaming.lsl.markers import MarkerColumns

    taken = TakenStreams(claim)
    noted = tuple(Noting(MarkerColumns(source), taken) for source in sources)
    others = LslExtraSource(choice, taken, physio)
    return (*noted, MarkerColumns(others)), others.silence


@dataclass(frozen=True)
class Inputs:
    """The sources of one session, ready to run."""

    mode: SourceMode
    sources: tuple[Source, ...]
    expected: tuple[StreamStatus, ...] = ()  # streams to wait for, said before they are found
    warnings: tuple[str, ...] = ()  # sentences for people
    reasons: Mapping[str, Callable[[], str]] = field(default_factory=dict)  # by source: why it is silent, now
    dropped: Mapping[str, Callable[[], int]] = field(default_factory=dict)  # by source: frames it dropped, so far
    silence: Callable[[str], str] = lambda source: ""  # why nothing can come from a stream beside the inputs, now
    pace: Pace | None = None  # of a replay
    camera: CameraSource | None = None  # of a live session that has one
    keep_neutral: Callable[[NeutralFace], Path] | None = None  # keeps the participant's; None: nobody is named
    rest: RestBaseline | None = None  # the participant's EEG at rest from before; a recorded session has it as an item
    keep_rest: KeepRest | None = None  # keeps a new one; None: nobody is named
    participant: str | None = None  # pseudonym: the one that is named, else that of the recorded session

    def streams(self, announced: Sequence[StreamStatus], expected: Sequence[StreamStatus]) -> tuple[StreamStatus, ...]:
        """Return the streams that are there and those still waited for, with what their sources say of them.

        Args:
            announced: As the preprocessor knows them.
            expected: Those of ``expected``, with the time since when they are waited for.
        """
        found = {status.source for status in announced}
        known = (*announced, *(status for status in expected if status.source not in found))
        return tuple(self._explained(status) for status in known)

    def _explained(self, status: StreamStatus) -> StreamStatus:
        if status.source in self.dropped:
            status = replace(status, n_dropped=status.n_dropped + self.dropped[status.source]())
        reason = self.reasons[status.source]() if status.source in self.reasons else ""
        return replace(status, reason=reason) if reason and status.state != "live" else status


def replay_inputs(config: SessionConfig, preprocess: PreprocessConfig) -> tuple[Inputs, float]:
    """Return the inputs of a replay, checked against what the model needs, and its duration in seconds.

    Raises:
        RecordingError: The file or the video is missing, empty, unreadable, or without usable samples.
        StreamError: Its EEG cannot feed the model, or the channel map does not fit it.
    """
    from clmer_streaming.lsl.markers import MarkerColumns
    from clmer_streaming.sources.session_replay import NamedSeries

    assert config.replay is not None
    if config.video is None and is_session_recording(config.replay):
        own = _own_recording(config.replay, config, preprocess)
        source = _adjusted(NamedSeries(own, config.physio), config)
        whose = config.participant or _pseudonym(own.participant)
        inputs = Inputs(mode="replay", sources=(source,), warnings=own.warnings, pace=own.pace, participant=whose)
        return inputs, own.duration_s
    recording = _recording(config.replay, config, preprocess)
    sources = (MarkerColumns(_adjusted(recording, config)),)
    warnings = tuple(recording.warnings)
    inputs = Inputs(mode="replay", sources=sources, warnings=warnings, pace=recording.pace)
    return _with_rest(inputs, config, preprocess), recording.duration_s


def _pseudonym(text: str | None) -> str | None:
    """Return what a file says of its participant, if that can be a pseudonym."""
    return text if text is not None and re.fullmatch(PSEUDONYM, text) else None


def _own_recording(path: Path, config: SessionConfig, preprocess: PreprocessConfig) -> SessionReplaySource:
    from clmer_streaming.sources.session_replay import SessionReplaySource

    return SessionReplaySource(
        path, eeg_map=config.eeg_map, speed=config.speed, loop=config.loop, preprocess=preprocess
    )


def _recording(path: Path, config: SessionConfig, preprocess: PreprocessConfig) -> ReplaySource:
    from clmer_streaming.sources.replay import ReplaySource

    return ReplaySource(
        path,
        eeg_map=config.eeg_map,
        speed=config.speed,
        loop=config.loop,
        extractor=preprocess.extractor,
        signal=preprocess.signal,
        video=_face_track(config),
        video_offset_s=config.video_offset_s,
        physio=config.physio,
    )


def _adjusted(source: Source, config: SessionConfig) -> Source:
    corrections = EegCorrections(config.eeg_unit, config.eeg_delay_s)
    return source if corrections == EegCorrections() else AdjustedSource(source, corrections)


def _face_track(config: SessionConfig) -> FaceTrack | None:
    from clmer_streaming.sources.video import face_track

    if config.video is None:
        return None
    return face_track(config.video, neutral=config.neutral, extractor=config.extractor)


def live_inputs(config: SessionConfig, preprocess: PreprocessConfig, claim: Claim | None = None) -> Inputs:
    """Return the inputs of a live session; a stream or camera that is not there yet is waited for.

    Args:
        config: What the session is to do.
        preprocess: The signal settings of the model.
        claim: What it may take of the network, beside other sessions; None: all.

    Raises:
        StreamError: This machine cannot receive live streams.
        SettingsError: A stream is asked for in words that cannot be read, or the camera is named as nothing that
            could be opened.
        RecordingError: The camera is a video file that cannot be read.
    """
    from clmer_streaming.lsl.inlet import WindowGrid
    from clmer_streaming.lsl.setup import load_pylsl
    from clmer_streaming.lsl.sources import LslEegSource

    load_pylsl()
    grid = WindowGrid(preprocess.window.hop_s, config.eeg_delay_s)
    headset = LslEegSource(config.eeg, preprocess.signal, config.eeg_map, grid=grid, claim=claim)
    eeg = Inputs(
        mode="live",
        sources=(_adjusted(headset, config),),
        expected=(_expected("eeg", config.eeg, headset.reason),),
        reasons={"eeg": lambda: headset.reason},
    )
    face = config.face_stream
    seen = _with_face_stream(eeg, face, claim) if face else _with_camera(eeg, config, preprocess)
    series = (
        _expected("physio", stream, f"no stream {stream!r} found yet", source=physio_source(name))
        for name, stream in config.physio.items()
    )
    sources, silence = extra_sources(seen.sources, config.side_streams, config.physio, claim)
    seen = replace(seen, sources=sources, expected=(*seen.expected, *series), silence=silence)
    known = _with_rest(seen, config, preprocess)
    return replace(known, warnings=_not_measured_yet(config, preprocess, known.rest))


def _with_face_stream(eeg: Inputs, name: str, claim: Claim | None) -> Inputs:
    from clmer_streaming.lsl.sources import LslFaceSource

    face = LslFaceSource(name, claim)
    return replace(
        eeg,
        sources=(*eeg.sources, face),
        expected=(*eeg.expected, _expected("face", name, face.reason)),
        reasons={**eeg.reasons, "face": lambda: face.reason},
    )


def _with_camera(eeg: Inputs, config: SessionConfig, preprocess: PreprocessConfig) -> Inputs:
    if config.camera is None:
        return eeg
    from clmer_streaming.sources.camera import CameraSource

    camera = CameraSource(
        config.camera,
        neutral=config.neutral,
        delay_s=config.face_delay_s,
        extractor=config.extractor,
        hog=_hog_series(config, preprocess),
    )
    return replace(
        eeg,
        sources=(*eeg.sources, camera),
        expected=(*eeg.expected, _expected("face", camera.info.name, camera.report.reason)),
        reasons={**eeg.reasons, "face": lambda: camera.report.reason},
        dropped={"face": lambda: camera.report.n_dropped},
        camera=camera,
        keep_neutral=_keeper(config),
    )


def _hog_series(config: SessionConfig, preprocess: PreprocessConfig) -> str:
    """Return the series of the model that the camera's own HOG gives; "" where there is none, or a stream gives it."""
    asked = {name.lower() for name in config.physio}
    own = (series.name for series in preprocess.slot_series if series.ch_names == HOG_CH_NAMES)
    return next((name for name in own if name.lower() not in asked), "")


def _with_rest(inputs: Inputs, config: SessionConfig, preprocess: PreprocessConfig) -> Inputs:
    participant = config.participant
    if participant is None:
        return inputs
    return replace(
        inputs,
        participant=participant,
        rest=load_rest(config.participants, participant, preprocess),
        keep_rest=lambda rest: save_rest(config.participants, participant, rest),
    )


def _not_measured_yet(
    config: SessionConfig, preprocess: PreprocessConfig, rest: RestBaseline | None
) -> tuple[str, ...]:
    """Return a sentence where a participant comes for the first time, or is called by a mistyped pseudonym.

    It does not say the pseudonym: the service prints it, too, which systemd keeps.
    """
    lacking = [
        *(["neutral face"] if config.camera is not None and config.neutral is None else []),
        *(["EEG at rest"] if preprocess.eeg_calibration == "rest" and rest is None else []),
    ]
    if config.participant is None or not lacking:
        return ()
    measured = " and no ".join(lacking)
    mend = "measure it while the session runs (calibration.start), or by clmer calibrate"
    return (f"No {measured} of this session's participant in {config.participants} yet: {mend}.",)


def _keeper(config: SessionConfig) -> Callable[[NeutralFace], Path] | None:
    participant = config.participant
    return None if participant is None else lambda neutral: save_neutral(config.participants, participant, neutral)


def _expected(kind: Literal["eeg", "face", "physio"], name: str, reason: str, source: str = "") -> StreamStatus:
    return StreamStatus(
        source=source or kind, kind=kind, name=name, state="connecting", since=float("nan"), reason=reason
    )
