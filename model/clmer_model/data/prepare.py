"""A window store made from recordings with their tables, or from arrays, as ``clmer prepare`` does.

``prepare_sessions`` works recording by recording, so that it can be interrupted and resumed; ``prepare_arrays`` takes a
file of NumPy. Behind them stand the requests for further series and their default rates and bands.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clmer_model.config import ModalitySpec, modality_specs
from clmer_model.data.montage import MAX_CHANNELS, channels_of
from clmer_model.data.sessions import session_windows
from clmer_model.data.store import (
    NO_STIMULUS,
    STORE_LAYOUT,
    FinishedRecordings,
    Part,
    check_labels,
    count_left_out,
    digest,
    file_digest,
    finish_store,
    index_names,
    read_index,
)
from clmer_model.data.tables import EegReading, Recording, Tables, ordered_labels, read_tables
from clmer_streaming.config import EPOC_CH_NAMES, FurtherSeries, PhysioConfig, PreprocessConfig, SlotSeriesConfig
from clmer_streaming.errors import DatasetError, RecordingError, SettingsError
from clmer_streaming.xdf.header import StreamDescription
from clmer_streaming.xdf.scan import read_in_order

Progress = Callable[[Iterable[Recording], int], Iterable[Recording]]
"""Wraps the recordings, whose number is known, to display progress."""


@dataclass(frozen=True)
class PrepareConfig:
    """Settings that decide a store, beside the files.

    Example::

        request = SeriesRequest("ecg", "Polar H10")
        config = PrepareConfig(PreprocessConfig(modalities=MODEL_MODALITIES), series=(request,))
        prepare_sessions(Path("study"), Path("build/store"), config, progress=lambda recordings, n: recordings)
    """

    preprocess: PreprocessConfig
    every: int = 4  # keep each fourth window of a trial; with the usual hop they then do not overlap
    scheme: str | None = None  # by which ratings become labels; None: the column label, else va4
    series: tuple[Request, ...] = ()  # further ones, on top of the modalities of ``preprocess``
    reading: EegReading = field(default_factory=EegReading)  # of the EEG, where the manifest says nothing of it
    own_channels: bool = False  # whether EEG has the channels of the recordings, not those of ``preprocess``

    @property
    def streams(self) -> dict[str, str]:
        """Name or type of the stream of each further series."""
        return {request.name: request.stream for request in self.series}

    def with_series_of(self, tables: Tables) -> PrepareConfig:
        """Return the settings with every further series declared as the recordings have it.

        Raises:
            DatasetError: No recording has a series' stream.
        """
        if not self.series:
            return self
        videos = [recording.video for recording in tables.recordings if recording.video is not None]
        serialized = [path for path in videos if path.suffix.lower() == ".xdf"]
        found = declare_series(self.series, [*(recording.path for recording in tables.recordings), *serialized])
        return dataclasses.replace(self, preprocess=self.preprocess.with_further(found))

    def with_channels_of(self, tables: Tables) -> PrepareConfig:
        """Return the settings with the EEG channels of the recordings, if these are asked for.

        Raises:
            DatasetError: No recording has EEG.
            SettingsError: They have more channels than can be.
        """
        if not self.own_channels or "eeg" not in self.preprocess.modalities:
            return self
        return dataclasses.replace(self, preprocess=self.preprocess.with_channels(channels_of(tables.recordings)))


def prepare_sessions(root: Path, out: Path, config: PrepareConfig, progress: Progress) -> dict[str, Any]:
    """Make the store of a folder of recordings with their tables, and return its index.

    Recordings that an earlier run finished, interrupted or not, are reused.

    Args:
        root: Folder of the tables.
        out: Folder of the store.
        config: Settings.
        progress: Wraps the recordings.

    Raises:
        DatasetError: Tables or recordings cannot be read, or no window lies in a trial.
    """
    tables = read_tables(root, config.scheme, config.reading)
    config = config.with_series_of(tables).with_channels_of(tables)
    hashes = {recording.name: file_digest(recording.path) for recording in tables.recordings}
    keys = {r.name: _part_key(r, hashes[r.name], tables, config) for r in tables.recordings}
    people = [(recording.name, recording.participant, recording.session) for recording in tables.recordings]
    labels = [(trial.file, trial.trial, trial.label, trial.stimulus) for trial in tables.trials]
    key = digest([STORE_LAYOUT, sorted(keys.items()), people, labels])
    index = read_index(out)
    if index is not None and index["key"] == key:
        return index
    earlier = FinishedRecordings(out, index)
    for recording in progress(tables.recordings, len(tables.recordings)):
        if not earlier.has(keys[recording.name]):
            made = session_windows(
                recording, tables.trials_of(recording), config.preprocess, config.every, config.streams
            )
            earlier.add(keys[recording.name], made, hashes[recording.name])
    parts = [earlier.part(keys[recording.name]) for recording in tables.recordings]
    plain = _session_index(root, tables, config, parts)
    recordings = [
        {**summary, "part": keys[summary["file"]], "sha256": hashes[summary["file"]]} for summary in plain["recordings"]
    ]
    return finish_store(out, {**plain, "key": key, "recordings": recordings}, _session_arrays(tables, plain, parts))


def _part_key(recording: Recording, sha256: str, tables: Tables, config: PrepareConfig) -> str:
    """Return the hash of everything that decides the windows of a recording."""
    files = [sha256, recording.video and file_digest(recording.video)]
    eeg = [recording.eeg, recording.eeg_map, recording.eeg_map_force, recording.eeg_rate, recording.eeg_unit]
    reading = [*eeg, recording.video_offset_s, recording.rest_marker, recording.rest_s]
    places = [trial.place for trial in tables.trials_of(recording)]
    settings = [config.preprocess.to_dict(), config.every, config.streams]
    return digest([STORE_LAYOUT, *settings, files, reading, places])


def _session_index(root: Path, tables: Tables, config: PrepareConfig, parts: Sequence[Part]) -> dict[str, Any]:
    """Return the index of a store of sessions, without its key."""
    summary = _recording_summaries(tables, parts)
    simulated = any(recording["simulated"] for recording in summary)
    return {
        "dataset": "sessions",
        "trained_on": "simulated" if simulated else root.resolve().name,
        "preprocess": config.preprocess.to_dict(),
        "every": config.every,
        "physio": config.streams,
        "labels": list(ordered_labels(trial.label for trial in tables.trials)),
        "people": sorted({recording.participant for recording in tables.recordings}),
        "stimuli": sorted({trial.stimulus for trial in tables.trials if trial.stimulus}),
        "trials": [f"{trial.file}, {trial.trial}" for trial in tables.trials],
        "unused_columns": list(tables.unused),
        "recordings": summary,
    }


def _recording_summaries(tables: Tables, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the index entry of each recording, with its rows of the store."""
    stops = np.cumsum([part.summary["windows"] for part in parts]).tolist()
    return [
        {
            "file": recording.name,
            "participant": recording.participant,
            "session": recording.session,
            "trials": len(tables.trials_of(recording)),
            "rows": [stop - part.summary["windows"], stop],
            **{name: part.summary[name] for name in ("windows", "left_out", "notes", "simulated")},
        }
        for recording, part, stop in zip(tables.recordings, parts, stops, strict=True)
    ]


