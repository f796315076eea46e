"""Claims about a cable that is pulled out between a headset's host and this one, and plugged in again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lsl_link
from two_hosts import on_the_near_host

LINK = Path(lsl_link.__file__).resolve()


@pytest.mark.deep
@pytest.mark.netns
@pytest.mark.parametrize("seconds", [6, 40])
def test_a_network_that_goes_and_comes_back_loses_nothing(tmp_path: Path, seconds: int) -> None:
    """Lost, and why; then every sample of the time between, in order, without a gap, and the same when replayed."""
    printed = on_the_near_host(tmp_path, f'LSLAPICFG=peer.cfg "$PYTHON" "{LINK}" {seconds}', 180)
    seen = json.loads(printed)
    assert seen["states"] == ["connecting", "live", "lost", "live"]
    assert seen["said"] == ["far does not answer; what it sends is taken up at once"]
    assert (seen["gaps"], seen["missing"], seen["n_lost"], seen["replays"]) == ([], 0, 0, True)
