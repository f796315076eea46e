"""The sources of one session: live streams and a camera, or a recording, with a video or without.

To be read in this order: ``Inputs``, ``find_inputs``, the inputs of a replay, those of a live session, and what both
have in common.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clmer_server.participants import load_rest, save_neutral, save_rest
from clmer_server.protocol.parts import SourceMode
from clmer_server.session.config import SessionConfig, check_physio
from clmer_server.settings import PSEUDONYM
from clmer_streaming.config import PreprocessConfig, physio_source
from clmer_streaming.face.hog import HOG_CH_NAMES
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.sources.transform import EegCorrections, MarkerColumns, SeriesNames, TransformedSource
from clmer_streaming.types import RestBaseline, Source, StreamStatus

if TYPE_CHECKING:
    from clmer_streaming.lsl.inlet import LslSource
    from clmer_streaming.lsl.resolve import Claim, StreamClaims
    from clmer_streaming.lsl.sources import LslFaceSource
    from clmer_streaming.sources.camera import CameraSource
    from clmer_streaming.sources.replay import Pace, ReplaySource
    from clmer_streaming.sources.replay_streams import EegChoice
    from clmer_streaming.sources.session_replay import SessionReplaySource
    from clmer_streaming.sources.video import FaceTrack


KeepRest = Callable[[RestBaseline], Path]
"""Saves the participant's EEG at rest; returns the file."""