def _session_arrays(
    tables: Tables, plain: Mapping[str, Any], parts: Sequence[Part]
) -> dict[str, list[npt.NDArray[Any]]]:
    """Return the pieces of each array, one for each recording that has windows."""
    numbers = {id(trial): number for number, trial in enumerate(tables.trials)}
    stimuli = {name: number for number, name in enumerate(plain["stimuli"])}
    pieces: dict[str, list[npt.NDArray[Any]]] = {}

    def add(name: str, values: npt.NDArray[Any]) -> None:
        pieces.setdefault(name, []).append(values)

    for recording, part in zip(tables.recordings, parts, strict=True):
        if not part.summary["windows"]:
            continue
        trials = tables.trials_of(recording)
        place = np.asarray(part.arrays["place"])
        for name, values in part.arrays.items():
            if name.startswith(("series_", "mask_")) or name in ("place", "t_end"):
                add(name, values)
        add("label", np.array([plain["labels"].index(trial.label) for trial in trials])[place])
        add("trial", np.array([numbers[id(trial)] for trial in trials])[place])
        add("stimulus", np.array([stimuli.get(trial.stimulus, NO_STIMULUS) for trial in trials])[place])
        add("person", np.full(len(place), plain["people"].index(recording.participant)))
    if not pieces:
        raise DatasetError("windows that lie wholly inside a trial", _why_none(plain), "see docs/training.md")
    return pieces


