"""Position, size and turn of the head are taken out of a mesh, and said in its pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clmer_streaming.face.geometry import (
    EYE_DISTANCE_CM,
    LANDMARK_VERTICES,
    RIGID_VERTICES,
    AlignedFace,
    MeshFrame,
    align,
    euler_angles,
    fit_similarity,
    gaze_angles,
    head_pose,
    landmarks_68,
    reference_mesh,
    straight_ahead,
    straightened,
    viewing_ray,
)
from clmer_streaming.face.layout import N_LANDMARKS
from clmer_streaming.types import FloatArray
from tests.support.face_acting import GOOD, flat_view, rotation, seated_view, still_face
from tests.support.paths import ROOT

PITCH, YAW, ROLL = 3, 4, 5
TURNS = [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.0, -0.5, 0.0), (0.0, 0.0, 2.0), (-0.2, 0.4, -0.6)]


def aligned(frame: MeshFrame) -> AlignedFace:
    face = align(frame)
    assert face is not None
    return face


def pose_of(frame: MeshFrame) -> FloatArray:
    face = aligned(frame)
    return head_pose(face, frame, straightened(face.head.rotation, viewing_ray(frame)))


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("centre", "scale"), [((320.0, 240.0), 9.0), ((-20.0, 470.0), 2.0), ((900.0, 30.0), 40.0)])
def test_turning_moving_and_scaling_the_head_moves_no_landmark(
    turn: tuple[float, float, float], centre: tuple[float, float], scale: float
) -> None:
    """Seen without perspective, the aligned mesh is the same to a nanometre, in and out of the image."""
    face = aligned(flat_view(still_face(), rotation(*turn), centre, scale))
    assert np.allclose(face.points, still_face(), atol=1e-7)
    assert face.residual_cm < 1e-7


def test_procrustes_recovers_a_known_similarity() -> None:
    """Scale, rotation and shift come back from points that were moved by them."""
    points = np.random.default_rng(1).normal(size=(29, 3))
    turn = rotation(0.3, -0.7, 1.1)
    found = fit_similarity(points, 4.0 * points @ turn.T + np.array([3.0, -2.0, 7.0]))
    assert found.scale == pytest.approx(4.0)
    assert np.allclose(found.rotation, turn)
    assert np.allclose(found.shift, [3.0, -2.0, 7.0])


def test_a_mirror_image_is_never_taken_for_a_rotation() -> None:
    """Points laid over their own mirror image get a rotation of determinant +1."""
    points = np.random.default_rng(2).normal(size=(29, 3))
    found = fit_similarity(points, points * np.array([-1.0, 1.0, 1.0]))
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_the_residual_says_how_far_the_rigid_part_is_from_the_reference() -> None:
    """Noise of 1 mm in each axis leaves a residual of a little less than 1 mm times the root of three."""
    noise = np.random.default_rng(3).normal(0.0, 0.1, (478, 3))
    face = aligned(flat_view(still_face() + noise, np.eye(3)))
    assert 0.1 < face.residual_cm < 0.1 * np.sqrt(3) * 1.1


@pytest.mark.parametrize("points", [np.full((478, 3), np.nan), np.zeros((478, 3)), np.full((478, 3), np.inf)])
def test_what_is_no_face_is_not_aligned(points: FloatArray) -> None:
    """Points that are not finite, or all in one place, give None."""
    assert align(replace(GOOD, points=points)) is None


def test_the_reference_mesh_stands_upright_in_its_axes() -> None:
    """Origin at the bridge; eyes level, 8.9 cm apart; left and right mirror each other; the nose in front."""
    mesh = reference_mesh()
    assert mesh.shape == (468, 3)
    assert np.linalg.norm(mesh[33] - mesh[263]) == pytest.approx(EYE_DISTANCE_CM, abs=1e-3)
    assert np.allclose(mesh[168], 0.0)
    assert np.allclose(mesh[33], mesh[263] * [-1, 1, 1], atol=1e-3)
    assert np.argmax(mesh[:, 2]) in (1, 4)
    assert mesh[10, 1] > 0 > mesh[2, 1] > mesh[152, 1]


def test_the_rigid_set_is_the_same_on_both_sides() -> None:
    """29 vertices; mirrored, the set is itself: no side pulls the head round."""
    rigid = reference_mesh()[RIGID_VERTICES]
    assert len(set(RIGID_VERTICES.tolist())) == 29
    nearest = [np.min(np.linalg.norm(rigid - point, axis=1)) for point in rigid * [-1, 1, 1]]
    assert max(nearest) < 1e-3


def test_angles_are_read_in_the_order_they_were_made() -> None:
    """Pitch, yaw and roll of a rotation come back, nose down and nose to the subject's left positive."""
    assert euler_angles(rotation(0.2, -0.4, 0.6)) == pytest.approx((0.2, -0.4, 0.6))
    nose_down, nose_left = rotation(pitch=0.2)[:, 2], rotation(yaw=0.2)[:, 2]
    assert nose_down[1] < 0 < nose_left[0]


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.2, 0.0, 0.0), (0.0, 0.4, 0.0), (-0.2, 0.3, 0.2)])
@pytest.mark.parametrize("place", [(0.0, 0.0, 60.0), (20.0, 0.0, 60.0), (-15.0, 10.0, 45.0)])
def test_a_head_beside_the_optical_axis_keeps_its_angles(
    turn: tuple[float, float, float], place: tuple[float, float, float]
) -> None:
    """What a mesh sees of a head that sits aside is turned by up to 22 degrees; the pose is right within 3."""
    pose = pose_of(seated_view(still_face(), rotation(*turn), place))
    middle = still_face().mean(axis=0) @ rotation(*turn).T  # the ray goes to the middle of the mesh, not to its origin
    expected = np.array(turn) - np.array([-middle[1], middle[0], 0.0]) / place[2]
    assert np.abs(pose[PITCH:] - expected).max() < np.deg2rad(3)


