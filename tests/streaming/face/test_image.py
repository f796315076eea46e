"""Claims about the folds between the brows: what is taken for them, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from clmer_streaming.face.extractor import FaceMeshReader
from clmer_streaming.face.geometry import MeshFrame
from clmer_streaming.face.image import brow_furrow
from clmer_streaming.face.layout import AU_NAMES
from clmer_streaming.face.reader import FaceReader
from clmer_streaming.types import FaceSample, FloatArray
from tests.conftest import sample_data_folder
from tests.support.astronaut import Image, StillMesh, warped
from tests.support.face_acting import Move, acted
from tests.support.face_pictures import read_video

AU04 = AU_NAMES.index("AU04")

Film = list[tuple[Image, MeshFrame | None]]
"""Each picture of a video, with its mesh."""


@pytest.fixture(scope="module")
def points(mesh: StillMesh, picture: Image) -> FloatArray:
    """Her mesh, in pixels."""
    frame = mesh.frame(picture)
    assert frame is not None
    return frame.points


def with_folds(picture: Image, points: FloatArray, depth: float) -> Image:
    """Return the picture with two upright folds between the brows, darker than the skin by a share of its light."""
    right, left, top, bottom = points[55, 0], points[285, 0], points[9, 1], points[8, 1]
    middle, apart, width = (right + left) / 2, (left - right) / 4, 0.012 * np.hypot(*(points[263] - points[33])[:2])
    x, y = np.arange(picture.shape[1]), np.arange(picture.shape[0])
    across = sum(np.exp(-0.5 * ((x - middle - side * apart) / width) ** 2) for side in (-1, 1))
    along = (y > top - (bottom - top)) & (y < bottom)
    return np.asarray(picture * (1 - depth * along[:, None, None] * across[None, :, None]), np.uint8)


def test_deeper_folds_read_deeper(picture: Image, points: FloatArray) -> None:
    """None, shallow, deep: each is well above the one before."""
    none, shallow, deep = (brow_furrow(with_folds(picture, points, depth), points) for depth in (0.0, 0.15, 0.3))
    assert none < 0.008
    assert shallow > none + 0.005
    assert deep > shallow + 0.005


@pytest.mark.parametrize("light", [0.3, np.linspace(0.4, 1.0, 420)[None, :, None]], ids=["dim", "from one side"])
def test_the_light_does_not_matter(picture: Image, points: FloatArray, light: float | FloatArray) -> None:
    """A third of it, or most of it from one side: within a fifth."""
    folded = with_folds(picture, points, 0.3)
    assert brow_furrow(np.asarray(folded * light, np.uint8), points) == pytest.approx(
        brow_furrow(folded, points), rel=0.2
    )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_folds_are_upright_in_the_face_not_in_the_picture(picture: Image, points: FloatArray, turns: int) -> None:
    """A picture on its side, with its points, reads the same."""
    folded = with_folds(picture, points, 0.3)
    turned, there = folded, points[:, :2]
    for _ in range(turns):  # a quarter to the left each
        there = np.column_stack([there[:, 1], turned.shape[1] - 1 - there[:, 0]])
        turned = np.rot90(turned)
    read = brow_furrow(np.ascontiguousarray(turned), there)
    assert read == pytest.approx(brow_furrow(folded, points), rel=0.1)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_distance_changes_it_little(picture: Image, points: FloatArray, scale: float) -> None:
    """At half and at twice the size deep folds stay deep."""
    folded = with_folds(picture, points, 0.3)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(folded, None, fx=scale, fy=scale, interpolation=way), np.uint8)
    assert brow_furrow(scaled, points * scale) == pytest.approx(brow_furrow(folded, points), rel=0.35)


def test_brows_that_move_without_folds_are_none(mesh: StillMesh, picture: Image, points: FloatArray) -> None:
    """The photograph warped, brows down and together or up: the skin between them stays smooth."""
    face = mesh.face(picture)
    for shift in ((0.25, -0.4, 0.0), (0.0, 0.6, 0.0)):
        drawn = warped(picture, face, acted(face.points, (Move((107, 55, 66, 65, 105, 52), shift, 1.2),)))
        frame = mesh.frame(drawn)
        assert frame is not None
        assert abs(brow_furrow(drawn, frame.points) - brow_furrow(picture, points)) < 0.003


def test_where_there_is_no_skin_there_are_no_folds(picture: Image, points: FloatArray) -> None:
    """Brows outside of the picture, and a face of a few pixels, give 0."""
    assert brow_furrow(picture, points - [0.0, points[9, 1], 0.0]) == 0.0
    assert brow_furrow(picture, points / 20) == 0.0


def film(video: Path) -> Film:
    """Return the pictures of a video, and what the mesh says of each."""
    mesh = FaceMeshReader()
    return [(picture, mesh.process(picture)) for picture in read_video(video)]


@pytest.fixture(scope="module")
def woman() -> Film:
    """A woman who talks, weeps and smiles; for tests that take ``sample_data``."""
    folder = sample_data_folder()
    assert folder is not None
    return film(folder / "faces/talking_crying_smiling_woman.mp4")


def read(shown: Film, rate_hz: float) -> list[FaceSample]:
    reader = FaceReader()
    return [reader.read(i / rate_hz, frame) for i, (_, frame) in enumerate(shown)]


@pytest.mark.usefixtures("sample_data")
def test_a_weeping_woman_s_brows_are_told_from_her_smile(request: pytest.FixtureRequest) -> None:
    """Folds stand between her brows from 0.9 to 3.9 s (then comes her hand) and not once from 6.1 s on."""
    samples = read(request.getfixturevalue("woman"), 24000 / 1001)
    frowns = np.array([sample.aus[AU04, 0] for sample in samples if 0.9 <= sample.t < 3.9])
    smooth = np.array([sample.aus[AU04, 0] for sample in samples if sample.t >= 6.1])
    auc = mannwhitneyu(frowns, smooth).statistic / (frowns.size * smooth.size)
    assert auc > 0.99
    assert np.median(frowns) > 2.5
    assert np.median(smooth) < 0.7


def noisy(picture: Image) -> Image:
    grain = np.random.default_rng(0).normal(0, 10, picture.shape)
    return np.asarray(np.clip(picture + grain, 0, 255), np.uint8)


def squeezed(picture: Image) -> Image:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1), np.uint8)


SPOILT: dict[str, tuple[float, Callable[[Image], Image]]] = {
    "noise": (1.0, noisy),
    "JPEG": (1.0, squeezed),
    "a tenth of the light": (1.0, lambda picture: np.asarray(picture * 0.1, np.uint8)),
    "light from one side": (1.0, lambda picture: np.asarray(picture * np.linspace(0.4, 1, 640)[:, None], np.uint8)),
    "a third of the pixels": (1 / 3, lambda picture: np.asarray(cv2.resize(picture, (213, 120)), np.uint8)),
}
"""What spoils a picture, and the scale it is then at."""


@pytest.mark.usefixtures("sample_data")
def test_poor_pictures_show_the_folds_too(request: pytest.FixtureRequest) -> None:
    """Every frame with folds reads deeper than every one without, with the mesh of the good picture."""
    depths: dict[tuple[str, bool], list[float]] = {}
    for number, (picture, frame) in enumerate(request.getfixturevalue("woman")[:240]):
        t = number * 1001 / 24000
        if number % 3 or frame is None or not (0.9 <= t < 3.9 or t >= 6.1):
            continue
        for name, (scale, spoil) in SPOILT.items():
            rgb = np.ascontiguousarray(spoil(picture)[:, :, ::-1])
            depths.setdefault((name, t < 3.9), []).append(brow_furrow(rgb, frame.points * scale))
    for name in SPOILT:
        assert min(depths[name, True]) > max(depths[name, False]), name


def test_a_smiling_man_does_not_frown(sample_data: Path) -> None:
    """AU04 stays below 1 in every frame of neutral, smile and neutral."""
    samples = read(film(sample_data / "faces/neutral_smile_neutral_man.mp4"), 30.0)
    assert max(sample.aus[AU04, 0] for sample in samples) < 1.0
