"""Files kept of participants from session to session, under a pseudonym: a neutral face, and their EEG at rest.

Only their owner may read them: the shape of a face can identify a person. To be read in this order: the names of the
files, loading, saving.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from clmer_server.settings import PSEUDONYM
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.layout import EXTRACTOR_ID
from clmer_streaming.face.neutral import NeutralFace
from clmer_streaming.pipeline.baseline import rest_from_json, rest_to_json
from clmer_streaming.types import RestBaseline


def neutral_file(folder: Path, pseudonym: str) -> Path:
    """Return the file of a participant's neutral face.

    Raises:
        SettingsError: The pseudonym cannot name a file.
    """
    if not re.fullmatch(PSEUDONYM, pseudonym):
        raise SettingsError(
            expected="a pseudonym of letters, digits, - and _",
            found=repr(pseudonym),
            mend="for example --participant P01",
        )
    return folder / f"{pseudonym}.json"


def rest_file(folder: Path, pseudonym: str) -> Path:
    """Return the file of a participant's EEG at rest.

    Raises:
        SettingsError: The pseudonym cannot name a file.
    """
    return neutral_file(folder, pseudonym).with_suffix(".rest.json")


def calibration_files(folder: Path, pseudonym: str) -> tuple[Path, ...]:
    """Return the files that are kept of a participant; none where the pseudonym can name no file."""
    if not re.fullmatch(PSEUDONYM, pseudonym):
        return ()
    return tuple(path for path in (neutral_file(folder, pseudonym), rest_file(folder, pseudonym)) if path.is_file())


def load_neutral(folder: Path, pseudonym: str | None, extractor: str = EXTRACTOR_ID) -> NeutralFace | None:
    """Return the neutral face of a participant; None where nobody is named, or only their EEG at rest is kept.

    Args:
        folder: Of the neutral faces.
        pseudonym: The participant's.
        extractor: What will read the face that is compared with it.

    Raises:
        SettingsError: Nothing is kept for this pseudonym, or it cannot be used.
    """
    if pseudonym is None:
        return None
    path = neutral_file(folder, pseudonym)
    if not path.exists() and rest_file(folder, pseudonym).exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            expected=f"the neutral face of participant {pseudonym}, at {path}",
            found=error.strerror or repr(error),
            mend=f"measure it: clmer calibrate --participant {pseudonym}",
        ) from error
    return NeutralFace.from_json(text, extractor)


def load_rest(folder: Path, pseudonym: str | None, config: PreprocessConfig) -> RestBaseline | None:
    """Return a participant's EEG at rest; None where nobody is named, none is kept, or an unwanted one does not fit.

    Raises:
        SettingsError: The model wants it, and it cannot be used with its signal settings.
    """
    if pseudonym is None or not rest_file(folder, pseudonym).exists():
        return None
    try:
        return rest_from_json(rest_file(folder, pseudonym).read_text(encoding="utf-8"), config)
    except SettingsError:
        if config.eeg_calibration == "rest":
            raise
        return None


def save_neutral(folder: Path, pseudonym: str, neutral: NeutralFace) -> Path:
    """Keep the neutral face of a participant, in place of an earlier one; return its file.

    Raises:
        SettingsError: The folder cannot be written to.
    """
    return _save(neutral_file(folder, pseudonym), neutral.to_json())


def save_rest(folder: Path, pseudonym: str, rest: RestBaseline) -> Path:
    """Keep the EEG at rest of a participant, in place of an earlier one; return its file.

    Raises:
        SettingsError: The folder cannot be written to.
    """
    return _save(rest_file(folder, pseudonym), rest_to_json(rest))


def _save(path: Path, text: str) -> Path:
    """Write beside the file and take its place only when all is written: what was kept before outlives a full disk."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # its owner's alone: 0600
        try:
            with os.fdopen(unfinished, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SettingsError(
            expected=f"a folder that can be written to: {path.parent}",
            found=error.strerror or repr(error),
            mend="name another one with --participants",
        ) from error
    return path
