"""Real faces for tests: scikit-image's astronaut, alone, in company, and on film."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) BGR."""

FACE_AT = (224.0, 122.0)
"""Middle of the astronaut's face in her picture, pixels."""


@functools.cache
def astronaut() -> Picture:
    """Return Eileen Collins, 512 x 512; her face is about 85 pixels wide."""
    from skimage import data

    library: Any = data  # scikit-image's functions have no types
    bgr: Picture = np.ascontiguousarray(library.astronaut()[:, :, ::-1])
    bgr.setflags(write=False)
    return bgr


@functools.cache
def head() -> Picture:
    """Return her head alone, 190 x 160."""
    return astronaut()[10:200, 145:305]


def scene(*heads: tuple[float, float, float], width: int = 640, height: int = 480) -> Picture:
    """Return a picture with her head at several places: (x, y of its middle in pixels, scale)."""
    picture = np.full((height, width, 3), 90, np.uint8)
    for x, y, scale in heads:
        shown = cv2.resize(head(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x0, y0 = round(x - shown.shape[1] / 2), round(y - shown.shape[0] / 2)
        left, top = max(0, -x0), max(0, -y0)
        part = shown[top : max(top, height - y0), left : max(left, width - x0)]
        picture[max(0, y0) : max(0, y0) + part.shape[0], max(0, x0) : max(0, x0) + part.shape[1]] = part
    return picture


def swaying(n: int) -> list[Picture]:
    """Return pictures in which her head sways a little, no two neighbours alike."""
    return [scene((320 + 12 * np.sin(i / 5), 240 + 4 * np.sin(i / 3), 1.0)) for i in range(n)]


def write_video(path: Path, pictures: Iterable[Picture], rate_hz: float = 30.0) -> Path:
    """Write a video, MPEG-4 for .mp4, else motion JPEG, and return its path."""
    shown: Sequence[Picture] = list(pictures)
    codec = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    video = cv2.VideoWriter(str(path), codec, rate_hz, (shown[0].shape[1], shown[0].shape[0]))
    assert video.isOpened()
    for picture in shown:
        video.write(picture)
    video.release()
    return path


def read_video(path: Path) -> list[Picture]:
    """Return the pictures of a video as a camera gives them."""
    video, pictures = cv2.VideoCapture(str(path)), []
    while (got := video.read())[0]:
        pictures.append(np.asarray(got[1], np.uint8))
    return pictures
