"""How streams become windows, are played and replayed, beside mne-lsl's StreamLSL and PlayerLSL and pyxdf's playback.

Run with ``python -m benchmarks.streams [SECONDS]``; SECONDS (8) is how long each row is measured, and the whole takes
under four minutes. The other programs come with ``pip install -c constraints.txt -e ".[bench]"``; where one is missing
its rows say so, and the program ends with code 2. Everything runs over loopback on an LSL network of its own. Nothing
is asserted. How the comparison is kept fair:

To windows. Two consumers get the same stream, each alone and in a process of its own, and make the same product at the
same rate: a (C, T) array of the last 2 s, filtered 4-45 Hz by the same second-order sections, at every grid point
``k * HOP_S`` of stream time. A window counts when the consumer's own code has the array.

- clmer: ``LslEegSource`` in a thread, ``ItemQueue`` and ``Preprocessor`` behind it, as in a session. No reference is
  subtracted, because StreamLSL subtracts none; channel quality is judged all the same.
- StreamLSL: its own thread acquires and filters; the consumer polls the number of new samples, from shortly before
  the one that it waits for is due and then every 0.2 ms, and calls ``get_data`` when that one has come.

Playing. The recording is 14 channels at 128 Hz whose stamps jitter by 2 ms, as those of wireless headsets do, with half
a second missing after three; its first channel numbers the samples. PlayerLSL plays MNE's Raw objects, which have no
stamps and no gaps: it gets the samples as a RawArray.

Replaying. A simulated session goes from its file through the signal path, as fast as possible, in this process.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from math import ceil, floor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.support.report import Report, Table, make_parser, percentiles_ms, report_missing
from benchmarks.support.streams import NOT_INSTALLED, Child, Headset, child, installed, own_network, play, versions
from clmer_server.session.pipeline import ItemQueue
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig, SignalConfig, WindowConfig
from clmer_streaming.lsl.inlet import WindowGrid
from clmer_streaming.lsl.sources import LslEegSource
from clmer_streaming.pipeline.filters import design_sos
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, FaceSample
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter

SECONDS, TINY_SECONDS = 8.0, 1.0
HEADSETS = (Headset(14, 128.0, 1), Headset(64, 1000.0, 1), Headset(64, 1000.0, 20))
ACQUISITION_DELAYS = (0.001, 0.02)  # s; the first is the default
REPLAYED_S, TINY_REPLAYED_S = 600.0, 20.0
REPLAYS = 2  # the faster one is shown
OTHERS = ("mne_lsl", "mne", "pyxdf")


def main() -> int:
    """Measure and print; return the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=SECONDS, help="s for each row")
    args = parser.parse_args()
    headsets: tuple[Headset, ...] = HEADSETS
    seconds, replayed_s = args.seconds, REPLAYED_S
    if args.tiny:
        headsets, seconds, replayed_s = HEADSETS[:1], TINY_SECONDS, TINY_REPLAYED_S
    present = [name for name in OTHERS if installed(name)]
    with Report("streams", args.json) as report, own_network() as folder:
        report.print(f"{versions('pylsl', *present)}; load of the machine {os.getloadavg()[0]:.1f}")
        report.show(windows_table(headsets, seconds), playing_table(folder, seconds), replay_table(folder, replayed_s))
    missing = sorted(set(OTHERS) - set(present))
    return report_missing(f"without {', '.join(missing)}: {NOT_INSTALLED}") if missing else 0


def windows_table(headsets: tuple[Headset, ...], seconds: float) -> Table:
    """Return how long samples take to be in a window, and what it costs."""
    title = f"From the push of the newest sample, and of the one that completes it, to {WINDOW_S:g} s of filtered EEG"
    formats = dict.fromkeys(("newest_p50_ms", "newest_p99_ms", "completing_p50_ms", "completing_p99_ms"), ".2f")
    table = Table("windows", title, stream="", consumer="", **formats, cpu_percent=".1f", windows="d")
    for headset in headsets:
        table.add(stream=str(headset), consumer="clmer", **_windows_row(measure_clmer(headset, seconds)))
        for delay_s in ACQUISITION_DELAYS:
            name = f"StreamLSL, polls every {1e3 * delay_s:g} ms"
            if installed("mne_lsl"):
                row = _windows_row(measure_stream_lsl(headset, seconds, delay_s))
                table.add(stream=str(headset), consumer=name, **row)
            else:
                table.add(stream=str(headset), consumer=f"{name} (not installed)")
    return table


