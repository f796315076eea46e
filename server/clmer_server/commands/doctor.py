"""``clmer doctor``: looks at everything that a session needs, and says what to mend."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_server.cli import add_lsl_config
from clmer_server.logs import set_up_logging
from clmer_server.session.inference import check_device, load_predictor
from clmer_server.web.uvicorn import open_listener
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ArtifactError, ClmerError, SettingsError
from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.lsl.discovery import FoundStream, find_streams, why_not_eeg
from clmer_streaming.lsl.loopback import Loopback, measure_loopback
from clmer_streaming.lsl.setup import load_pylsl, set_up_lsl
from clmer_streaming.types import FaceSample, FloatArray, Item

if TYPE_CHECKING:
    from clmer_streaming.sources.camera import CameraSource


HELP = "check this computer, and say what to mend"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--device", default="auto", help="where the model is to run: auto, cpu, cuda or cuda:N")
    parser.add_argument("--camera", help="index, device, URL or video file; none goes without (default 0)")
    parser.add_argument("--record", type=Path, default=Path(), help="folder that recordings go to (default: this one)")
    parser.add_argument("--model", help="a shipped model's name or the path of a .ts or .onnx file")
    parser.add_argument("--model-sha256", help="hash that the model file must have")
    parser.add_argument("--host", default="127.0.0.1", help="where the service is to listen (default %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="port of the service (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_lsl_config(parser)


def run(args: argparse.Namespace) -> int:
    """Run every check; 0 where none failed, 1 otherwise."""
    set_up_logging("error")
    checks = []
    for check in _checks(args):
        checks.append(check)
        if not args.json:
            _print(check)
    if args.json:
        print(json.dumps({"checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    return int(any(check.state == "fail" for check in checks))


def _checks(args: argparse.Namespace) -> Iterator[Check]:
    """Yield the answers as they come, the quick ones first."""
    from clmer_model.artifact import ArtifactFile

    yield check_python()
    yield check_disk(args.record)
    yield check_port(args.host, args.port)
    yield check_open_files()
    device = check_gpu(args.device)
    yield device
    artifact = find_model(args.model, args.model_sha256)
    if isinstance(artifact, ArtifactFile):
        yield check_model(artifact, args.device if device.state == "ok" else "cpu")
    else:
        yield artifact
    found = check_lsl(args.lsl_config)
    yield from found
    if isinstance(artifact, ArtifactFile) and found[0].state == "ok":
        yield check_eeg(artifact.meta.preprocess)
    if args.camera != "none":
        yield check_camera(args.camera or "0", asked_for=args.camera is not None)


def _print(check: Check) -> None:
    print(f"{check.state:8} {check.name:10} {check.found}", flush=True)
    if check.mend:
        print(f"{'':19} -> {check.mend}", flush=True)


CheckState: TypeAlias = Literal["ok", "warning", "fail"]
"""``warning``: something will not work, the rest will; ``fail``: the service cannot do what was asked."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found there, and what to do about it."""

    name: str
    state: CheckState
    found: str  # a sentence for people
    mend: str = ""  # what to do; "" where nothing is to be done


def failed(name: str, error: ClmerError, state: CheckState = "fail") -> Check:
    """Return the answer of a check that ended in an error."""
    return Check(name, state, f"expected {error.expected}, found {error.found}", error.mend)


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


_LSL_GROUP = ("239.255.172.215", 16571)  # where liblsl asks for streams (network connectivity, LSL's documentation)
_WATCH_S = 1.0  # s for which two clocks are compared
_SAME_S = 5e-3  # s by which they may part in that time: the wall clock is slewed, and programs are interrupted
_CORRECTION_S = 1e-3  # s
_LISTEN_S = 1.0  # s
_PEERS = (
    "let UDP 16571 and TCP and UDP 16572-16604 through, or name the computers: --lsl-config, docs/finding-streams.md"
)


def check_lsl(config: Path | None) -> list[Check]:
    """Return what there is to say of LSL; where its library is missing, that alone.

    Args:
        config: The settings of liblsl (``--lsl-config``); it must not have been called before.
    """
    try:
        set_up_lsl(config)
        pylsl = load_pylsl()
        loopback = measure_loopback(config)
    except ClmerError as error:
        return [failed("lsl", error)]
    return [_library(pylsl), check_network(loopback, outward_address()), check_clock(loopback)]


