"""What the skin shows and a mesh does not: the folds that the corrugator draws between the brows (AU04)."""

from __future__ import annotations

import math

import numpy as np

from clmer_streaming.face.face_mesh_image import Image
from clmer_streaming.types import FloatArray

_VERTICES = [33, 263, 107, 55, 336, 285]  # outer eye corners; inner ends of the brows, upper and lower edge
_SIDE_PX = 48  # of the piece of skin that is looked at
_SIDE = 0.375  # of it, in distances between the outer eye corners: 128 px for one, whatever the camera
_MIN_EYES_PX = 8.0  # between the outer eye corners; below, there is no skin to speak of
_UP = 0.10  # eye distances from the brows' lower edge up to the middle of what is looked at
_HALF_HEIGHT_PX = 16
_BETWEEN = 0.72  # share of the gap between the brows; beside it hair begins
_BANDS = 4  # heights at which lines are looked for: a fold may be slanted
_HALF_FOLD_PX = 3  # from the middle of a fold to the skin beside it
_SIGMA_PX = 1.2  # of the smoothing; pores and noise are finer
_DARK_LUMA = 8.0  # of 255, added before the logarithm: in the dark it would magnify noise


def brow_furrow(rgb: Image, points: FloatArray) -> float:
    """Return how deep upright folds between the brows are, 0 where none is seen.

    It is the mean of the positive second difference of the log luma across the face, in bands between the brows:
    light that is twice as bright, or comes from the side, does not change it; pixels that are too few or blurred
    lower it.

    Args:
        rgb: The picture (H, W, 3).
        points: The face mesh in it (n, 2+), pixels.
    """
    (x33, y33), (x263, y263), *brows = points[_VERTICES, :2].tolist()
    distance = math.hypot(x263 - x33, y263 - y33)
    if distance < _MIN_EYES_PX:
        return 0.0
    cos, sin = (x263 - x33) / distance, (y263 - y33) / distance  # of the head's roll
    ends = [x * cos + y * sin for x, y in brows]  # along the line between the eyes
    lower = [y * cos - x * sin for x, y in (brows[1], brows[3])]  # down the face
    across, down = sum(ends) / 4, sum(lower) / 2 - _UP * distance
    skin = _upright_skin(rgb, (across * cos - down * sin, across * sin + down * cos), (cos, sin), _SIDE * distance)
    if skin is None:
        return 0.0
    gap_px = (ends[2] + ends[3] - ends[0] - ends[1]) / 2 * _SIDE_PX / (_SIDE * distance)
    return _fold_depth(skin, round(_BETWEEN * gap_px / 2))


def _upright_skin(
    rgb: Image, centre: tuple[float, float], turn: tuple[float, float], side_px: float
) -> FloatArray | None:
    """Return the smoothed log luma (48, 48) about ``centre``, turned upright; None where it leaves the picture."""
    import cv2

    (x, y), (cos, sin) = centre, turn
    x0, y0, side = math.floor(x - side_px / 2), math.floor(y - side_px / 2), round(side_px)
    if x0 < 0 or y0 < 0 or x0 + side > rgb.shape[1] or y0 + side > rgb.shape[0]:
        return None
    grey = cv2.cvtColor(rgb[y0 : y0 + side, x0 : x0 + side], cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if side > _SIDE_PX else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=way)
    u, v, middle = (x - x0) * _SIDE_PX / side, (y - y0) * _SIDE_PX / side, _SIDE_PX / 2
    move = np.array([[cos, sin, middle - cos * u - sin * v], [-sin, cos, middle + sin * u - cos * v]])
    upright = cv2.warpAffine(scaled, move, (_SIDE_PX, _SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(np.log(upright + _DARK_LUMA), (0, 0), _SIGMA_PX), np.float64)


def _fold_depth(skin: FloatArray, half_width: int) -> float:
    """Return how much darker than the skin beside them the lines of each band are, 0 where they are lighter."""
    middle, k, height = _SIDE_PX // 2, _HALF_FOLD_PX, 2 * _HALF_HEIGHT_PX
    half_width = min(max(half_width, 1), middle - k)
    rows = skin[middle - _HALF_HEIGHT_PX : middle + _HALF_HEIGHT_PX, middle - half_width - k : middle + half_width + k]
    bands = rows.reshape(_BANDS, height // _BANDS, -1).mean(axis=1)
    darker = bands[:, : -2 * k] + bands[:, 2 * k :] - 2 * bands[:, k:-k]
    return float(np.maximum(darker, 0.0).mean())
