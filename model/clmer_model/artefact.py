"""Finding a model file and learning what it is, before anything opens it. No torch here."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from clmer_model.manifest import MANIFEST_NAME, SHA256, Manifest
from clmer_model.metadata import MEND_EXPORT, ArtefactMeta
from clmer_model.onnx_file import properties
from clmer_streaming.errors import ArtefactError

DEFAULT_MODEL = "clmer-va4"
SUFFIX = ".ts"
ONNX_SUFFIX = ".onnx"
META_NAME = "clmer.json"
MAX_FILE_BYTES = 512 * 2**20  # far above any model of this project
MAX_META_BYTES = 8 * 2**20  # far above any metadata, whose largest part is the reference input


@dataclass(frozen=True)
class ArtefactFile:
    """A model file whose hash is trusted and whose metadata is checked."""

    path: Path
    sha256: str
    meta: ArtefactMeta

    def read_bytes(self) -> bytes:
        """Return the file's content, which is the one that was checked.

        Raises:
            ArtefactError: The file is gone or has changed since.
        """
        content = _read(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ArtefactError(f"{self.path} as it was checked", "a file that has changed since", "start again")
        return content


def find_artefact(name_or_path: str | None = None, sha256: str | None = None) -> ArtefactFile:
    """Return the model file of this name or path, after its hash and its metadata were checked.

    A hash is trusted when it equals ``sha256``, or stands in the manifest that ships with clmer or in the one
    beside the file.

    Args:
        name_or_path: A shipped model's name, or the path of a ``.ts`` or ``.onnx`` file; None for the default model.
        sha256: The hash that the file must have, 64 hex digits.

    Raises:
        ArtefactError: There is no such file, its hash is not trusted (the file is then not looked into), or its
            metadata does not fit this version.
    """
    path = _locate(name_or_path or DEFAULT_MODEL)
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    _check_trust(path, digest, sha256)
    return ArtefactFile(path, digest, read_meta(content, path))


def shipped_folder() -> Path:
    """Return the folder of the shipped models: inside the installed package, or ``weights/`` of a checkout."""
    packaged = Path(str(resources.files("clmer_model"))) / "_weights"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "weights"


def read_meta(content: bytes, path: Path) -> ArtefactMeta:
    """Return the checked metadata of a model file's content, read without torch and without ONNX Runtime.

    Args:
        content: The whole file.
        path: Where it lies; its suffix says what it is.

    Raises:
        ArtefactError: It is no model file, holds no or too much metadata, or the metadata does not fit.
    """
    read = _meta_of_onnx if path.suffix == ONNX_SUFFIX else _meta_of_torchscript
    return ArtefactMeta.from_json(read(content, path))


def _meta_of_torchscript(content: bytes, path: Path) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [info for info in archive.infolist() if info.filename.endswith(f"/extra/{META_NAME}")]
            _check_single([info.file_size for info in entries], path)
            return archive.read(entries[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ArtefactError(f"{path} to be a TorchScript file (a zip)", str(error), MEND_EXPORT) from error


def _meta_of_onnx(content: bytes, path: Path) -> bytes:
    try:
        entries = properties(content, META_NAME)
    except ValueError as error:
        raise ArtefactError(f"{path} to be an ONNX file", str(error), MEND_EXPORT) from error
    _check_single([len(entry) for entry in entries], path)
    return entries[0]


def _check_single(sizes: list[int], path: Path) -> None:
    if len(sizes) != 1 or sizes[0] > MAX_META_BYTES:
        found = f"{len(sizes)} of them, {sizes} bytes"
        raise ArtefactError(f"one {META_NAME} of at most {MAX_META_BYTES} bytes in {path}", found, MEND_EXPORT)


def _locate(name_or_path: str) -> Path:
    given = Path(name_or_path)
    if given.suffix in (SUFFIX, ONNX_SUFFIX) or given.is_file() or len(given.parts) > 1:
        return given
    folder = shipped_folder()
    path = folder / f"{name_or_path}{SUFFIX}"
    if path.is_file():
        return path
    raise ArtefactError(
        expected="the name of a shipped model or the path of a .ts or .onnx file",
        found=f"{name_or_path!r}; shipped are {sorted(Manifest.read(folder).sha256)}",
        mend="give one of those names or a path, or make the weights with: make weights",
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ArtefactError(f"a model file of at most {MAX_FILE_BYTES} bytes", f"{path}: {size} bytes", MEND_EXPORT)
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(
            "a model file that can be read", f"{path}: {error.strerror or error}", "check the path"
        ) from error


def _check_trust(path: Path, digest: str, wanted: str | None) -> None:
    if wanted is not None:
        if not SHA256.fullmatch(wanted.lower()):
            raise ArtefactError("a SHA-256 of 64 hex digits", repr(wanted), "copy it from sha256sum")
        if wanted.lower() != digest:
            raise ArtefactError(f"{path} with SHA-256 {wanted.lower()}", digest, "get the file again, or mend the hash")
        return
    trusted = {*Manifest.read(shipped_folder()).sha256.values(), *Manifest.read(path.parent).sha256.values()}
    if digest not in trusted:
        raise ArtefactError(
            expected=f"a model whose SHA-256 stands in the shipped manifest or in {path.parent / MANIFEST_NAME}",
            found=f"{path} with SHA-256 {digest}; it was not opened",
            mend=f"if you trust where it comes from, name it: --model-sha256 {digest}",
        )
