"""The scores by four splits that a model file carries: of its recipe, trained anew for each of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clmer_model.checkpoint import Checkpoint
from clmer_model.training.store import WindowStore
from clmer_model.training.train import TrainConfig, recipe_of
from clmer_streaming.errors import DatasetError

REPORT_NAME = "report.json"
"""What ``clmer evaluate`` writes; in the folder of a checkpoint, ``clmer export`` takes it up."""

NEIGHBOURS = "neighbours"
"""The preset of a report without a network."""

_KEPT = ("mean", "sd", "interval", "n_windows", "n_people")
_CHANCE = ("seed", "mixed_precision")  # what changes the figures, but not the recipe


def report_of(store: WindowStore, splits: Mapping[str, Any], config: TrainConfig | None, seed: int) -> dict[str, Any]:
    """Return a report as plain JSON values.

    Args:
        store: The windows.
        splits: What ``summary`` returned.
        config: The network that was trained anew for every split; None: nearest neighbours.
        seed: Of the splits.
    """
    recipe = {} if config is None else {"recipe": {**recipe_of(config, store.key), "dims": config.dims.to_dict()}}
    return {
        "store": store.key,
        "trained_on": store.trained_on,
        "labels": list(store.labels),
        "preset": NEIGHBOURS if config is None else config.preset,
        "seed": seed,
        **recipe,
        "splits": dict(splits),
    }


def read_split_scores(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return from a report what a model file says of its recipe, as plain JSON values.

    Args:
        path: The report.
        checkpoint: The model, which must have been trained by the same recipe on the same data.

    Raises:
        DatasetError: There is no such report, or it is of another recipe or other data.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        told = report["recipe"] if report["preset"] != NEIGHBOURS else {"preset": NEIGHBOURS}
        labels = tuple(report["labels"])
        splits = {protocol: _brief(split) for protocol, split in report["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"a report of clmer evaluate in {path}", str(error), "run clmer evaluate again") from error
    own = json.loads(json.dumps({**checkpoint.training, "dims": checkpoint.dims.to_dict()}))
    others = sorted(_differences(told, {name: own.get(name) for name in told}))
    if others or labels != checkpoint.labels:
        raise DatasetError(
            expected="a report of the recipe and the data that made the model",
            found=f"{path} with other {', '.join(others) or 'labels'}",
            mend="run clmer evaluate on the same store with the options of clmer train, or move the report away",
        )
    return splits


def _brief(split: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: {key: row[key] for key in _KEPT} for name, row in split.get("rows", {}).items()}
    return {"title": split["title"], "reason": split["reason"], **({"rows": rows} if rows else {})}


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield the names of what differs between two trees of plain values, but for what is left to chance."""
    for name in one.keys() | other.keys():
        mine, theirs = one.get(name), other.get(name)
        if name in _CHANCE or mine == theirs:
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{place}{name}.")
        else:
            yield f"{place}{name}"
