"""Signals, faces, clocks and recordings: everything between a source and a model window.

Public names, imported when they are first used: ``Preprocessor`` and its ``PreprocessConfig``, the items ``Chunk``,
``FaceSample`` and ``Marker`` that it takes and the ``Window`` that it returns, ``read_xdf``, and the errors. All other
names are private: they may change without notice.

Modules and packages in reading order:

- ``types``: the items that sources deliver, and the window that a model sees
- ``errors``: errors that a user can put right
- ``config``: settings of the signal path
- ``clock``: the LSL clock
- ``pipeline``: from items to windows
- ``face``: from video frames to face samples
- ``xdf``: reading and writing XDF files
- ``lsl``: Lab Streaming Layer
- ``sources``: cameras, videos and recordings as sources of items
- ``recording``: recording a session, and reading it back
- ``simulation``: sessions of simulated participants

Example::

    from clmer_streaming import Chunk, PreprocessConfig, Preprocessor

    preprocessor = Preprocessor(PreprocessConfig())
    windows = preprocessor.push(Chunk("eeg", t, x))  # t (n,) seconds, x (C, n)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clmer_streaming.config import PreprocessConfig
    from clmer_streaming.errors import (
        ArtifactError,
        ClmerError,
        DatasetError,
        DeviceError,
        RecordingError,
        SettingsError,
        StreamError,
    )
    from clmer_streaming.pipeline.preprocess import Preprocessor
    from clmer_streaming.types import Chunk, FaceSample, Marker, Window
    from clmer_streaming.xdf.reader import read_xdf

__all__ = [
    "ArtifactError",
    "Chunk",
    "ClmerError",
    "DatasetError",
    "DeviceError",
    "FaceSample",
    "Marker",
    "PreprocessConfig",
    "Preprocessor",
    "RecordingError",
    "SettingsError",
    "StreamError",
    "Window",
    "read_xdf",
]

_MODULES = {
    "PreprocessConfig": "config",
    "Preprocessor": "pipeline.preprocess",
    **dict.fromkeys(("Chunk", "FaceSample", "Marker", "Window"), "types"),
    "read_xdf": "xdf.reader",
}
"""Where each public name is defined, below this package; the errors are in ``errors``."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
