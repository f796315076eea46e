"""An interrupted training on disk, as safetensors: taken up again, it goes on as if nothing had happened."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


class SnapshotFile:
    """The one snapshot of a run, in its folder; reading it cannot run code.

    Args:
        folder: The run's folder.
        settings: Plain JSON values of all that decides the run; another run's snapshot is refused.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.path = folder / SNAPSHOT_NAME
        self._settings = json.loads(json.dumps(settings))

    def write(self, snapshot: Snapshot, n_lines: int) -> None:
        """Replace what is there by this snapshot, taken when the log had ``n_lines`` lines."""
        header = {
            "settings": self._settings,
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
            SettingsError: There is none, or it is of a run with other settings.
        """
        try:
            with safe_open(self.path, framework="pt") as stored:
                header = json.loads(stored.metadata()[_HEADER])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            found = f"{self.path}: {str(error).splitlines()[0]}"
            raise SettingsError("an unfinished training to resume", found, "train without --resume") from error
        self._check(header["settings"])
        return Snapshot(header["stage"], tensors, header["values"]), header["n_lines"]

    def remove(self) -> None:
        """Remove the snapshot of a training that is finished."""
        self.path.unlink(missing_ok=True)

    def _check(self, settings: dict[str, Any]) -> None:
        differ = sorted(name for name in settings | self._settings if settings.get(name) != self._settings.get(name))
        if differ:
            raise SettingsError(
                "the settings that the training began with",
                f"other values of {', '.join(differ)}",
                "give the same options, or train without --resume",
            )
