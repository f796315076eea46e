"""Where the head is and how it is turned, in the camera's frame."""

from __future__ import annotations

import math

import numpy as np

from clmer_streaming.face.alignment import AlignedFace
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.types import FloatArray

FOCAL_PX_AT_640 = 500.0
"""Focal length of a webcam of unknown make at 640 pixels width (65 degrees across), as OpenFace assumes it."""


def focal_length_px(width: int) -> float:
    """Return the assumed focal length in pixels of an image of this width."""
    return FOCAL_PX_AT_640 * width / 640.0


def viewing_ray(frame: MeshFrame) -> FloatArray:
    """Return the unit vector (3,) from the face to the camera; x right, y up, z to the camera.

    The face is where the mean of its vertices is.
    """
    x, y = frame.points[:, :2].mean(axis=0)
    focal = focal_length_px(frame.width)
    ray = np.array([-(x - frame.width / 2) / focal, (y - frame.height / 2) / focal, 1.0])
    return ray / math.sqrt(float(ray @ ray))


def straightened(rotation: FloatArray, ray: FloatArray) -> FloatArray:
    """Return a rotation (3, 3) that was seen along a viewing ray as the camera would see it in its middle.

    A face that looks along the optical axis but stands beside it shows its side; the mesh follows what shows. The
    smallest rotation from the optical axis to the ray (Rodrigues' formula for two unit vectors) undoes this.
    """
    x, y, z = ray
    tilt = np.array([[0.0, 0.0, x], [0.0, 0.0, y], [-x, -y, 0.0]])  # the cross product with (axis x ray)
    turn = np.eye(3) + tilt + tilt @ tilt / (1.0 + z)
    corrected: FloatArray = turn @ rotation
    return corrected


def euler_angles(rotation: FloatArray) -> tuple[float, float, float]:
    """Return pitch (nose down positive), yaw (nose to the image's right, the subject's left) and roll in rad.

    ``rotation = Rz(roll) Ry(yaw) Rx(pitch)`` in axes x right, y up, z to the camera.
    """
    pitch = math.atan2(rotation[2, 1], rotation[2, 2])
    yaw = math.asin(min(1.0, max(-1.0, -rotation[2, 0])))
    roll = math.atan2(rotation[1, 0], rotation[0, 0])
    return pitch, yaw, roll


def head_pose(face: AlignedFace, frame: MeshFrame, rotation: FloatArray) -> FloatArray:
    """Return x, y, z of the nose's bridge in cm (right, down, away from the camera), pitch, yaw, roll in rad, (6,).

    The distance follows from the mesh's scale, so its unit is the reference mesh's centimetre: a head of another
    size than the reference is read nearer or farther by that share.

    Args:
        face: The aligned mesh.
        frame: The frame it came from.
        rotation: Of the head, straightened.
    """
    focal = focal_length_px(frame.width)
    z = focal / face.head.scale
    x = (face.head.shift[0] - frame.width / 2) * z / focal
    y = (-face.head.shift[1] - frame.height / 2) * z / focal
    return np.array([x, y, z, *euler_angles(rotation)])
