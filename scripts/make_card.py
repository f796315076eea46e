"""Measures what the card of a model trained on simulated people says, and writes it.

Run with ``python scripts/make_card.py CHECKPOINT MODEL.ts CARD.md``; ``--tenth`` measures less, to see that all works.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from clmer_model.artefact import find_artefact
from clmer_model.checkpoint import Checkpoint, load_checkpoint
from clmer_model.predictor import Predictor
from clmer_model.training.card import card_text
from clmer_model.training.evidence import EvidenceConfig, gather
from clmer_model.training.latency import measure_latency
from clmer_model.training.recipes import recipe
from clmer_model.training.train import TrainConfig

EVIDENCE = "evidence.json"


def main() -> None:
    """Gather the evidence, keep it beside the checkpoint, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, help="folder that clmer train wrote, with its examples")
    parser.add_argument("model", type=Path, help="file that clmer export made of it")
    parser.add_argument("card", type=Path, help="where the card goes")
    parser.add_argument("--tenth", action="store_true", help="few people and short trainings")
    args = parser.parse_args()
    checkpoint = load_checkpoint(args.checkpoint)
    train = config_of(checkpoint)
    config = EvidenceConfig(train, args.checkpoint / "examples")
    config = dataclasses.replace(config, null_people=5, null_shuffles=1) if args.tenth else config
    artefact = find_artefact(str(args.model))
    found = gather(config, checkpoint.model, lambda line: print(line, flush=True))
    evidence = {**found, "latency": measure_latency(Predictor(artefact, "cpu"))}
    (args.checkpoint / EVIDENCE).write_text(json.dumps(evidence, indent=1) + "\n", encoding="utf-8")
    n_parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    text = card_text(artefact.meta, n_parameters, args.model.stat().st_size, evidence)
    args.card.write_text(text, encoding="utf-8")
    print(f"{args.card}: written")


def config_of(checkpoint: Checkpoint) -> TrainConfig:
    """Return the recipe that made the checkpoint, as far as options can change it."""
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
        pretrain=dataclasses.replace(usual.pretrain, epochs=said["pretrain"]["epochs"], seed=said["seed"]),
        fit=dataclasses.replace(usual.fit, epochs=said["fit"]["epochs"], seed=said["seed"]),
    )


if __name__ == "__main__":
    main()
