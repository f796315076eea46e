"""``clmer prepare``: make a store of training windows from a data set of recordings or of arrays."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from clmer_server.session.config import parse_bands, parse_physio, parse_rates
from clmer_server.settings import SessionOptions, add_options, settings_error
from clmer_streaming.errors import SettingsError

if TYPE_CHECKING:
    from clmer_model.data.prepare import Request
    from clmer_model.data.tables import Recording
    from clmer_streaming.config import PreprocessConfig


HELP = "make training windows from recordings or arrays"

MODALITIES = ("eeg", "landmarks", "aus", "gaze")
SCHEMES = ("va4", "va9", "v2", "a2")

EEG_OPTIONS = ("eeg", "eeg_map", "eeg_map_force", "eeg_rate", "eeg_unit")
"""Options of ``clmer-serve`` that say how EEG is found and read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--dataset", choices=("sessions", "arrays"), required=True, help="what the data are")
    parser.add_argument("file", type=Path, nargs="?", help="of arrays: a file of NumPy (.npz)")
    parser.add_argument("--root", type=Path, help="of sessions: folder of manifest.csv, trials.csv and the recordings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the store")
    group = parser.add_argument_group("EEG of the recordings for which manifest.csv says nothing")
    add_options(group, {name: SessionOptions.model_fields[name] for name in EEG_OPTIONS})
    parser.add_argument("--labels", choices=SCHEMES, help="make labels of the ratings valence and arousal (1-9)")
    parser.add_argument(
        "--modalities", default="eeg,landmarks,aus", help="with commas (%(default)s); gaze is another; or none"
    )
    _add_series(parser.add_argument_group("further series (of arrays: their names alone)"))
    parser.add_argument(
        "--channels",
        default="all",
        help="of the EEG: all that the recordings have (%(default)s), emotiv14, muse, a list, or a file of names",
    )
    parser.add_argument("--window", type=float, default=2.0, help="s, length of a window (%(default)g)")
    parser.add_argument(
        "--hop", type=float, default=0.5, help="s between windows, here and in the service (%(default)g)"
    )
    parser.add_argument("--face-slots", type=int, default=8, help="moments of the face in a window (%(default)s)")
    parser.add_argument("--notch", choices=("50", "60"), help="Hz, takes the mains out")
    parser.add_argument(
        "--eeg-calibration", choices=("none", "rest"), default="none", help="measure EEG against rest (%(default)s)"
    )
    parser.add_argument("--every", type=int, help="keep each n-th window of a trial (so that none overlap)")


