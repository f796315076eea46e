"""Claims that take minutes to show; run by ``make test-deep``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.errors import ClmerError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.replay_streams import EegChoice
from clmer_streaming.types import Chunk, Item, Marker
from tests.streaming.xdf.test_reader import mutated
from tests.support.paths import RECORDING
from tests.support.serving import serving

pytestmark = pytest.mark.deep

OPENBCI_MAP = "COUNTER=0," + ",".join(f"{name}={i + 1}" for i, name in enumerate(EPOC_CH_NAMES))
REAL_RECORDINGS = {
    "xdf/real16_openbci_125Hz_counter.xdf": OPENBCI_MAP,
    "xdf/real8_openbci_250Hz_markers_otherhost.xdf": "AF3=0,F7=1,F3=2,FC5=3,T7=4,P7=5,O1=6,O2=7",
    "xdf/synthetic/emotivlike_2hosts.xdf": None,
}


def recut(items: Sequence[Item], sizes: list[int]) -> Iterator[Item]:
    """Cut runs of chunks anew; everything else stays where it was."""
    turn = itertools.cycle(sizes)
    for is_chunk, run in itertools.groupby(items, lambda item: isinstance(item, Chunk)):
        if not is_chunk:
            yield from run
            continue
        chunks = [item for item in run if isinstance(item, Chunk)]
        t = np.concatenate([chunk.t for chunk in chunks])
        x = np.concatenate([chunk.x for chunk in chunks], axis=1)
        start = 0
        while start < t.size:
            stop = start + next(turn)
            yield dataclasses.replace(chunks[0], t=t[start:stop], x=x[:, start:stop])
            start = stop


@pytest.mark.parametrize("name", REAL_RECORDINGS)
def test_a_real_recording_gives_the_same_windows_however_it_is_cut(sample_data: Path, name: str) -> None:
    """Bursts, backward stamps, losses and rails of real devices: chunks of 1, 8, 32 and odd sizes, bit for bit."""
    source = ReplaySource(sample_data / name, eeg=EegChoice(eeg_map=REAL_RECORDINGS[name]))
    items = [item for item in source.items() if not isinstance(item, Marker)]  # they pass the Preprocessor by

    def crcs(sizes: list[int]) -> list[tuple[int, float]]:
        stage = Preprocessor(PreprocessConfig())
        return [(window.crc, window.t_end) for item in recut(items, sizes) for window in stage.push(item)]

    whole = crcs([10**9])
    assert len(whole) > 50
    for sizes in ([1], [8], [32], [3, 1, 17, 64, 5]):
        assert crcs(sizes) == whole


def test_no_damaged_recording_breaks_the_way_to_a_window(tmp_path: Path) -> None:
    """3,000 damaged sessions through reader, replay and preprocessor: windows, or an error that the user can mend."""
    chance = random.Random(4)
    write_session(simulate(SimulationConfig(seconds=3.0, seed=1)), tmp_path / "whole.xdf")
    whole = (tmp_path / "whole.xdf").read_bytes()
    path, n_replayed = tmp_path / "damaged.xdf", 0
    for _ in range(3000):
        damaged = whole
        for _ in range(chance.choice([1, 1, 3])):
            damaged = mutated(damaged, chance) or b"X"
        path.write_bytes(damaged)
        try:
            stage = Preprocessor(PreprocessConfig())
            for item in itertools.islice(ReplaySource(path, loop=True).items(), 400):
                for window in stage.push(item):
                    assert all(np.isfinite(series).all() for series in window.series.values())
        except ClmerError:
            continue
        n_replayed += 1
    assert n_replayed > 2000


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_an_hour_of_replay_does_not_grow_the_service(tmp_path: Path) -> None:
    """7,200 windows of the bundled session, looped at full speed: no hole in seq, no growth beyond 40 MiB."""
    seen: list[int] = []
    memory: list[float] = []
    with serving(tmp_path, "--replay", RECORDING, "--speed", "max", "--loop") as service, service.connect() as client:
        while len(seen) < 7200:
            message = json.loads(client.recv(timeout=60))
            if message["type"] == "prediction":
                seen.append(message["seq"])
                if len(seen) in (1200, 7200):
                    memory.append(resident_mib(service.process.pid))
    assert seen == list(range(7200))
    assert memory[1] - memory[0] < 40
