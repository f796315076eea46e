"""The manual of training, run as it is written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from clmer_server.cli import main
from tests.support.paths import ROOT
from tests.support.serving import serving

MANUAL = ROOT / "docs" / "training.md"
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", MANUAL.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.deep
def test_the_manual_goes_from_recordings_to_a_model_that_the_service_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command ends well, and the service answers with the model that came out."""
    monkeypatch.chdir(tmp_path)
    assert {command[1] for command in COMMANDS[:-1]} == {
        "simulate", "prepare", "evaluate", "train", "export", "predict",
    }  # fmt: skip
    for program, *arguments in COMMANDS[:-1]:
        assert program == "clmer"
        assert main(arguments) == 0, arguments
    lines = Path("S000.jsonl").read_text(encoding="utf-8").splitlines()
    predicted = [json.loads(line) for line in lines]
    assert sum(prediction["valid"] for prediction in predicted) > 0.8 * len(predicted)
    report = json.loads(Path("report/report.json").read_text(encoding="utf-8"))
    assert [name for name, split in report["splits"].items() if split["reason"]] == []

    program, *options = COMMANDS[-1]
    assert program == "clmer-serve"
    with serving(tmp_path, *options, "--speed", "max") as service, service.connect() as client:
        messages = (json.loads(client.recv(timeout=60)) for _ in range(1000))
        prediction = next(message for message in messages if message["type"] == "prediction" and message["valid"])
    same = next(other for other in predicted if other["t_end"] == prediction["t_end"])
    assert prediction["probs"] == pytest.approx(same["probs"], abs=1e-6)
    assert prediction["trained_on"] == "simulated"
