"""The scores by four splits, from ``clmer evaluate`` into a model file and out of it again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from clmer_model.artefact import find_artefact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.training.protocols import PROTOCOLS
from clmer_model.training.sides import examples_key
from clmer_model.training.split_scores import REPORT_NAME, read_split_scores, report_of
from clmer_model.training.train import TrainConfig, recipe_of
from clmer_server.cli import main
from clmer_server.model_loading import model_card
from clmer_streaming.errors import DatasetError
from feature_store import small_store
from model_windows import SMALL, small_checkpoint

CONFIG = TrainConfig(dims=SMALL)
ROW = {
    "mean": {"accuracy": 0.4},
    "sd": {"accuracy": 0.1},
    "shuffles": {"accuracy": [0.3, 0.5]},
    "interval": {"accuracy": [0.2, 0.6]},
    "classes": {},
    "confusion": [[1]],
    "n_windows": [7, 7],
    "n_people": 3,
}
SPLITS = {
    "people": {"title": "unseen people", "reason": "", "rows": {"all": ROW}},
    "stimuli": {"title": "unseen stimuli", "reason": "not computable: the label is the stimulus"},
}


def write_run(folder: Path, config: TrainConfig = CONFIG) -> Path:
    """Leave a checkpoint and a report, as ``clmer train`` and ``clmer evaluate`` leave them; return the report."""
    training = {**recipe_of(CONFIG, examples_key(CONFIG)), "people": {"test": 3}}
    checkpoint = dataclasses.replace(small_checkpoint(), training=training)
    checkpoint.save(folder)
    store = dataclasses.replace(small_store(), labels=checkpoint.labels)
    report = folder / REPORT_NAME
    report.write_text(json.dumps(report_of(store, SPLITS, config, seed=5)), encoding="utf-8")
    return report


def test_the_model_file_says_what_its_recipe_scored_by_each_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean, SD and interval of each split with its title, or why there are none; single shuffles stay in the report."""
    report = write_run(tmp_path / "run")
    expected = {
        "people": {
            "title": "unseen people",
            "reason": "",
            "rows": {"all": {name: ROW[name] for name in ("mean", "sd", "interval", "n_windows", "n_people")}},
        },
        "stimuli": SPLITS["stimuli"],
    }
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "own.ts")]) == 0
    assert str(report) in capsys.readouterr().out
    artefact = find_artefact(str(tmp_path / "own.ts"))
    assert artefact.meta.split_scores == expected
    assert model_card(artefact)["split_scores"] == expected

    moved = report.rename(tmp_path / "elsewhere.json")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bare.ts")]) == 0
    assert find_artefact(str(tmp_path / "bare.ts")).meta.split_scores is None
    given = ["export", str(tmp_path / "run"), "--report", str(moved), "--out", str(tmp_path / "told.ts")]
    assert main(given) == 0
    assert find_artefact(str(tmp_path / "told.ts")).meta.split_scores == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_trials": 3}, "trials_per_person"),
        ({"fit": dataclasses.replace(CONFIG.fit, epochs=99)}, "fit.epochs"),
        ({"dims": dataclasses.replace(SMALL, width=32)}, "dims.width"),
        ({"preset": "paper"}, "preset"),
    ],
)
def test_scores_of_another_recipe_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    """The error names what differs."""
    report = write_run(tmp_path, dataclasses.replace(CONFIG, **changes))
    with pytest.raises(DatasetError, match=f"with other {said}"):
        read_split_scores(report, load_checkpoint(tmp_path))


def test_another_seed_is_the_same_recipe(tmp_path: Path) -> None:
    """Seeds and precision change the figures, as another shuffle does."""
    fit = dataclasses.replace(CONFIG.fit, seed=4, mixed_precision=True)
    report = write_run(tmp_path, dataclasses.replace(CONFIG, seed=4, fit=fit))
    assert set(read_split_scores(report, load_checkpoint(tmp_path))) == set(SPLITS) < set(PROTOCOLS)


def test_nearest_neighbours_and_other_labels_are_no_scores_of_a_network(tmp_path: Path) -> None:
    """Nor is a file that is no report."""
    report = write_run(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    report.write_text(json.dumps(report_of(small_store(), SPLITS, CONFIG, seed=5)), encoding="utf-8")
    with pytest.raises(DatasetError, match="with other labels"):
        read_split_scores(report, checkpoint)
    report.write_text(json.dumps(report_of(small_store(), SPLITS, None, seed=5)), encoding="utf-8")
    with pytest.raises(DatasetError, match="with other preset"):
        read_split_scores(report, checkpoint)
    report.write_text(json.dumps({"preset": CONFIG.preset, "labels": list(checkpoint.labels), "splits": {}}))
    with pytest.raises(DatasetError, match="recipe"):
        read_split_scores(report, checkpoint)
    for text in ("", "[]", "{}", '{"splits": 1, "labels": [], "preset": "default"}'):
        report.write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match="report of clmer evaluate"):
            read_split_scores(report, checkpoint)