def test_without_the_ray_a_head_beside_the_axis_seems_turned() -> None:
    """The correction does something: 20 cm aside at 60 cm are 18 degrees."""
    frame = seated_view(still_face(), np.eye(3), (20.0, 0.0, 60.0))
    assert euler_angles(aligned(frame).head.rotation)[1] == pytest.approx(np.arctan2(20, 60))
    assert abs(pose_of(frame)[YAW]) < np.deg2rad(1)


def test_the_place_of_the_head_comes_back_in_centimetres() -> None:
    """Right, down and away from the camera, for a head of the reference's size."""
    frame = seated_view(still_face(), rotation(0.1, 0.2, 0.3), (-12.0, 7.0, 55.0))
    assert pose_of(frame)[:3] == pytest.approx([-12.0, 7.0, 55.0])


def test_every_landmark_has_its_place() -> None:
    """68 landmarks in iBUG order: chin lowest, brows over eyes over mouth, the subject's right first."""
    landmarks = landmarks_68(still_face())
    x, y, z = landmarks.T
    assert len(LANDMARK_VERTICES) == N_LANDMARKS == len(landmarks)
    assert np.argmin(y) == 8
    assert y[17:27].min() > y[36:48].max() > y[31:36].max() > y[48:68].max() > y[8]
    assert x[0] < x[36] < x[39] < 0 < x[42] < x[45] < x[16]
    assert np.argmax(z) == 30
    assert np.all(np.diff(x[:17]) > 0)
    assert np.all(np.diff(x[17:27]) > 0)


def test_landmarks_mirror_each_other() -> None:
    """The map treats both sides alike: partners of the iBUG order lie within 1 mm of each other's mirror image."""
    pairs = {**{k: 16 - k for k in range(8)}, **{k: 43 - k for k in range(17, 22)}}
    pairs |= {31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46, 48: 54, 49: 53, 50: 52, 59: 55, 58: 56}
    landmarks = landmarks_68(still_face())
    for right, left in pairs.items():
        assert np.linalg.norm(landmarks[right] * [-1, 1, 1] - landmarks[left]) < 0.1, (right, left)


@pytest.mark.parametrize(("left", "up"), [(0.0, 0.0), (0.3, 0.0), (0.0, -0.25), (-0.2, 0.2)])
def test_turned_eyes_are_read_from_the_irises(left: float, up: float) -> None:
    """Irises moved as eyeballs of 2.4 cm turn them give the angle, to the subject's left and up."""
    face = still_face()
    face[468:] += 1.2 * np.array([np.sin(left), np.sin(up), 0.0])
    assert gaze_angles(face, np.eye(3)) == pytest.approx([left, up], abs=0.01)


def test_gaze_follows_the_head() -> None:
    """Eyes that rest in a turned head look where the head points; looking down is down."""
    turn = rotation(pitch=0.2, yaw=0.3)
    assert gaze_angles(still_face(), turn) == pytest.approx(straight_ahead(turn))
    assert straight_ahead(turn)[0] > 0 > straight_ahead(turn)[1]


def test_the_file_of_the_reference_mesh_is_what_the_script_makes() -> None:
    """Made again from the astronaut, the mesh is the same to a tenth of a millimetre."""
    import importlib.util

    script = ROOT / "scripts/make_reference_mesh.py"
    spec = importlib.util.spec_from_file_location("make_reference_mesh", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert np.abs(module.make_reference_mesh() - reference_mesh()).max() < 0.01
