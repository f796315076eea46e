"""Check of the camera: opened by its own process, as in a session, and looked through for a moment."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from clmer_server.checks.check import Check, CheckState, failed
from clmer_streaming.errors import ClmerError
from clmer_streaming.types import FaceSample, FloatArray, Item

if TYPE_CHECKING:
    from clmer_streaming.sources.camera import CameraSource

_OPEN_S = 20.0  # s for the process to start, the camera to open and the first frame to come
_LOOK_S = 2.0  # s looked at from the first frame on


def check_camera(spec: str, *, asked_for: bool) -> Check:
    """Return whether frames come, how many a second, and whether there is a face in them.

    Args:
        spec: The camera, as ``--camera`` has it.
        asked_for: Whether somebody named it; a camera that is only the usual one may be missing.
    """
    from clmer_streaming.sources.camera import CameraSource

    if_absent: CheckState = "fail" if asked_for else "warning"
    try:
        camera = CameraSource(spec)
        samples = _look(camera)
    except ClmerError as error:
        return failed("camera", error, if_absent)
    if not samples:
        found = f"no frames: {camera.report.reason or 'the camera does not answer'}"
        return Check("camera", if_absent, found, "plug it in, end other programs that use it, or --camera none")
    rate = f"{camera.info.name}: {frame_rate([sample.t for sample in samples]):.0f} frames a second are read"
    if not any(np.isfinite(sample.landmarks).all() for sample in samples):
        return Check("camera", "warning", f"{rate}, no face in them", "light from the front, camera at eye level")
    return Check("camera", "ok", f"{rate}, with a face")


def _look(camera: CameraSource) -> list[FaceSample]:
    stop, samples = threading.Event(), list[FaceSample]()
    before, deadline = camera.report.reason, time.monotonic() + _OPEN_S

    def watch(item: Item) -> None:
        if isinstance(item, FaceSample):
            samples.append(item)
        long_enough = bool(samples) and samples[-1].t - samples[0].t >= _LOOK_S
        absent = not samples and camera.report.reason not in ("", before)
        if long_enough or absent or time.monotonic() > deadline:
            stop.set()

    camera.run(watch, stop)
    return samples


def frame_rate(t: FloatArray | list[float]) -> float:
    """Return how many frames a second come at times ``t`` (n,) s; 0 where there is one alone."""
    span = t[-1] - t[0] if len(t) > 1 else 0.0
    return float((len(t) - 1) / span) if span > 0 else 0.0
