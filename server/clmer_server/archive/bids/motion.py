"""Face samples of a session for BIDS, as a tracking system of Motion-BIDS: one row for each frame, with its time.

They are not ``physio`` files: BIDS requires a constant rate of those, which a camera does not have. Motion-BIDS allows
uneven frames with a ``LATENCY`` channel (BIDS 1.10, modality-specific files, Motion). In reading order: the channels,
``FaceTrack`` and ``write_faces``, metadata.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from clmer_server.archive.bids.layout import BidsNames, BidsRun, run_at, write_json
from clmer_server.archive.tables import Cell, Table, tsv_text
from clmer_streaming.face.layout import AU_NAMES, FACE_CH_NAMES, N_LANDMARKS, face_to_row
from clmer_streaming.types import FACE_CALIBRATIONS, FaceFlag, FaceSample, Item, StreamInfo

TIME_CHANNELS = {
    "LATENCY": "from the first frame",
    "EEG_TIME": "from the first sample of the EEG, as the onsets in events.tsv",
    "LSL_TIME": "on the LSL clock of the recording computer",
}
"""Channels before those of the face, with the time of the frame in seconds, and their descriptions."""

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
"""Content of ``channels.json``."""

_COLUMNS = ("name", "component", "type", "tracked_point", "units", "reference_frame", "description")
_AXES = {"PITCH": "x", "YAW": "y", "ROLL": "z"}
_FLAGS = ", ".join(f"{flag.value} {str(flag.name).lower()}" for flag in FaceFlag if flag.value)
_UNITS_AND_TEXTS = {
    "GAZE_X": ("rad", "gaze to the person's left, against the camera's axis"),
    "GAZE_Y": ("rad", "gaze upwards, against the camera's axis"),
    "QUALITY": ("n/a", "0: nothing to trust, or no face; to 1"),
    "FLAGS": ("n/a", f"sum of what is known of the frame: {_FLAGS}"),
    "CALIBRATION": ("n/a", "action units against: " + ", ".join(f"{i} {c}" for i, c in enumerate(FACE_CALIBRATIONS))),
}


def exported_channels(*, landmarks: bool) -> tuple[int, ...]:
    """Return the indices in FACE_CH_NAMES that are written: all, or those after the landmarks."""
    return tuple(range(0 if landmarks else 3 * N_LANDMARKS, len(FACE_CH_NAMES)))


def channel_table(channels: tuple[int, ...]) -> Table:
    """Return ``channels.tsv``: the times, then the channels with these indices in FACE_CH_NAMES."""
    times = [
        (name, "n/a", "LATENCY" if name == "LATENCY" else "MISC", "n/a", "s", "n/a", text)
        for name, text in TIME_CHANNELS.items()
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
    units, text = _UNITS_AND_TEXTS[name]
    return name, "n/a", "MISC", "n/a", units, "n/a", text


TRACKSYS = "face"
"""Name of the tracking system in file names."""


@dataclass
class FaceTrack:
    """Writer of the frames of one run; times are seconds of the LSL clock, device delay subtracted."""

    run: BidsRun
    info: StreamInfo
    file: TextIO
    channels: tuple[int, ...]  # indices in FACE_CH_NAMES
    t_first: float = math.nan
    t_last: float = math.nan
    n: int = 0

    @property
    def names(self) -> BidsNames:
        """Names of the run's files."""
        return self.run.names

    @property
    def rate_hz(self) -> float:
        """Mean number of frames per second; 0 for a single frame."""
        span_s = self.t_last - self.t_first
        return (self.n - 1) / span_s if span_s > 0 else 0.0

    def write(self, sample: FaceSample, t: float) -> None:
        """Write the frame at ``t`` seconds; values that were not measured are ``n/a``."""
        self.t_first = t if not self.n else self.t_first
        self.t_last, self.n = t, self.n + 1
        row = face_to_row(sample).tolist()
        times = (f"{t - self.t_first:.6f}", f"{self.run.signal.seconds_of(t):.6f}", repr(t))
        cells = (f"{row[i]:.9g}" if math.isfinite(row[i]) else "n/a" for i in self.channels)  # exact for float32
        self.file.write("\t".join((*times, *cells)) + "\n")


def write_faces(root: Path, runs: Sequence[BidsRun], items: Iterable[Item], *, landmarks: bool) -> list[FaceTrack]:
    """Write the face of every run that has one, frame by frame.

    Args:
        root: Folder of the data set.
        runs: Runs of the session.
        items: Items of the session.
        landmarks: Whether the 68 landmarks are written, which can identify a person.

    Returns:
        The tracks that were written, their files closed.
    """
    tracks: dict[int | None, FaceTrack] = {}  # by number of the run
    infos: dict[str, StreamInfo] = {}
    try:
        for item in items:
            if isinstance(item, StreamInfo) and item.kind == "face":
                infos[item.source] = item
            elif isinstance(item, FaceSample) and (info := infos.get(item.source)) and math.isfinite(item.t):
                t = item.t - info.delay_s
                run = run_at(t, runs)
                if run.names.run not in tracks:
                    tracks[run.names.run] = _open(root, run, info, exported_channels(landmarks=landmarks))
                tracks[run.names.run].write(item, t)
    finally:
        for track in tracks.values():
            track.file.close()
    for track in tracks.values():
        _write_sidecars(root, track)
    return list(tracks.values())


def face_files(track: FaceTrack) -> Iterator[Path]:
    """Yield the paths of a track's files, relative to the data set, the frames first."""
    for ending in ("motion.tsv", "motion.json", "channels.tsv", "channels.json"):
        yield track.names.motion(TRACKSYS, ending)


def _open(root: Path, run: BidsRun, info: StreamInfo, channels: tuple[int, ...]) -> FaceTrack:
    path = root / run.names.motion(TRACKSYS, "motion.tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FaceTrack(run, info, path.open("w", encoding="utf-8", newline=""), channels)


def _write_sidecars(root: Path, track: FaceTrack) -> None:
    table, (_, sidecar, channels, frames) = channel_table(track.channels), (root / path for path in face_files(track))
    kind = table.columns.index("type")
    write_json(sidecar, _sidecar(track, Counter(str(row[kind]) for row in table.rows)))
    channels.write_text(tsv_text(table), encoding="utf-8")
    write_json(frames, REFERENCE_FRAMES)


def _sidecar(track: FaceTrack, types: Counter[str]) -> dict[str, Any]:
    info = track.info
    return {
        "TaskName": track.names.task,
        "TrackingSystemName": info.name or "CLMER-Face",
        "Manufacturer": info.manufacturer or "n/a",
        "SamplingFrequency": info.sfreq or track.rate_hz,
        "SamplingFrequencyEffective": track.rate_hz,
        "StartTime": track.run.signal.seconds_of(track.t_first),
        "RecordingDuration": track.t_last - track.t_first,
        "MissingValues": "n/a",
        "DeviceDelay": info.delay_s,
        "MotionChannelCount": types.total(),
        **{f"{kind}ChannelCount": n for kind, n in types.items()},
    }