def _library(pylsl: Any) -> Check:
    version = pylsl.library_version()
    return Check("lsl", "ok", f"liblsl {version // 100}.{version % 100}, pylsl {pylsl.__version__}")


def outward_address() -> str:
    """Return the own address by which multicast leaves this computer; "" where there is no way. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(_LSL_GROUP)
        except OSError:
            return ""
        return str(asked.getsockname()[0])


def check_network(loopback: Loopback, address: str) -> Check:
    """Return whether streams are found: a known one of this computer, and by which way those of others.

    Args:
        loopback: How the own one was found.
        address: By which multicast leaves this computer; "" where there is no way.
    """
    if loopback.found_s is None:
        found = "a stream of this computer was not found by another program on it: no live stream will be"
        return Check("network", "fail", found, f"look at the firewall: {_PEERS}")
    here = f"a stream of this computer is found in {loopback.found_s * 1e3:.1f} ms"
    if not address or address.startswith("127."):
        found = f"{here}; there is no way to other computers, theirs will not be found"
        return Check(
            "network", "warning", found, "connect the network; in a container give it the host's: --network host"
        )
    if not loopback.by_multicast:
        found = f"{here}, but not by multicast: streams of other computers may not be found"
        return Check("network", "warning", found, _PEERS)
    return Check("network", "ok", f"{here}; other computers are asked from {address}")


def check_clock(loopback: Loopback) -> Check:
    """Return whether the LSL clock runs as the wall clock does, and how exactly two clocks are brought together.

    Args:
        loopback: What was measured between two programs of this computer.
    """
    apart_s = _clocks_part()
    if abs(apart_s) > _SAME_S:
        found = f"the wall clock moved {apart_s * 1e3:+.0f} ms against the LSL clock within {_WATCH_S:g} s"
        return Check("clock", "warning", found, "let the time service settle; put your markers on the LSL clock")
    if not abs(loopback.correction_s) < _CORRECTION_S:
        measured = (
            "could not be measured" if math.isnan(loopback.correction_s) else f"{loopback.correction_s * 1e3:.2f} ms"
        )
        found = f"the correction between two clocks that are one: {measured}"
        return Check("clock", "warning", found, "end programs that keep the computer busy, and look again")
    return Check("clock", "ok", f"steady; clocks are brought together within {abs(loopback.correction_s) * 1e6:.0f} us")


def _clocks_part() -> float:
    """Return by how many seconds the wall clock gained on the LSL clock while it was watched."""
    before = _wall_minus_lsl()
    threading.Event().wait(_WATCH_S)
    return _wall_minus_lsl() - before


def _wall_minus_lsl() -> float:
    """Return the distance of the clocks in seconds, the LSL clock read on both sides of the wall clock."""
    first = local_clock()
    wall = time.time()
    return wall - (first + local_clock()) / 2


def check_eeg(config: PreprocessConfig) -> Check:
    """Return which EEG the model could take now.

    Args:
        config: The settings of the model.
    """
    streams = find_streams(_LISTEN_S)
    usable = [stream for stream in streams if not why_not_eeg(stream, config)]
    if len(usable) == 1:
        return _the_headset(usable[0])
    if usable:
        names = ", ".join(stream.header.name for stream in usable)
        return Check(
            "eeg", "warning", f"{len(usable)} streams fit: {names}", "say which: --eeg NAME; clmer streams lists them"
        )
    found = f"no stream that fits among {len(streams)} on the network" if streams else "no stream on the network"
    return Check(
        "eeg", "warning", found, "start the headset's LSL output; clmer streams says why a stream does not fit"
    )


def _the_headset(stream: FoundStream) -> Check:
    found = f"{stream.header.name} on {stream.header.hostname}"
    if not stream.n_samples:
        return Check("eeg", "warning", f"{found}, but no samples come", "is the headset on, and its stream started?")
    return Check("eeg", "ok", f"{found}, {stream.rate_hz:.1f} samples a second of {stream.header.sfreq:g}")


PYTHONS = ((3, 11), (3, 13))
"""First version of Python that is supported, and the first one that is not any more."""

_PACKAGES = ("clmer", "numpy", "scipy", "torch", "pylsl", "opencv-python", "mediapipe", "fastapi", "websockets")

_RECORD_BYTES_PER_S = (
    128 * (19 * 4 + 9)  # EEG of a headset: 19 channels of float32, a stamp for each sample
    + 30 * (len(FACE_CH_NAMES) * 4 + 9)  # the face at 30 frames a second
    + 2 * 3000  # predictions, in the recording and as JSON
)
_ENOUGH_MIN, _LEAST_MIN = 120.0, 5.0  # minutes of recording: a session and some; less than a session
_ENOUGH_FILES = 256  # files and connections that a service with a handful of clients and streams opens


def check_python() -> Check:
    """Return the versions of Python and of the packages that matter most."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Check("python", "fail", f"Python {version}", "install Python 3.11 or 3.12, then make install")
    missing = [name for name in _PACKAGES if _version(name) == "missing"]
    if missing:
        return Check("python", "fail", f"Python {version} without {', '.join(missing)}", "install again: make install")
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return Check("python", "ok", f"Python {version} with {packages}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def check_disk(folder: Path) -> Check:
    """Return how many minutes of recording the disk under a folder holds.

    Args:
        folder: Where recordings go; it, or the nearest folder above that exists, is looked at.
    """
    place = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        found = f"nothing can be written to {place}: {error.strerror or error}"
        return Check("disk", "fail", found, "name another folder with --record, or give yourself the right to write")
    minutes = shutil.disk_usage(place).free / _RECORD_BYTES_PER_S / 60
    found = f"room for {duration_text(minutes)} of recording in {place}"
    if minutes < _LEAST_MIN:
        return Check("disk", "fail", found, "make room, or record to another disk")
    return Check("disk", "ok", found) if minutes >= _ENOUGH_MIN else Check("disk", "warning", found, "make room")


def duration_text(minutes: float) -> str:
    """Return a duration for people: minutes up to two hours, then hours."""
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:,.0f} hours"


