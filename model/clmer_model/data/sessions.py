"""One recording read through the live signal path: the windows of its trials, and the reasons of those left out.

``session_windows`` does it; below it stand the reading of the recording, the search for its trials, the choice of
windows, and the measurement of EEG at rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clmer_model.data.examples import LabelledTrial, Masks, Series
from clmer_model.data.tables import Recording, TrialRow
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import ClmerError, DatasetError
from clmer_streaming.pipeline.baseline import RestMeasurement
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import is_session_recording
from clmer_streaming.types import Item, Marker, RestBaseline, Source, StreamInfo, Window


def session_windows(
    recording: Recording,
    trials: Sequence[TrialRow],
    config: PreprocessConfig,
    every: int,
    physio: Mapping[str, str] | None = None,
) -> SessionWindows:
    """Return the windows that lie wholly inside a trial and in which any modality was measured.

    Args:
        recording: Where the recording is, and how to read it.
        trials: Its rows of the table of trials.
        config: Settings of the Preprocessor.
        every: Keep only each ``every``-th window of a trial; neighbours share samples.
        physio: Name or type of the stream of each further series of the settings.

    Raises:
        DatasetError: The recording cannot be read, or two of its trials overlap.
    """
    collected, warnings = _read_recording(recording, config, physio or {})
    spans, missing = find_trials(trials, collected.markers)
    known = [window for window in collected.windows if _is_measured(window, config)]
    chosen, left_out = _choose(known, spans, config.modalities, every)
    if len(known) < len(collected.windows):
        left_out["no EEG at rest to measure them against"] = len(collected.windows) - len(known)
    return SessionWindows(
        series={name: np.array([w.series[name] for w, _ in chosen], np.float32) for name in config.modalities},
        mask={name: np.array([w.mask[name] for w, _ in chosen], np.bool_) for name in config.modalities},
        trial=np.array([number for _, number in chosen], dtype=np.int64),
        t_end=np.array([window.t_end for window, _ in chosen], dtype=np.float64),
        left_out=left_out,
        notes=(*warnings, *collected.refusals, *missing, *_without_windows(trials, spans, chosen)),
        simulated=collected.simulated,
    )


def unlabelled_windows(folder: Path, config: PreprocessConfig, every: int) -> UnlabelledWindows:
    """Return the windows of all recordings in a folder, whatever happened in them, without labels.

    Args:
        folder: Holds XDF files, at any depth.
        config: Settings of the Preprocessor.
        every: Keep only each ``every``-th window; neighbours share samples.

    Raises:
        DatasetError: There is no recording, one cannot be read, or in none was anything measured.
    """
    paths = sorted(folder.rglob("*.xdf"))
    if not paths:
        raise DatasetError(f"a folder with XDF recordings: {folder}", "none", "name another folder with --unlabelled")
    kept: list[Window] = []
    for path in paths:
        recording = Recording(0, path.name, path.name, path, participant="")
        collected, _ = _read_recording(recording, config, {})
        measured = [window for window in collected.windows if _has_values(window, config.modalities)]
        kept += measured[::every]
    if not kept:
        found = f"none in {len(paths)} recordings"
        raise DatasetError(f"windows with {', '.join(config.modalities)}", found, "leave --unlabelled out")
    return UnlabelledWindows(
        series={name: np.array([w.series[name] for w in kept], np.float32) for name in config.modalities},
        mask={name: np.array([w.mask[name] for w in kept], np.bool_) for name in config.modalities},
        files={str(path.relative_to(folder)): _sha256(path) for path in paths},
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has_values(window: Window, modalities: Sequence[str]) -> bool:
    return any(bool(window.mask[name].any()) for name in modalities)


@dataclass(frozen=True, eq=False)
class UnlabelledWindows:
    """Windows of which nothing is known but what was measured."""

    series: Series  # by modality, (n, ...) float32
    mask: Masks  # by modality, (n, ...) bool
    files: Mapping[str, str]  # SHA-256 by recording

    def __len__(self) -> int:
        return len(next(iter(self.mask.values())))


@dataclass(frozen=True, eq=False)
class SessionWindows:
    """The windows of one recording that lie in its trials."""

    series: Series  # by modality, (n, ...) float32
    mask: Masks  # by modality, (n, ...) bool
    trial: npt.NDArray[np.int64]  # (n,) index into the recording's rows of the table of trials
    t_end: npt.NDArray[np.float64]  # (n,) s
    left_out: Mapping[str, int]  # by reason: how many windows
    notes: tuple[str, ...]  # sentences for display
    simulated: bool

    def __len__(self) -> int:
        return len(self.trial)


def _read_recording(
    recording: Recording, config: PreprocessConfig, physio: Mapping[str, str]
) -> tuple[_WindowCollector, tuple[str, ...]]:
    """Return the windows and markers of a recording, and warnings."""
    try:
        rest = (
            measure_rest(recording, _open(recording, config, {})[0], config)
            if config.eeg_calibration == "rest"
            else None
        )
        source, warnings = _open(recording, config, physio)
        collected = _WindowCollector(config, rest)
        source.run(collected.push, threading.Event())
    except ClmerError as error:
        if isinstance(error, DatasetError):
            raise
        found = f"{error.found} ({recording.path}; manifest.csv, row {recording.row})"
        columns = "; in manifest.csv such options are columns: eeg, eeg_map, ..." if "--eeg" in error.mend else ""
        raise DatasetError(error.expected, found, error.mend + columns) from error
    return collected, warnings


def _open(recording: Recording, config: PreprocessConfig, physio: Mapping[str, str]) -> tuple[Source, tuple[str, ...]]:
    """Return the recording as a source, as the service replays it, and warnings."""
    from clmer_streaming.sources.replay import ReplaySource
    from clmer_streaming.sources.replay_streams import EegChoice
    from clmer_streaming.sources.session_replay import SessionReplaySource
    from clmer_streaming.sources.transform import EegCorrections, MarkerColumns, SeriesNames, TransformedSource
    from clmer_streaming.sources.video import face_track

    corrections = EegCorrections(unit=recording.eeg_unit, sfreq=recording.eeg_rate)
    choice = EegChoice(recording.eeg, recording.eeg_map, recording.eeg_map_force, recording.eeg_rate)
    if recording.video is None and is_session_recording(recording.path):
        own = SessionReplaySource(recording.path, eeg=choice, speed=math.inf, preprocess=config)
        return TransformedSource(own, SeriesNames(physio).apply, corrections.apply), own.warnings
    foreign = ReplaySource(
        recording.path,
        eeg=choice,
        speed=math.inf,
        extractor=config.extractor,
        signal=config.signal,
        video=None if recording.video is None else face_track(recording.video),
        video_offset_s=recording.video_offset_s,
        physio=physio,
    )
    return TransformedSource(foreign, corrections.apply, MarkerColumns().apply), foreign.warnings


SIMULATOR_HOST = "simulator"  # host name in the headers of simulated streams


class _WindowCollector:
    """Feeds the Preprocessor; keeps windows and markers."""

    def __init__(self, config: PreprocessConfig, rest: RestBaseline | None) -> None:
        self._preprocessor = Preprocessor(config)
        self._rest = rest  # measured in this very recording; in its place none from the session counts
        if rest is not None:
            self._preprocessor.push(rest)
        self.windows: list[Window] = []
        self.markers: list[Marker] = []
        self.simulated = False

    @property
    def refusals(self) -> tuple[str, ...]:
        """A sentence for each stream that should carry a further series and cannot."""
        refused = (s for s in self._preprocessor.statuses() if s.kind == "physio" and s.reason)
        return tuple(f"The stream {status.name!r} is {status.reason}." for status in refused)

    def push(self, item: Item) -> None:
        """Push one item of the recording."""
        if isinstance(item, Marker):
            self.markers.append(item)
        elif isinstance(item, StreamInfo):
            self.simulated |= item.hostname == SIMULATOR_HOST
        if self._rest is None or not isinstance(item, RestBaseline):
            self.windows.extend(self._preprocessor.push(item))


def _is_measured(window: Window, config: PreprocessConfig) -> bool:
    """Return whether the EEG has the baseline that the settings demand."""
    return config.eeg_calibration == "none" or window.calibration["eeg"] != "none"


def find_trials(
    trials: Sequence[TrialRow], markers: Sequence[Marker]
) -> tuple[dict[int, LabelledTrial], tuple[str, ...]]:
    """Return where each trial lies, by its index, and a sentence for each trial whose markers are missing.

    Raises:
        DatasetError: Two trials overlap.
    """
    ordered = sorted(markers, key=lambda marker: marker.t)
    used: Counter[str] = Counter()
    found: dict[int, LabelledTrial] = {}
    missing = []
    for number, trial in enumerate(trials):
        begin, end = trial.t_start, trial.t_end
        if math.isnan(begin):
            times = [marker.t for marker in ordered if marker.label == trial.start]
            begin = times[used[trial.start]] if used[trial.start] < len(times) else math.nan
            used[trial.start] += 1
        if math.isfinite(trial.duration_s):
            end = begin + trial.duration_s
        elif math.isnan(trial.t_start):
            end = next((m.t for m in ordered if m.label == trial.stop and m.t > begin), math.nan)
        if math.isnan(begin) or math.isnan(end):
            word = trial.start if math.isnan(begin) else trial.stop
            missing.append(f"trials.csv, row {trial.row}: the recording has no marker {word!r} for this trial")
            continue
        found[number] = LabelledTrial(number, trial.label, begin, end)
    _check_overlap(trials, found)
    return found, tuple(missing)


def _check_overlap(trials: Sequence[TrialRow], found: Mapping[int, LabelledTrial]) -> None:
    spans = sorted(found.values(), key=lambda span: span.t_start)
    for earlier, later in pairwise(spans):
        if later.t_start < earlier.t_end:
            rows = f"rows {trials[earlier.number].row} and {trials[later.number].row}"
            raise DatasetError(
                expected="trials one after the other",
                found=f"{later.t_start:.3f} s before {earlier.t_end:.3f} s in trials.csv, {rows}",
                mend="mend the times, or leave one of the rows out",
            )


def _choose(
    windows: Sequence[Window], spans: Mapping[int, LabelledTrial], modalities: Sequence[str], every: int
) -> tuple[list[tuple[Window, int]], dict[str, int]]:
    """Return the windows to keep with their trials, in order, and how many were left out for which reason."""
    chosen: list[tuple[Window, int]] = []
    left_out: Counter[str] = Counter()
    seen: Counter[int] = Counter()
    for window in windows:
        span = next((span for span in spans.values() if span.contains(window)), None)
        if span is None:
            crosses = any(s.t_start < window.t_end and window.t_start < s.t_end for s in spans.values())
            left_out["across the edge of a trial" if crosses else "outside trials"] += 1
            continue
        seen[span.number] += 1
        if (seen[span.number] - 1) % every:
            left_out["between those kept (--every)"] += 1
        elif any(window.mask[name].any() for name in modalities):
            chosen.append((window, span.number))
        else:
            left_out["nothing measured: " + ", ".join(reason.value for reason in window.reasons)] += 1
    return chosen, dict(left_out)


def _without_windows(
    trials: Sequence[TrialRow], spans: Mapping[int, LabelledTrial], chosen: Sequence[tuple[Window, int]]
) -> list[str]:
    have = {number for _, number in chosen}
    return [
        f"trials.csv, row {trials[number].row}: no window lies in {span.t_start:.1f} to {span.t_end:.1f} s"
        for number, span in spans.items()
        if number not in have
    ]


def measure_rest(recording: Recording, source: Source, config: PreprocessConfig) -> RestBaseline | None:
    """Return the resting baseline that begins at the recording's rest marker; None where the manifest names no marker.

    Args:
        recording: Its row of the manifest.
        source: The recording, from its beginning.
        config: Settings of the Preprocessor.

    Raises:
        DatasetError: The marker is missing, or the rest behind it is too short.
        StreamError: The rest holds too little clean EEG.
        SettingsError: The length is not valid for a rest.
    """
    if not recording.rest_marker:
        return None
    plain = dataclasses.replace(config, eeg_calibration="none")
    measurement, path = RestMeasurement(plain, recording.rest_s), Preprocessor(plain)
    windows: list[Window] = []
    markers: list[Marker] = []

    def push(item: Item) -> None:
        if isinstance(item, Marker):
            markers.append(item)
        windows.extend(path.push(item))

    source.run(push, threading.Event())
    begin = next((marker.t for marker in markers if marker.label == recording.rest_marker), None)
    if begin is None:
        raise _fault(recording, f"no marker {recording.rest_marker!r}")
    for window in windows:
        if window.t_start >= begin and measurement.push(window):
            return measurement.result(begin)
    raise _fault(recording, f"less behind the marker {recording.rest_marker!r}")


def _fault(recording: Recording, found: str) -> DatasetError:
    return DatasetError(
        expected=f"{recording.rest_s:g} s of rest in {recording.name}",
        found=f"{found} (manifest.csv, row {recording.row})",
        mend="mend rest_marker and rest_s",
    )
