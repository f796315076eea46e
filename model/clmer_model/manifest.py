"""The list of model files that may be run, by SHA-256.

Opening a TorchScript file can run code, so a model file is opened only when its hash stands in a manifest that the user
has reason to trust: the one that ships with clmer, or one beside the file, which ``clmer export`` writes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clmer_streaming.errors import ArtefactError

MANIFEST_NAME = "manifest.toml"
SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEAD = "# Models that clmer may open. Written by `clmer export`; a file whose hash is not here is refused.\n"


@dataclass(frozen=True)
class Manifest:
    """Name to SHA-256 (hex, lower case) of the models of one folder: NAME for ``NAME.ts``, ``NAME.onnx`` as it is."""

    sha256: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return the manifest of the folder; an empty one where there is no file.

        Raises:
            ArtefactError: The file is no manifest.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            return cls({})
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))["models"]
            entries = {str(name): str(table["sha256"]) for name, table in tables.items()}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise _not_a_manifest(path, str(error)) from error
        for name, digest in entries.items():
            if not _NAME.fullmatch(name) or not SHA256.fullmatch(digest):
                raise _not_a_manifest(path, f"entry {name!r} with sha256 {digest!r}")
        return cls(entries)

    def with_model(self, name: str, sha256: str) -> Manifest:
        """Return a manifest that also lists this model, in place of an older one of its name.

        Raises:
            ArtefactError: The name has characters that a file name should not have.
        """
        if not _NAME.fullmatch(name):
            raise ArtefactError("a model name of letters, digits, '.', '_' and '-'", repr(name), "choose another name")
        return Manifest({**self.sha256, name: sha256})

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder."""
        tables = (f'\n[models."{name}"]\nsha256 = "{digest}"\n' for name, digest in sorted(self.sha256.items()))
        (folder / MANIFEST_NAME).write_text(_HEAD + "".join(tables), encoding="utf-8")


def _not_a_manifest(path: Path, found: str) -> ArtefactError:
    return ArtefactError(
        expected=f'{path} with tables [models."NAME"] that hold a sha256 of 64 hex digits',
        found=found,
        mend="export the model again, or mend the file by hand",
    )
