"""The collector of garbage must not stop the service for long."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FULL = """
import gc
import clmer_server.web.service
from clmer_server.web.service import freeze_gc

def full_collections():
    before = gc.get_stats()[2]["collections"]
    clients = [[str(n), {"seq": n}] for n in range(200_000)]  # objects that stay, as those of connections do
    return gc.get_stats()[2]["collections"] - before

print(full_collections())
freeze_gc()
print(full_collections())
"""


@pytest.mark.slow
def test_objects_of_connections_do_not_make_the_collector_walk_over_the_whole_program() -> None:
    """As they would by Python's own settings: counted before, and after."""
    command = [sys.executable, "-W", "ignore", "-c", COUNT_FULL]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    before, after = map(int, done.stdout.split())
    assert before > 0
    assert after == 0
