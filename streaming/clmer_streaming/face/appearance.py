"""What the skin shows and a mesh does not: the folds that the corrugator draws between the brows (AU04)."""

from __future__ import annotations

import numpy as np

from clmer_streaming.face.face_mesh_image import Image
from clmer_streaming.types import FloatArray

_EYES = (33, 263)  # outer corners, right and left
_BROW_ENDS = ((107, 55), (336, 285))  # inner ends, right and left
_LOWER_ENDS = (55, 285)

_SIDE_PX = 48  # of the piece of skin that is looked at
_SIDE = 0.375  # of it, in distances between the outer eye corners: 128 px for one, whatever the camera
_MIN_EYES_PX = 8.0  # between the outer eye corners; below, there is no skin to speak of
_DARK_LUMA = 8.0  # of 255, added before the logarithm: in the dark it would magnify noise
_SIGMA_PX = 1.2  # of the smoothing; pores and noise are finer
_HALF_FOLD_PX = 3  # from the middle of a fold to the skin beside it
_ABOVE, _BELOW = 0.22, 0.02  # eye distances that are looked at above and below the brows' lower edge
_BETWEEN = 0.72  # share of the gap between the brows; beside it hair begins
_BANDS = 4  # heights at which lines are looked for: a fold may be slanted


def brow_furrow(rgb: Image, points: FloatArray) -> float:
    """Return how deep upright folds between the brows are, 0 where none is seen.

    It is the mean of the positive second difference of the log luma across the face, in bands between the brows:
    light that is twice as bright, or comes from the side, does not change it; pixels that are too few or blurred
    lower it.

    Args:
        rgb: The picture (H, W, 3).
        points: The face mesh in it (n, 2+), pixels.
    """
    right, left = (points[list(ends), :2].mean(axis=0) for ends in _BROW_ENDS)
    eyes = points[_EYES[1], :2] - points[_EYES[0], :2]
    distance = float(np.hypot(*eyes))
    if distance < _MIN_EYES_PX:
        return 0.0
    along = eyes / distance
    down = np.array([-along[1], along[0]])
    lower_edge = float(np.mean(points[list(_LOWER_ENDS), :2] @ down))
    across = float((right + left) @ along) / 2
    centre = across * along + (lower_edge - (_ABOVE - _BELOW) / 2 * distance) * down
    skin = _upright_skin(rgb, centre, along, distance)
    if skin is None:
        return 0.0
    scale = _SIDE_PX / (_SIDE * distance)
    half_width = max(1, round(_BETWEEN * float((left - right) @ along) / 2 * scale))
    half_height = round((_ABOVE + _BELOW) / 2 * distance * scale)
    return _fold_depth(skin, half_width, half_height)


def _upright_skin(rgb: Image, centre: FloatArray, along: FloatArray, distance: float) -> FloatArray | None:
    """Return the log luma (48, 48) about ``centre``, turned upright; None where it is outside of the picture."""
    import cv2

    half = _SIDE * distance / 2
    x0, y0 = np.floor(centre - half).astype(int).tolist()
    side = max(2, round(2 * half))
    if x0 < 0 or y0 < 0 or x0 + side > rgb.shape[1] or y0 + side > rgb.shape[0]:
        return None
    grey = cv2.cvtColor(rgb[y0 : y0 + side, x0 : x0 + side], cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if side > _SIDE_PX else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=way)
    middle = (centre - [x0, y0]) * _SIDE_PX / side
    turn = np.array([along, [-along[1], along[0]]])
    move = np.column_stack([turn, _SIDE_PX / 2 - turn @ middle])
    upright = cv2.warpAffine(scaled, move, (_SIDE_PX, _SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    luma = np.log(np.asarray(upright, np.float64) + _DARK_LUMA)
    smooth: FloatArray = cv2.GaussianBlur(luma, (0, 0), _SIGMA_PX)
    return smooth


def _fold_depth(skin: FloatArray, half_width: int, half_height: int) -> float:
    middle, k = _SIDE_PX // 2, _HALF_FOLD_PX
    half_width = min(half_width, middle - k)
    rows = skin[middle - half_height : middle + half_height]
    x0, x1 = middle - half_width, middle + half_width
    darker = rows[:, x0 - k : x1 - k] + rows[:, x0 + k : x1 + k] - 2 * rows[:, x0:x1]
    bands = [band.mean(axis=0) for band in np.array_split(darker, _BANDS)]
    return float(np.mean(np.maximum(bands, 0.0)))
