"""Pictures for the face mesh, and what is measured on their pixels: cuts, light, sharpness and brow furrows."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clmer_streaming.errors import StreamError
from clmer_streaming.types import FloatArray

Image: TypeAlias = npt.NDArray[np.uint8]
"""A picture (H, W, 3) uint8; the order of colors is stated where it is used."""

MIN_SIDE_PX = 16
"""Least height and width that a MediaPipe graph is given: an empty picture kills it."""

_THUMBNAIL_PX = (32, 18)  # width, height
_CUT_LUMA = 17.0  # mean change of the thumbnail, 0-255; heads that move stay below 12, cuts lie above 23
_SHARPNESS_PX = 128  # side to which a face box is scaled, so that sharpness does not depend on the distance


def to_rgb(picture: npt.NDArray[np.generic]) -> Image | None:
    """Return a picture as RGB (H, W, 3) uint8; None if it is too small for a face.

    Args:
        picture: BGR (H, W, 3), BGRA (H, W, 4), or gray (H, W) or (H, W, 1); uint8, or floats from 0 to 1.

    Raises:
        StreamError: It is not a picture.
    """
    import cv2

    if not isinstance(picture, np.ndarray) or picture.ndim not in (2, 3):
        raise _no_picture(f"an array of shape {picture.shape}" if isinstance(picture, np.ndarray) else repr(picture))
    if min(picture.shape[:2]) < MIN_SIDE_PX:
        return None
    image = np.ascontiguousarray(_to_uint8(picture))
    n_colours = 1 if image.ndim == 2 else image.shape[2]
    codes = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
    if n_colours not in codes:
        raise _no_picture(f"a picture of {n_colours} colours")
    rgb: Image = np.asarray(cv2.cvtColor(image, codes[n_colours]), dtype=np.uint8)
    return rgb


def _to_uint8(picture: npt.NDArray[np.generic]) -> Image:
    if picture.dtype == np.uint8:
        return picture.astype(np.uint8, copy=False)
    if not np.issubdtype(picture.dtype, np.floating):
        raise _no_picture(f"a picture of {picture.dtype}")
    values = picture.astype(np.float64)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise _no_picture(f"a picture of {picture.dtype} from {values.min():g} to {values.max():g}")
    scaled: Image = np.round(values * 255).astype(np.uint8)
    return scaled


def _no_picture(found: str) -> StreamError:
    return StreamError(
        expected="a picture: grey, BGR or BGRA, in bytes or in floats from 0 to 1",
        found=found,
        mend="convert it before it is given to the face mesh",
    )


class CutDetector:
    """Detects cuts of a video and sudden changes of a camera's view, after which no face may be tracked."""

    def __init__(self) -> None:
        self._thumbnail: npt.NDArray[Any] | None = None

    def push(self, rgb: Image) -> bool:
        """Add the next RGB picture; return whether it shows another scene than the one before."""
        import cv2

        step = max(1, min(rgb.shape[0] // _THUMBNAIL_PX[1], rgb.shape[1] // _THUMBNAIL_PX[0]) // 4)
        green = np.ascontiguousarray(rgb[::step, ::step, 1])  # most of the luma, at a tenth of the time
        thumbnail = cv2.resize(green, _THUMBNAIL_PX, interpolation=cv2.INTER_AREA)
        before, self._thumbnail = self._thumbnail, thumbnail
        return before is not None and cv2.norm(thumbnail, before, cv2.NORM_L1) / thumbnail.size > _CUT_LUMA


def luma_and_sharpness(rgb: Image, points: FloatArray) -> tuple[float, float]:
    """Return the mean luma and the sharpness of a face.

    The sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000) of the face's box scaled to 128 x 128
    pixels, so that it does not fall as a face comes near.

    Args:
        rgb: The picture (H, W, 3).
        points: The face mesh in it (n, 2+), pixels.

    Returns:
        Luma (0-255) and sharpness.
    """
    import cv2

    height, width = rgb.shape[:2]
    left, top, right, bottom = extent(points)
    x0, y0 = _between(math.floor(left), 0, width - 1), _between(math.floor(top), 0, height - 1)
    x1, y1 = _between(math.ceil(right), x0 + 1, width), _between(math.ceil(bottom), y0 + 1, height)
    grey = cv2.cvtColor(rgb[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY)
    shrinks = grey.shape[0] > _SHARPNESS_PX
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (_SHARPNESS_PX, _SHARPNESS_PX), interpolation=interpolation)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(scaled, cv2.CV_16S))
    return float(cv2.mean(scaled)[0]), float(deviation.item() ** 2)


def extent(points: FloatArray) -> tuple[float, float, float, float]:
    """Return the smallest x and y and the largest x and y of points (n, 2+)."""
    across = np.ascontiguousarray(points[:, :2].T)  # along the rows it takes ten times as long
    (x0, y0), (x1, y1) = across.min(axis=1).tolist(), across.max(axis=1).tolist()
    return x0, y0, x1, y1


def _between(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


_VERTICES = [33, 263, 107, 55, 336, 285]  # outer eye corners; inner ends of the brows, upper and lower edge
_SIDE_PX = 48  # side of the patch of skin that is examined
_SIDE = 0.375  # the same in distances between the outer eye corners: 128 px for one, whatever the camera
_MIN_EYES_PX = 8.0  # least distance of the outer eye corners; below it there are too few pixels of skin
_UP = 0.10  # eye distances from the brows' lower edge up to the middle of the patch
_HALF_HEIGHT_PX = 16
_BETWEEN = 0.72  # share of the gap between the brows that is free of hair
_BANDS = 4  # heights at which folds are searched: they may be slanted
_HALF_FOLD_PX = 3  # from the middle of a fold to the skin beside it
_SIGMA_PX = 1.2  # SD of the smoothing; pores and noise are finer
_DARK_LUMA = 8.0  # of 255, added before the logarithm, which would magnify noise in the dark


def brow_furrow(rgb: Image, points: FloatArray) -> float:
    """Return the depth of upright folds between the brows; 0 without folds.

    It is the mean positive second difference of the log luma across the face, in bands between the brows. Brighter
    light or light from one side does not change it; too few or blurred pixels lower it.

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
    """Return the smoothed log luma (48, 48) around ``centre``, turned upright; None if it leaves the picture."""
    import cv2

    (x, y), (cos, sin) = centre, turn
    x0, y0, side = math.floor(x - side_px / 2), math.floor(y - side_px / 2), round(side_px)
    if x0 < 0 or y0 < 0 or x0 + side > rgb.shape[1] or y0 + side > rgb.shape[0]:
        return None
    grey = cv2.cvtColor(rgb[y0 : y0 + side, x0 : x0 + side], cv2.COLOR_RGB2GRAY)
    interpolation = cv2.INTER_AREA if side > _SIDE_PX else cv2.INTER_LINEAR
    scaled = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=interpolation)
    u, v, middle = (x - x0) * _SIDE_PX / side, (y - y0) * _SIDE_PX / side, _SIDE_PX / 2
    move = np.array([[cos, sin, middle - cos * u - sin * v], [-sin, cos, middle + sin * u - cos * v]])
    upright = cv2.warpAffine(scaled, move, (_SIDE_PX, _SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.GaussianBlur(np.log(upright + _DARK_LUMA), (0, 0), _SIGMA_PX), np.float64)


def _fold_depth(skin: FloatArray, half_width: int) -> float:
    """Return how much darker the lines of each band are than the skin beside them, on average; 0 where lighter."""
    middle, k, height = _SIDE_PX // 2, _HALF_FOLD_PX, 2 * _HALF_HEIGHT_PX
    half_width = min(max(half_width, 1), middle - k)
    rows = skin[middle - _HALF_HEIGHT_PX : middle + _HALF_HEIGHT_PX, middle - half_width - k : middle + half_width + k]
    bands = rows.reshape(_BANDS, height // _BANDS, -1).mean(axis=1)
    darker = bands[:, : -2 * k] + bands[:, 2 * k :] - 2 * bands[:, k:-k]
    return float(np.maximum(darker, 0.0).mean())
