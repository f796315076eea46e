"""The channels of a face in Motion-BIDS: what each one measures, of which point, in which axes."""

from __future__ import annotations

from typing import Any

from clmer_server.archive.tables import Cell, Table
from clmer_streaming.face.layout import AU_NAMES, FACE_CH_NAMES, N_LANDMARKS
from clmer_streaming.types import FACE_CALIBRATIONS, FaceFlag

TIMES = {
    "LATENCY": "from the first frame",
    "EEG_TIME": "from the first sample of the EEG, as the onsets in events.tsv",
    "LSL_TIME": "on the LSL clock of the recording computer",
}
"""Channels before those of the face: the time of the frame in seconds."""

REFERENCE_FRAMES: dict[str, Any] = {
    "reference_frame": {
        "Description": "Axes of positions and rotations",
        "Levels": {
            "face": {
                "SpatialAxes": "LSA",
                "Description": "Of the head, which is turned straight and scaled to the size of the reference face",
            },
            "camera_position": {
                "SpatialAxes": "LIP",
                "Description": "Of the camera, for a person who looks into it: right and down in its picture, and away",
            },
            "camera_rotation": {
                "SpatialAxes": "LSA",
                "RotationOrder": "XYZ",
                "RotationRule": "right-hand",
                "Description": "Of the camera, for a person who looks into it: pitch is positive with the nose down",
            },
        },
    }
}
"""``channels.json``."""

_COLUMNS = ("name", "component", "type", "tracked_point", "units", "reference_frame", "description")
_AXES = {"PITCH": "x", "YAW": "y", "ROLL": "z"}
_FLAGS = ", ".join(f"{flag.value} {str(flag.name).lower()}" for flag in FaceFlag if flag.value)
_SAID = {
    "GAZE_X": ("rad", "gaze to the person's left, against the camera's axis"),
    "GAZE_Y": ("rad", "gaze upwards, against the camera's axis"),
    "QUALITY": ("n/a", "0: nothing to trust, or no face; to 1"),
    "FLAGS": ("n/a", f"sum of what is known of the frame: {_FLAGS}"),
    "CALIBRATION": ("n/a", "action units against: " + ", ".join(f"{i} {c}" for i, c in enumerate(FACE_CALIBRATIONS))),
}


def exported_channels(*, landmarks: bool) -> tuple[int, ...]:
    """Return which of FACE_CH_NAMES are written: all of them, or those behind the landmarks."""
    return tuple(range(0 if landmarks else 3 * N_LANDMARKS, len(FACE_CH_NAMES)))


def channel_table(channels: tuple[int, ...]) -> Table:
    """Return ``channels.tsv``: the times, then the channels with these numbers."""
    times = [
        (name, "n/a", "LATENCY" if name == "LATENCY" else "MISC", "n/a", "s", "n/a", text)
        for name, text in TIMES.items()
    ]
    return Table(_COLUMNS, (*times, *(_row(FACE_CH_NAMES[number]) for number in channels)))


def _row(name: str) -> tuple[Cell, ...]:
    part, _, end = name.partition("_")
    if part.startswith("LM"):
        return name, end.lower(), "POS", f"landmark {part[2:]}", "cm", "face", "point of iBUG 300-W"
    if part == "POSE" and end in _AXES:
        return name, _AXES[end], "ORNT", "head", "rad", "camera_rotation", f"{end.lower()} of the head"
    if part == "POSE":
        return name, end[-1].lower(), "POS", "head", "cm", "camera_position", "bridge of the nose"
    if part in AU_NAMES:
        what = "intensity, 0 to 5" if end == "r" else "presence, 0 or 1"
        return name, "n/a", "MISC", "n/a", "n/a", "n/a", f"action unit {int(part[2:])} of FACS: {what}"
    units, text = _SAID[name]
    return name, "n/a", "MISC", "n/a", units, "n/a", text
