"""Measures what a model trained on simulated people says of itself: four splits, controls, people without effects.

Run with ``python scripts/gather_evidence.py CHECKPOINT`` before ``clmer export``, which takes up the ``report.json``
that it leaves there; ``--tenth`` measures less, to see that all works.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clmer_model.checkpoint import Checkpoint, load_checkpoint
from clmer_model.data.store import write_json
from clmer_model.training.compare import REPORT_NAME, report_of
from clmer_model.training.config import TrainConfig, recipe
from scripts.release import EVIDENCE_NAME, EvidenceConfig, gather, simulated_store


def main() -> None:
    """Gather the evidence, and leave it and the scores by four splits beside the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, help="folder that clmer train wrote, with its examples")
    parser.add_argument("--tenth", action="store_true", help="few people and short trainings")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    config = EvidenceConfig(config_of(checkpoint), args.checkpoint / "examples")
    config = dataclasses.replace(config, null_people=5, null_shuffles=1) if args.tenth else config
    evidence = gather(config, checkpoint.model, lambda line: print(line, flush=True))
    write_json(args.checkpoint / EVIDENCE_NAME, evidence)
    people = config.of_splits
    store = simulated_store(people.recipes(), config.cache)
    report = report_of(store, evidence["splits"]["network"], people, people.seed)
    write_json(args.checkpoint / REPORT_NAME, report)
    print(f"{args.checkpoint}: {EVIDENCE_NAME}, {REPORT_NAME} written")


def config_of(checkpoint: Checkpoint) -> TrainConfig:
    """Return the recipe that made the checkpoint; views are those of its preset, which no option changes."""
    said = checkpoint.training
    usual = recipe(said["preset"])
    return dataclasses.replace(
        usual,
        n_people=sum(said["people"].values()),
        first_person=said["first_person"],
        n_trials=said["trials_per_person"],
        sim_preset=said["simulator_preset"],
        seed=said["seed"],
        dims=checkpoint.dims,
        pretrain=dataclasses.replace(usual.pretrain, **_without_views(said["pretrain"])),
        fit=dataclasses.replace(usual.fit, **_without_views(said["fit"])),
    )


def _without_views(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stage.items() if name != "views"}


if __name__ == "__main__":
    main()
