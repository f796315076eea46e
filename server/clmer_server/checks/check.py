"""The answer of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from clmer_streaming.errors import ClmerError

CheckState: TypeAlias = Literal["ok", "warning", "fail"]
"""``warning``: something will not work, the rest will; ``fail``: the service cannot do what was asked."""


@dataclass(frozen=True)
class Check:
    """What was looked at, what was found there, and what to do about it."""

    name: str
    state: CheckState
    found: str  # a sentence for people
    mend: str = ""  # what to do; "" where nothing is to be done


def failed(name: str, error: ClmerError, state: CheckState = "fail") -> Check:
    """Return the answer of a check that ended in an error."""
    return Check(name, state, f"expected {error.expected}, found {error.found}", error.mend)