def _windows_row(measured: ToWindow) -> dict[str, float | int | None]:
    newest, completing = percentiles_ms(measured.newest_s, 50, 99), percentiles_ms(measured.completing_s, 50, 99)
    return {
        "newest_p50_ms": newest[0],
        "newest_p99_ms": newest[1],
        "completing_p50_ms": completing[0],
        "completing_p99_ms": completing[1],
        "cpu_percent": 100 * measured.cpu,
        "windows": measured.newest_s.size,
    }


def playing_table(folder: Path, seconds: float) -> Table:
    """Return how exactly a played recording arrives."""
    path = folder / "played.xdf"
    write_played_recording(path, seconds + 30)
    title = "A played recording: spacing of stamps against the file's; age of a sample when it arrives"
    columns = ("spacing_p50_ms", "spacing_p99_ms", "spacing_max_ms", "age_min_ms", "age_max_ms")
    table = Table("playing", title, player="", **dict.fromkeys(columns, ".2f"), samples="d")
    for name, player, needs in PLAYERS:
        if installed(*needs):
            played = measure_player(player, path, seconds)
            figures = [*percentiles_ms(played.spacing_s, 50, 99, 100), *percentiles_ms(played.age_s, 0, 100)]
            table.add(player=name, **dict(zip(columns, figures, strict=True)), samples=played.age_s.size)
        else:
            table.add(player=f"{name} (not installed)")
    return table


def replay_table(folder: Path, seconds: float) -> Table:
    """Return how fast a recording is replayed, by part."""
    path = folder / "replayed.xdf"
    write_replayed_recording(path, seconds)
    best = max((measure_replay(path) for _ in range(REPLAYS)), key=lambda replayed: replayed.speed)
    title = f"{seconds:g} s of EEG and face, replayed: {best.speed:.0f} times real time"
    table = Table("replay", title, part="", times="d", s=".2f", share_percent=".0f", us_each=".0f")
    total_s = best.recording_s / best.speed
    for name, (times, spent) in best.parts.items():
        table.add(part=name, times=times, s=spent, share_percent=100 * spent / total_s, us_each=1e6 * spent / times)
    return table


WINDOW_S = 2.0
HOP_S = 0.125  # four windows where a service with the shipped model makes one
_WARM_UP_S = 1.0  # from the first full window to the first that counts
_POLL_S = 0.0002
_CONNECT_S = 10.0


@dataclass(frozen=True)
class ToWindow:
    """Measurements of one consumer of one stream."""

    newest_s: npt.NDArray[np.float64]  # per window, from the push of its newest sample until the consumer had it
    completing_s: npt.NDArray[np.float64]  # per window, from the push that shows it to be complete
    cpu: float  # share of one core, of the consumer's whole process


def measure_clmer(headset: Headset, seconds: float) -> ToWindow:
    """Measure clmer; its windows are complete when a sample behind them has come."""
    with child(play, headset) as sender:
        sender.receive()
        with child(_consume_clmer, headset, seconds) as consumer:
            newest_t, held, cpu = consumer.receive()
        newest, pushed = _sample_numbers(newest_t, headset, sender)
    return ToWindow(held - pushed[newest], held - pushed[newest + 1], cpu)


def measure_stream_lsl(headset: Headset, seconds: float, acquisition_delay_s: float) -> ToWindow:
    """Measure mne-lsl's StreamLSL; its windows are taken as soon as the newest sample is in them."""
    with child(play, headset) as sender:
        sender.receive()
        with child(_consume_stream_lsl, headset, seconds, acquisition_delay_s) as consumer:
            newest_t, held, cpu = consumer.receive()
        newest, pushed = _sample_numbers(newest_t, headset, sender)
    latency = held - pushed[newest]
    return ToWindow(latency, latency, cpu)


