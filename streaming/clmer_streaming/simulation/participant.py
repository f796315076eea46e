"""A simulated person: the traits that stay the same from session to session and differ between people.

``draw_participant`` draws all traits. They are the head (electrode sites and conduction), the neutral face, the
repertoire of expressions and its habits, and the errors of the face extractor with this person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clmer_streaming.config import CAP36_CH_NAMES, EPOC_CH_NAMES
from clmer_streaming.face.layout import AU_NAMES, N_LANDMARKS
from clmer_streaming.simulation.config import Draw, Preset, SimulationConfig, fixed_generator
from clmer_streaming.types import FloatArray


@dataclass(frozen=True)
class Cap:
    """Where the electrodes of a headset are. Sources lie under each of its sites."""

    ch_names: tuple[str, ...]
    reference: str  # the site that potentials are measured against
    device: tuple[str, str]  # name of the EEG stream, and manufacturer

    @property
    def sites(self) -> tuple[str, ...]:
        """All electrodes, the reference last."""
        return (*self.ch_names, self.reference)


CAPS: Mapping[str, Cap] = {
    "epoc": Cap(EPOC_CH_NAMES, "P3", ("EmotivDataStream-EEG", "Emotiv")),
    "cap36": Cap(CAP36_CH_NAMES, "CPz", ("SimulatedCap36-EEG", "CLMER")),
}
"""The caps that people can wear: an Emotiv EPOC, whose reference (CMS) is P3, and one with many electrodes."""


@dataclass(frozen=True, eq=False)
class Participant:
    """The traits of one person, with n sites of sources and one electrode less."""

    cap: Cap
    eeg_d: float  # effect of emotion on log band power, within-subject SD
    au_d: float  # effect of emotion on expressive drives, within-subject SD
    asymmetry_sign: float  # 1, or -1 for the opposite frontal alpha asymmetry
    log_gain: FloatArray  # (n,) ln power of each source (SD .5)
    slope: float  # exponent of the 1/f background, about 1 (SD .3)
    alpha_hz: float  # Hz, peak of the alpha rhythm (10, SD .8)
    alpha_width_hz: float  # Hz, SD of that peak
    alpha_height: FloatArray  # (n,) of the peak over the background, power ratio
    spread_deg: float  # degrees over which a source spreads to electrodes
    dc_uv: FloatArray  # (n - 1,) the headset's offset, about 4200
    line_uv: FloatArray  # (n - 1,) amplitude of the 50 Hz line
    poker_faced: bool
    expressivity: float  # factor on all action units but blinks, about 1
    threshold: float  # drive above which the face moves, SD; high for a poker face
    blinks_per_min: float  # 12-20
    blink_uv: float  # 80-150, peak at AF3 and AF4
    neutral: FloatArray  # (68, 3) cm
    seat: FloatArray  # (6,) x, y, z in cm, pitch, yaw, roll in rad: mean pose in the camera's frame
    habits: FloatArray  # (len(REPERTOIRE),) how often each expression is shown, 0-1
    talkativeness: float  # share of the time in which this person speaks
    cross_talk: FloatArray  # (17, 17) points by which a point of one unit changes the reading of another
    neutral_offset: FloatArray  # (17,) points, errors of the extractor with the neutral face


POSTERIOR = ("O1", "Oz", "O2", "PO3", "PO4", "P7", "P3", "Pz", "P4", "P8")
"""Sites with a strong alpha rhythm."""

POKER_EXPRESSIVITY, POKER_THRESHOLD = 0.3, 1.5  # factor, and added threshold in SD of drive, of a poker face


def draw_participant(config: SimulationConfig) -> Participant:
    """Return the person with the number ``config.participant``.

    Presets change nothing but a person's effects, and a cap nothing but what it measures: sites that two caps share
    have the same traits in both, except for the offset and line of their electrodes.
    """
    rng = fixed_generator(config.participant, Draw.PERSON)
    cap = CAPS[config.cap]
    epoc = CAPS["epoc"].sites
    further = fixed_generator(config.participant, Draw.SITES)
    new = tuple(site for site in cap.sites if site not in epoc)

    def by_site(of_epoc: FloatArray, of_new: FloatArray) -> FloatArray:
        known = dict(zip((*epoc, *new), (*of_epoc, *of_new), strict=True))
        return np.asarray([known[site] for site in cap.sites])

    def by_electrode(draw: Callable[[np.random.Generator, int], FloatArray]) -> FloatArray:
        of_epoc = draw(rng, len(CAPS["epoc"].ch_names))
        return of_epoc if config.cap == "epoc" else draw(further, len(cap.ch_names))

    quantiles = rng.random(4)  # drawn first, so that presets change nothing else
    eeg_d, au_d, sign, poker_faced = _effects(config.effects, quantiles)
    posterior = np.asarray([site in POSTERIOR for site in cap.sites])
    common_height = rng.normal(0.0, 0.4)
    own_height = by_site(rng.normal(0.0, 0.2, len(epoc)), further.normal(0.0, 0.2, len(new)))
    common_gain = rng.normal(0.0, 0.35)
    own_gain = by_site(rng.normal(0.0, 0.35, len(epoc)), further.normal(0.0, 0.35, len(new)))
    return Participant(
        cap=cap,
        eeg_d=eeg_d,
        au_d=au_d,
        asymmetry_sign=sign,
        log_gain=common_gain + own_gain,
        slope=float(np.clip(rng.normal(1.0, 0.3), 0.4, 1.8)),
        alpha_hz=float(np.clip(rng.normal(10.0, 0.8), 8.3, 12.2)),
        alpha_width_hz=float(rng.uniform(0.7, 1.2)),
        alpha_height=np.where(posterior, 4.0, 1.2) * np.exp(common_height) * np.exp(own_height),
        spread_deg=float(rng.uniform(18.0, 26.0)),
        dc_uv=by_electrode(lambda draw, n: draw.normal(4200.0, 40.0, n)),
        line_uv=by_electrode(lambda draw, n: draw.lognormal(np.log(0.8), 0.5, n)),
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
    """Return the d of EEG and face, the sign of the asymmetry, and whether the face is a poker face."""
    eeg_d, au_d = (
        low + (high - low) * float(q) for (low, high), q in zip((preset.eeg_d, preset.au_d), quantiles[:2], strict=True)
    )
    sign = -1.0 if quantiles[2] < preset.asymmetry_flip else 1.0
    return eeg_d, au_d, sign, bool(quantiles[3] < preset.poker_share)


_ANGLES_DEG: dict[str, tuple[float, float]] = {
    "AF3": (57, 115), "F7": (72, 144), "F3": (46, 130), "FC5": (60, 160), "T7": (72, 180),
    "P7": (72, 216), "O1": (72, 252), "O2": (72, 288), "P8": (72, 324), "T8": (72, 0),
    "FC6": (60, 20), "F4": (46, 50), "F8": (72, 36), "AF4": (57, 65), "P3": (46, 230),
    "Fp1": (72, 108), "Fp2": (72, 72), "AF7": (72, 126), "AF8": (72, 54), "Fz": (36, 90), "FC1": (23, 135),
    "FC2": (23, 45), "C3": (36, 180), "Cz": (0, 0), "C4": (36, 0), "TP9": (90, 198), "TP10": (90, 342),
    "CP5": (60, 200), "CP1": (23, 225), "CPz": (18, 270), "CP2": (23, 315), "CP6": (60, 340), "Pz": (36, 270),
    "P4": (46, 310), "PO3": (57, 245), "PO4": (57, 295), "Oz": (72, 270),
}  # fmt: skip
"""Polar angle from the vertex and azimuth (0 right, 90 front) on a sphere, by the 10-10 system's 18 degree steps."""

