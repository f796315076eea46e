"""How streams come in, go out again and replay, beside mne-lsl's StreamLSL and PlayerLSL and pyxdf's playback.

Run with ``python benchmarks/streams.py [SECONDS]``; SECONDS (8) is how long each row is measured, and the whole takes
under four minutes. The rivals come with ``pip install -c constraints.txt -e ".[bench]"``; a row says so where one is
missing. Everything runs over loopback on an LSL network of its own. Prints three tables; nothing is asserted. What is
compared, and how it is kept fair, stands at the top of ``to_window.py``, ``playing.py`` and ``replaying.py`` in
``streams_parts/``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text
from streams_parts import playing, replaying
from streams_parts.headset import Headset
from streams_parts.network import MISSING, installed, own_network, versions
from streams_parts.playing import Played, Player, measure_player
from streams_parts.replaying import measure_replay
from streams_parts.to_window import WINDOW_S, ToWindow, measure_clmer, measure_stream_lsl

SECONDS = 8.0
HEADSETS = (Headset(14, 128.0, 1), Headset(64, 1000.0, 1), Headset(64, 1000.0, 20))
ACQUISITION_DELAYS = (0.001, 0.02)  # s; the first is the default
PLAYERS: tuple[tuple[str, Player, tuple[str, ...]], ...] = (
    ("clmer play", playing.clmer_play, ()),
    ("pyxdf's playback_lsl", playing.pyxdf_playback, ("pyxdf",)),
    ("mne-lsl's PlayerLSL", playing.player_lsl, ("mne_lsl", "mne", "pyxdf")),
)
REPLAYED_S = 600.0
REPLAYS = 2  # the faster one is shown


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rivals = [name for name in ("mne_lsl", "mne", "pyxdf") if installed(name)]
    console = Console(width=130)
    console.print(f"{versions('pylsl', *rivals)}; load of the machine {os.getloadavg()[0]:.1f}")
    with own_network() as folder:
        console.print(to_window_table(seconds))
        console.print(playing_table(folder, seconds))
        console.print(replaying_table(folder))


def to_window_table(seconds: float) -> Table:
    """Return how long samples need to get into a window, and what it costs."""
    title = f"From the push of the newest sample, and of the one that makes it whole, to {WINDOW_S:g} s of filtered EEG"
    columns = ("newest: p50 ms", "p99 ms", "whole: p50 ms", "p99 ms", "CPU %", "windows")
    table = Table("stream", "consumer", *columns, title=title)
    for headset in HEADSETS:
        table.add_row(str(headset), "clmer", *to_window_figures(measure_clmer(headset, seconds)))
        for delay_s in ACQUISITION_DELAYS:
            name = f"StreamLSL, looks every {1e3 * delay_s:g} ms"
            if installed("mne_lsl"):
                table.add_row("", name, *to_window_figures(measure_stream_lsl(headset, seconds, delay_s)))
            else:
                table.add_row("", name, Text(MISSING))
    return table


def to_window_figures(measured: ToWindow) -> tuple[str, ...]:
    """Return the columns of one consumer."""
    newest, completing = milliseconds(measured.newest_s, 50, 99), milliseconds(measured.completing_s, 50, 99)
    return (*newest, *completing, f"{100 * measured.cpu:.1f}", str(measured.newest_s.size))


def playing_table(folder: Path, seconds: float) -> Table:
    """Return how truly recordings come back."""
    path = folder / "played.xdf"
    playing.write_recording(path, seconds + 30)
    title = "A played recording: spacing of stamps against the file's; age of a sample when it arrives"
    columns = ("spacing: p50 ms", "p99 ms", "max ms", "age: min ms", "max ms", "samples")
    table = Table("player", *columns, title=title)
    for name, player, needs in PLAYERS:
        if installed(*needs):
            table.add_row(name, *playing_figures(measure_player(player, path, seconds)))
        else:
            table.add_row(name, Text(MISSING))
    return table


def playing_figures(played: Played) -> tuple[str, ...]:
    """Return the columns of one player."""
    spacing, age = milliseconds(played.spacing_s, 50, 99, 100), milliseconds(played.age_s, 0, 100)
    return (*spacing, *age, str(played.age_s.size))


def replaying_table(folder: Path) -> Table:
    """Return how fast a recording is replayed."""
    path = folder / "replayed.xdf"
    replaying.write_recording(path, REPLAYED_S)
    best = max((measure_replay(path) for _ in range(REPLAYS)), key=lambda replayed: replayed.speed)
    title = f"{REPLAYED_S:g} s of EEG and face, replayed: {best.speed:.0f} times real time"
    table = Table("part", "times", "s", "share %", "us each", title=title)
    total_s = best.recording_s / best.speed
    for name, (times, spent) in best.parts.items():
        table.add_row(name, str(times), f"{spent:.2f}", f"{100 * spent / total_s:.0f}", f"{1e6 * spent / times:.0f}")
    return table


def milliseconds(seconds: npt.NDArray[np.float64], *percentiles: float) -> list[str]:
    """Return percentiles of some seconds, in milliseconds."""
    return [f"{value:.2f}" for value in np.percentile(seconds, percentiles) * 1e3]


if __name__ == "__main__":
    main()
