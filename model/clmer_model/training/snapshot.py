"""An interrupted training on disk, as safetensors: taken up again, it goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clmer_streaming.errors import SettingsError

SNAPSHOT_NAME = "unfinished.safetensors"
_HEADER = "clmer"


@dataclass(frozen=True)
class Snapshot:
    """What a training has reached."""

    stage: str  # "pretrain" or "fit"
    tensors: dict[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)  # plain JSON values

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start so, named without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Keeper:
    """From where a training goes on, and who keeps what it has reached."""

    start: Snapshot | None = None
    keep: Callable[[Snapshot], None] = lambda snapshot: None


def random_state(rng: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return the state of a training's own generator and of torch's, named from ``random.`` on."""
    states = {"random.views": rng.get_state(), "random.torch": torch.get_rng_state()}
    return {**states, "random.cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_random_state(rng: torch.Generator, device: torch.device, states: dict[str, Tensor]) -> None:
    """Take up what ``random_state`` returned, named without ``random.``."""
    rng.set_state(states["views"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def examples_of_snapshot(path: Path) -> str:
    """Return what tells the windows of an interrupted training from all others; ``""`` where a file is no snapshot."""
    try:
        with safe_open(path, framework="pt") as stored:
            return str(json.loads(stored.metadata()[_HEADER])["examples"])
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError):
        return ""


class SnapshotFile:
    """The one snapshot of a run, in its folder; reading it cannot run code.

    Args:
        folder: The run's folder.
        settings: Plain JSON values of all settings that decide the run; another run's snapshot is refused.
        examples: What tells the run's windows from all others; a snapshot that has seen others is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], examples: str) -> None:
        self.path = folder / SNAPSHOT_NAME
        self._settings = json.loads(json.dumps(settings))
        self._examples = examples

    def write(self, snapshot: Snapshot, n_lines: int) -> None:
        """Replace what is there by this snapshot, taken when the log had ``n_lines`` lines."""
        header = {
            "settings": self._settings,
            "examples": self._examples,
            "stage": snapshot.stage,
            "values": snapshot.values,
            "n_lines": n_lines,
        }
        unfinished = self.path.with_suffix(".new")
        tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in snapshot.tensors.items()}
        save_file(tensors, unfinished, metadata={_HEADER: json.dumps(header)})
        unfinished.replace(self.path)

    def read(self) -> tuple[Snapshot, int]:
        """Return the snapshot and the number of lines that the log had.

        Raises:
            SettingsError: There is none, or it is of a run with other settings or windows.
        """
        try:
            with safe_open(self.path, framework="pt") as stored:
                header = json.loads(stored.metadata()[_HEADER])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            found = f"{self.path}: {str(error).splitlines()[0]}"
            raise SettingsError("an unfinished training to resume", found, "train without --resume") from error
        self._check(header["settings"], header.get("examples"))
        return Snapshot(header["stage"], tensors, header["values"]), header["n_lines"]

    def remove(self) -> None:
        """Remove the snapshot of a training that is finished."""
        self.path.unlink(missing_ok=True)

    def _check(self, settings: dict[str, Any], examples: str | None) -> None:
        differ = sorted(name for name in settings | self._settings if settings.get(name) != self._settings.get(name))
        if differ:
            raise SettingsError(
                "the settings that the training began with",
                f"other values of {', '.join(differ)}",
                "give the same options, or train without --resume",
            )
        if examples != self._examples:
            raise SettingsError(
                "the windows that the training began with",
                "others: clmer prepare, or another version of clmer, has made them anew",
                "train without --resume",
            )