BLINK_REACH = {
    "AF3": 1.0, "AF4": 1.0, "F7": 0.55, "F8": 0.55, "F3": 0.45, "F4": 0.45, "FC5": 0.2, "FC6": 0.2,
    "T7": 0.06, "T8": 0.06, "Fp1": 1.2, "Fp2": 1.2, "AF7": 0.9, "AF8": 0.9, "Fz": 0.45, "FC1": 0.15, "FC2": 0.15,
    "Cz": 0.05,
}  # fmt: skip
"""Share of a blink's voltage at each electrode; the eyes are dipoles, picked up mainly in front."""

MUSCLE_REACH: dict[str, dict[str, float]] = {
    "AU01": {"AF3": 0.8, "AF4": 0.8, "F3": 0.4, "F4": 0.4, "Fp1": 0.9, "Fp2": 0.9, "Fz": 0.4},
    "AU02": {"AF3": 0.5, "AF4": 0.5, "F7": 0.6, "F8": 0.6, "Fp1": 0.5, "Fp2": 0.5, "AF7": 0.7, "AF8": 0.7},
    "AU04": {
        "AF3": 1.0, "AF4": 1.0, "F7": 0.4, "F8": 0.4, "F3": 0.3, "F4": 0.3, "Fp1": 1.0, "Fp2": 1.0, "AF7": 0.6,
        "AF8": 0.6, "Fz": 0.3,
    },
    "AU06": {"F7": 0.5, "F8": 0.5, "AF3": 0.3, "AF4": 0.3, "AF7": 0.5, "AF8": 0.5, "Fp1": 0.3, "Fp2": 0.3},
    "AU12": {
        "T7": 1.0, "T8": 1.0, "F7": 0.8, "F8": 0.8, "FC5": 0.6, "FC6": 0.6, "TP9": 0.7, "TP10": 0.7, "AF7": 0.4,
        "AF8": 0.4, "CP5": 0.2, "CP6": 0.2,
    },
    "AU17": {"T7": 0.3, "T8": 0.3, "TP9": 0.2, "TP10": 0.2},
    "AU20": {"T7": 0.5, "T8": 0.5, "FC5": 0.3, "FC6": 0.3, "TP9": 0.4, "TP10": 0.4},
    "AU23": {"T7": 0.5, "T8": 0.5, "F7": 0.3, "F8": 0.3, "TP9": 0.3, "TP10": 0.3},
}  # fmt: skip
"""Weight of each action unit's muscle at the electrodes: brow muscles in front, cheek and jaw at the temples."""