@dataclass(frozen=True)
class Inputs:
    """The sources of one run of a session, ready to run, and what belongs to them."""

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
    claim: Claim | None = None  # of the live streams, beside other sessions

    def leave(self) -> None:
        """Release the streams to other sessions."""
        if self.claim is not None:
            self.claim.leave()

    def streams(self, announced: Sequence[StreamStatus], expected: Sequence[StreamStatus]) -> tuple[StreamStatus, ...]:
        """Return the status of the streams that are connected and of those that are waited for.

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


def find_inputs(config: SessionConfig, preprocess: PreprocessConfig, claims: StreamClaims) -> Inputs:
    """Return the inputs of a session, checked as far as possible without opening a stream or a camera.

    Args:
        config: The session.
        preprocess: The signal settings of the model.
        claims: The live streams of all sessions.

    Raises:
        ClmerError: It names a file, a stream or a camera that cannot be used.
    """
    check_physio(config.physio_streams(), preprocess)
    if config.replay is not None:
        return replace(replay_inputs(config, preprocess)[0], claim=claims.join(config.name, ()))
    claim = claims.join(config.name, [text for text in (config.eeg, config.face_stream) if text])
    try:
        return live_inputs(config, preprocess, claim)
    except Exception:
        claim.leave()
        raise


def replay_inputs(
    config: SessionConfig, preprocess: PreprocessConfig, progress: Callable[[float], None] | None = None
) -> tuple[Inputs, float]:
    """Return the inputs of a replay, checked against what the model needs, and its duration in seconds.

    Args:
        config: The session.
        preprocess: The signal settings of the model.
        progress: Called with the share of another program's file that was read, 0 to 1.

    Raises:
        RecordingError: The file or the video is missing, empty, unreadable, or without usable samples.
        StreamError: Its EEG cannot feed the model, or the channel map does not fit it.
        SettingsError: The participant's neutral face, the face landmarker or an option's text cannot be used.
    """
    config.extractor()  # a bundle that cannot be used is reported before anything is read, with or without a video
    assert config.replay is not None
    neutral = config.neutral_face()
    if config.video is None and is_session_recording(config.replay):
        own = _own_recording(config.replay, config, preprocess)
        source = TransformedSource(own, SeriesNames(config.physio_streams()).apply, _corrections(config).apply)
        whose = config.participant or _pseudonym(own.participant)
        inputs = Inputs(mode="replay", sources=(source,), warnings=own.warnings, pace=own.pace, participant=whose)
        return inputs, own.duration_s
    recording = _recording(config.replay, config, preprocess, neutral, progress)
    sources = (TransformedSource(recording, _corrections(config).apply, MarkerColumns().apply),)
    warnings = tuple(recording.warnings)
    inputs = Inputs(mode="replay", sources=sources, warnings=warnings, pace=recording.pace)
    return _with_rest(inputs, config, preprocess), recording.duration_s


def _pseudonym(text: str | None) -> str | None:
    """Return what a file says of its participant, if that can be a pseudonym."""
    return text if text is not None and re.fullmatch(PSEUDONYM, text) else None


def _own_recording(path: Path, config: SessionConfig, preprocess: PreprocessConfig) -> SessionReplaySource:
    from clmer_streaming.sources.session_replay import SessionReplaySource

    return SessionReplaySource(
        path, eeg=_eeg_choice(config), speed=config.speed, loop=config.loop, preprocess=preprocess
    )


def _recording(
    path: Path,
    config: SessionConfig,
    preprocess: PreprocessConfig,
    neutral: NeutralFace | None,
    progress: Callable[[float], None] | None,
) -> ReplaySource:
    from clmer_streaming.sources.replay import ReplaySource

    return ReplaySource(
        path,
        eeg=_eeg_choice(config),
        speed=config.speed,
        loop=config.loop,
        extractor=preprocess.extractor,
        signal=preprocess.signal,
        video=_face_track(config, neutral),
        video_offset_s=config.video_offset,
        physio=config.physio_streams(),
        progress=progress,
    )


def _corrections(config: SessionConfig) -> EegCorrections:
    return EegCorrections(config.eeg_unit, config.eeg_delay, config.eeg_rate)


def _eeg_choice(config: SessionConfig) -> EegChoice:
    from clmer_streaming.sources.replay_streams import EegChoice

    return EegChoice(config.eeg, config.eeg_map, config.eeg_map_force, config.eeg_rate)


def _face_track(config: SessionConfig, neutral: NeutralFace | None) -> FaceTrack | None:
    from clmer_streaming.sources.video import face_track

    if config.video is None:
        return None
    return face_track(config.video, neutral=neutral, extractor=config.extractor())


def live_inputs(config: SessionConfig, preprocess: PreprocessConfig, claim: Claim | None = None) -> Inputs:
    """Return the inputs of a live session; a stream or camera that is not there yet is waited for.

    Args:
        config: What the session is to do.
        preprocess: The signal settings of the model.
        claim: What it may receive from the network, beside other sessions; None: everything.

    Raises:
        StreamError: This machine cannot receive live streams.
        SettingsError: The name of a stream or the camera cannot be parsed, or the participant's neutral face or the
            face landmarker cannot be used.
        RecordingError: The camera is a video file that cannot be read.
    """
    from clmer_streaming.lsl.extra import LslExtraSource
    from clmer_streaming.lsl.inlet import WindowGrid
    from clmer_streaming.lsl.setup import load_pylsl
    from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource

    load_pylsl()
    neutral = config.neutral_face()
    physio = config.physio_streams()
    grid = WindowGrid(preprocess.window.hop_s, config.eeg_delay)
    headset = LslEegSource(
        config.eeg,
        preprocess.signal,
        config.eeg_map,
        force_map=config.eeg_map_force,
        sfreq=config.eeg_rate,
        grid=grid,
        claim=claim,
    )
    eeg = Inputs(
        mode="live",
        sources=(TransformedSource(headset, _corrections(config).apply),),
        expected=(_expected("eeg", config.eeg, headset.reason),),
        reasons={"eeg": lambda: headset.reason},
    )
    wanted: list[LslSource] = [headset]
    if config.face_stream:
        faces = LslFaceSource(config.face_stream, claim)
        wanted.append(faces)
        seen = _with_face_stream(eeg, config.face_stream, faces)
    else:
        seen = _with_camera(eeg, config, preprocess, neutral)
    series = (
        _expected("physio", stream, f"no stream {stream!r} found yet", source=physio_source(name))
        for name, stream in physio.items()
    )
    others = LslExtraSource(config.side_stream_choice, wanted, physio, claim)
    sources = tuple(TransformedSource(source, MarkerColumns().apply) for source in (*seen.sources, others))
    seen = replace(seen, sources=sources, expected=(*seen.expected, *series), silence=others.reason)
    inputs = _with_rest(seen, config, preprocess)
    lacking = [
        *(["neutral face"] if config.face_camera is not None and neutral is None else []),
        *(["EEG at rest"] if preprocess.eeg_calibration == "rest" and inputs.rest is None else []),
    ]
    return replace(inputs, warnings=_not_measured_yet(config, lacking), claim=claim)


def _with_face_stream(eeg: Inputs, name: str, faces: LslFaceSource) -> Inputs:
    return replace(
        eeg,
        sources=(*eeg.sources, faces),
        expected=(*eeg.expected, _expected("face", name, faces.reason)),
        reasons={**eeg.reasons, "face": lambda: faces.reason},
    )


def _with_camera(
    eeg: Inputs, config: SessionConfig, preprocess: PreprocessConfig, neutral: NeutralFace | None
) -> Inputs:
    if config.face_camera is None:
        return eeg
    from clmer_streaming.sources.camera import CameraSource

    camera = CameraSource(
        config.face_camera,
        neutral=neutral,
        delay_s=config.face_delay,
        extractor=config.extractor(),
        hog=_hog_series(config, preprocess),
    )
    return replace(
        eeg,
        sources=(*eeg.sources, camera),
        expected=(*eeg.expected, _expected("face", camera.info.name, camera.report.reason)),
        reasons={**eeg.reasons, "face": lambda: camera.report.reason},
        dropped={"face": lambda: camera.report.n_dropped},
        camera=camera,
        keep_neutral=_keep_neutral(config),
    )


def _hog_series(config: SessionConfig, preprocess: PreprocessConfig) -> str:
    """Return the series of the model that the camera's own HOG gives; "" where there is none, or a stream gives it."""
    asked = {name.lower() for name in config.physio_streams()}
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


def _not_measured_yet(config: SessionConfig, lacking: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence where a participant comes for the first time, or is called by a mistyped pseudonym.

    It does not contain the pseudonym: the service prints it, and systemd keeps what is printed.
    """
    if config.participant is None or not lacking:
        return ()
    measured = " and no ".join(lacking)
    mend = "measure it while the session runs (calibration.start), or by clmer calibrate"
    return (f"No {measured} of this session's participant in {config.participants} yet: {mend}.",)


def _keep_neutral(config: SessionConfig) -> Callable[[NeutralFace], Path] | None:
    participant = config.participant
    return None if participant is None else lambda neutral: save_neutral(config.participants, participant, neutral)


def _expected(kind: Literal["eeg", "face", "physio"], name: str, reason: str, source: str = "") -> StreamStatus:
    return StreamStatus(
        source=source or kind, kind=kind, name=name, state="connecting", since=float("nan"), reason=reason
    )
