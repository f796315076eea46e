"""Simulated sessions with known emotion: EEG of an Emotiv headset, a face and trial markers.

A session is decided by its ``SimulationConfig`` alone: the same settings give the same bits. ``participant``
names a person, whose traits stay the same in every session; ``seed`` names the session. What the simulator
puts in, and how strongly, is said by ``simulation.config.PRESETS``; results on simulated sessions say nothing
about real people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from clmer_streaming.sources.simulation.action_units import simulate_action_units
from clmer_streaming.sources.simulation.amplifier import digitise, eeg_stream_info, true_rate
from clmer_streaming.sources.simulation.artefacts import simulate_artefacts
from clmer_streaming.sources.simulation.blinks import simulate_blinks
from clmer_streaming.sources.simulation.brain import simulate_brain
from clmer_streaming.sources.simulation.config import PRESETS, SIMULATOR_ID, Draw, SimulationConfig, session_generator
from clmer_streaming.sources.simulation.emotion import simulate_emotion
from clmer_streaming.sources.simulation.face import face_stream_info, frame_times, simulate_face
from clmer_streaming.sources.simulation.participant import draw_participant
from clmer_streaming.sources.simulation.recording import write_session
from clmer_streaming.sources.simulation.session import SessionTruth, SimulatedSession
from clmer_streaming.sources.simulation.trials import plan_trials, session_seconds, trial_markers
from clmer_streaming.types import FloatArray, StreamInfo

__all__ = [
    "PRESETS",
    "SIMULATOR_ID",
    "SessionTruth",
    "SimulatedSession",
    "SimulationConfig",
    "simulate",
    "simulate_cohort",
    "write_session",
]


def simulate(config: SimulationConfig) -> SimulatedSession:
    """Return one session of one person."""
    person = draw_participant(config)
    trials = plan_trials(config)
    t0 = round(float(session_generator(config, Draw.PLAN).uniform(1000.0, 9000.0)), 3)
    emotion = simulate_emotion(config, trials)
    blinks = simulate_blinks(config, person)
    intensities = simulate_action_units(config, person, emotion, blinks, frame_times(config))
    eeg_times = np.arange(int(config.seconds * config.sfreq)) / config.sfreq
    potentials = simulate_brain(config, person, emotion, eeg_times.size)
    at_eeg = _at(eeg_times, frame_times(config), intensities)
    potentials += simulate_artefacts(config, person, blinks, at_eeg, eeg_times)
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
        n_people: How many people.
        config: What the sessions have in common; ``participant`` counts on from the one named here, ``seed``
            counts on from session to session, ``seconds`` follows from ``n_trials``.
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
