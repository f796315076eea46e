"""Whether the skin shows AU04, AU09 and AU14 where the shape of a face does not: measured on two sample videos.

Run with ``CLMER_TEST_DATA=FOLDER python -m benchmarks.appearance_cues``; without the folder of sample recordings it
ends with code 2. Folds are searched for in the face, turned upright at one size. The stretches were labelled by eye
from enlarged frames before any of this was computed. AUC is the chance that a frame of the first stretch reads higher
than one of the second. Nothing is asserted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from benchmarks.support.report import Report, Table, make_parser, report_missing
from clmer_streaming.face.action_units import face_features, intensities
from clmer_streaming.face.extractor import FaceMeshReader
from clmer_streaming.face.geometry import MeshFrame, align, head_pose, straightened, viewing_ray
from clmer_streaming.face.neutral import PRIOR_MEAN
from clmer_streaming.types import BoolArray, FloatArray

Numbers = dict[str, FloatArray]
"""Name -> its value in each frame, (n,)."""

WOMAN, MAN = "talking_crying_smiling_woman", "neutral_smile_neutral_man"
REST = {WOMAN: ((0.0, 0.2), (9.6, 10.3)), MAN: ((0.0, 0.5),)}
SMILE = {WOMAN: ((10.4, 20.0),), MAN: ((0.7, 3.0),)}
CONFOUNDERS = ("yaw", "pitch", "sharpness", "luma")

TINY_EVERY = 6  # frames

_SIDE_PX, _EYES_PX = 256, 128.0  # of the upright face; between its outer eye corners
_HALF_FOLD_PX = 3


@dataclass(frozen=True)
class Claim:
    """Stretches of the woman's video, in seconds: where an action unit shows, and where it does not."""

    unit: str
    seen: str  # what was seen in the first
    yes: tuple[float, float]
    no: tuple[float, float]
    cues: tuple[str, ...]  # the first is the unit as read from the shape alone


CLAIMS = (
    Claim("AU04", "folds stand between the brows; hand over them until 6.1 s", (0.9, 3.9), (6.1, 20.0),
          ("AU04 shape", "brow furrow", "AU04 both")),
    Claim("AU04, eyes shut and head bowed in both", "the same; then a smile", (0.9, 3.9), (18.4, 20.0),
          ("AU04 shape", "brow furrow", "AU04 both")),
    Claim("AU09, doubtful", "nostrils up, folds beside the nose, none on its root", (0.9, 2.4), (9.6, 10.3),
          ("AU09 shape", "nose root", "nasolabial fold")),
    Claim("AU09, doubtful, against a smile", "the same", (0.9, 2.4), (10.4, 20.0),
          ("AU09 shape", "nose root", "nasolabial fold")),
    Claim("AU14, doubtful", "corners tight, lips pressed", (0.9, 2.4), (9.6, 10.3), ("AU14 shape", "mouth corner")),
    Claim("AU14, doubtful, against a smile", "the same", (0.9, 2.4), (10.4, 20.0), ("AU14 shape", "mouth corner")),
)  # fmt: skip


def main() -> int:
    """Measure and print; return the exit code."""
    args = make_parser(__doc__).parse_args()
    folder = os.environ.get("CLMER_TEST_DATA")
    if not folder:
        return report_missing("no videos: CLMER_TEST_DATA should name a folder of sample recordings with faces/")
    claims, every = (CLAIMS[:1], TINY_EVERY) if args.tiny else (CLAIMS, 1)
    films = {name: measure(Path(folder) / "faces" / f"{name}.mp4", every) for name in (WOMAN, MAN)}
    with Report("appearance_cues", args.json) as report:
        report.show(*(claim_table(claim, films[WOMAN], films[MAN]) for claim in claims), smile_table(films))
    return 0