def _why_none(plain: Mapping[str, Any]) -> str:
    total = count_left_out(plain)
    notes = [note for recording in plain["recordings"] for note in recording["notes"]]
    return "none: " + "; ".join([*(f"{count} {reason}" for reason, count in total.items()), *notes[:3]])


def prepare_arrays(
    path: Path,
    out: Path,
    preprocess: PreprocessConfig,
    series: Sequence[Request] = (),
    *,
    own_channels: bool = False,
) -> dict[str, Any]:
    """Make the store of windows in a file of NumPy (.npz), and return its index.

    Arrays are ``label``, ``person``, ``trial`` (n,), ``stimulus`` (n,) where there are stimuli, and one for each
    modality: ``eeg`` (n, C, T) in microvolts, ``landmarks`` (n, F, 68, 3) in cm, ``aus`` (n, F, 17, 2), ``gaze`` (n, F,
    2) in rad. Masks such as ``mask_eeg`` (n, C) mark what was measured; without one, everything that is finite was.
    Further signals are (n, C, T) at their own rate, further series on slots (n, F, C); ``channels_gsr`` (C,) holds the
    labels that their streams will have, and may be left out where those have none.

    Args:
        path: The file.
        out: Folder of the store.
        preprocess: The service's settings that make such windows: the arrays must have been made in the same way.
        series: Further ones, on top of the modalities of ``preprocess``.
        own_channels: Whether the EEG has the channels of the array ``channels_eeg``, rather than those of
            ``preprocess``; without that array 14 channels are those of an EPOC, others have numbers.

    Raises:
        DatasetError: An array is missing or does not fit the settings, labels are no classes, a series was never
            measured, or EEG never changes or is not in microvolts.
    """
    arrays, n = _read(path)
    preprocess = preprocess.with_further([_declare(request, arrays, path) for request in series])
    if own_channels and "eeg" in preprocess.modalities:
        preprocess = preprocess.with_channels(_eeg_channels(arrays, path))
    columns = {name: _names(arrays, name, path) for name in ("label", "person", "trial")}
    check_labels(sorted(set(columns["label"])), str(path))
    labels = ordered_labels(columns["label"])
    people, person = index_names(columns["person"])
    trials, trial = index_names(
        [f"{who}, {which}" for who, which in zip(columns["person"], columns["trial"], strict=True)]
    )
    stimuli, stimulus = _stimuli(arrays, n, path)
    pieces: dict[str, npt.NDArray[Any]] = {"person": person, "trial": trial, "stimulus": stimulus}
    pieces["label"] = np.array([labels.index(label) for label in columns["label"]])
    notes = _notes_on_labels(labels)
    for spec in modality_specs(preprocess):
        x, known = _series(arrays, spec.name, (n, *spec.shape), path)
        pieces[f"series_{spec.name}"], pieces[f"mask_{spec.name}"] = x, known
        notes += _check_series(spec, x, known, path)
        if spec.name == "eeg":
            _check_microvolts(x, known, person, people, path)
    sha = file_digest(path)
    plain = {
        "key": digest([STORE_LAYOUT, "arrays", sha, preprocess.to_dict()]),
        "dataset": "arrays",
        "trained_on": path.stem,
        "preprocess": preprocess.to_dict(),
        "every": 1,
        "labels": list(labels),
        "people": list(people),
        "stimuli": list(stimuli),
        "trials": list(trials),
        "unused_columns": [],
        "recordings": [{"file": path.name, "windows": n, "trials": len(trials), "left_out": {}, "notes": notes}],
    }
    return finish_store(out, plain, {name: [values] for name, values in pieces.items()})


_LABELS = "channels_"  # and the name of a further series: an array of its channels' labels


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return the arrays of the file, and the length that all of them share except the channel labels."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"a file of arrays {path}", str(error), "write it with numpy.savez") from error
    for name in ("label", "person", "trial"):
        if name not in arrays:
            raise DatasetError(f"an array {name!r} in {path}", ", ".join(arrays) or "nothing", "add it")
    of_windows = {name: values for name, values in arrays.items() if not name.startswith(_LABELS)}
    lengths = {name: values.shape[0] if values.ndim else 0 for name, values in of_windows.items()}
    if len(set(lengths.values())) != 1 or not lengths["label"]:
        raise DatasetError(f"arrays of one length in {path}", f"{lengths}", "give one entry for each window")
    return arrays, lengths["label"]


