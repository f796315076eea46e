"""The benchmark of little data: folds, paired differences, and what the network is worth on a real recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.small_data import (
    BLOCK_S,
    NETWORK,
    Results,
    SmallSet,
    difference,
    draw_curves,
    make_set,
    matrices_of,
    result_of,
    score_table,
)
from clmer_model.training.estimators import BASELINES


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallSet, Path]:
    """Forty trials of four simulated people, and the folder of results."""
    out = tmp_path_factory.mktemp("small")
    data = make_set("simulated40", Path("nowhere"), out)
    assert data is not None
    return data, out


def test_every_window_is_tested_once_by_seed(simulated: tuple[SmallSet, Path]) -> None:
    """Folds by trial are a partition that the seed draws."""
    data, _ = simulated
    assert len(np.unique(data.store.examples.trial)) == 40
    for seed in (1, 2):
        tested = np.concatenate([test for _, test in data.folds(seed)])
        assert np.array_equal(np.sort(tested), np.arange(len(data.store.examples)))
        for train, test in data.folds(seed):
            assert not np.isin(data.store.examples.trial[test], data.store.examples.trial[train]).any()
    assert not np.array_equal(data.folds(1)[0][1], data.folds(2)[0][1])


def test_results_are_kept_and_compared_pair_by_pair(simulated: tuple[SmallSet, Path], tmp_path: Path) -> None:
    """A second call reads the file; an estimator does not differ from itself; the table and the picture have all."""
    data, out = simulated
    results: Results = {name: [result_of(data, name, 1, out)] for name in ("lda", "trees")}
    assert result_of(data, "lda", 1, out) == results["lda"][0]
    windows, trials = matrices_of(data, results["lda"])
    assert (windows.sum(), trials.sum()) == (len(data.store.examples), 40)
    same = difference(data, {"lda": results["lda"], NETWORK: results["lda"]})
    assert same is not None
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    table = score_table(data, results)
    assert [row["estimator"] for row in table.rows] == [BASELINES["lda"], BASELINES["trees"]]
    draw_curves({"simulated40": data}, {"simulated40": results}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_set_without_its_recording_is_none(tmp_path: Path) -> None:
    assert make_set("hand_motion", tmp_path, tmp_path) is None
    assert make_set("eye_state", tmp_path, tmp_path) is None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Train in one thread: two are no faster for a network of this size, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.deep
@pytest.mark.usefixtures("one_thread")
def test_on_a_real_recording_the_network_is_as_good_as_the_best_baseline(sample_data: Path, tmp_path: Path) -> None:
    """Four motions of a hand, by trial: not worse on average by a point, and surely not by five."""
    data = make_set("hand_motion", sample_data, tmp_path, BLOCK_S)
    assert data is not None
    results: Results = {name: [result_of(data, name, 1, tmp_path)] for name in (*BASELINES, NETWORK)}
    found = difference(data, results)
    assert found is not None
    assert found.value > -0.01
    assert found.low > -0.05