def check_port(host: str, port: int) -> Check:
    """Return whether the service could listen there now.

    Args:
        host: Name or address to listen at.
        port: Port.
    """
    try:
        open_listener(host, port).close()
    except SettingsError as error:
        return failed("port", error)
    return Check("port", "ok", f"{host}:{port} is free")


def check_open_files() -> Check:
    """Return how many files and connections the system allows this program."""
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit
        return Check("open files", "ok", "not limited by the system")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit >= _ENOUGH_FILES:
        return Check("open files", "ok", f"{limit if limit >= 0 else 'any number'} allowed")
    found = f"{limit} allowed: few streams and clients at a time"
    return Check("open files", "warning", found, "ulimit -n 1024, before the service is started")


_MUCH_OF_A_HOP = 0.2  # of the time between two windows; more leaves little for the rest


def find_model(name: str | None, sha256: str | None) -> ArtifactFile | Check:
    """Return the model file, or what is wrong with it."""
    try:
        return find_artifact(name, sha256)
    except ArtifactError as error:
        return failed("model", error)


def check_gpu(device: str) -> Check:
    """Return where the model would run.

    Args:
        device: As ``--device`` has it.
    """
    from clmer_model.predictor import choose_device, device_name

    try:
        check_device(device)
        chosen = choose_device(device)
    except ClmerError as error:
        return failed("device", error)
    without = ", no GPU that PyTorch can use" if device == "auto" and chosen.type == "cpu" else ""
    return Check("device", "ok", f"the model runs on {device_name(chosen)}{without}")


def check_model(artifact: ArtifactFile, device: str) -> Check:
    """Return whether the model computes what it was exported with, and how long a prediction takes.

    Args:
        artifact: The model file.
        device: As ``--device`` has it.
    """
    try:
        predictor = load_predictor(artifact, device)
    except ClmerError as error:
        return failed("model", error)
    from clmer_model.predictor import WARM_UP_CALLS

    start = time.perf_counter()
    predictor.warm_up(batches=(1,))
    seconds = (time.perf_counter() - start) / WARM_UP_CALLS
    meta = artifact.meta
    found = f"{meta.name} gives its reference output; {seconds * 1e3:.1f} ms a prediction; trained on {meta.trained_on}"
    if seconds > _MUCH_OF_A_HOP * meta.preprocess.window.hop_s:
        return Check("model", "warning", found, "close other programs, or use --device cuda: windows will be left out")
    return Check("model", "ok", found)