def _declare(request: Request, arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> FurtherSeries:
    """Return the settings of a further series, with the channels of its array."""
    x = _get_array(arrays, request.name, path)
    layout = "(windows, slots, channels)" if isinstance(request, SlotRequest) else "(windows, channels, times)"
    if x.ndim != 3:
        raise DatasetError(f"{request.name} {layout} in {path}", f"{x.shape}", "fit the array")
    if isinstance(request, SlotRequest):
        return SlotSeriesConfig(request.name, _channels(request.name, x.shape[2], arrays, path))
    return signal_settings(request, _channels(request.name, x.shape[1], arrays, path))


def _channels(name: str, n: int, arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> tuple[str, ...]:
    labels = arrays.get(_LABELS + name)
    if labels is None:
        return default_ch_names(name, n)
    ch_names = tuple(labels.astype(str).ravel().tolist())
    if len(ch_names) != n or len(set(ch_names) - {""}) != n:
        expected, found = f"{n} different labels in {_LABELS}{name} in {path}", f"{ch_names!r:.80}"
        raise DatasetError(expected, found, "fit the labels, or leave them out")
    return ch_names


def _eeg_channels(arrays: Mapping[str, npt.NDArray[Any]], path: Path) -> tuple[str, ...]:
    x = _get_array(arrays, "eeg", path)
    n = x.shape[1] if x.ndim == 3 else 0
    if not 1 <= n <= MAX_CHANNELS:
        expected = f"eeg (windows, channels, times) with 1 to {MAX_CHANNELS} channels in {path}"
        raise DatasetError(expected, f"{x.shape}", "fit the array")
    if f"{_LABELS}eeg" in arrays:
        return _channels("eeg", n, arrays, path)
    return EPOC_CH_NAMES if n == len(EPOC_CH_NAMES) else tuple(map(str, range(n)))


def _names(arrays: Mapping[str, npt.NDArray[Any]], name: str, path: Path) -> list[str]:
    """Return the entries (n,) of labels, people, trials or stimuli as words; whole numbers lose their ``.0``."""
    values = arrays[name]
    if values.ndim != 1:
        mend = "give one column: numpy.argmax(label, axis=1) makes classes of columns of 0 and 1"
        raise DatasetError(f"{name} (windows,) in {path}", f"{values.shape}", mend)
    if values.dtype.kind == "f":
        if missing := np.count_nonzero(~np.isfinite(values)):
            found = f"NaN or infinity in {missing} of {len(values)}"
            raise DatasetError(f"a {name} for each window in {path}", found, "name it, or drop these windows")
        values = values.astype(np.int64) if (values == np.round(values)).all() else values
    return [str(value) for value in values.tolist()]


def _notes_on_labels(labels: Sequence[str]) -> list[str]:
    """Return a sentence where labels are numbers, which may have been meant as ratings."""
    if len(labels) < 3 or not all(label.lstrip("-").isdigit() for label in labels):
        return []
    words = f"labels are the numbers {', '.join(labels)}, taken as {len(labels)} classes without an order"
    return [f"{words}; cut them into classes if they are ratings"]


def _stimuli(
    arrays: Mapping[str, npt.NDArray[Any]], n: int, path: Path
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    if "stimulus" not in arrays:
        return (), np.full(n, NO_STIMULUS, dtype=np.int64)
    return index_names(_names(arrays, "stimulus", path))


def _get_array(arrays: Mapping[str, npt.NDArray[Any]], name: str, path: Path) -> npt.NDArray[Any]:
    if name not in arrays:
        mend = "add it, or name fewer with --modalities, --physio and --slots"
        raise DatasetError(f"an array {name!r} in {path}", ", ".join(arrays), mend)
    return arrays[name]


def _series(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], path: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return a series and its mask; what is masked is 0."""
    found = _get_array(arrays, name, path)
    if found.shape != shape:
        mend = "fit the array, or the settings (--window, --face-slots, --physio-rate)"
        raise DatasetError(f"{name} {shape} in {path}", f"{found.shape}", mend)
    x = found.astype(np.float32)
    known: npt.NDArray[np.bool_] = np.isfinite(x).reshape(*shape[:2], math.prod(shape[2:])).all(2)
    mask = arrays.get(f"mask_{name}", known)
    if mask.shape != known.shape:
        raise DatasetError(f"mask_{name} {known.shape} in {path}", f"{mask.shape}", "give one entry for each row")
    known &= mask.astype(np.bool_)
    x[~known] = 0.0
    return x, known


def _check_series(
    spec: ModalitySpec, x: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], path: Path
) -> list[str]:
    """Return sentences on channels that say nothing.

    Raises:
        DatasetError: The series was never measured, or is EEG that never changes.
    """
    if not known.any():
        mend = "mend the array, or leave the series out (--modalities, --physio, --slots)"
        raise DatasetError(f"{spec.name} measured in some window of {path}", "NaN or masked in all", mend)
    if spec.kind != "signal":
        return []
    measured, varies = known.any(0), (known & (np.ptp(x, axis=2) > 0)).any(0)
    if spec.name == "eeg" and not varies.any():
        found = "one value throughout each window and channel"
        raise DatasetError(f"{spec.name} that changes in {path}", found, "mend the array; such a series says nothing")
    told = {"never measured": ~measured, "constant in every window": measured & ~varies}
    return [
        f"{spec.name}: {what}: {', '.join(np.asarray(spec.channels)[which])}"
        for what, which in told.items()
        if any(which)
    ]


LEAST_MICROVOLTS, MOST_MICROVOLTS = 0.05, 5000.0
"""Median SD of a channel in a window, within which EEG of 4 to 45 Hz lies, with a wide margin on either side."""


def _check_microvolts(
    x: npt.NDArray[np.float32],
    known: npt.NDArray[np.bool_],
    person: npt.NDArray[np.int64],
    people: Sequence[str],
    path: Path,
) -> None:
    """Check that nobody's EEG is in another unit.

    Raises:
        DatasetError: Somebody's is far too large or too small for microvolts.
    """
    size = np.where(known, x.std(axis=2, dtype=np.float64), np.nan)
    for number, name in enumerate(people):
        mine = size[person == number]
        mine = mine[mine > 0]  # neither NaN nor a dead channel
        if mine.size and not LEAST_MICROVOLTS <= (usual := float(np.median(mine))) <= MOST_MICROVOLTS:
            raise DatasetError(
                expected=f"eeg in microvolts in {path}: an SD of {LEAST_MICROVOLTS:g} to {MOST_MICROVOLTS:g}",
                found=f"{usual:.3g}, the median of person {name}",
                mend="convert the array: volts times 1e6, nanovolts divided by 1e3",
            )


@dataclass(frozen=True)
class SeriesRequest:
    """A request for a further signal.

    Raises:
        SettingsError: Its name belongs to another modality, or its rate is not known.
    """

    name: str
    stream: str  # name or type of the stream that gives it
    sfreq: float | None = None  # Hz, of the windows; None: the usual one
    band: tuple[float, float] | None = None  # Hz; None: the usual one, or unfiltered where none is usual

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.sfreq is None and self.defaults is None:
            known = ", ".join([*DEFAULT_SERIES, *_ALIASES])
            mend = f"give its rate: --physio-rate {self.name}=32, or put it on slots: --slots"
            raise SettingsError(f"a series among {known}, or one with a rate", repr(self.name), mend)

    @property
    def defaults(self) -> tuple[float, tuple[float, float]] | None:
        """Rate and band of series of this name; None where they are not known."""
        name = self.name.lower()
        return DEFAULT_SERIES.get(_ALIASES.get(name, name))


@dataclass(frozen=True)
class SlotRequest:
    """A request for a further series on slots.

    Raises:
        SettingsError: Its name belongs to another modality.
    """

    name: str
    stream: str  # name or type of the stream that gives it

    def __post_init__(self) -> None:
        _check_name(self.name)


Request: TypeAlias = SeriesRequest | SlotRequest
"""A request for a further series, of either kind."""


DEFAULT_SERIES: dict[str, tuple[float, tuple[float, float]]] = {
    "ecg": (128.0, (0.5, 40.0)),  # as the monitors of wards show it (IEC 60601-2-27)
    "ppg": (64.0, (0.5, 8.0)),  # a pulse of 30 to 240 per minute and its shape
    "gsr": (32.0, (0.05, 3.0)),  # responses of the skin; its slow level is taken out
    "resp": (32.0, (0.1, 2.0)),  # 6 to 120 breaths per minute
}
"""Rate in Hz and band in Hz of the series whose names are known."""


_ALIASES = {"eda": "gsr", "bvp": "ppg", "respiration": "resp", "breath": "resp"}
_RESERVED_NAMES = ("eeg", "landmarks", "aus", "gaze")


def _check_name(name: str) -> None:
    if name.lower() in _RESERVED_NAMES:
        raise SettingsError("a name of its own for a further series", repr(name), "name it e.g. ecg, gsr or tracker")


def declare_series(requests: Sequence[Request], recordings: Sequence[Path]) -> tuple[FurtherSeries, ...]:
    """Return the settings of each series; its channels are those of the first recording that has its stream.

    Args:
        requests: The series.
        recordings: XDF files; those that cannot be read are skipped here.

    Raises:
        DatasetError: No recording has a series' stream, or the channels of one have no distinct labels.
    """
    found: dict[str, StreamDescription] = {}
    for path in recordings:
        if len(found) == len(requests):
            break
        for request in requests:
            stream = None if request.name in found else _find(path, request)
            if stream is not None:
                found[request.name] = stream
    for request in requests:
        if request.name not in found:
            option = "--slots" if isinstance(request, SlotRequest) else "--physio"
            raise DatasetError(
                expected=f"a stream of samples with the name or type {request.stream!r} in one of the recordings",
                found="none",
                mend=f"clmer inspect shows what they have; then {option} {request.name}=STREAM",
            )
    return tuple(_settings(request, found[request.name]) for request in requests)


def _find(path: Path, request: Request) -> StreamDescription | None:
    """Return the stream of a recording that a request names; a signal needs one with a rate."""
    try:
        entries = read_in_order(path)
    except RecordingError:
        return None
    for entry in entries:
        if not isinstance(entry, StreamDescription) or entry.channel_format == "string":
            continue
        if not entry.sfreq and isinstance(request, SeriesRequest):
            continue
        if request.stream.lower() in (entry.name.lower(), entry.type.lower()):
            return entry
    return None


def _settings(request: Request, stream: StreamDescription) -> FurtherSeries:
    if isinstance(request, SlotRequest):
        return SlotSeriesConfig(request.name, _stream_channels(request, stream))
    return signal_settings(request, _stream_channels(request, stream), stream.sfreq)


_NYQUIST_SHARE = 0.8  # of half a stream's rate: the upper edge of a usual band in a slow stream
_SHORTEST_SETTLE_S, _LONGEST_SETTLE_S = 0.5, 10.0  # s


def signal_settings(request: SeriesRequest, ch_names: tuple[str, ...], stream_hz: float = math.inf) -> PhysioConfig:
    """Return the settings of a signal: those requested, else the defaults of its name.

    Args:
        request: The series.
        ch_names: Its channels.
        stream_hz: Rate of its stream, to which a default band is narrowed.
    """
    sfreq, band = request.defaults or (request.sfreq or stream_hz, None)
    if request.band is not None:
        band = request.band
    elif band is not None:
        band = (band[0], min(band[1], _NYQUIST_SHARE * stream_hz / 2))
    low = 0.0 if band is None else band[0]
    settle_s = min(max(_SHORTEST_SETTLE_S, 0.5 / low), _LONGEST_SETTLE_S) if low else _SHORTEST_SETTLE_S
    return PhysioConfig(request.name, ch_names, request.sfreq or sfreq, band, settle_s=settle_s)


def _stream_channels(request: Request, stream: StreamDescription) -> tuple[str, ...]:
    if not any(stream.ch_names):
        return default_ch_names(request.name, len(stream.ch_names))
    if len(set(stream.ch_names) - {""}) < len(stream.ch_names):
        raise DatasetError(
            expected=f"a label of its own for each channel of {stream.name!r}, for the series {request.name}",
            found=", ".join(repr(name) for name in stream.ch_names),
            mend="label the channels where the stream is made",
        )
    return stream.ch_names


def default_ch_names(name: str, n: int) -> tuple[str, ...]:
    """Return names for channels without labels, such as GSR, or TRACKER1 and TRACKER2."""
    return (name.upper(),) if n == 1 else tuple(f"{name.upper()}{i}" for i in range(1, n + 1))
