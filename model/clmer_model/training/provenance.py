"""Files derived from a recording (copies, window stores, split files, models), to be found and removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clmer_model.artifact import ONNX_SUFFIX, SUFFIX, read_meta
from clmer_model.checkpoint import CONFIG_NAME
from clmer_model.data.store import INDEX, PART_SUMMARY, PARTS, file_digest
from clmer_model.data.tables import MANIFEST
from clmer_model.training.optimizer import RESUME_NAME, examples_of_resume_file
from clmer_streaming.errors import ClmerError

_MAX_JSON_BYTES = 256 * 2**20  # far above any split file
_WINDOWS = "windows-*"


@dataclass
class Derived:
    """Files and folders to remove, and a sentence for each that stays."""

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """Everything to remove."""
        return [*self.folders, *self.files]

    def remove(self) -> None:
        """Remove it; of a link only the link is removed, never its target."""
        for folder in self.folders:
            shutil.rmtree(folder)
        for file in self.files:
            file.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Target:
    """The recording that is searched for."""

    n_bytes: int
    sha256: str
    name: str  # its folder and file, as a manifest names it: 4f1c22d0/session.xdf


def derived_from(recording: Path, folders: Sequence[Path]) -> Derived:
    r"""Return what was derived from a recording, in folders and all below them; links are not followed.

    A window store is removed as a whole when any of its windows comes from the recording: ``clmer prepare`` makes it
    again from the others. The split files that number its windows are removed with it. Models that were trained on it,
    finished or not, stay and are listed, as is every line of a manifest that names the recording.

    Args:
        recording: The session's XDF file.
        folders: Where to look.

    Example::

        derived = derived_from(Path("recordings/4f1c22d0/session.xdf"), [Path("build")])
        print(*derived.paths, *derived.stays, sep="\n")
        derived.remove()
    """
    target = _Target(recording.stat().st_size, file_digest(recording), f"{recording.parent.name}/{recording.name}")
    files = [path for path in _files(folders) if path != recording.resolve()]
    derived, keys = Derived(), set[str]()
    for path in files:
        if path.suffix == ".xdf" and path.stat().st_size == target.n_bytes and file_digest(path) == target.sha256:
            derived.files.append(path)
        elif path.name == INDEX and (index := _read(path)) and _holds(index, target):
            keys.add(str(index["key"]))
            derived.files.append(path)
            derived.folders += [p for p in (*path.parent.glob(_WINDOWS), path.parent / PARTS) if _is_folder(p)]
        elif path.name == PART_SUMMARY and (entry := _read(path)) and entry.get("sha256") == target.sha256:
            derived.folders.append(path.parent)
    copies = set(derived.files)
    for path in files:
        _note_user_of(path, keys, copies, target, derived)
    derived.folders = [p for p in dict.fromkeys(derived.folders) if not set(p.parents) & set(derived.folders)]
    return derived


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield every regular file, each folder once."""
    seen: set[Path] = set()
    for folder in folders:
        for parent, _, names in os.walk(folder.resolve()):
            if Path(parent) not in seen:
                seen.add(Path(parent))
                paths = (Path(parent) / name for name in sorted(names))
                yield from (path for path in paths if not path.is_symlink() and path.is_file())


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _holds(index: Mapping[str, Any], target: _Target) -> bool:
    """Return whether a store has windows of the recording: by its hash or, in a store without hashes, by its name."""
    recordings = index.get("recordings") if isinstance(index.get("key"), str) else None
    for entry in recordings if isinstance(recordings, list) else []:
        sha256 = entry.get("sha256") if isinstance(entry, dict) else ""
        if sha256 == target.sha256 or (sha256 is None and f"/{entry.get('file')}".endswith(f"/{target.name}")):
            return True
    return False


def _note_user_of(path: Path, keys: set[str], copies: set[Path], target: _Target, derived: Derived) -> None:
    """Record a file that depends on the stores, or names the recording."""
    if path.suffix == ".json" and path.name not in (INDEX, PART_SUMMARY) and keys:
        plain = _read(path) or {}
        training = plain.get("training")
        if str(plain.get("store")) in keys and "rows" in plain:
            derived.files.append(path)
        elif str(plain.get("store")) in keys:
            derived.stays.append(f"{path}: scores of models that learnt from it, no windows")
        elif path.name == CONFIG_NAME and isinstance(training, dict) and str(training.get("store")) in keys:
            derived.stays.append(f"{path.parent}: a model that was trained on it")
    elif path.suffix in (SUFFIX, ONNX_SUFFIX) and keys:
        if _trained_on(path) in keys:
            derived.stays.append(f"{path}: an exported model that was trained on it")
    elif path.name == RESUME_NAME and keys:
        if examples_of_resume_file(path) in keys:
            derived.stays.append(f"{path}: an interrupted training on it")
    elif path.name == MANIFEST:
        derived.stays += [f"{path}, row {row}: names it; take the row out" for row in _rows(path, copies, target)]


def _trained_on(path: Path) -> str:
    """Return the key of the store that a model file was trained on; ``""`` where it names none."""
    try:
        return str(read_meta(path.read_bytes(), path).training.get("store", ""))
    except (OSError, ClmerError):
        return ""


def _rows(manifest: Path, copies: set[Path], target: _Target) -> list[int]:
    try:
        lines = manifest.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        words = [word.strip() for word in line.replace(";", ",").split(",")]
        if any((manifest.parent / word).resolve() in copies or word.endswith(target.name) for word in words if word):
            rows.append(number)
    return rows


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where the file holds none."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            return None
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None
