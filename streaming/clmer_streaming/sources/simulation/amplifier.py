"""The headset: EmotivPRO's 19-channel stream, with its counter, its offset, its steps, its clock and its losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.sources.simulation.config import Draw, SimulationConfig, session_generator
from clmer_streaming.types import FloatArray, StreamInfo

EMOTIV_CH_NAMES = ("Timestamp", "Counter", "Interpolate", *EPOC_CH_NAMES, "HardwareMarker", "Markers")
"""The channels of EmotivPRO's EEG outlet for an EPOC."""

STEP_UV = 0.1282  # uV, least significant bit of a 16-bit EPOC
UNIX_EPOCH_S = 1.6e9  # s at which the Timestamp channel begins: fixed, so that files do not depend on the day
FIRST_SENSOR = EMOTIV_CH_NAMES.index(EPOC_CH_NAMES[0])
LOST_RUN = (3, 11)  # samples, shortest and longest loss: below 0.1 s, so that it can be bridged
FILLED_RUN = (1, 3)  # samples that the headset fills by repeating the last one
LONGEST_DELAY_S = 0.004  # s, of a stamp; less than a sample, so that stamps never run backwards


def eeg_stream_info(config: SimulationConfig) -> StreamInfo:
    """Return how the EEG stream announces itself."""
    return StreamInfo(
        source="eeg",
        kind="eeg",
        name="EmotivDataStream-EEG",
        ch_names=EMOTIV_CH_NAMES,
        sfreq=config.sfreq,
        unit="microvolts",
        source_id=f"simulated-eeg-{config.participant}-{config.seed}",
        hostname="simulator",
        manufacturer="Emotiv",
        type="EEG",
        channel_format="float32",
    )


def true_rate(config: SimulationConfig) -> float:
    """Return the rate in Hz at which the headset really samples: 20-50 ppm off its nominal rate."""
    rng = session_generator(config, Draw.CLOCK)
    drawn = rng.uniform(20.0, 50.0) * rng.choice([-1.0, 1.0])
    ppm = float(drawn) if config.drift_ppm is None else config.drift_ppm
    return config.sfreq * (1 + ppm * 1e-6)


def digitise(
    config: SimulationConfig, potentials: FloatArray, offsets: FloatArray, t0: float
) -> tuple[FloatArray, npt.NDArray[np.float32]]:
    """Return stamps (n,) and the stream's values (19, n) float32, lost samples left out.

    Args:
        config: Of the session.
        potentials: (14, N) uV without offset.
        offsets: (14,) uV.
        t0: LSL seconds of the first sample.
    """
    rng = session_generator(config, Draw.AMPLIFIER)
    n_times = potentials.shape[1]
    delay = np.minimum(rng.exponential(config.jitter_s, n_times), LONGEST_DELAY_S)
    t = t0 + np.arange(n_times) / true_rate(config) + delay
    x = np.zeros((len(EMOTIV_CH_NAMES), n_times))
    sensors = slice(FIRST_SENSOR, FIRST_SENSOR + len(EPOC_CH_NAMES))
    x[0] = UNIX_EPOCH_S + t
    x[1] = np.arange(n_times) % round(config.sfreq)
    x[sensors] = np.round((potentials + offsets[:, None]) / STEP_UV) * STEP_UV
    for first, last in _runs(rng, config.effects.fills_per_min, FILLED_RUN, config, n_times):
        x[2, first:last] = 1
        x[sensors, first:last] = x[sensors, first - 1 : first]
    arrived = np.ones(n_times, dtype=bool)
    for first, last in _runs(rng, config.effects.losses_per_min, LOST_RUN, config, n_times):
        arrived[first:last] = False
    return t[arrived], x[:, arrived].astype(np.float32)


def _runs(
    rng: np.random.Generator, per_min: float, length: tuple[int, int], config: SimulationConfig, n_times: int
) -> list[tuple[int, int]]:
    """Return random runs of samples (first, end), none in the first second."""
    n_runs = rng.poisson(per_min * config.seconds / 60)
    earliest = round(config.sfreq)
    firsts = rng.integers(earliest, max(n_times - length[1], earliest + 1), n_runs)
    return [
        (int(first), int(first + n))
        for first, n in zip(firsts, rng.integers(*length, n_runs, endpoint=True), strict=True)
    ]
