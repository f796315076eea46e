"""The collector of garbage must not stop the service for long."""

from __future__ import annotations

import subprocess
import sys

COUNT_FULL = """
import gc
import clmer_server.web.service
from clmer_server.web.service import freeze_gc

if {settled}:
    freeze_gc()
full = gc.get_stats()[2]["collections"]
clients = [[str(n), {{"seq": n}}] for n in range(200_000)]  # objects that stay, as those of connections do
print(gc.get_stats()[2]["collections"] - full)
"""


def full_collections(settled: bool) -> int:
    """Return how often everything was looked through while many connections' worth of objects came."""
    command = [sys.executable, "-W", "ignore", "-c", COUNT_FULL.format(settled=settled)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout)


def test_objects_of_connections_do_not_make_the_collector_walk_over_the_whole_program() -> None:
    """As they would by Python's own settings."""
    assert full_collections(settled=False) > 0
    assert full_collections(settled=True) == 0
