"""Errors that a user can put right. Each states what was expected, what was found and what to do.

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
    """Base class of all errors that a user can put right; its message has three lines.

    Args:
        expected: What the program needed.
        found: What there was instead, naming the file, stream or value.
        mend: What the user can do about it.

    Attributes:
        exit_code: Exit status of a command that ends with this error.

    Example::

        import clmer

        try:
            clmer.windows("missing.xdf")
        except clmer.ClmerError as error:
            print(error.expected, error.found, error.mend, sep="; ")
    """

    exit_code = 2

    def __init__(self, expected: str, found: str, mend: str) -> None:
        self.expected = expected
        self.found = found
        self.mend = mend
        super().__init__(f"expected: {expected}\nfound:    {found}\nto do:    {mend}")


class RecordingError(ClmerError):
    """A recording that cannot be replayed.

    Example::

        import clmer

        try:
            clmer.Recording.open("missing.xdf")
        except clmer.RecordingError as error:
            print(error)
    """


class StreamError(ClmerError):
    """A stream that does not carry what the model needs, or LSL that cannot be loaded.

    Example::

        import clmer

        try:
            clmer.windows("session.xdf", eeg_map="AF3=99")
        except clmer.StreamError as error:
            print(error)
    """


class ArtifactError(ClmerError):
    """A model file that is unknown, altered, or does not fit.

    Example::

        import clmer

        try:
            clmer.load_model("no-such-model")
        except clmer.ArtifactError as error:
            print(error)
    """


class DeviceError(ClmerError):
    """A compute device that was requested and is absent.

    Example::

        import clmer

        try:
            clmer.load_model(device="cuda:99")
        except clmer.DeviceError as error:
            print(error)
    """


class SettingsError(ClmerError):
    """A setting that is out of range, unknown, or contradicts another one.

    Example::

        import clmer

        try:
            clmer.windows("session.xdf", eeg_unit="kV")
        except clmer.SettingsError as error:
            print(error)
    """


class DatasetError(ClmerError):
    """A data set that cannot be prepared or read; ``found`` names the file and the row."""
