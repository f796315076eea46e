"""A loopback test of LSL: a second process publishes a stream, and this process resolves and times it.

Run as a program, this module is that second process: ``python -m clmer_streaming.lsl.loopback SOURCE_ID [LSL_CONFIG]``.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clmer_streaming.clock import local_clock
from clmer_streaming.lsl.setup import OWN_ID_PREFIX, load_pylsl, set_up_lsl

_FIND_S = 2.0  # s
_CONNECT_S = 5.0  # s
_ATTEMPTS = 3  # the fastest counts: other programs may be busy during one
_UNICAST_AFTER_S = 0.4  # s; liblsl queries by multicast at once, and known peers directly after 0.5 s


@dataclass(frozen=True)
class Loopback:
    """Result of resolving a stream of this computer."""

    found_s: float | None  # from query to answer; None: not found
    correction_s: float = float("nan")  # clock sync between processes on one clock: its error

    @property
    def by_multicast(self) -> bool:
        """Whether the answer came by multicast, so that other computers can be found too."""
        return self.found_s is not None and self.found_s < _UNICAST_AFTER_S


def measure_loopback(config: Path | None = None) -> Loopback:
    """Publish a stream from a second process and resolve it.

    Args:
        config: liblsl configuration file of this process, passed on to the second one.

    Raises:
        StreamError: pylsl finds no liblsl library on this platform.
    """
    pylsl = load_pylsl()
    source_id = f"{OWN_ID_PREFIX}loopback-{uuid.uuid4().hex}"
    options = [str(config.resolve())] if config is not None else []
    command = [sys.executable, "-m", __name__, source_id, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                return Loopback(None)
            return _resolve_and_time(pylsl, source_id)
        finally:
            process.kill()


def _resolve_and_time(pylsl: Any, source_id: str) -> Loopback:
    times, streams = [], []
    for _ in range(_ATTEMPTS):
        start = local_clock()
        streams = pylsl.resolve_byprop("source_id", source_id, timeout=_FIND_S)
        if streams:
            times.append(local_clock() - start)
    if not times:
        return Loopback(None)
    try:
        inlet = pylsl.StreamInlet(streams[0], recover=False)
        return Loopback(min(times), inlet.time_correction(_CONNECT_S))
    except (IndexError, pylsl.util.LostError, pylsl.util.TimeoutError):
        return Loopback(min(times))


def _publish(source_id: str, config: Path | None) -> None:
    """Publish the stream until stdin is closed: by a kill, or because the first process has ended."""
    set_up_lsl(config)
    pylsl = load_pylsl()
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("clmer loopback", "Test", 1, 0.0, pylsl.cf_float32, source_id))
    print("ready", flush=True)
    sys.stdin.read()
    del outlet


if __name__ == "__main__":
    _publish(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None)
