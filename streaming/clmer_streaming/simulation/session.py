"""Simulated sessions: streams as arrays, ground truth, items as of a source, and XDF recordings.

``simulate`` makes one session, ``simulate_cohort`` sessions of many people; ``write_session`` and ``write_dataset``
write them to files.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from clmer_streaming.face.layout import row_to_face
from clmer_streaming.simulation.config import SIMULATOR_ID, Draw, SimulationConfig, session_generator
from clmer_streaming.simulation.eeg import (
    Blinks,
    digitise,
    eeg_stream_info,
    simulate_artifacts,
    simulate_blinks,
    simulate_brain,
    true_rate,
)
from clmer_streaming.simulation.face import (
    SimulatedFace,
    face_stream_info,
    frame_times,
    simulate_action_units,
    simulate_face,
)
from clmer_streaming.simulation.participant import Participant, draw_participant
from clmer_streaming.simulation.trials import (
    Emotion,
    Trial,
    plan_trials,
    session_seconds,
    simulate_emotion,
    trial_markers,
)
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Marker, StreamInfo
from clmer_streaming.xdf.format import ChannelFormat
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

PULL_S = 0.5  # s between two pulls of the simulated recorder

OFFSET_EVERY, BOUNDARY_EVERY = 10, 20  # pulls: a clock offset every 5 s, a boundary every 10 s

MANIFEST_HEAD = ("file", "participant", "session")

TRIALS_HEAD = ("file", "trial", "start", "stop", "label", "stimulus")


@dataclass(frozen=True, eq=False)
class SessionTruth:
    """The ground truth of a session, which no recording has. Times are seconds since the session began."""

    trials: tuple[Trial, ...]
    emotion: Emotion  # latent valence and arousal of each second
    blinks: Blinks
    intensities: FloatArray  # (17, n_frames) action units without the extractor's noise
    true_rate_hz: float  # of the EEG


@dataclass(frozen=True, eq=False)
class SimulatedSession:
    """One session of one person. All stamps are LSL seconds; nothing depends on the wall clock.

    Example::

        session = simulate(SimulationConfig(seconds=60.0))
        windows = [window for item in session.items() for window in preprocessor.push(item)]
    """

    config: SimulationConfig
    person: Participant
    t0: float  # LSL seconds at which the session began
    eeg_info: StreamInfo
    eeg_t: FloatArray  # (n,)
    eeg_x: npt.NDArray[np.float32]  # (C + 5, n) in the order of eeg_info
    face_info: StreamInfo
    face: SimulatedFace
    markers_info: StreamInfo
    markers: tuple[Marker, ...]
    truth: SessionTruth

    @property
    def infos(self) -> tuple[StreamInfo, ...]:
        """The announcements of the three streams."""
        return self.eeg_info, self.face_info, self.markers_info

    def face_samples(self) -> Iterator[FaceSample]:
        """Yield the face of every frame in order."""
        for t, row in zip(self.face.t.tolist(), self.face.rows, strict=True):
            yield row_to_face(t, row)

    def chunks(self, chunk: int = 8) -> Iterator[Chunk]:
        """Yield the EEG in chunks of ``chunk`` samples; the last one may be shorter."""
        for first in range(0, self.eeg_t.size, chunk):
            piece = slice(first, first + chunk)
            yield Chunk("eeg", self.eeg_t[piece].copy(), self.eeg_x[:, piece].astype(np.float64))

    def items(self, chunk: int = 8) -> Iterator[Item]:
        """Yield the announcements, then all items by stamp; that of a chunk is its last one.

        Args:
            chunk: Samples per EEG chunk.
        """
        yield from self.infos
        ends = [min(first + chunk, self.eeg_t.size) - 1 for first in range(0, self.eeg_t.size, chunk)]
        times = np.concatenate([self.eeg_t[ends], self.face.t, [marker.t for marker in self.markers]])
        stream = np.repeat([0, 1, 2], [len(ends), self.face.t.size, len(self.markers)])
        streams: tuple[Iterator[Item], ...] = (self.chunks(chunk), self.face_samples(), iter(self.markers))
        for i in stream[np.argsort(times, kind="stable")].tolist():
            yield next(streams[i])


def simulate(config: SimulationConfig) -> SimulatedSession:
    """Return one session of one person; the same settings give the same bits."""
    person = draw_participant(config)
    trials = plan_trials(config)
    t0 = round(float(session_generator(config, Draw.PLAN).uniform(1000.0, 9000.0)), 3)
    emotion = simulate_emotion(config, trials)
    blinks = simulate_blinks(config, person)
    intensities = simulate_action_units(config, person, emotion, blinks, frame_times(config))
    eeg_times = np.arange(int(config.seconds * config.sfreq)) / config.sfreq
    potentials = simulate_brain(config, person, emotion, eeg_times.size)
    at_eeg = _at(eeg_times, frame_times(config), intensities)
    potentials += simulate_artifacts(config, person, blinks, at_eeg, eeg_times)
    eeg_t, eeg_x = digitise(config, potentials, person.dc_uv, t0)
    return SimulatedSession(
        config=config,
        person=person,
        t0=t0,
        eeg_info=eeg_stream_info(config),
        eeg_t=eeg_t,
        eeg_x=eeg_x,
        face_info=face_stream_info(config),
        face=simulate_face(config, person, intensities, t0),
        markers_info=_marker_stream_info(config),
        markers=trial_markers(trials, t0),
        truth=SessionTruth(trials, emotion, blinks, intensities, true_rate(config)),
    )


def simulate_cohort(
    n_people: int, config: SimulationConfig, n_trials: int = 20, sessions_per_person: int = 1
) -> Iterator[SimulatedSession]:
    """Yield sessions of many people, one at a time: participants 0 to ``n_people`` - 1.

    Args:
        n_people: Number of people.
        config: Common settings of the sessions: ``participant`` and ``seed`` are those of the first person and session,
            and count up; ``seconds`` is replaced by the length of ``n_trials``.
        n_trials: Trials per session.
        sessions_per_person: Sessions of each person, with new noise and a new order of trials.
    """
    seconds = session_seconds(n_trials, config.trial_s, config.rest_s)
    for participant in range(config.participant, config.participant + n_people):
        for number in range(sessions_per_person):
            yield simulate(
                dataclasses.replace(config, participant=participant, seed=config.seed + number, seconds=seconds)
            )


def _marker_stream_info(config: SimulationConfig) -> StreamInfo:
    return StreamInfo(
        source="markers",
        kind="markers",
        name="CLMER-Markers",
        ch_names=("label",),
        sfreq=0.0,
        source_id=f"simulated-markers-{config.participant}-{config.seed}",
        hostname="simulator",
        manufacturer="CLMER",
        type="Markers",
        channel_format="string",
    )


def _at(times: FloatArray, known_times: FloatArray, known: FloatArray) -> FloatArray:
    return np.stack([np.interp(times, known_times, row) for row in known])


def write_session(session: SimulatedSession, path: str | Path) -> None:
    """Write a session to an XDF file; the same session gives the same bytes.

    Every clock offset is 0, as on one computer, so that a replay has the stamps of ``session.items()`` bit for bit.

    Args:
        session: The session.
        path: File to create; an existing one is replaced.

    Raises:
        RecordingError: The file cannot be created.
    """
    with XdfWriter(path) as xdf:
        ids = [xdf.add_stream(spec) for spec in stream_specs(session)]
        stamps = (session.eeg_t, session.face.t, np.asarray([marker.t for marker in session.markers]))
        labels = np.asarray([marker.label for marker in session.markers], dtype=object)
        values = (session.eeg_x, session.face.rows.T, labels)
        for number, (now, pieces) in enumerate(_pulls(session, stamps)):
            for stream_id, t, x, piece in zip(ids, stamps, values, pieces, strict=True):
                xdf.write_samples(stream_id, t[piece], x[..., piece])
                if number % OFFSET_EVERY == 0:
                    xdf.write_offset(stream_id, now, 0.0)
            if number % BOUNDARY_EVERY == BOUNDARY_EVERY - 1:
                xdf.boundary()


def stream_specs(session: SimulatedSession) -> tuple[XdfStreamSpec, ...]:
    """Return the headers of the EEG, face and marker streams."""
    eeg, face, markers = (_spec(info, session) for info in session.infos)
    units = tuple(session.eeg_info.unit if name in session.person.cap.ch_names else "" for name in eeg.ch_names)
    return (
        dataclasses.replace(eeg, units=units),
        dataclasses.replace(face, desc={**face.desc, "extractor": session.face_info.extractor}),
        markers,
    )


def _spec(info: StreamInfo, session: SimulatedSession) -> XdfStreamSpec:
    """Return the common part of the headers of all streams."""
    return XdfStreamSpec(
        name=info.name,
        type=info.type,
        ch_names=info.ch_names,
        sfreq=info.sfreq,
        channel_format=cast(ChannelFormat, info.channel_format),
        source_id=info.source_id,
        hostname=info.hostname,
        manufacturer=info.manufacturer,
        desc={"simulator": SIMULATOR_ID, "preset": session.config.preset},
        created_at=session.t0,
    )


def _pulls(session: SimulatedSession, stamps: tuple[FloatArray, ...]) -> Iterator[tuple[float, tuple[slice, ...]]]:
    """Yield the time of each pull, and the samples of each stream since the pull before."""
    last = max(float(t[-1]) for t in stamps if t.size)
    n_pulls = int((last - session.t0) / PULL_S) + 1
    times = session.t0 + PULL_S * np.arange(1, n_pulls + 1)
    cuts = [np.searchsorted(t, times).tolist() for t in stamps]
    edges = [list(pairwise([0, *cut])) for cut in cuts]
    for number, now in enumerate(times.tolist()):
        yield now, tuple(slice(*edge[number]) for edge in edges)


def write_dataset(sessions: Iterable[SimulatedSession], folder: Path) -> Iterator[Path]:
    """Write each session as a recording and yield its path; write the tables of the data set at the end.

    Args:
        sessions: One session of each person.
        folder: Folder of the data set; files of the same names are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest, trials = [], []
    for session in sessions:
        person = f"S{session.config.participant:03d}"
        path = folder / f"{person}.xdf"
        write_session(session, path)
        manifest.append((path.name, person, "1"))
        trials.extend(_trials(session, path.name))
        yield path
    _write_table(folder / "manifest.csv", MANIFEST_HEAD, manifest)
    _write_table(folder / "trials.csv", TRIALS_HEAD, trials)


def _trials(session: SimulatedSession, file: str) -> list[tuple[str, ...]]:
    labels = [marker.label for marker in session.markers]
    pairs = zip(labels[::2], labels[1::2], strict=True)
    return [
        (file, str(trial.id), start, stop, trial.label, trial.stimulus_id)
        for trial, (start, stop) in zip(session.truth.trials, pairs, strict=True)
    ]


def _write_table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
