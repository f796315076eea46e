"""Checks of Lab Streaming Layer: the library, the network, the clock, the EEG that is there."""

from __future__ import annotations

import math
import socket
import threading
import time
from pathlib import Path
from typing import Any

from clmer_server.checks.check import Check, failed
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ClmerError
from clmer_streaming.sources.discovery import FoundStream, find_streams, why_not_eeg
from clmer_streaming.sources.loopback import Loopback, look_at_loopback
from clmer_streaming.sources.lsl import load_pylsl
from clmer_streaming.sources.lsl_setup import set_up_lsl

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
        loopback = look_at_loopback(config)
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