def directions(sites: tuple[str, ...]) -> FloatArray:
    """Return unit vectors (n, 3) of the sites: x right, y front, z up."""
    polar, azimuth = np.deg2rad(np.asarray([_ANGLES_DEG[site] for site in sites])).T
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)


def conduction(sites: tuple[str, ...], spread_deg: float) -> FloatArray:
    """Return the mixing (n, n) of the sources at these sites into potentials there, with rows of unit power.

    It is a Gaussian in angle.
    """
    towards = directions(sites)
    angle = np.rad2deg(np.arccos(np.clip(towards @ towards.T, -1.0, 1.0)))
    mixing = np.exp(-0.5 * (angle / spread_deg) ** 2)
    unit: FloatArray = mixing / np.linalg.norm(mixing, axis=1, keepdims=True)
    return unit


def reach(table: dict[str, float], ch_names: tuple[str, ...]) -> FloatArray:
    """Return weights by electrode as a vector in the order of ``ch_names``; 0 for electrodes that are not in it."""
    return np.asarray([table.get(name, 0.0) for name in ch_names])


DRIVES = ("pleasant", "unpleasant", "alert")
"""The drives of expressions: high valence, low valence, high arousal."""

CONCENTRATION = 4.0  # of the Dirichlet distribution of habits; lower values make people differ more


