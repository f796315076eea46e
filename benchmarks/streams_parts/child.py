"""A function in a process of its own, which talks over a pipe."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

_LONGEST_WAIT_S = 90.0


class Child:
    """The other end of a process that this program started."""

    def __init__(self, name: str, pipe: Connection) -> None:
        self._name = name
        self._pipe = pipe

    def receive(self) -> Any:
        """Return the next thing that the process says.

        Raises:
            RuntimeError: It says nothing, or has died.
        """
        try:
            if self._pipe.poll(_LONGEST_WAIT_S):
                return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self._name} died; what it said of this is above") from None
        raise RuntimeError(f"{self._name} said nothing for {_LONGEST_WAIT_S:g} s")

    def send(self, word: str) -> None:
        """Say something to the process."""
        self._pipe.send(word)


@contextmanager
def child(function: Callable[..., None], *args: Any) -> Iterator[Child]:
    """Run ``function(*args, pipe)`` in a new process, which ends with the context."""
    ours, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=function, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(function.__name__, ours)
    finally:
        process.kill()
        process.join()
