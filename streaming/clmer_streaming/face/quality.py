"""How far a frame's face can be trusted: one number, and what is wrong with it."""

from __future__ import annotations

import math

from clmer_streaming.face.alignment import EYE_DISTANCE_CM, AlignedFace
from clmer_streaming.face.mesh_frame import MeshFrame
from clmer_streaming.types import FaceFlag

PRESENCE = (0.5, 0.9)  # the score is 1.000 nearly always; below .9 something covers the face
WIDTH_PX = (10.0, 50.0)  # temple to temple; FaceMesh looks at 192 pixels, fewer are stretched
SHARPNESS = (3.0, 12.0)  # variance of the Laplacian at the luma of a well lit face
LUMA = (3.0, 25.0)  # of 255
RESIDUAL_CM = (0.6, 0.4)  # of the rigid vertices; .13 to .33 on sample videos
TURN_RAD = (math.radians(45.0), math.radians(15.0))  # from 15 degrees on the turn leaks into the action units
"""Of each measure, where it costs all quality, and from where on it costs none. Between them lies a straight line.

Width, sharpness and luma were set by spoiling a sample video: a mouth's width is .02 of the eye distance off (half a
point of AU12) at a sharpness of 8 or a luma of 5, and .008 off at a width of 27 pixels.
"""

SMALL_PX = 40.0
TURNED_RAD = math.radians(30.0)
BLURRED_BELOW = 8.0
DARK_BELOW = 20.0
WELL_LIT_LUMA = 120.0
RESET_SHARE = 0.7  # of the quality that a frame keeps whose face has just been found

_TEMPLES_CM = 1.52 * EYE_DISTANCE_CM  # between vertices 127 and 356 of the reference mesh


def face_width_px(face: AlignedFace) -> float:
    """Return the width of the face from temple to temple in pixels, as it would be without the head's turn."""
    return face.head.scale * _TEMPLES_CM


def face_quality(frame: MeshFrame, face: AlignedFace, turn: float, found_again: bool) -> tuple[float, FaceFlag]:
    """Return the quality 0-1 and the flags of a frame that shows a face.

    The quality is the product of one share for each measure; any one of them can spoil a frame.

    Args:
        frame: The face mesh.
        face: The same, aligned.
        turn: Of the head, away from the camera or from the pose of the neutral face, whichever is more, rad.
        found_again: Whether the face was not tracked up to this frame.
    """
    width = face_width_px(face)
    sharpness = frame.sharpness * (WELL_LIT_LUMA / max(frame.luma, 1.0)) ** 2  # contrast goes with the light
    shares = (
        1.0 if frame.presence is None else _share(frame.presence, PRESENCE),
        _share(width, WIDTH_PX),
        _share(sharpness, SHARPNESS),
        _share(frame.luma, LUMA),
        _share(face.residual_cm, RESIDUAL_CM),
        _share(turn, TURN_RAD),
        RESET_SHARE if found_again else 1.0,
    )
    wrong = {
        FaceFlag.RESET: found_again,
        FaceFlag.MULTIPLE: frame.n_faces > 1,
        FaceFlag.SMALL: width < SMALL_PX,
        FaceFlag.TURNED: turn > TURNED_RAD,
        FaceFlag.BLURRED: sharpness < BLURRED_BELOW,
        FaceFlag.DARK: frame.luma < DARK_BELOW,
    }
    flags = FaceFlag.NONE
    for flag, is_so in wrong.items():
        flags |= flag if is_so else FaceFlag.NONE
    return math.prod(shares), flags


def _share(value: float, bounds: tuple[float, float]) -> float:
    """Return 0 at the first bound, 1 at the second, a straight line between them; 0 for NaN."""
    none, full = bounds
    share = (value - none) / (full - none)
    return min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
