"""``clmer doctor``: check everything that a session needs, and print what to mend.

In reading order: the command and ``Check``, the result of each check; checks of the computer, of the model, of LSL and
its streams, and of the camera.
"""

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
    """Run and print every check; return 1 if any failed, else 0."""
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
    """Yield the results as they come, the quick ones first."""
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
        yield check_camera(args.camera or "0", requested=args.camera is not None)


def _print(check: Check) -> None:
    print(f"{check.state:8} {check.name:10} {check.found}", flush=True)
    if check.mend:
        print(f"{'':19} -> {check.mend}", flush=True)


CheckState: TypeAlias = Literal["ok", "warning", "fail"]
"""``warning``: a part of the service will not work; ``fail``: the service cannot do what the options ask for."""


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str  # what was checked
    state: CheckState
    found: str  # a sentence for people
    mend: str = ""  # what to do; "" where nothing needs to be done


def failed(name: str, error: ClmerError, state: CheckState = "fail") -> Check:
    """Return the result of a check that ended in an error."""
    return Check(name, state, f"expected {error.expected}, found {error.found}", error.mend)


_PYTHON_RANGE = ((3, 11), (3, 13))  # first supported version, and the first one after the supported ones

_PACKAGES = ("clmer", "numpy", "scipy", "torch", "pylsl", "opencv-python", "mediapipe", "fastapi", "websockets")

_RECORD_BYTES_PER_S = (
    128 * (19 * 4 + 9)  # EEG of a headset: 19 channels of float32, a stamp for each sample
    + 30 * (len(FACE_CH_NAMES) * 4 + 9)  # the face at 30 frames a second
    + 2 * 3000  # predictions, in the recording and as JSON
)
_RECOMMENDED_MIN, _REQUIRED_MIN = 120.0, 5.0  # minutes of recording
_RECOMMENDED_FILES = 256  # files and connections of a service with a handful of clients and streams


