"""Recomputing a recorded session, and comparing every answer with the one that clients got."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

from clmer_model.prediction import Prediction
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.parts import VOLATILE_FIELDS, ModelInfo
from clmer_server.session.events import EventContext, EventTimes, emotion_event
from clmer_server.session.recorder import PREDICTIONS_FILE, SESSION_FILE
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import RecordedPrediction, SessionReader
from clmer_streaming.recording.records import Lost
from clmer_streaming.types import Reason, Window

CPU_LIMIT, CUDA_LIMIT = 1e-6, 1e-4
"""Largest difference of two probabilities of one window that were computed in different batches, or elsewhere."""

_BY_THE_MODEL = ("probs", "valence", "arousal", "confidence", "entropy")
"""Fields that hold the model's numbers; compared within the limit, all others by equality."""

_NOT_COMPARED = frozenset({*VOLATILE_FIELDS, *_BY_THE_MODEL, "label", "runner", "crc"})

_NO_TIMES = EventTimes(ready=0.0, answered=0.0, out=0.0, unix=0.0)


@dataclass(frozen=True)
class Difference:
    """The first thing that differs."""

    t_end: float  # s, the window
    field: str
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        """Return one sentence."""
        return f"window ending at {self.t_end} s, {self.field}: {self.recorded!r} recorded, {self.recomputed!r} now"


@dataclass
class Verdict:
    """What came of a comparison."""

    n_windows: int = 0  # recorded predictions that were compared
    n_equal: int = 0  # with the same CRC
    n_shared: int = 0  # answered in one call of the model with others, here alone
    largest: float = 0.0  # difference of two probabilities
    n_unanswered: int = 0  # windows at the end that the session had not answered yet
    n_missing_items: int = 0  # from a slow disk or damage; nothing behind is compared
    first: Difference | None = None

    @property
    def passed(self) -> bool:
        """Whether everything is as it was."""
        return self.first is None and self.n_missing_items == 0

    def note(self, difference: Difference | None) -> None:
        """Keep the first difference."""
        self.first = self.first or difference


class Verifier:
    """Compares recorded answers with new ones, as the windows come.

    Args:
        model: What the events say of the model that answered.
        preprocess: Its signal settings.
        predict: Asks it.
        limit: Largest difference of two probabilities.
    """

    def __init__(
        self,
        model: ModelInfo,
        preprocess: PreprocessConfig,
        predict: Callable[[list[Window]], Sequence[Prediction]],
        limit: float,
    ) -> None:
        self._model = model
        self._preprocess = preprocess
        self._predict = predict
        self._limit = limit

    def verify(self, reader: SessionReader) -> Verdict:
        """Return how a session compares."""
        context = EventContext(
            reader.header["session"], self._model, reader.header["source"], reader.header.get("participant")
        )
        preprocessor, verdict = Preprocessor(self._preprocess), Verdict()
        windows: dict[float, tuple[int, Window]] = {}  # by end: number within the session, and the window
        seq = int(reader.header.get("first_seq", 0))
        for entry in reader.entries():
            if isinstance(entry, Lost):
                verdict.n_missing_items += entry.n_items
                break
            if isinstance(entry, RecordedPrediction):
                recorded = json.loads(entry.text)
                self._compare(recorded, windows.pop(recorded["t_end"], None), context, verdict)
                continue
            with contextlib.suppress(StreamError):  # it ended the session, too
                for window in preprocessor.push(entry):
                    windows[window.t_end] = seq, window
                    seq += 1
        verdict.n_unanswered = len(windows)
        return verdict

    def _compare(
        self, recorded: dict[str, Any], made: tuple[int, Window] | None, context: EventContext, verdict: Verdict
    ) -> None:
        t_end = recorded["t_end"]
        verdict.n_windows += 1
        if made is None:
            verdict.note(Difference(t_end, "window", "a prediction", "no such window"))
            return
        seq, window = made
        equal = recorded["crc"] == window.crc
        verdict.n_equal += equal
        verdict.n_shared += recorded["batch"] > 1
        skipped = Reason.OVERLOAD_SKIPPED in recorded["reasons"]
        prediction = None if skipped else self._predict([window])[0]
        recomputed = json.loads(encode(emotion_event(seq, window, prediction, context, _NO_TIMES)))
        if not equal:
            verdict.note(Difference(t_end, "crc", recorded["crc"], window.crc))
        for field, old, new in _differences(recorded, recomputed):
            verdict.note(Difference(t_end, field, old, new))
        self._compare_numbers(recorded, recomputed, verdict)

    def _compare_numbers(self, recorded: dict[str, Any], recomputed: dict[str, Any], verdict: Verdict) -> None:
        """Compare what the model said; where numbers that are nearly equal change places, so may the label."""
        largest = 0.0
        for field in _BY_THE_MODEL:
            old, new = _numbers(recorded[field]), _numbers(recomputed[field])
            if old.keys() != new.keys():
                verdict.note(Difference(recorded["t_end"], field, recorded[field], recomputed[field]))
                return
            apart = max((abs(old[name] - new[name]) for name in old), default=0.0)
            largest = max(largest, apart)
            if not apart <= self._limit:
                verdict.note(Difference(recorded["t_end"], field, recorded[field], recomputed[field]))
        verdict.largest = max(verdict.largest, largest)
        if recorded["label"] != recomputed["label"] and largest == 0:
            verdict.note(Difference(recorded["t_end"], "label", recorded["label"], recomputed["label"]))


def _differences(recorded: dict[str, Any], recomputed: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields that must be equal and are not."""
    for field in sorted((recorded.keys() | recomputed.keys()) - _NOT_COMPARED):
        old, new = recorded.get(field), recomputed.get(field)
        if old != new:
            yield field, old, new


def _numbers(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    return dict(value) if isinstance(value, dict) else {"": float(value)}


VERDICT_FILE = "verdict.json"

Verified: TypeAlias = Literal["yes", "differs", "no"]
"""Whether a recording was verified and passed, did not pass, or was not verified since it last changed."""


def keep_verdict(recording: Path, verdict: Verdict) -> None:
    """Keep what came of a verification in the session's folder; one that cannot be written to stays as it is."""
    if recording.name != SESSION_FILE or not (recording.parent / PREDICTIONS_FILE).is_file():
        return
    told = {
        "passed": verdict.passed,
        "windows": verdict.n_windows,
        "equal": verdict.n_equal,
        "largest_difference": verdict.largest,
        "clmer": version("clmer"),
        "unix_time": time.time(),
        "recording": recording_state(recording),
    }
    with contextlib.suppress(OSError):
        (recording.parent / VERDICT_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def verified(recording: Path) -> Verified:
    """Return what the last verification of a recording found."""
    try:
        told = json.loads((recording.parent / VERDICT_FILE).read_text(encoding="utf-8"))
        current = told["recording"] == recording_state(recording)
        return ("yes" if told["passed"] else "differs") if current else "no"
    except (OSError, ValueError, KeyError, TypeError):
        return "no"


def recording_state(recording: Path) -> list[int]:
    """Return what changes with the file: its size, and when it was last written to."""
    stat = recording.stat()
    return [stat.st_size, stat.st_mtime_ns]
