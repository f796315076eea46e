"""What the face process and its parent say to each other: numbers and states, never pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from clmer_streaming.face.extractor import FACE_MESH, Extractor
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.face.process_capture import CaptureSpec


@dataclass(frozen=True)
class FaceProcessConfig:
    """What one face process is to do."""

    capture: CaptureSpec
    lossless: bool = False  # every frame of a file in order, stamped by the container's time; else live
    neutral: NeutralFace | None = None  # the participant's, as measured on purpose
    extractor: Extractor = FACE_MESH  # what finds the points
    calibrate_s: float = 0.0  # measure the neutral face from the first frame on for so long; 0: do not
    video: Path | None = None  # where the frames of a live process are kept; None: nowhere
    hog: bool = False  # describe the aligned face of each frame, too; needs scikit-image


@dataclass(frozen=True)
class Calibrate:
    """The parent's order: measure the neutral face from the next good frame on."""

    seconds: float  # 0: give up what the order before this one began, also where it has been measured meanwhile
    number: int = 0  # from 1 on; the answer has it, too


@dataclass(frozen=True)
class FaceRow:
    """The face of one frame."""

    t: float  # s, LSL clock; in a lossless run the container's time
    values: bytes  # 249 float32, as ``face.layout.face_to_row`` gives them
    n_dropped: int  # frames that were grabbed but never looked at, so far
    hog: bytes = b""  # 1296 float32, NaN without a face; empty where nobody asked for it


@dataclass(frozen=True)
class CaptureState:
    """Whether pictures come; said at every change, and again and again where nothing else is said."""

    is_open: bool
    reason: str = ""  # a sentence for people; "" when nothing is wrong
    rate_hz: float = 0.0  # that the device announces


@dataclass(frozen=True)
class Calibrated:
    """The neutral face has been measured."""

    neutral: NeutralFace
    number: int = 0  # of the order; 0: it was measured because the process was started so


@dataclass(frozen=True)
class VideoEnded:
    """The video cannot be written any more; faces go on."""

    reason: str  # what was found


@dataclass(frozen=True)
class Ended:
    """The file has been read to its end, or cannot be read."""

    n_frames: int
    error: tuple[str, str, str] | None = None  # expected, found, to do


FaceMessage: TypeAlias = FaceRow | CaptureState | Calibrated | VideoEnded | Ended
"""What comes out of a face process."""
