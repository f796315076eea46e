"""A simulated person: what stays the same from session to session and makes people differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.sources.simulation.config import Draw, Preset, SimulationConfig, fixed_generator
from clmer_streaming.sources.simulation.extractor import draw_cross_talk, draw_neutral_offset
from clmer_streaming.sources.simulation.head import SITES
from clmer_streaming.sources.simulation.repertoire import draw_habits
from clmer_streaming.sources.simulation.template import individual_neutral
from clmer_streaming.types import FloatArray

POSTERIOR = ("O1", "O2", "P7", "P8", "P3")
"""Where the alpha rhythm is strong."""

POKER_EXPRESSIVITY, POKER_THRESHOLD = 0.3, 1.5  # factor, and added SD of drive: such a face rarely moves


@dataclass(frozen=True, eq=False)
class Participant:
    """The traits of one person."""

    eeg_d: float  # effect of emotion on log band power, within-subject SD
    au_d: float  # effect of emotion on expressive drives, within-subject SD
    asymmetry_sign: float  # 1, or -1 where frontal alpha answers the other way round
    log_gain: FloatArray  # (15,) ln power of each source (SD .5)
    slope: float  # exponent of the 1/f background, about 1 (SD .3)
    alpha_hz: float  # Hz, peak of the alpha rhythm (10, SD .8)
    alpha_width_hz: float  # Hz, SD of that peak
    alpha_height: FloatArray  # (15,) of the peak over the background, power ratio
    spread_deg: float  # degrees over which a source reaches electrodes
    dc_uv: FloatArray  # (14,) the headset's offset, about 4200
    line_uv: FloatArray  # (14,) amplitude of the 50 Hz line
    poker_faced: bool
    expressivity: float  # factor on all action units but blinks, about 1
    threshold: float  # drive above which the face moves, SD; high for a poker face
    blinks_per_min: float  # 12-20
    blink_uv: float  # 80-150, peak at AF3 and AF4
    neutral: FloatArray  # (68, 3) cm
    seat: FloatArray  # (6,) x, y, z in cm, pitch, yaw, roll in rad: where the camera sees this person
    habits: FloatArray  # (len(REPERTOIRE),) how often each expression is taken, 0-1
    talkativeness: float  # share of the time in which this person speaks
    cross_talk: FloatArray  # (17, 17) points by which a point of one unit moves the reading of another
    neutral_offset: FloatArray  # (17,) points by which the extractor misreads the neutral face


def draw_participant(config: SimulationConfig) -> Participant:
    """Return the person whom ``config.participant`` names; two presets give one person other effects only."""
    rng = fixed_generator(config.participant, Draw.PERSON)
    quantiles = rng.random(4)  # drawn first, so that presets change nothing else
    eeg_d, au_d, sign, poker_faced = _effects(config.effects, quantiles)
    posterior = np.asarray([site in POSTERIOR for site in SITES])
    height = np.where(posterior, 4.0, 1.2) * np.exp(rng.normal(0.0, 0.4)) * np.exp(rng.normal(0.0, 0.2, len(SITES)))
    n_ch = len(EPOC_CH_NAMES)
    return Participant(
        eeg_d=eeg_d,
        au_d=au_d,
        asymmetry_sign=sign,
        log_gain=rng.normal(0.0, 0.35) + rng.normal(0.0, 0.35, len(SITES)),
        slope=float(np.clip(rng.normal(1.0, 0.3), 0.4, 1.8)),
        alpha_hz=float(np.clip(rng.normal(10.0, 0.8), 8.3, 12.2)),
        alpha_width_hz=float(rng.uniform(0.7, 1.2)),
        alpha_height=height,
        spread_deg=float(rng.uniform(18.0, 26.0)),
        dc_uv=rng.normal(4200.0, 40.0, n_ch),
        line_uv=rng.lognormal(np.log(0.8), 0.5, n_ch),
        poker_faced=poker_faced,
        expressivity=float(np.exp(rng.normal(0.0, 0.25))) * (POKER_EXPRESSIVITY if poker_faced else 1.0),
        threshold=float(rng.uniform(0.0, 0.4)) + (POKER_THRESHOLD if poker_faced else 0.0),
        blinks_per_min=float(rng.uniform(12.0, 20.0)),
        blink_uv=float(rng.uniform(80.0, 150.0)),
        neutral=individual_neutral(rng),
        seat=rng.normal([0.0, 0.0, 60.0, -0.05, 0.0, 0.0], [3.0, 2.0, 6.0, 0.06, 0.05, 0.02]),
        habits=draw_habits(rng),
        talkativeness=float(rng.uniform(0.0, 1.0)) * config.effects.most_talk,
        cross_talk=config.effects.misreading * draw_cross_talk(rng),
        neutral_offset=config.effects.misreading * draw_neutral_offset(rng),
    )


def _effects(preset: Preset, quantiles: FloatArray) -> tuple[float, float, float, bool]:
    """Return EEG d, face d, sign of the asymmetry and whether the face is a poker face."""
    eeg_d, au_d = (
        low + (high - low) * float(q) for (low, high), q in zip((preset.eeg_d, preset.au_d), quantiles[:2], strict=True)
    )
    sign = -1.0 if quantiles[2] < preset.asymmetry_flip else 1.0
    return eeg_d, au_d, sign, bool(quantiles[3] < preset.poker_share)