def claim_table(claim: Claim, woman: Numbers, man: Numbers) -> Table:
    """Return how well each cue separates the stretches, and what else it correlates with."""
    title = f"{claim.unit}: {claim.seen}; {claim.yes} against {claim.no} s"
    formats = dict.fromkeys(("auc", "auc_less_pose_blur_light", "auc_against_the_man"), ".3f")
    sizes = dict.fromkeys(("median", "median_without", "man_median", "man_max"), ".4f")
    correlations = {f"r_{name}": ".2f" for name in CONFOUNDERS}
    result = Table(claim.unit, title, cue="", **formats, **sizes, **correlations)
    yes, no = within(woman, claim.yes), within(woman, claim.no)
    for cue in claim.cues:
        values, left = woman[cue], residual(woman, cue, no)
        his = man[cue] - rest(man, cue, MAN) + rest(woman, cue, WOMAN)
        with np.errstate(invalid="ignore"):
            r = {f"r_{name}": np.corrcoef(values[no], woman[name][no])[0, 1] for name in CONFOUNDERS}
        result.add(
            cue=cue,
            auc=auc(values[yes], values[no]),
            auc_less_pose_blur_light=auc(left[yes], left[no]),
            auc_against_the_man=auc(values[yes], his),
            median=np.median(values[yes]),
            median_without=np.median(values[no]),
            man_median=np.median(man[cue]),
            man_max=man[cue].max(),
            **r,
        )
    return result


def smile_table(films: dict[str, Numbers]) -> Table:
    """Return whether a cue takes a smile for its unit: AUC of smile over rest; and how still it is at rest."""
    formats = {"her_smile_auc": ".3f", "his_smile_auc": ".3f", "his_jitter_at_rest_sd": ".4f"}
    result = Table("smile", "A smile over rest", cue="", **formats)
    for cue in ("AU04 both", "brow furrow", "nose root", "nasolabial fold", "mouth corner"):
        hers, his = (
            auc(film[cue][any_of(film, SMILE[name])], film[cue][any_of(film, REST[name])])
            for name, film in films.items()
        )
        still = films[MAN][cue][any_of(films[MAN], REST[MAN])]
        jitter = np.std(np.diff(still)) / np.sqrt(2)
        result.add(cue=cue, her_smile_auc=hers, his_smile_auc=his, his_jitter_at_rest_sd=jitter)
    return result


def auc(yes: FloatArray, no: FloatArray) -> float:
    """Return the area under the ROC curve."""
    return float(mannwhitneyu(yes, no).statistic) / (yes.size * no.size)


def residual(film: Numbers, cue: str, where: BoolArray) -> FloatArray:
    """Return what a straight-line fit to the confounders, made where the unit does not show, leaves of a cue."""
    causes = np.column_stack([np.ones(film["t"].size), *(film[name] for name in CONFOUNDERS)])
    weights = np.linalg.lstsq(causes[where], film[cue][where], rcond=None)[0]
    left: FloatArray = film[cue] - causes @ weights
    return left


def rest(film: Numbers, cue: str, name: str) -> float:
    """Return the cue's median while the face is at rest."""
    return float(np.median(film[cue][any_of(film, REST[name])]))


def within(film: Numbers, stretch: tuple[float, float]) -> BoolArray:
    """Return which frames lie in a stretch, (n,)."""
    inside: BoolArray = (film["t"] >= stretch[0]) & (film["t"] < stretch[1])
    return inside


def any_of(film: Numbers, stretches: tuple[tuple[float, float], ...]) -> BoolArray:
    """Return which frames lie in one of the stretches, (n,)."""
    inside: BoolArray = np.logical_or.reduce([within(film, stretch) for stretch in stretches])
    return inside


