"""What a recorded session left, and what a replay of it says: parts of the tests that hold one against the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clmer_server.cli import main
from clmer_server.protocol.parts import VOLATILE_FIELDS
from tests.support.serving import Service

WAIT_S = 60.0
"""How long a client waits for the next message."""

_BY_THE_MODEL = ("probs", "valence", "arousal", "confidence", "entropy", "label", "prediction_set", "coverage")


def read_until(service: Service, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Return what a client gets until it is enough."""
    messages: list[dict[str, Any]] = []
    with service.connect() as client:
        while not enough(messages):
            messages.append(json.loads(client.recv(WAIT_S)))
    return messages


def only_folder(parent: Path) -> Path:
    """Return the folder of the only session in a folder of recordings."""
    (folder,) = parent.iterdir()
    return folder


def predictions_of(folder: Path) -> list[dict[str, Any]]:
    """Return the predictions of a session as they were recorded."""
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def predicted(recording: Path, folder: Path, speed: str = "max", model: Path | None = None) -> list[dict[str, Any]]:
    """Return what ``clmer predict`` says of a recording, by the shipped model or another one."""
    out = folder / f"{speed}.jsonl"
    by = [] if model is None else ["--model", str(model)]
    assert main(["predict", str(recording), "--out", str(out), "--speed", speed, "--device", "cpu", *by]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def assert_same_answers(live: list[dict[str, Any]], replayed: list[dict[str, Any]]) -> None:
    """Everything is equal but what is new in every run; numbers of shared calls of the model nearly so."""
    assert len(replayed) >= len(live) > 0
    for was, now in zip(live, replayed, strict=False):
        left_out = {*VOLATILE_FIELDS, "source", *(() if was["batch"] == now["batch"] else _BY_THE_MODEL)}
        assert {k: v for k, v in was.items() if k not in left_out} == {
            k: v for k, v in now.items() if k not in left_out
        }
        for label, p in (was["probs"] or {}).items():
            assert now["probs"][label] == pytest.approx(p, abs=1e-6)
