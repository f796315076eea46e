"""The script that makes the shipped weights, run in small as a user would run it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clmer_model.artifact import Manifest, find_artifact
from clmer_model.training.compare import ROWS
from clmer_model.training.splits import PROTOCOLS
from tests.support.paths import ROOT

SCRIPTS = ROOT / "scripts"


@pytest.mark.deep
def test_the_script_makes_weights_with_their_scores_and_their_card(tmp_path: Path) -> None:
    """``scripts/weights --tenth``: a model in the manifest that carries four splits, and a card with the same figures.

    It runs beside a copy of the scripts, so that nothing is left in the tree.
    """
    shutil.copytree(SCRIPTS, tmp_path / "scripts")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        ["/bin/sh", str(tmp_path / "scripts" / "weights"), "--tenth"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "build" / "tenth" / "weights"
    assert {path.name for path in out.iterdir()} == {"clmer-va4.ts", "manifest.toml", "MODEL_CARD.md"}
    artifact = find_artifact(str(out / "clmer-va4.ts"))
    assert Manifest.read(out).sha256["clmer-va4"] == artifact.sha256

    splits = artifact.meta.split_scores
    assert splits is not None
    assert {protocol: split["title"] for protocol, split in splits.items()} == dict(PROTOCOLS)
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    table = card.partition("by four splits")[2]
    assert "one fold of 5 of each split" in table
    for row, title in ROWS.items():
        (cells,) = (line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith(f"| {title} |"))
        told = [re.sub(r" \(.*", "", cell) for cell in cells[1:]]
        assert told == [f"{splits[name]['rows'][row]['mean']['accuracy']:.3f}" for name in PROTOCOLS]
    evidence = json.loads((tmp_path / "build" / "tenth" / "evidence.json").read_text(encoding="utf-8"))
    assert {name: set(found) for name, found in evidence["nulls"].items()} == {
        "null": set(PROTOCOLS),
        "null-stimulus": set(PROTOCOLS),
    }
