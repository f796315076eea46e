"""Model files: finding one, checking its hash, and reading its metadata before anything opens it.

An artifact is a TorchScript (``.ts``) or ONNX (``.onnx``) file that holds ``clmer.json``. Read in this order:
``find_artifact`` and ``ArtifactFile``, ``ArtifactMeta`` (the content of ``clmer.json``), ``Manifest`` (trusted
hashes), and last the reader of ONNX properties. No torch here.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import io
import json
import math
import re
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from clmer_model.config import ClmerDims, ModalitySpec, modality_specs
from clmer_model.conformal import ConformalSets
from clmer_model.electrodes import Position
from clmer_streaming.config import PREPROCESSOR_ID, PreprocessConfig
from clmer_streaming.errors import ArtifactError
from clmer_streaming.face.extractor import is_known_extractor
from clmer_streaming.face.layout import EXTRACTOR_ID

DEFAULT_MODEL = "clmer-va4"
SUFFIX = ".ts"
ONNX_SUFFIX = ".onnx"
META_NAME = "clmer.json"
MAX_FILE_BYTES = 512 * 2**20  # far above any model of this project
MAX_META_BYTES = 8 * 2**20  # far above any metadata, whose largest part is the reference input
MEND_EXPORT = "export the model again with this version of clmer (clmer train, clmer export)"


def find_artifact(name_or_path: str | None = None, sha256: str | None = None) -> ArtifactFile:
    """Return the model file of this name or path, after checking its hash and its metadata.

    A hash is trusted when it equals ``sha256``, or stands in the manifest that ships with clmer or in the one beside
    the file.

    Args:
        name_or_path: Name of a shipped model, or path of a ``.ts`` or ``.onnx`` file; None for the default model.
        sha256: The hash that the file must have, 64 hex digits.

    Raises:
        ArtifactError: There is no such file, its hash is not trusted (the file is then not parsed), or its metadata
            does not fit this version.
    """
    path = _locate(name_or_path or DEFAULT_MODEL)
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    _check_trust(path, digest, sha256)
    return ArtifactFile(path, digest, read_meta(content, path))


@dataclass(frozen=True)
class ArtifactFile:
    """A model file whose hash is trusted and whose metadata is checked.

    Example::

        artifact = find_artifact("weights/clmer-va4.ts")
        artifact.sha256, artifact.meta.name
    """

    path: Path
    sha256: str
    meta: ArtifactMeta

    def read_bytes(self) -> bytes:
        """Return the content of the file, the same that was checked.

        Raises:
            ArtifactError: The file is gone or has changed since.
        """
        content = _read(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ArtifactError(f"{self.path} as it was checked", "a file that has changed since", "start again")
        return content


def shipped_folder() -> Path:
    """Return the folder of the shipped models: inside the installed package, or ``weights/`` of a checkout."""
    packaged = Path(str(resources.files("clmer_model"))) / "_weights"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "weights"


def read_meta(content: bytes, path: Path) -> ArtifactMeta:
    """Return the checked metadata from the content of a model file, read without torch and without ONNX Runtime.

    Args:
        content: The whole file.
        path: Its path; the suffix decides the format.

    Raises:
        ArtifactError: It is not a model file, holds none or too much metadata, or the metadata does not fit.
    """
    read = _meta_of_onnx if path.suffix == ONNX_SUFFIX else _meta_of_torchscript
    return ArtifactMeta.from_json(read(content, path))


def _locate(name_or_path: str) -> Path:
    given = Path(name_or_path)
    if given.suffix in (SUFFIX, ONNX_SUFFIX) or given.is_file() or len(given.parts) > 1:
        return given
    folder = shipped_folder()
    path = folder / f"{name_or_path}{SUFFIX}"
    if path.is_file():
        return path
    raise ArtifactError(
        expected="the name of a shipped model or the path of a .ts or .onnx file",
        found=f"{name_or_path!r}; shipped are {sorted(Manifest.read(folder).sha256)}",
        mend="give one of those names or a path, or make the weights with: make weights",
    )


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ArtifactError(f"a model file of at most {MAX_FILE_BYTES} bytes", f"{path}: {size} bytes", MEND_EXPORT)
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(
            "a model file that can be read", f"{path}: {error.strerror or error}", "check the path"
        ) from error


def _check_trust(path: Path, digest: str, wanted: str | None) -> None:
    if wanted is not None:
        if not SHA256.fullmatch(wanted.lower()):
            raise ArtifactError("a SHA-256 of 64 hex digits", repr(wanted), "copy it from sha256sum")
        if wanted.lower() != digest:
            raise ArtifactError(f"{path} with SHA-256 {wanted.lower()}", digest, "get the file again, or mend the hash")
        return
    trusted = {*Manifest.read(shipped_folder()).sha256.values(), *Manifest.read(path.parent).sha256.values()}
    if digest not in trusted:
        raise ArtifactError(
            expected=f"a model whose SHA-256 stands in the shipped manifest or in {path.parent / MANIFEST_NAME}",
            found=f"{path} with SHA-256 {digest}; it was not opened",
            mend=f"if you trust where it comes from, name it: --model-sha256 {digest}",
        )


def _meta_of_torchscript(content: bytes, path: Path) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [info for info in archive.infolist() if info.filename.endswith(f"/extra/{META_NAME}")]
            _check_single([info.file_size for info in entries], path)
            return archive.read(entries[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ArtifactError(f"{path} to be a TorchScript file (a zip)", str(error), MEND_EXPORT) from error


def _meta_of_onnx(content: bytes, path: Path) -> bytes:
    try:
        entries = properties(content, META_NAME)
    except ValueError as error:
        raise ArtifactError(f"{path} to be an ONNX file", str(error), MEND_EXPORT) from error
    _check_single([len(entry) for entry in entries], path)
    return entries[0]


def _check_single(sizes: list[int], path: Path) -> None:
    if len(sizes) != 1 or sizes[0] > MAX_META_BYTES:
        found = f"{len(sizes)} of them, {sizes} bytes"
        raise ArtifactError(f"one {META_NAME} of at most {MAX_META_BYTES} bytes in {path}", found, MEND_EXPORT)


SCHEMA = 1
"""Version of the layout of ``clmer.json``."""


_OPTIONAL = {"abstain_below", "conformal", "electrodes", "split_scores"}
Field = TypeVar("Field")


@dataclass(frozen=True)
class ArtifactMeta:
    """Metadata of a model file: all that a service needs to run the model and to describe it.

    Example::

        meta = find_artifact("clmer-va4").meta
        meta.labels, [spec.name for spec in meta.modalities], meta.preprocess.window.window_s
    """

    name: str
    labels: tuple[str, ...]
    modalities: tuple[ModalitySpec, ...]
    preprocess: PreprocessConfig
    dims: ClmerDims
    normalisation: Mapping[str, Any]  # constants inside the model, for display; see network/normalization.py
    temperature: float  # by which the model divides its logits
    trained_on: str  # "simulated", or the data sets' names
    training: Mapping[str, Any]  # how it was trained: people, seed, epochs
    scores: Mapping[str, Any]  # by split, each with its baseline and interval
    versions: Mapping[str, str]  # of clmer and torch at export
    reference: Reference
    abstain_below: float | None = None  # confidence under which no label is given; None: always the most probable
    conformal: ConformalSets | None = None  # prediction sets; None: the model gives none
    electrodes: Mapping[str, Position | None] | None = None  # by EEG channel, see electrodes.py; None: no EEG
    split_scores: Mapping[str, Any] | None = None  # by protocol, of the same recipe trained anew; None: not evaluated

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, finite numbers only, unset optional fields left out."""
        plain = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "schema": SCHEMA,
            "labels": list(self.labels),
            "modalities": [spec.to_dict() for spec in self.modalities],
            "preprocess": self.preprocess.to_dict(),
            "dims": self.dims.to_dict(),
            "reference": self.reference.to_dict(),
            "conformal": None if self.conformal is None else self.conformal.to_dict(),
        }
        plain = {name: value for name, value in plain.items() if name not in _OPTIONAL or value is not None}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ArtifactMeta:
        """Return the checked metadata.

        Raises:
            ArtifactError: The text is not JSON, has another schema, lacks a field or has one too many, contradicts
                itself, or was made for another preprocessor or face extractor.
        """
        plain = _parse(text)
        _check_schema(plain)
        preprocess = PreprocessConfig.from_dict(_take(plain, "preprocess", dict))
        _check_ids(preprocess)
        specs = modality_specs(preprocess)
        _check_modalities(_take(plain, "modalities", list), specs)
        labels = _check_labels(_take(plain, "labels", list))
        return cls(
            name=_take(plain, "name", str),
            labels=labels,
            modalities=specs,
            preprocess=preprocess,
            dims=ClmerDims.from_dict(_take(plain, "dims", dict)),
            normalisation=_take(plain, "normalisation", dict),
            temperature=_check_temperature(_take(plain, "temperature", float)),
            trained_on=_take(plain, "trained_on", str),
            training=_take(plain, "training", dict),
            scores=_take(plain, "scores", dict),
            versions=_take(plain, "versions", dict),
            reference=Reference.from_dict(_take(plain, "reference", dict), specs, len(labels)),
            abstain_below=check_threshold(_take(plain, "abstain_below", float)) if "abstain_below" in plain else None,
            conformal=ConformalSets.from_dict(_take(plain, "conformal", dict)) if "conformal" in plain else None,
            electrodes=_check_electrodes(_take(plain, "electrodes", dict), specs) if "electrodes" in plain else None,
            split_scores=_take(plain, "split_scores", dict) if "split_scores" in plain else None,
        )