@dataclass(frozen=True)
class Expression:
    """Action units that move together, and the drive that moves them."""

    name: str
    drive: str  # one of DRIVES
    share: float  # mean over people of how often the drive shows this expression
    gains: Mapping[str, float]  # action unit -> intensity per unit of drive


REPERTOIRE = (
    Expression("smile", "pleasant", 0.6, {"AU06": 0.75, "AU12": 1.0}),
    Expression("laughter", "pleasant", 0.4, {"AU06": 0.9, "AU07": 0.5, "AU12": 1.1, "AU25": 0.7, "AU26": 0.4}),
    Expression("sadness", "unpleasant", 0.45, {"AU01": 0.6, "AU04": 0.8, "AU15": 0.9, "AU17": 0.6}),
    Expression(
        "weeping",
        "unpleasant",
        0.25,
        {
            "AU04": 0.8, "AU06": 0.6, "AU07": 0.7, "AU09": 1.1, "AU10": 0.9, "AU12": 0.3, "AU15": 0.4,
            "AU17": 1.1, "AU20": 0.5, "AU45": 1.4,
        },
    ),
    Expression("disgust", "unpleasant", 0.15, {"AU04": 0.5, "AU09": 1.0, "AU10": 0.9, "AU15": 0.4, "AU17": 0.6}),
    Expression("anger", "unpleasant", 0.15, {"AU04": 1.0, "AU07": 0.7, "AU17": 0.3, "AU23": 0.8}),
    Expression("surprise", "alert", 1.0, {"AU01": 0.6, "AU02": 0.6, "AU05": 0.8, "AU25": 0.9, "AU26": 0.45}),
)  # fmt: skip
"""All expressions of emotion."""

IDLE_GAINS: Mapping[str, float] = {
    "AU01": 0.35, "AU02": 0.35, "AU07": 0.35, "AU09": 0.15, "AU10": 0.25,
    "AU14": 0.3, "AU17": 0.35, "AU20": 0.2, "AU23": 0.25,
}  # fmt: skip
"""Action units that also move spontaneously, with their gain."""

SPEECH_OPEN: Mapping[str, float] = {"AU25": 2.2, "AU26": 1.0, "AU10": 0.4}

SPEECH_CLOSED: Mapping[str, float] = {"AU17": 0.6}
"""Points of intensity while speech opens and closes the mouth, independent of emotion."""


def draw_habits(rng: np.random.Generator) -> FloatArray:
    """Return how often one person's drives show each expression, (len(REPERTOIRE),), summing to 1 for each drive."""
    habits = np.zeros(len(REPERTOIRE))
    for drive in DRIVES:
        members = [k for k, expression in enumerate(REPERTOIRE) if expression.drive == drive]
        habits[members] = rng.dirichlet(CONCENTRATION * np.asarray([REPERTOIRE[k].share for k in members]))
    return habits


def draw_expressions(rng: np.random.Generator, habits: FloatArray, drive: str, n: int) -> FloatArray:
    """Return the gains (17, n) of ``n`` expressions, drawn by a person's habits for one drive."""
    members = [k for k, expression in enumerate(REPERTOIRE) if expression.drive == drive]
    table = np.stack([gain_row(REPERTOIRE[k].gains) for k in members], axis=1)
    return table[:, rng.choice(len(members), size=n, p=habits[members])]


def gain_row(gains: Mapping[str, float]) -> FloatArray:
    """Return values by action unit as an array (17,) in the order of AU_NAMES; 0 for units not named."""
    return np.asarray([gains.get(au, 0.0) for au in AU_NAMES])


