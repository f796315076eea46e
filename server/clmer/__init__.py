"""CLMER from Python: a model, its windows and predictions, live sessions, recordings, and a client of the service.

::

    import clmer

    model = clmer.load_model()                               # the shipped one, by name, or by path
    windows = clmer.windows("session.xdf", model)            # what the model is given, as in a live session
    frame = clmer.predict("session.xdf", model).to_dataframe()
    with clmer.Session.replay("session.xdf", model) as session:
        events = list(session)
    with clmer.Session.live(model, eeg="auto", camera=0) as session:
        for event in session: ...
    with clmer.connect("ws://127.0.0.1:8765") as client:     # a running service
        client.mark("stimulus/joy")
        print(next(client.predictions()))
    recording = clmer.Recording.open("recordings/x/session.xdf")

Every name below is imported when it is first used, so that ``import clmer`` costs nothing. In reading order:

- ``model``: ``load_model`` and ``Model``.
- ``options``: what may be said of recordings and live sessions.
- ``predictions``: ``Predictions``, the answers for a recording, as a sequence and as data frames.
- ``session``: ``Session``, a replay or a live session in this program.
- ``offline``: ``windows`` and ``predict``, of a recording.
- ``recording``: ``Recording``, what is in a file.
- ``messages``: ``ServiceError``, and what a service sends.
- ``client``: ``connect`` and ``Client``, of a running service.

docs/python.md is the guide.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clmer.client import Client, connect
    from clmer.messages import ServiceError
    from clmer.model import Model, load_model
    from clmer.offline import predict, windows
    from clmer.predictions import Predictions
    from clmer.recording import Recording
    from clmer.session import Session
    from clmer_streaming.errors import (
        ArtifactError,
        ClmerError,
        DeviceError,
        RecordingError,
        SettingsError,
        StreamError,
    )

__all__ = [
    "ArtifactError",
    "Client",
    "ClmerError",
    "DeviceError",
    "Model",
    "Predictions",
    "Recording",
    "RecordingError",
    "ServiceError",
    "Session",
    "SettingsError",
    "StreamError",
    "connect",
    "load_model",
    "predict",
    "windows",
]

_HOMES = {
    "clmer.model": ("Model", "load_model"),
    "clmer.predictions": ("Predictions",),
    "clmer.session": ("Session",),
    "clmer.offline": ("predict", "windows"),
    "clmer.recording": ("Recording",),
    "clmer.messages": ("ServiceError",),
    "clmer.client": ("Client", "connect"),
    "clmer_streaming.errors": (
        "ArtifactError",
        "ClmerError",
        "DeviceError",
        "RecordingError",
        "SettingsError",
        "StreamError",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted([*globals(), *__all__])
