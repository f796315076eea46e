"""Python's garbage collector, kept from stopping the service for long."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""New objects before the youngest are looked through; Python's own 700 suits small programs."""


def settle_garbage() -> None:
    """Let the collector leave alone what the start has made; call it when everything is made and nothing runs.

    A full collection walks over everything, some 250,000 objects behind the imports of a service, and nothing else
    runs meanwhile: a quarter of a second and more in which every client waits. What the start has made stays to the
    end, and is put out of the collector's sight (``gc.freeze``). That alone makes full collections more frequent,
    since they come when a quarter more has survived than there was; so fewer of the small ones lead up to them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