def measure(video: Path, every: int = 1) -> Numbers:
    """Return everything about every frame, or each ``every``-th one, of a video that shows a face."""
    rows = list(measured_frames(video, every))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def measured_frames(video: Path, every: int) -> Iterator[dict[str, float]]:
    """Yield everything about one frame after another."""
    import cv2

    capture, mesh, n = cv2.VideoCapture(str(video)), FaceMeshReader(), 0
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    while (got := capture.read())[0]:
        picture = np.asarray(got[1], np.uint8)
        frame = mesh.process(picture) if n % every == 0 else None
        if frame is not None:
            yield {"t": n / rate_hz} | measured(frame, cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
        n += 1


def measured(frame: MeshFrame, grey: npt.NDArray[Any]) -> dict[str, float]:
    """Return what one frame shows, against the average neutral face."""
    face = align(frame)
    assert face is not None
    shape, both = (face_features(face.points, furrow) for furrow in (0.0, frame.brow_furrow))
    units, with_furrow = intensities(shape, PRIOR_MEAN), intensities(both, PRIOR_MEAN)
    pose = head_pose(face, frame, straightened(face.head.rotation, viewing_ray(frame)))
    return {
        "yaw": float(pose[4]), "pitch": float(pose[3]), "sharpness": frame.sharpness, "luma": frame.luma,
        "AU04 shape": float(units[2]), "AU04 both": float(with_furrow[2]), "brow furrow": frame.brow_furrow,
        "AU09 shape": float(units[6]), "AU14 shape": float(units[9]),
    } | skin(grey, frame.points[:, :2])  # fmt: skip


def skin(grey: npt.NDArray[Any], points: FloatArray) -> dict[str, float]:
    """Return the depth of the folds that were tried and found wanting: log luma, in the upright face."""
    import cv2

    move = upright(points)
    face = cv2.warpAffine(grey, move, (_SIDE_PX, _SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    smooth = np.asarray(cv2.GaussianBlur(np.log(face.astype(np.float64) + 8.0), (0, 0), 1.5), np.float64)
    return {
        "nose root": nose_root(smooth, points @ move[:, :2].T + move[:, 2]),
        "nasolabial fold": nasolabial_fold(smooth, points @ move[:, :2].T + move[:, 2]),
        "mouth corner": mouth_corner(smooth, points @ move[:, :2].T + move[:, 2]),
    }


def upright(points: FloatArray) -> FloatArray:
    """Return the (2, 3) turn, scaling and shift that puts the outer eye corners 128 px apart on a level."""
    eyes = points[263] - points[33]
    along = eyes * _EYES_PX / np.sum(eyes**2)
    turn = np.array([along, [-along[1], along[0]]])
    return np.column_stack([turn, [_SIDE_PX / 2, 100.0] - turn @ (points[33] + points[263]) / 2])


def nose_root(face: FloatArray, at: FloatArray) -> float:
    """Return the depth of level folds between the inner eye corners, where AU09 makes them."""
    (x0, x1), (y0, y1) = at[[243, 463], 0], at[[8, 197], 1]
    inset = 0.2 * (x1 - x0)
    return folds(face, (x0 + inset, x1 - inset), (y0, y1), axis=0)


def nasolabial_fold(face: FloatArray, at: FloatArray) -> float:
    """Return the depth of the fold from the nostril's wing past the mouth's corner, both sides' mean."""
    import cv2

    depths = []
    for wing, corner, outward in ((129, 61, -1.0), (358, 291, 1.0)):
        begin, end = at[wing], at[corner] + np.array([outward * 0.10, -0.02]) * _EYES_PX
        normal = np.array([-(end - begin)[1], (end - begin)[0]]) / np.linalg.norm(end - begin)
        normal *= np.sign(normal[0]) * outward
        down, out = np.linspace(0.05, 0.8, 20)[:, None, None], np.arange(-9.0, 16.0)[None, :, None]
        grid = (begin + down * (end - begin) + out * normal).astype(np.float32)
        strip = np.asarray(cv2.remap(face, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR), np.float64)
        depths.append(fold_depth(strip).max())
    return float(np.mean(depths))


def mouth_corner(face: FloatArray, at: FloatArray) -> float:
    """Return the depth of upright folds beside the mouth's corners, where AU14 makes a dimple, both sides' mean."""
    depths = []
    for corner, outward in ((61, -1.0), (291, 1.0)):
        x, y = at[corner]
        xs = sorted((x + outward * 0.03 * _EYES_PX, x + outward * 0.16 * _EYES_PX))
        depths.append(folds(face, (xs[0], xs[1]), (y - 0.09 * _EYES_PX, y + 0.07 * _EYES_PX), axis=1))
    return float(np.mean(depths))


def folds(face: FloatArray, xs: tuple[float, float], ys: tuple[float, float], axis: int) -> float:
    """Return the mean depth of upright (axis 1) or level (axis 0) folds in a box."""
    k, (x0, x1), (y0, y1) = _HALF_FOLD_PX, (round(xs[0]), round(xs[1])), (round(ys[0]), round(ys[1]))
    if axis == 0:
        return float(fold_depth(face[y0 - k : y1 + k, x0:x1].T).mean())
    return float(fold_depth(face[y0:y1, x0 - k : x1 + k]).mean())


def fold_depth(strip: FloatArray) -> FloatArray:
    """Return how much darker each column's middle is than the skin beside it, 0 where it is not."""
    k = _HALF_FOLD_PX
    darker: FloatArray = (strip[:, 2 * k :] + strip[:, : -2 * k] - 2 * strip[:, k:-k]).mean(axis=0)
    return np.maximum(darker, 0.0)


if __name__ == "__main__":
    sys.exit(main())