@dataclass(frozen=True)
class Reference:
    """An input and its logits at export, against which a loaded model is checked."""

    x: Mapping[str, npt.NDArray[np.float32]]  # by modality, (B, ...)
    mask: Mapping[str, npt.NDArray[np.bool_]]  # by modality, (B, n)
    logits: npt.NDArray[np.float32]  # (B, K)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; series are base64 of little-endian float32."""
        return {
            "x": {name: _encode(series) for name, series in self.x.items()},
            "mask": {name: mask.tolist() for name, mask in self.mask.items()},
            "logits": [[float(value) for value in row] for row in self.logits],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any], specs: tuple[ModalitySpec, ...], n_classes: int) -> Reference:
        """Return the reference that ``to_dict`` wrote.

        Raises:
            ArtifactError: Its shapes are not those of the modalities.
        """
        try:
            logits = np.array(plain["logits"], dtype=np.float32).reshape(-1, n_classes)
            n = len(logits)
            x = {spec.name: _decode(plain["x"][spec.name], (n, *spec.shape)) for spec in specs}
            mask = {s.name: np.array(plain["mask"][s.name], dtype=np.bool_).reshape(n, s.n_masked) for s in specs}
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ArtifactError("a reference input of the model's shape", str(error), MEND_EXPORT) from error
        return cls(x, mask, logits)


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("clmer.json in JSON", str(error), MEND_EXPORT) from error
    if not isinstance(plain, dict):
        raise ArtifactError("clmer.json with an object at its top", type(plain).__name__, MEND_EXPORT)
    return plain