def _sample_numbers(
    t: npt.NDArray[np.float64], headset: Headset, sender: Child
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the numbers of the samples with stamps ``t``, and when each sample was pushed."""
    sender.send("stop")
    begin, pushed = sender.receive()
    return np.rint((t - begin) * headset.sfreq).astype(np.intp), pushed


class _WindowLog:
    """Windows that the consumer got, from some time after the first one on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begin = np.inf
        self._cpu = 0.0
        self.newest_t: list[float] = []
        self.held: list[float] = []

    def add(self, newest_t: float, held: float) -> bool:
        """Add a window; return False when there are enough."""
        if not np.isfinite(self._begin):
            self._begin = held + _WARM_UP_S
        if held < self._begin:
            self._cpu = time.process_time()
            return True
        self.newest_t.append(newest_t)
        self.held.append(held)
        return held < self._begin + self._seconds

    def result(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
        """Return stamps of newest samples, times at which the consumer had their windows, and the share of a core."""
        cpu = (time.process_time() - self._cpu) / (self.held[-1] - self._begin)
        return np.array(self.newest_t), np.array(self.held), cpu


def _signal(headset: Headset) -> SignalConfig:
    return SignalConfig(ch_names=headset.ch_names, sfreq=headset.sfreq, reference="none")


def _consume_clmer(headset: Headset, seconds: float, pipe: Connection) -> None:
    from clmer_streaming.clock import local_clock

    config = PreprocessConfig(_signal(headset), WindowConfig(WINDOW_S, HOP_S), modalities=("eeg",))
    source = LslEegSource(headset.name, config.signal, grid=WindowGrid(HOP_S))
    queue, log = ItemQueue(4096, blocking=False), _WindowLog(seconds)
    threading.Thread(target=source.run, args=(queue.put, threading.Event()), daemon=True).start()
    preprocessor = Preprocessor(config)
    while (item := queue.get()) is not None:
        for window in preprocessor.push(item):
            held = local_clock()
            if window.mask["eeg"].all() and not log.add(window.t_end - window.quality["eeg"]["age_s"], held):
                pipe.send(log.result())
                return


def _consume_stream_lsl(headset: Headset, seconds: float, acquisition_delay_s: float, pipe: Connection) -> None:
    from mne_lsl import set_log_level
    from mne_lsl.lsl import local_clock
    from mne_lsl.stream import StreamLSL

    set_log_level("ERROR")
    stream = StreamLSL(WINDOW_S, name=headset.name)
    stream.connect(acquisition_delay_s, processing_flags=["clocksync"], timeout=_CONNECT_S)
    signal, log = _signal(headset), _WindowLog(seconds)
    stream.filter(*signal.band, iir_params={"order": signal.filter_order, "ftype": "butter", "output": "sos"})
    if not np.allclose(stream.filters[0]["sos"], design_sos(signal, headset.sfreq), rtol=1e-9):
        raise RuntimeError("StreamLSL's filter is not ours: the comparison would not be fair")
    time.sleep(WINDOW_S)
    going = True
    while going:
        t = stream.get_data(WINDOW_S)[1][-1]
        t_end = (floor(t / HOP_S) + 1) * HOP_S
        while (n_wanted := ceil((t_end - t) * headset.sfreq) - 1) < 1:
            t_end += HOP_S
        _wait_for(stream, n_wanted, headset.sfreq)
        stream.get_data(WINDOW_S)
        going = log.add(t + n_wanted / headset.sfreq, local_clock())
    pipe.send(log.result())


def _wait_for(stream: Any, n_wanted: int, sfreq: float) -> None:
    while (missing := n_wanted - stream.n_new_samples) > 0:
        time.sleep(max(_POLL_S, (missing - 2) / sfreq))


PLAYED_SFREQ = 128.0  # Hz
JITTER_S = 0.002  # SD of a stamp
GAP_S = 0.5
_GAP_AT_S = 3.0
_N_CHUNK = 16  # samples of a chunk of the file
_SEARCH_S = 30.0
_RAW_NAME = "bench-player"


@dataclass(frozen=True)
class Played:
    """Measurements of what was received from a player."""

    spacing_s: npt.NDArray[np.float64]  # per sample, how far the step from the one before is off
    age_s: npt.NDArray[np.float64]  # per sample, from its stamp to its arrival; below 0: stamped in the future


class Player(Protocol):
    """A function that plays a recording until its process is ended."""

    __name__: str

    def __call__(self, path: str, pipe: Connection) -> None:
        """Play the recording."""


def write_played_recording(path: Path, seconds: float) -> None:
    """Write the recording that all play; its first channel numbers the samples."""
    rng = np.random.default_rng(2)
    n = round(seconds * PLAYED_SFREQ)
    t = 1000.0 + np.arange(n) / PLAYED_SFREQ + rng.normal(0, JITTER_S, n)
    t[round(_GAP_AT_S * PLAYED_SFREQ) :] += GAP_S
    x = rng.normal(0, 20, (len(EPOC_CH_NAMES), n))
    x[0] = np.arange(n)
    units = ("microvolts",) * len(EPOC_CH_NAMES)
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(
            XdfStreamSpec("bench", "EEG", EPOC_CH_NAMES, PLAYED_SFREQ, units=units, source_id="bench")
        )
        xdf.write_offset(stream, t[0], 0.0)
        for first in range(0, n, _N_CHUNK):
            chunk = slice(first, first + _N_CHUNK)
            xdf.write_samples(stream, t[chunk], x[:, chunk])


def measure_player(player: Player, path: Path, seconds: float) -> Played:
    """Start ``player(path, pipe)`` and receive what it plays for ``seconds``."""
    (stream,) = read_xdf(path).streams
    with child(_receive_samples, seconds) as receiver, child(player, str(path)):
        number, t, arrival = receiver.receive()
    follows = np.diff(number) == 1
    true_step = np.diff(stream.t)[number[:-1][follows]]
    return Played(np.abs(np.diff(t)[follows] - true_step), arrival - t)


def _receive_samples(seconds: float, pipe: Connection) -> None:
    """Send numbers of samples, their stamps and their times of arrival, without any correction."""
    import pylsl

    found = pylsl.resolve_bypred(f"channel_count={len(EPOC_CH_NAMES)}", timeout=_SEARCH_S)
    if not found:
        raise RuntimeError(f"nothing was played within {_SEARCH_S:g} s")
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(_SEARCH_S)
    patience, end = pylsl.local_clock() + _SEARCH_S, np.inf
    parts: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    while pylsl.local_clock() < end:
        x, t = inlet.pull_chunk(timeout=1.0, max_samples=1024, min_samples=1, as_numpy=True)
        now = pylsl.local_clock()
        if len(t):
            end = min(end, now + seconds)
            parts.append((np.rint(x[:, 0]).astype(np.intp), t, np.full(len(t), now)))
        elif parts or now > patience:
            break
    if not parts:
        raise RuntimeError(f"no sample came within {_SEARCH_S:g} s")
    pipe.send(tuple(np.concatenate(column) for column in zip(*parts, strict=True)))


def clmer_play(path: str, pipe: Connection) -> None:
    """Play with ``clmer play``, from the first consumer on."""
    from clmer_server.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["play", path, "--wait"])


def pyxdf_playback(path: str, pipe: Connection) -> None:
    """Play with pyxdf's own program, at its defaults, from the first consumer on."""
    try:
        from pyxdf.cli.playback_lsl import main  # since 1.17
    except ImportError:
        from pyxdf.examples.playback_lsl import main
    main(path, wait_for_consumer=True)


def player_lsl(path: str, pipe: Connection) -> None:
    """Play with mne-lsl's PlayerLSL, at its defaults."""
    import mne
    import pyxdf
    from mne_lsl import set_log_level
    from mne_lsl.player import PlayerLSL

    set_log_level("ERROR")
    (stream,), _ = pyxdf.load_xdf(path)
    info = mne.create_info(list(EPOC_CH_NAMES), PLAYED_SFREQ, "eeg")
    raw = mne.io.RawArray(stream["time_series"].T.astype(np.float64), info, verbose="ERROR")
    with PlayerLSL(raw, name=_RAW_NAME):
        time.sleep(3600.0)


PLAYERS: tuple[tuple[str, Player, tuple[str, ...]], ...] = (
    ("clmer play", clmer_play, ()),
    ("pyxdf's playback_lsl", pyxdf_playback, ("pyxdf",)),
    ("mne-lsl's PlayerLSL", player_lsl, ("mne_lsl", "mne", "pyxdf")),
)
"""Name, function and packages of each player."""


@dataclass
class Replayed:
    """Seconds that the parts of a replay took, and how often each was done."""

    recording_s: float = 0.0  # length of the recording
    parts: dict[str, tuple[int, float]] = field(default_factory=dict)  # name -> (times, seconds)

    @property
    def speed(self) -> float:
        """Seconds of the recording per second, reading the file included."""
        return self.recording_s / sum(seconds for _, seconds in self.parts.values())

    def add(self, name: str, seconds: float) -> None:
        """Add a part that took some seconds."""
        times, before = self.parts.get(name, (0, 0.0))
        self.parts[name] = (times + 1, before + seconds)


def write_replayed_recording(path: Path, seconds: float) -> None:
    """Write a simulated session: 14 EEG channels with counter at 128 Hz, a face at 30 Hz, markers."""
    write_session(simulate(SimulationConfig(seconds=seconds, seed=1)), path)


def measure_replay(path: Path) -> Replayed:
    """Replay the recording once, as fast as it goes, in this process."""
    clock = time.perf_counter
    result = Replayed()
    start = clock()
    source = ReplaySource(path, speed=math.inf)
    result.add("reading the file", clock() - start)
    result.recording_s = source.duration_s
    preprocessor, items = Preprocessor(PreprocessConfig()), source.items()
    for _ in itertools.count():
        start = clock()
        item = next(items, None)
        made = clock()
        result.add("cutting it into items", made - start)
        if item is None:
            return result
        windows = preprocessor.push(item)
        result.add(_part_of_push(item, len(windows)), clock() - made)
    raise AssertionError("the loop ends with the recording")


def _part_of_push(item: object, n_windows: int) -> str:
    if n_windows:
        return "pushes that close a window"
    if isinstance(item, Chunk):
        return "pushes of EEG"
    return "pushes of faces" if isinstance(item, FaceSample) else "other pushes"


if __name__ == "__main__":
    sys.exit(main())
