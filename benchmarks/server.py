"""How soon clients hear of a prediction: many of them, one that does not read among them, and two sessions.

Run with ``python benchmarks/server.py [SECONDS]``; SECONDS (4) is how long each row is measured, and the whole takes
less than three minutes on two cores. Beside a client that never reads a row takes 8 s, so that it could be gone.
Clients run in two processes of their own, and only keep what comes with its time. The rivals run under the same server
with the same settings: a queue and ``send_text`` for each client, with the text encoded once for all; and a loop that
awaits ``send_json`` for one client after the other. Prints three tables; nothing is asserted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from server_parts.broadcast import Way
from server_parts.measuring import (
    FLOOD_HZ,
    N_BESIDE_THE_DEAF,
    RATE_HZ,
    SESSIONS,
    measure_broadcast,
    measure_flood,
    measure_ready,
)
from server_parts.measuring import real_prediction as make_prediction
from streams_parts.network import own_network, versions

SECONDS = 4.0
SUBSCRIBERS = (1, 100, 500, 1000)
WAYS: tuple[Way, ...] = ("clmer", "queues of text", "loop of send_json")
READY_CLIENTS = 20
RECORDING = Path(__file__).parents[1] / "examples" / "session.xdf"


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    console = Console(width=120)
    console.print(
        f"{versions('uvicorn', 'websockets', 'starlette', 'uvloop')}; load of the machine {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        prediction = make_prediction(Path(folder), RECORDING)
    console.print(f"the prediction that is sent: {len(prediction)} bytes of JSON; published at {RATE_HZ:g} Hz")
    console.print(broadcast_table(prediction, seconds))
    console.print(flood_table(prediction, seconds))
    with own_network() as folder:
        console.print(ready_table(folder, seconds))


def broadcast_table(prediction: str, seconds: float) -> Table:
    """Return what subscribers cost."""
    title = f"One prediction to many, {RATE_HZ:g} times a second: from handing it out to its arrival"
    columns = ("p50 ms", "p99 ms", "max ms", "CPU %", "memory MB", "heard %")
    table = Table("subscribers", "by", *columns, title=title)
    rows = [tuple(measure_broadcast(way, SUBSCRIBERS, prediction, seconds)) for way in WAYS]
    for n, of_each_way in zip(SUBSCRIBERS, zip(*rows, strict=True), strict=True):
        for way, row in zip(WAYS, of_each_way, strict=True):
            used = (f"{100 * row.cpu:.1f}", f"{row.resident_bytes / 1e6:.0f}")
            table.add_row(str(n), way, *delays(row.delay_s), *used, share(row.delay_s.size, row.expected))
    return table


def flood_table(prediction: str, seconds: float) -> Table:
    """Return what one client that does not read does to the others."""
    title = f"{N_BESIDE_THE_DEAF} clients at {FLOOD_HZ:g} predictions a second, and one beside them that never reads"
    columns = ("p50 ms", "p99 ms", "max ms", "longest silence s", "heard %")
    table = Table("by", "one that never reads", *columns, title=title)
    for way in WAYS:
        for deaf in (False, True):
            row = measure_flood(way, prediction, seconds, deaf=deaf)
            beside = ("was cut off" if row.n_cut_off else "stayed") if deaf else "no"
            rest = (f"{row.silent_s:.2f}", share(row.delay_s.size, row.expected))
            table.add_row(way, beside, *delays(row.delay_s), *rest)
    return table


def ready_table(folder: Path, seconds: float) -> Table:
    """Return how long a complete window needs to its clients, the model's answer in between."""
    row = measure_ready(folder, READY_CLIENTS, seconds)
    title = f"Live EEG, {len(SESSIONS)} sessions, {READY_CLIENTS} clients: from a complete window to the client"
    table = Table("p50 ms", "p99 ms", "max ms", "heard %", title=title)
    table.add_row(*delays(row.delay_s), share(row.delay_s.size, row.expected))
    return table


def delays(seconds: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """Return median, 99th percentile and maximum in milliseconds."""
    measured = seconds[np.isfinite(seconds)]
    if not measured.size:
        return ("-", "-", "-")
    return tuple(f"{value:.2f}" for value in np.percentile(measured, (50, 99, 100)) * 1e3)


def share(n: int, expected: int) -> str:
    """Return what arrived of what should have, in percent; a little above or below 100 is the beginning and the end."""
    return f"{100 * n / expected:.1f}"


if __name__ == "__main__":
    main()
