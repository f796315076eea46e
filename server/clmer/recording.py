"""A recording: its streams, signals, faces, markers, and the predictions that are stored in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from clmer.model import Model
from clmer.predictions import Predictions, recorded_predictions
from clmer_server.archive.sessions import SessionFacts, StoredSession
from clmer_server.archive.tables import TrialRule, TrialSpan, trials_from_markers
from clmer_server.archive.verify import Verdict, check_model, open_verifiable, recorded_model, verify_recording
from clmer_server.session.inference import load_predictor
from clmer_streaming.errors import SettingsError
from clmer_streaming.recording.reader import SessionReader, is_session_recording, read_contents
from clmer_streaming.types import Chunk, FaceSample, FloatArray, Item, Marker, StreamInfo


@dataclass(frozen=True, eq=False)
class Signal:
    """A stream of samples, as it was recorded: unfiltered, with the stream's own channels and unit."""

    info: StreamInfo
    t: FloatArray  # (n,) seconds, the known delay of the device taken off
    x: FloatArray  # (channels, n)

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Names of the channels, the rows of ``x``."""
        return self.info.ch_names

    @property
    def sfreq(self) -> float:
        """Nominal rate in Hz; 0 for an irregular stream."""
        return self.info.sfreq

    @property
    def unit(self) -> str:
        """Unit of most channels, as the stream declares it."""
        return self.info.unit


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded session of clmer, or an XDF file of another recorder; see ``Recording.open``.

    Of another recorder's file the streams are those that a replay of it uses: EEG, face and markers.

    Attributes:
        path: The file.
        header: The first record of a session of clmer: settings, model, clocks, participant. Empty for other files.
        streams: Streams, each with ``name``, ``kind``, ``ch_names``, ``sfreq`` and ``source``, its key here.
        markers: Events of the experiment, in the order of the file.
        predictions: What clients got, as it is stored in a session of clmer; empty for other files.
        duration_s: Seconds from the first sample to the last, in a session of clmer to the end of the last window.
        warnings: Sentences on what is damaged or not used.

    Example::

        import clmer

        recording = clmer.Recording.open("session.xdf")
        print(recording.duration_s, [(stream.name, stream.sfreq) for stream in recording.streams])
        eeg = recording.eeg
        print(eeg.x.shape, eeg.t[0], eeg.ch_names, eeg.unit)
        print(len(recording.faces), recording.markers[0].label)
    """

    path: Path
    header: Mapping[str, Any] = field(repr=False)
    streams: tuple[StreamInfo, ...] = field(repr=False)
    markers: tuple[Marker, ...] = field(repr=False)
    predictions: Predictions
    duration_s: float
    warnings: tuple[str, ...]
    _items: Callable[[], Iterator[Item]] = field(repr=False)

    @classmethod
    def open(
        cls, path: str | Path, *, eeg: str = "auto", eeg_map: str | None = None, eeg_map_force: bool = False
    ) -> Self:
        """Return a recording; its samples are read when they are needed.

        Args:
            path: An XDF file.
            eeg: Of another recorder's file: which stream is the EEG, by name or properties.
            eeg_map: Of another recorder's file: names of EEG channels without labels, e.g. ``AF3=1,F7=2``.
            eeg_map_force: Whether ``eeg_map`` may contradict the labels that the stream has.

        Raises:
            RecordingError: It is missing, empty, not XDF, or without usable samples.
            StreamError: Its EEG has none of the channels that a model needs, or the map does not fit it.

        Example::

            recording = clmer.Recording.open("recordings/x/session.xdf")
            print(recording.header["participant"], recording.predictions)
            print(recording.verify().passed)
        """
        path = Path(path)
        return cls._of_session(path) if is_session_recording(path) else cls._of_other(path, eeg, eeg_map, eeg_map_force)

    @cached_property
    def eeg(self) -> Signal | None:
        """The EEG, (channels, n) in the device's unit, with its times; None where there is none."""
        info = next((stream for stream in self.streams if stream.kind == "eeg"), None)
        return None if info is None else self.signal(info.source)

    @cached_property
    def faces(self) -> tuple[FaceSample, ...]:
        """The faces, one for each frame, times with the known delay of the camera taken off; NaN without a face."""
        delays = {stream.source: stream.delay_s for stream in self.streams}
        return tuple(
            replace(item, t=item.t - delays.get(item.source, 0.0))
            for item in self._items()
            if isinstance(item, FaceSample)
        )

    def signal(self, source: str) -> Signal:
        """Return the samples of one stream.

        Args:
            source: Its key, ``source`` of one of ``streams``.

        Raises:
            SettingsError: There is no such stream.
        """
        info = next((stream for stream in self.streams if stream.source == source), None)
        if info is None:
            known = ", ".join(stream.source for stream in self.streams)
            raise SettingsError(f"a stream of {self.path}: {known}", repr(source), "see Recording.streams")
        chunks = [item for item in self._items() if isinstance(item, Chunk) and item.source == source]
        chunks = [chunk for chunk in chunks if len(chunk.x) == len(info.ch_names)]  # as it was announced last
        t = np.concatenate([np.empty(0), *(chunk.t for chunk in chunks)])
        x = np.concatenate([chunk.x for chunk in chunks] or [np.empty((len(info.ch_names), 0))], axis=1)
        return Signal(info, t - info.delay_s, x)

    def trials(
        self, start: str | None = None, stop: str | None = None, trial_s: float | None = None
    ) -> list[TrialSpan]:
        """Return the trials that the markers enclose, in order of time; those without an end are left out.

        Args:
            start: Pattern of the labels at which a trial begins, with ``*`` and ``?``; None: markers in pairs such as
                ``clip3/start`` and ``clip3/end``.
            stop: Pattern of the labels at which it ends.
            trial_s: Its length in seconds, in place of an end.

        Raises:
            SettingsError: No marker begins a trial, or the patterns do not go together.

        Example::

            recording = clmer.Recording.open("session.xdf")
            for trial in recording.trials(start="trial_start/*", stop="trial_end/*"):
                print(trial.name, trial.t_end - trial.t_start)
        """
        return trials_from_markers(self.markers, TrialRule(start, stop, trial_s))[0]

    def verify(self, model: Model | str | Path | None = None) -> Verdict:
        """Recompute a session of clmer, and compare every window and probability with the recorded ones.

        Args:
            model: The model that answered; None: the shipped one of the same hash.

        Returns:
            ``passed``, ``n_windows``, ``n_equal``, ``largest`` difference of a probability, and ``first``, the first
            thing that differs.

        Raises:
            RecordingError: It is no session of clmer.
            ArtifactError: The model is not there, or it is not the one that answered.
        """
        reader = open_verifiable(self.path)
        if isinstance(model, Model):
            check_model(reader, model.artifact)
            return verify_recording(reader, model.artifact, model.predictor)[0]
        artifact = recorded_model(reader, None if model is None else str(model))
        return verify_recording(reader, artifact, load_predictor(artifact, "cpu"))[0]

    @classmethod
    def _of_session(cls, path: Path) -> Self:
        reader, contents = SessionReader(path), read_contents(path)
        facts = SessionFacts(StoredSession(path.parent), contents, "no")
        return cls(
            path,
            contents.header,
            tuple(contents.streams.values()),
            tuple(contents.markers),
            recorded_predictions(contents, path.parent.name),
            facts.duration_s,
            reader.summary.warnings,
            reader.items,
        )

    @classmethod
    def _of_other(cls, path: Path, eeg: str, eeg_map: str | None, force_map: bool) -> Self:
        from clmer_streaming.sources.replay import ReplaySource
        from clmer_streaming.sources.replay_streams import EegChoice

        source = ReplaySource(path, eeg=EegChoice(eeg, eeg_map, force_map))
        return cls(
            path,
            {},
            source.infos,
            tuple(item for item in source.items() if isinstance(item, Marker)),
            Predictions((), ()),
            source.duration_s,
            source.warnings,
            source.items,
        )
