"""Which program finds the points of a face: FaceMesh from the wheel, or a FaceLandmarker that the user brings.

Everything behind the 478 points is the same for both. Their points are not, and so each has an id of its own: a model
is fed by the extractor that it was trained with, and by no other.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.layout import EXTRACTOR_ID, OPENFACE_EXTRACTOR_ID
from clmer_streaming.face.mesh_frame import MeshReader

MEND_BUNDLE = "give --face-landmarker MediaPipe's face_landmarker.task, or leave it out"
"""What to do about a bundle that cannot be used."""

_MODELS = ("face_detector.tflite", "face_landmarks_detector.tflite")  # without which no bundle finds a face
_LANDMARKER_ID = f"{EXTRACTOR_ID}-landmarker-"  # then 8 hex digits of the file's SHA-256


@dataclass(frozen=True)
class Extractor:
    """What finds the points; plain values, so that it can be sent to another process."""

    id: str = EXTRACTOR_ID
    bundle: Path | None = None  # the user's FaceLandmarker; None: FaceMesh

    @classmethod
    def choose(cls, bundle: Path | None) -> Extractor:
        """Return the extractor that a ``.task`` file holds; without one, the usual one.

        Raises:
            SettingsError: The file is no FaceLandmarker bundle.
        """
        return FACE_MESH if bundle is None else cls(_id_of(_read(bundle)), bundle)

    def open(self) -> MeshReader:
        """Load the models and return what reads pictures with them.

        Raises:
            SettingsError: MediaPipe cannot use the bundle, or it is another one by now.
        """
        if self.bundle is None:
            from clmer_streaming.face.face_mesh import FaceMeshReader

            return FaceMeshReader()
        from clmer_streaming.face.face_landmarker import FaceLandmarkerReader

        content = _read(self.bundle)
        if _id_of(content) != self.id:
            raise SettingsError(f"the bundle {self.id!r} at {self.bundle}", "another one by now", "start again")
        return FaceLandmarkerReader(content)


FACE_MESH = Extractor()
"""The usual extractor: FaceMesh from MediaPipe's wheel."""


def is_known_extractor(name: str) -> bool:
    """Tell whether this version can make the numbers of an extractor, or read them from a file."""
    return name in (EXTRACTOR_ID, OPENFACE_EXTRACTOR_ID) or bool(
        re.fullmatch(rf"{re.escape(_LANDMARKER_ID)}[0-9a-f]{{8}}", name)
    )


def _id_of(content: bytes) -> str:
    return _LANDMARKER_ID + hashlib.sha256(content).hexdigest()[:8]


def _read(bundle: Path) -> bytes:
    """Return the content of a bundle that holds the models."""
    try:
        content = bundle.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except OSError as error:
        raise _unusable(bundle, error.strerror or repr(error)) from error
    except zipfile.BadZipFile as error:
        raise _unusable(bundle, "a file that is no such bundle") from error
    missing = [name for name in _MODELS if name not in names]
    if missing:
        raise _unusable(bundle, f"a bundle without {' and '.join(missing)}")
    return content


def _unusable(bundle: Path, found: str) -> SettingsError:
    return SettingsError(f"a FaceLandmarker bundle (.task) at {bundle}", found, MEND_BUNDLE)