def _check_schema(plain: dict[str, Any]) -> None:
    if plain.get("schema") != SCHEMA:
        raise ArtifactError(f"clmer.json of schema {SCHEMA}", f"schema {plain.get('schema')!r}", MEND_EXPORT)
    names = {field.name for field in dataclasses.fields(ArtifactMeta)} | {"schema"}
    required = names - _OPTIONAL
    if not required <= set(plain) <= names:
        found = f"missing {sorted(required - set(plain))}, unknown {sorted(set(plain) - names)}"
        raise ArtifactError("clmer.json with exactly the known fields", found, MEND_EXPORT)


def _take(plain: dict[str, Any], name: str, kind: type[Field]) -> Field:
    value = plain[name]
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind):
        found = f"{type(value).__name__} {str(value)[:60]!r}"
        raise ArtifactError(f"clmer.json with {name} of type {kind.__name__}", found, MEND_EXPORT)
    return value


def _check_ids(preprocess: PreprocessConfig) -> None:
    for what, found, expected, fits in (
        ("preprocessor", preprocess.preprocessor, PREPROCESSOR_ID, preprocess.preprocessor == PREPROCESSOR_ID),
        ("face extractor", preprocess.extractor, EXTRACTOR_ID, is_known_extractor(preprocess.extractor)),
    ):
        if not fits:
            raise ArtifactError(f"a model trained with {what} {expected}", f"{found!r}", MEND_EXPORT)


def _check_modalities(plain: list[Any], specs: tuple[ModalitySpec, ...]) -> None:
    if plain != [spec.to_dict() for spec in specs]:
        raise ArtifactError(
            f"modalities {[s.name for s in specs]} of the shapes that the signal settings make",
            f"{[entry.get('name') if isinstance(entry, dict) else entry for entry in plain]} that differ from them",
            MEND_EXPORT,
        )


def _check_labels(plain: list[Any]) -> tuple[str, ...]:
    if len(plain) < 2 or not all(isinstance(label, str) and label for label in plain) or len(set(plain)) < len(plain):
        raise ArtifactError("two or more different labels", f"{plain!r:.80}", MEND_EXPORT)
    return tuple(plain)