_CROSS_TALK: Mapping[str, Mapping[str, float]] = {
    "AU01": {"AU02": 0.25, "AU04": -0.2},  # the raised inner brow hides what lowers it
    "AU04": {"AU09": 0.2},  # the lowered brow counts for the wrinkled nose
    "AU06": {"AU07": 0.3, "AU45": 0.25},  # the raised cheek narrows the eye
    "AU07": {"AU45": 0.2},
    "AU09": {"AU10": 0.4, "AU45": 0.2},  # one muscle lifts the nostril and the lip
    "AU10": {"AU09": 0.3},
    "AU12": {"AU06": 0.2, "AU09": 0.25, "AU10": 0.4, "AU45": 0.2},  # a smile lifts cheek, nostril and lip
    "AU17": {"AU15": 0.25},  # the raised chin leaves the corners low
    "AU20": {"AU12": 0.3},  # stretched corners lie as wide as smiling ones
    "AU25": {"AU26": 0.15},
    "AU26": {"AU25": 0.5},  # a dropped jaw parts the lips
}
"""Points by which one point of a unit (outer key) changes the reading of another.

The signs follow from the geometry by which units are measured on 68 landmarks; the sizes are of the order found with
such measures in labeled photographs of posed emotions. They are rough, and vary between people.
"""

CROSS_TALK_SD = 0.4  # ln SD of each entry between people

_NEUTRAL_SD: Mapping[str, float] = {
    "AU01": 2.2, "AU02": 1.8, "AU04": 2.8, "AU05": 1.4, "AU09": 3.6, "AU10": 1.5, "AU12": 1.6, "AU15": 1.6,
    "AU25": 0.3, "AU26": 1.0,
}  # fmt: skip
"""SD between people of the readings of an uncalibrated neutral face, in points (measured on five people)."""

_NEUTRAL_SD_UNKNOWN = 1.0  # points, of units that were not measured

RUNNING_SHARE = 0.35  # share of it that remains with running calibration


def draw_cross_talk(rng: np.random.Generator) -> FloatArray:
    """Return one person's cross-talk (17, 17): the errors of readings are ``cross_talk @ intensities``."""
    mean = np.zeros((len(AU_NAMES), len(AU_NAMES)))
    for mover, moved in _CROSS_TALK.items():
        for au, points in moved.items():
            mean[AU_NAMES.index(au), AU_NAMES.index(mover)] = points
    person: FloatArray = mean * np.exp(rng.normal(0.0, CROSS_TALK_SD, mean.shape))
    return person


def draw_neutral_offset(rng: np.random.Generator) -> FloatArray:
    """Return the errors of one person's neutral face under running calibration, (17,) in points."""
    sd = np.asarray([_NEUTRAL_SD.get(au, _NEUTRAL_SD_UNKNOWN) for au in AU_NAMES])
    return RUNNING_SHARE * sd * rng.standard_normal(len(AU_NAMES))


MIRRORED: dict[int, int] = {
    **{k: 16 - k for k in range(8)},  # jaw
    **{k: 43 - k for k in range(17, 22)},  # brows
    31: 35, 32: 34,  # nostrils
    36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,  # eyes
    48: 54, 49: 53, 50: 52, 59: 55, 58: 56,  # outer lips
    60: 64, 61: 63, 67: 65,  # inner lips
}  # fmt: skip
"""Landmark of the subject's right side -> the corresponding landmark of the left side."""

