"""Writes the card of a model trained on simulated people.

Run with ``python scripts/make_card.py CHECKPOINT MODEL.ts CARD.md``, after ``scripts/gather_evidence.py CHECKPOINT``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import load_checkpoint
from clmer_model.predictor import Predictor
from scripts.release import EVIDENCE_NAME, card_text, measure_latency


def main() -> None:
    """Measure the latency, and write the card from it, the model file and the evidence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoint", type=Path, help="folder that clmer train wrote, with its evidence")
    parser.add_argument("model", type=Path, help="file that clmer export made of it")
    parser.add_argument("card", type=Path, help="where the card goes")
    args = parser.parse_args()
    evidence = json.loads((args.checkpoint / EVIDENCE_NAME).read_text(encoding="utf-8"))
    artifact = find_artifact(str(args.model))
    evidence["latency"] = measure_latency(Predictor(artifact, "cpu"))
    n_parameters = sum(parameter.numel() for parameter in load_checkpoint(args.checkpoint).model.parameters())
    text = card_text(artifact.meta, n_parameters, args.model.stat().st_size, evidence)
    args.card.write_text(text, encoding="utf-8")
    print(f"{args.card}: written")


if __name__ == "__main__":
    main()