def check_python() -> Check:
    """Check the versions of Python and of the most important packages."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not _PYTHON_RANGE[0] <= sys.version_info[:2] < _PYTHON_RANGE[1]:
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
    """Check how many minutes of recording the disk of a folder can hold.

    Args:
        folder: Folder of recordings; it, or the nearest folder above it that exists, is checked.
    """
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        found = f"nothing can be written to {existing}: {error.strerror or error}"
        return Check("disk", "fail", found, "name another folder with --record, or give yourself the right to write")
    minutes = shutil.disk_usage(existing).free / _RECORD_BYTES_PER_S / 60
    found = f"room for {duration_text(minutes)} of recording in {existing}"
    if minutes < _REQUIRED_MIN:
        return Check("disk", "fail", found, "make room, or record to another disk")
    return Check("disk", "ok", found) if minutes >= _RECOMMENDED_MIN else Check("disk", "warning", found, "make room")


def duration_text(minutes: float) -> str:
    """Return a duration as text: in minutes below two hours, else in hours."""
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:,.0f} hours"


def check_port(host: str, port: int) -> Check:
    """Check that the service can listen on a port.

    Args:
        host: Name or address to listen on.
        port: Number of the port.
    """
    try:
        open_listener(host, port).close()
    except SettingsError as error:
        return failed("port", error)
    return Check("port", "ok", f"{host}:{port} is free")


def check_open_files() -> Check:
    """Check how many files and connections the system allows this process."""
    try:
        import resource
    except ImportError:  # Windows, where there is no such limit
        return Check("open files", "ok", "not limited by the system")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit >= _RECOMMENDED_FILES:
        return Check("open files", "ok", f"{limit if limit >= 0 else 'any number'} allowed")
    found = f"{limit} allowed: few streams and clients at a time"
    return Check("open files", "warning", found, "ulimit -n 1024, before the service is started")


_SLOW_SHARE_OF_HOP = 0.2  # of the hop; a prediction that takes longer leaves too little time for the rest


def find_model(name: str | None, sha256: str | None) -> ArtifactFile | Check:
    """Return the model file, or the failed check.

    Args:
        name: Name or path of the model; None: the default model.
        sha256: Hash that the file must have.
    """
    try:
        return find_artifact(name, sha256)
    except ArtifactError as error:
        return failed("model", error)


def check_gpu(device: str) -> Check:
    """Check on which device the model runs.

    Args:
        device: Name of the device, as given to ``--device``.
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
    """Check that the model gives the reference output of its export, and how long a prediction takes.

    Args:
        artifact: The model file.
        device: Name of the device, as given to ``--device``.
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
    if seconds > _SLOW_SHARE_OF_HOP * meta.preprocess.window.hop_s:
        return Check("model", "warning", found, "close other programs, or use --device cuda: windows will be left out")
    return Check("model", "ok", found)


_LSL_MULTICAST_GROUP = ("239.255.172.215", 16571)  # of liblsl's queries (LSL documentation, "Network Connectivity")
_CLOCKS_S = 1.0  # s for which two clocks are compared
_CLOCK_TOLERANCE_S = 5e-3  # s of difference within that time: the wall clock is slewed, and programs are interrupted
_CORRECTION_TOLERANCE_S = 1e-3  # s of correction between two programs on one computer
_LISTEN_S = 1.0  # s for which streams are read
_FIREWALL_HINT = (
    "let UDP 16571 and TCP and UDP 16572-16604 through, or name the computers: --lsl-config, docs/finding-streams.md"
)


def check_lsl(config: Path | None) -> list[Check]:
    """Check the LSL library, the network and the clock; where the library cannot be loaded, that alone.

    Args:
        config: File of settings of liblsl (``--lsl-config``), which must not have been called before.
    """
    try:
        set_up_lsl(config)
        pylsl = load_pylsl()
        loopback = measure_loopback(config)
    except ClmerError as error:
        return [failed("lsl", error)]
    return [_library_versions(pylsl), check_network(loopback, multicast_address()), check_clock(loopback)]


def _library_versions(pylsl: Any) -> Check:
    version = pylsl.library_version()
    return Check("lsl", "ok", f"liblsl {version // 100}.{version % 100}, pylsl {pylsl.__version__}")


def multicast_address() -> str:
    """Return the address from which this computer sends multicast; "" where it has no route. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_LSL_MULTICAST_GROUP)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def check_network(loopback: Loopback, address: str) -> Check:
    """Check that streams are found: one of this computer, and by multicast those of others.

    Args:
        loopback: How a stream of this computer was found.
        address: Address from which this computer sends multicast; "" where it has no route.
    """
    if loopback.found_s is None:
        found = "a stream of this computer was not found by another program on it: no live stream will be"
        return Check("network", "fail", found, f"look at the firewall: {_FIREWALL_HINT}")
    here = f"a stream of this computer is found in {loopback.found_s * 1e3:.1f} ms"
    if not address or address.startswith("127."):
        found = f"{here}; there is no way to other computers, theirs will not be found"
        return Check(
            "network", "warning", found, "connect the network; in a container give it the host's: --network host"
        )
    if not loopback.by_multicast:
        found = f"{here}, but not by multicast: streams of other computers may not be found"
        return Check("network", "warning", found, _FIREWALL_HINT)
    return Check("network", "ok", f"{here}; other computers are asked from {address}")


def check_clock(loopback: Loopback) -> Check:
    """Check that the LSL clock keeps pace with the wall clock, and how exactly liblsl corrects between two clocks.

    Args:
        loopback: Measurement between two programs of this computer.
    """
    gain_s = _wall_clock_gain_s()
    if abs(gain_s) > _CLOCK_TOLERANCE_S:
        found = f"the wall clock moved {gain_s * 1e3:+.0f} ms against the LSL clock within {_CLOCKS_S:g} s"
        return Check("clock", "warning", found, "let the time service settle; put your markers on the LSL clock")
    if not abs(loopback.correction_s) < _CORRECTION_TOLERANCE_S:
        measured = (
            "could not be measured" if math.isnan(loopback.correction_s) else f"{loopback.correction_s * 1e3:.2f} ms"
        )
        found = f"the correction between two clocks that are one: {measured}"
        return Check("clock", "warning", found, "end programs that keep the computer busy, and look again")
    return Check("clock", "ok", f"steady; clocks are brought together within {abs(loopback.correction_s) * 1e6:.0f} us")