def _check_temperature(value: float) -> float:
    if not math.isfinite(value) or value <= 0:
        raise ArtifactError("a positive temperature", repr(value), MEND_EXPORT)
    return value


def _check_electrodes(plain: dict[str, Any], specs: tuple[ModalitySpec, ...]) -> dict[str, Position | None]:
    channels = {name for spec in specs if spec.name == "eeg" for name in spec.channels}
    try:
        found = {name: None if place is None else _vector(place) for name, place in plain.items()}
    except (TypeError, ValueError) as error:
        raise ArtifactError("three finite numbers or null by electrode", str(error), MEND_EXPORT) from error
    if found.keys() != channels:
        raise ArtifactError(f"electrodes {sorted(channels)}", f"{sorted(found)}", MEND_EXPORT)
    return found


def _vector(place: Any) -> Position:
    x, y, z = (float(value) for value in place)
    if not math.isfinite(x + y + z):
        raise ValueError(f"{place}")
    return x, y, z


def check_threshold(value: float) -> float:
    """Return the confidence under which a model gives no label.

    Raises:
        ArtifactError: It is not above 0 and below 1.
    """
    if not 0.0 < value < 1.0:
        raise ArtifactError("a confidence to abstain below, above 0 and below 1", repr(value), "choose e.g. 0.5")
    return value


def _encode(series: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(series, dtype="<f4").tobytes()).decode()


def _decode(text: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32).reshape(shape)


MANIFEST_NAME = "manifest.toml"
SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEAD = "# Models that clmer may open. Written by `clmer export`; a file whose hash is not here is refused.\n"


@dataclass(frozen=True)
class Manifest:
    """SHA-256 by name of the models of one folder, read from and written to ``manifest.toml``.

    Names are NAME for ``NAME.ts`` and ``NAME.onnx`` for ONNX files; hashes are 64 lower-case hex digits.
    """

    sha256: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return the manifest of the folder; an empty one where there is no file.

        Raises:
            ArtifactError: The file is not a manifest.
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
        """Return a manifest with this model added, in place of an older one of its name.

        Raises:
            ArtifactError: The name has characters that a file name should not have.
        """
        if not _NAME.fullmatch(name):
            raise ArtifactError("a model name of letters, digits, '.', '_' and '-'", repr(name), "choose another name")
        return Manifest({**self.sha256, name: sha256})

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder."""
        tables = (f'\n[models."{name}"]\nsha256 = "{digest}"\n' for name, digest in sorted(self.sha256.items()))
        (folder / MANIFEST_NAME).write_text(_HEAD + "".join(tables), encoding="utf-8")


def _not_a_manifest(path: Path, found: str) -> ArtifactError:
    return ArtifactError(
        expected=f'{path} with tables [models."NAME"] that hold a sha256 of 64 hex digits',
        found=found,
        mend="export the model again, or mend the file by hand",
    )


_PROPERTIES = 14  # ModelProto.metadata_props, entries of type StringStringEntryProto
_KEY, _VALUE = 1, 2  # its fields
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10  # 64 bits, seven in a byte


def properties(content: bytes, name: str) -> list[bytes]:
    """Return every value that an ONNX model's properties hold under a name.

    Args:
        content: The whole file.
        name: Name of the property.

    Raises:
        ValueError: The content is not an ONNX file.
    """
    entries = [dict(_fields(entry)) for number, entry in _fields(memoryview(content)) if number == _PROPERTIES]
    return [bytes(entry.get(_VALUE, b"")) for entry in entries if bytes(entry.get(_KEY, b"")) == name.encode()]


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each length-delimited protobuf field, without a copy; other fields are skipped."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, place = _varint(data, place)
            continue
        if wire == _BYTES:
            length, place = _varint(data, place)
        elif wire in _FIXED_BYTES:
            length = _FIXED_BYTES[wire]
        else:
            raise ValueError(f"a field of wire type {wire} at byte {place}")
        if length > len(data) - place:
            raise ValueError(f"a field of {length} bytes where {len(data) - place} are left")
        if wire == _BYTES:
            yield number, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset behind it."""
    value = 0
    for i in range(_MAX_VARINT_BYTES):
        if place + i >= len(data):
            raise ValueError("an end in the middle of a number")
        byte = data[place + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise ValueError(f"a number of more than {_MAX_VARINT_BYTES} bytes at byte {place}")