def _add_series(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--physio", help="signals and their streams by name or type, e.g. ecg=Polar,gsr=Shimmer")
    group.add_argument("--slots", help="numbers averaged over the face's slots, e.g. hog=CLMER-HOG,mine=My-Tracker")
    group.add_argument("--physio-rate", help="Hz in a window, of series without a usual rate, e.g. temperature=32")
    group.add_argument("--physio-band", help="Hz, in place of the usual band, e.g. ecg=1-30; from 0: a low-pass")


def run(args: argparse.Namespace) -> int:
    """Make the store, and print its size and what was left out."""
    from clmer_model.data.store import count_left_out

    index = _arrays(args) if args.dataset == "arrays" else _sessions(args)
    people, n = len(index["people"]), sum(recording["windows"] for recording in index["recordings"])
    stimuli = len(index["stimuli"]) or "no"
    print(f"{args.out}: {n} windows, {people} people, {len(index['trials'])} trials, {stimuli} stimuli")
    print(f"labels: {', '.join(index['labels'])}; trained_on: {index['trained_on']}; key {index['key'][:16]}")
    for reason, count in count_left_out(index).items():
        print(f"left out: {count} windows: {reason}")
    for recording in index["recordings"]:
        for note in recording["notes"]:
            print(f"{recording['file']}: {note}")
    if index["unused_columns"]:
        print(f"columns not used: {', '.join(index['unused_columns'])}")
    return 0


def _sessions(args: argparse.Namespace) -> dict[str, Any]:
    from clmer_model.data.prepare import PrepareConfig, prepare_sessions
    from clmer_model.data.tables import EegReading

    if args.root is None or args.file is not None:
        raise SettingsError("--root DIR for a data set of sessions", f"{args.file or 'none'}", "name its folder")
    preprocess = _preprocess(args)
    every = max(1, round(args.window / preprocess.window.hop_s)) if args.every is None else args.every
    if every < 1:
        raise SettingsError("--every of 1 or more", str(every), "1 keeps every window")
    config = PrepareConfig(
        preprocess, every, args.labels, _series(args), EegReading(**_eeg_options(args)), _own_channels(args)
    )
    return prepare_sessions(args.root, args.out, config, _progress)


def _eeg_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options about the EEG that were given, by name, checked as those of the service are."""
    given = {name: value for name, value in vars(args).items() if name in EEG_OPTIONS}
    try:
        return SessionOptions(**given).model_dump(include=set(given))
    except ValidationError as error:
        raise settings_error(error, mend="correct the option; see clmer prepare --help") from error


def _series(args: argparse.Namespace) -> tuple[Request, ...]:
    from clmer_model.data.prepare import SeriesRequest, SlotRequest

    signals, slots = parse_physio(args.physio), parse_physio(args.slots, "--slots")
    if both := sorted({name.lower() for name in signals} & {name.lower() for name in slots}):
        raise SettingsError("a series in --physio or in --slots", f"{', '.join(both)} in both", "choose one")
    rates, bands = parse_rates(args.physio_rate), parse_bands(args.physio_band)
    if unknown := sorted((rates.keys() | bands.keys()) - signals.keys()):
        raise SettingsError("rates and bands of series that --physio names", ", ".join(unknown), "name them there, too")
    return (
        *(SeriesRequest(name, stream, rates.get(name), bands.get(name)) for name, stream in signals.items()),
        *(SlotRequest(name, stream) for name, stream in slots.items()),
    )


def _arrays(args: argparse.Namespace) -> dict[str, Any]:
    from clmer_model.data.prepare import prepare_arrays

    if given := sorted(name for name in EEG_OPTIONS if hasattr(args, name)):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise SettingsError("options of arrays, which have no streams", options, "leave them out")
    if args.file is None or args.root is not None or args.labels or args.every:
        raise SettingsError(
            "--dataset arrays FILE.npz, with labels and windows as they are", f"{args.file or 'no file'}", "name a file"
        )
    series = _series(args)
    if streams := [f"{request.name}={request.stream}" for request in series if request.stream != request.name]:
        raise SettingsError("the names of arrays", ", ".join(streams), "arrays have no streams: --physio gsr")
    return prepare_arrays(args.file, args.out, _preprocess(args), series, own_channels=_own_channels(args))


def _own_channels(args: argparse.Namespace) -> bool:
    from clmer_model.data.montage import parse_channels

    return parse_channels(args.channels) is None


def _preprocess(args: argparse.Namespace) -> PreprocessConfig:
    from clmer_model.data.montage import parse_channels
    from clmer_streaming.config import PreprocessConfig, WindowConfig

    names = [name.strip() for name in args.modalities.split(",")]
    modalities = () if names == ["none"] else tuple(names)
    if not modalities and not _series(args):
        raise SettingsError("a modality, or a series (--physio, --slots)", "none", "name one")
    if len(set(modalities)) < len(modalities) or not set(modalities) <= set(MODALITIES):
        expected = f"some of {', '.join(MODALITIES)}, or none"
        raise SettingsError(expected, args.modalities, "mend --modalities")
    if not 0.5 <= args.window <= 30 or not 1 <= args.face_slots <= 64:
        found = f"{args.window:g} s, {args.face_slots} slots"
        raise SettingsError("a window of 0.5 to 30 s with 1 to 64 face slots", found, "mend --window or --face-slots")
    if not 0.1 <= args.hop <= args.window:
        raise SettingsError("a hop of 0.1 s up to the length of the window", f"{args.hop:g} s", "mend --hop")
    window = WindowConfig(window_s=args.window, hop_s=args.hop, face_slots=args.face_slots)
    config = dataclasses.replace(
        PreprocessConfig(), window=window, modalities=modalities, eeg_calibration=args.eeg_calibration
    )
    if (ch_names := parse_channels(args.channels)) is not None:
        config = config.with_channels(ch_names)
    return config.with_notch(None if args.notch is None else float(args.notch))


def _progress(recordings: Iterable[Recording], total: int) -> Iterable[Recording]:
    from rich.progress import track

    return track(recordings, "reading recordings", total=total, transient=True)
