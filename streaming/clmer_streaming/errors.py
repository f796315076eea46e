"""Errors a user can mend. Each says what was expected, what was found and what to do.

::

    ClmerError
    +-- RecordingError      a file that is missing, empty, not XDF, or without usable samples
    +-- StreamError         a stream that the model's settings cannot be fed from
    +-- ArtifactError       a model file that is unknown, altered or does not fit
    +-- DeviceError         a compute device that is not there
    +-- SettingsError       a setting out of range, a port in use, an unknown option value
    +-- DatasetError        tables, recordings or splits of a data set that do not fit together
"""

from __future__ import annotations


class ClmerError(Exception):
    """An error with its cure, printed to the user as three lines.

    Args:
        expected: What the program needed.
        found: What it met instead, naming the file, stream or value.
        mend: What the user can do about it.
    """

    exit_code = 2

    def __init__(self, expected: str, found: str, mend: str) -> None:
        self.expected = expected
        self.found = found
        self.mend = mend
        super().__init__(f"expected: {expected}\nfound:    {found}\nto do:    {mend}")


class RecordingError(ClmerError):
    """A recording that cannot be replayed."""


class StreamError(ClmerError):
    """A stream that does not carry what the model needs."""


class ArtifactError(ClmerError):
    """A model file that must not, or cannot, be run."""


class DeviceError(ClmerError):
    """A compute device that was asked for and is absent."""


class SettingsError(ClmerError):
    """A setting that cannot hold."""


class DatasetError(ClmerError):
    """A data set that cannot be prepared or read; ``found`` names the file and the row."""
