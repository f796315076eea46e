"""The predictions for a recording: a sequence of events, and data frames of windows and of trials."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from pydantic import ValidationError

from clmer_server.archive.sessions import SessionFacts, StoredSession
from clmer_server.archive.tables import Table, TrialSpan, model_labels, trial_table, window_table
from clmer_server.protocol.parts import EmotionEvent
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import RecordingContents
from clmer_streaming.types import StreamInfo

if TYPE_CHECKING:
    import pandas


class Predictions(Sequence[EmotionEvent]):
    """Predictions in order of time, one for each window; see ``clmer.predict`` and ``Recording.predictions``.

    Each is an event with the fields that ``prediction`` has in docs/protocol.md, as attributes.

    Args:
        events: The predictions.
        labels: Classes of the model, in its order.
        contents: Of the recorded session that they come from, if they do.
        name: Of the session.

    Example::

        import clmer

        predictions = clmer.predict("session.xdf")
        best = max((event for event in predictions if event.valid), key=lambda event: event.valence)
        print(len(predictions), predictions.labels, best.t_end, best.probs)
        frame = predictions.to_dataframe()
        print(frame[["t_end", "valid", "label", "valence", "arousal", "reasons"]].tail())
    """

    def __init__(
        self,
        events: Iterable[EmotionEvent],
        labels: Sequence[str],
        contents: RecordingContents | None = None,
        name: str = "",
    ) -> None:
        self._events = tuple(events)
        self._labels = tuple(labels)
        self._recorded = contents
        self._name = name or (self._events[0].session if self._events else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the model's output."""
        return self._labels

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a row for each window, with the columns of ``clmer session export``.

        Among them: ``t_start``, ``t_end`` (s, LSL clock; in a replay, of the recording), ``session_s`` (``t_end``
        from the first sample of a recorded session, else from the first window's start), ``valid``, ``reasons`` (with
        spaces between), ``label``, ``p_LABEL`` for each class, ``valence``, ``arousal``, ``confidence``, ``entropy``,
        and the quality of EEG and face; docs/sessions-on-disk.md has all. A number that was not measured is NaN.

        Raises:
            SettingsError: pandas is not installed.
        """
        return _frame(window_table(self._facts()) if self._events else Table((), ()))

    def by_trial(self, trials: Sequence[TrialSpan]) -> pandas.DataFrame:
        """Return a row for each trial, with the columns of ``clmer session export --format trials``.

        Among them: ``trial``, ``name``, ``t_start``, ``windows``, ``windows_valid``, and mean and standard deviation
        over the valid windows that lie wholly inside the trial: ``valence_mean``, ``valence_sd``, and so on.

        Args:
            trials: As ``Recording.trials`` returns them.

        Raises:
            SettingsError: pandas is not installed.

        Example::

            recording = clmer.Recording.open("session.xdf")
            trials = recording.trials(start="trial_start/*", stop="trial_end/*")
            frame = clmer.predict("session.xdf").by_trial(trials)
            print(frame[["name", "windows_valid", "valence_mean", "valence_sd"]])
        """
        return _frame(trial_table(self._facts(), trials) if trials else Table((), ()))

    @overload
    def __getitem__(self, index: int) -> EmotionEvent: ...

    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: int | slice) -> EmotionEvent | Predictions:
        """Return one prediction, or some of them."""
        if isinstance(index, slice):
            events = self._events[index]
            kept = replace(self._contents, predictions=self._contents.predictions[index])
            return Predictions(events, self._labels, kept, self._name)
        return self._events[index]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._events)

    def __repr__(self) -> str:
        """Return how many there are, and how many are valid."""
        n_valid = sum(event.valid for event in self._events)
        return f"<clmer.Predictions: {len(self)} windows, {n_valid} valid, of {', '.join(self._labels)}>"

    @cached_property
    def _contents(self) -> RecordingContents:
        return _contents(self._events, self._labels) if self._recorded is None else self._recorded

    def _facts(self) -> SessionFacts:
        return SessionFacts(StoredSession(Path(self._name)), self._contents, "no")


def recorded_predictions(contents: RecordingContents, name: str) -> Predictions:
    """Return the predictions that are stored in a recorded session; damaged ones are left out.

    Raises:
        RecordingError: The session does not tell of its model.
    """
    events, whole = [], []
    for plain in contents.predictions:
        with contextlib.suppress(ValidationError):  # a damaged one
            events.append(EmotionEvent.model_validate(plain, extra="ignore"))
            whole.append(plain)
    kept = replace(contents, predictions=whole)
    labels = model_labels(SessionFacts(StoredSession(Path(name)), kept, "no")) if whole else ()
    return Predictions(events, labels, kept, name)


def _contents(events: Sequence[EmotionEvent], labels: Sequence[str]) -> RecordingContents:
    """Return events as a recorded session would hold them."""
    if not events:
        return RecordingContents()
    first = events[0]
    header = {
        "source": first.source,
        "participant": first.participant,
        "clock": {"lsl_time": first.t_out, "unix_time": first.unix_time},
        "model": {**first.model.model_dump(), "labels": list(labels), "trained_on": first.trained_on},
    }
    return RecordingContents(
        header=header,
        streams={"": StreamInfo("", "eeg", "", (), 0.0)},
        first_t={"": first.t_start},  # session_s counts from here, in every part of them
        predictions=[event.model_dump(mode="json") for event in events],
    )


def _frame(table: Table) -> pandas.DataFrame:
    """Return a table with a type for each column: a number or true and false where all its cells are such.

    Raises:
        SettingsError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise SettingsError("pandas, for a data frame", str(error), 'pip install "clmer[pandas]"') from error
    frame = pandas.DataFrame(list(table.rows), columns=list(table.columns))
    empty = [name for name in frame.columns if frame[name].isna().all()]
    return frame.astype(dict.fromkeys(empty, "float64"))