_HALF_CM: dict[int, tuple[float, float, float]] = {
    0: (-7.3, -0.6, -7.6), 1: (-7.2, -2.7, -7.3), 2: (-6.9, -4.7, -6.8), 3: (-6.5, -6.6, -6.1), 4: (-5.8, -8.4, -5.0),
    5: (-4.8, -9.8, -3.7), 6: (-3.4, -10.8, -2.5), 7: (-1.8, -11.4, -1.6), 8: (0.0, -11.65, -1.2),
    17: (-5.6, 1.0, -2.9), 18: (-4.8, 1.75, -1.9), 19: (-3.6, 2.0, -1.1), 20: (-2.4, 1.85, -0.5), 21: (-1.4, 1.5, -0.1),
    27: (0.0, 0.0, 0.0), 28: (0.0, -1.3, 0.6), 29: (0.0, -2.6, 1.3), 30: (0.0, -3.8, 2.0),
    31: (-1.5, -4.7, 0.1), 32: (-0.75, -4.95, 0.6), 33: (0.0, -5.1, 0.9),
    36: (-4.45, -0.35, -2.6), 37: (-3.5, 0.2, -1.9), 38: (-2.5, 0.15, -1.7), 39: (-1.6, -0.5, -1.8),
    40: (-2.5, -0.8, -1.8), 41: (-3.5, -0.75, -2.0),
    48: (-2.48, -7.25, -1.1), 49: (-1.55, -6.65, -0.2), 50: (-0.6, -6.3, 0.35), 51: (0.0, -6.4, 0.4),
    57: (0.0, -8.4, 0.1), 58: (-0.75, -8.3, 0.0), 59: (-1.6, -7.9, -0.4),
    60: (-2.2, -7.25, -0.9), 61: (-0.75, -7.15, 0.05), 62: (0.0, -7.15, 0.2),
    66: (0.0, -7.4, 0.15), 67: (-0.75, -7.38, 0.0),
}  # fmt: skip
"""Landmarks of the right half and the midline of the average neutral face, in cm."""

_UPPER_LIP = (49, 50, 51, 61, 62)
_MOUTH = (48, 49, 50, 51, 57, 58, 59, 60, 61, 62, 66, 67)
_JAW = tuple(range(9))

_SHAPE_MODES: tuple[tuple[tuple[int, ...], tuple[float, float, float]], ...] = (
    ((17, 18, 19, 20, 21), (0.0, 0.28, 0.0)),  # height of the brows
    ((20, 21), (-0.07, 0.08, 0.0)),  # gap between the brows
    ((17, 18), (-0.1, 0.12, -0.1)),  # arch of the brows
    ((37, 38), (0.0, 0.08, 0.0)),  # openness of the eyes
    ((40, 41), (0.0, 0.035, 0.0)),  # height of the lower lids
    ((28, 29, 30, 31, 32, 33), (0.0, 0.22, 0.1)),  # length of the nose
    ((31, 32), (-0.12, 0.0, 0.0)),  # width of the nose
    (_MOUTH, (0.0, 0.3, 0.0)),  # height of the mouth
    ((48, 49, 59, 60), (-0.17, 0.0, -0.03)),  # width of the mouth
    ((48, 60), (0.0, 0.1, 0.0)),  # set of the mouth's corners
    (_UPPER_LIP[:3], (0.0, 0.09, 0.0)),  # upper lip
    ((57, 58, 59), (0.0, -0.09, 0.0)),  # lower lip
    ((5, 6, 7, 8), (0.0, 0.28, 0.0)),  # length of the chin
    (_JAW[:8], (-0.3, 0.0, -0.15)),  # width of the face
)
"""Modes of variation between people: landmarks of the right half, and their shift (cm) at one SD, mirrored."""

ASYMMETRY_SD_CM = 0.04  # SD of every coordinate beside the modes


def mirrored(half: dict[int, tuple[float, float, float]]) -> FloatArray:
    """Return points or shifts (68, 3) from those of the right half and the midline; 0 for landmarks not given."""
    full = np.zeros((N_LANDMARKS, 3))
    for index, xyz in half.items():
        full[index] = xyz
        if index in MIRRORED:
            full[MIRRORED[index]] = (-xyz[0], xyz[1], xyz[2])
    return full


def neutral_template() -> FloatArray:
    """Return the average neutral face, (68, 3) cm."""
    return mirrored(_HALF_CM)


def individual_neutral(rng: np.random.Generator) -> FloatArray:
    """Return one person's neutral face, (68, 3) cm, with the origin at landmark 27."""
    face = neutral_template()
    for landmarks, shift in _SHAPE_MODES:
        face += rng.normal() * mirrored(dict.fromkeys(landmarks, shift))
    face += rng.normal(0.0, ASYMMETRY_SD_CM, face.shape)
    centred: FloatArray = face - face[27]
    return centred