def _wall_clock_gain_s() -> float:
    """Return by how many seconds the wall clock gains on the LSL clock in ``_CLOCKS_S`` seconds."""
    before = _wall_minus_lsl()
    threading.Event().wait(_CLOCKS_S)
    return _wall_minus_lsl() - before


def _wall_minus_lsl() -> float:
    """Return the difference of the clocks in seconds; the LSL clock is read before and after the wall clock."""
    before = local_clock()
    wall = time.time()
    return wall - (before + local_clock()) / 2


def check_eeg(config: PreprocessConfig) -> Check:
    """Check which EEG streams on the network the model can use.

    Args:
        config: Settings of the model.
    """
    streams = find_streams(_LISTEN_S)
    usable = [stream for stream in streams if not why_not_eeg(stream, config)]
    if len(usable) == 1:
        return _check_samples(usable[0])
    if usable:
        names = ", ".join(stream.header.name for stream in usable)
        return Check(
            "eeg", "warning", f"{len(usable)} streams fit: {names}", "say which: --eeg NAME; clmer streams lists them"
        )
    found = f"no stream that fits among {len(streams)} on the network" if streams else "no stream on the network"
    return Check(
        "eeg", "warning", found, "start the headset's LSL output; clmer streams says why a stream does not fit"
    )


def _check_samples(stream: FoundStream) -> Check:
    found = f"{stream.header.name} on {stream.header.hostname}"
    if not stream.n_samples:
        return Check("eeg", "warning", f"{found}, but no samples come", "is the headset on, and its stream started?")
    return Check("eeg", "ok", f"{found}, {stream.rate_hz:.1f} samples a second of {stream.header.sfreq:g}")


_OPEN_TIMEOUT_S = 20.0  # s until the process has started, the camera is open and the first frame has come
_FRAMES_S = 2.0  # s for which frames are read, from the first one on


def check_camera(spec: str, *, requested: bool) -> Check:
    """Check that frames come, at which rate, and whether there is a face in them.

    Args:
        spec: The camera, as given to ``--camera``.
        requested: Whether the user named it; the default camera may be missing.
    """
    from clmer_streaming.sources.camera import CameraSource

    if_absent: CheckState = "fail" if requested else "warning"
    try:
        camera = CameraSource(spec)
        samples = _read_frames(camera)
    except ClmerError as error:
        return failed("camera", error, if_absent)
    if not samples:
        found = f"no frames: {camera.report.reason or 'the camera does not answer'}"
        return Check("camera", if_absent, found, "plug it in, end other programs that use it, or --camera none")
    rate = f"{camera.info.name}: {frame_rate([sample.t for sample in samples]):.0f} frames a second are read"
    if not any(np.isfinite(sample.landmarks).all() for sample in samples):
        return Check("camera", "warning", f"{rate}, no face in them", "light from the front, camera at eye level")
    return Check("camera", "ok", f"{rate}, with a face")


def _read_frames(camera: CameraSource) -> list[FaceSample]:
    """Return the frames of a camera's first seconds; none if it does not open in time."""
    stop, samples = threading.Event(), list[FaceSample]()
    before, deadline = camera.report.reason, time.monotonic() + _OPEN_TIMEOUT_S

    def on_item(item: Item) -> None:
        if isinstance(item, FaceSample):
            samples.append(item)
        long_enough = bool(samples) and samples[-1].t - samples[0].t >= _FRAMES_S
        absent = not samples and camera.report.reason not in ("", before)
        if long_enough or absent or time.monotonic() > deadline:
            stop.set()

    camera.run(on_item, stop)
    return samples


def frame_rate(t: FloatArray | list[float]) -> float:
    """Return the mean rate in Hz of frames at times ``t`` (n,) in seconds; 0 for fewer than two."""
    span = t[-1] - t[0] if len(t) > 1 else 0.0
    return float((len(t) - 1) / span) if span > 0 else 0.0
