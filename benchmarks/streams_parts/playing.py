"""How truly a recording comes back over LSL: the spacing of the stamps received against those of the file.

The recording is 14 channels at 128 Hz whose stamps stray by 2 ms, as those of wireless headsets do, with
half a second missing after three; its first channel numbers the samples. PlayerLSL plays MNE's Raw objects, which
have no stamps and no gaps: it gets the samples as a RawArray.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from streams_parts.child import child

from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

SFREQ = 128.0  # Hz
JITTER_S = 0.002  # SD of a stamp
GAP_S = 0.5
_GAP_AT_S = 3.0
_N_CHUNK = 16  # samples of a chunk of the file
_SEARCH_S = 30.0
_RAW_NAME = "bench-player"


@dataclass(frozen=True)
class Played:
    """What was received."""

    spacing_s: npt.NDArray[np.float64]  # per sample, how far the step from the one before is off
    age_s: npt.NDArray[np.float64]  # per sample, from its stamp to its arrival; below 0: stamped in the future


class Player(Protocol):
    """A function that plays a recording until its process is ended."""

    __name__: str

    def __call__(self, path: str, pipe: Connection) -> None:
        """Play the recording."""


def write_recording(path: Path, seconds: float) -> None:
    """Write the recording that everybody plays."""
    rng = np.random.default_rng(2)
    n = round(seconds * SFREQ)
    t = 1000.0 + np.arange(n) / SFREQ + rng.normal(0, JITTER_S, n)
    t[round(_GAP_AT_S * SFREQ) :] += GAP_S
    x = rng.normal(0, 20, (len(EPOC_CH_NAMES), n))
    x[0] = np.arange(n)
    units = ("microvolts",) * len(EPOC_CH_NAMES)
    with XdfWriter(path) as xdf:
        stream = xdf.add_stream(XdfStreamSpec("bench", "EEG", EPOC_CH_NAMES, SFREQ, units=units, source_id="bench"))
        xdf.write_offset(stream, t[0], 0.0)
        for first in range(0, n, _N_CHUNK):
            chunk = slice(first, first + _N_CHUNK)
            xdf.write_samples(stream, t[chunk], x[:, chunk])


def measure_player(player: Player, path: Path, seconds: float) -> Played:
    """Start ``player(path, pipe)`` and receive what it plays for ``seconds``."""
    from clmer_streaming.xdf.reader import read_xdf

    (stream,) = read_xdf(path).streams
    with child(_receive, seconds) as receiver, child(player, str(path)):
        number, t, arrival = receiver.receive()
    follows = np.diff(number) == 1
    true_step = np.diff(stream.t)[number[:-1][follows]]
    return Played(np.abs(np.diff(t)[follows] - true_step), arrival - t)


def _receive(seconds: float, pipe: Connection) -> None:
    """Send numbers of samples, their stamps and when they came, as they came, without any correction."""
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
        raise RuntimeError(f"nobody pushed a sample within {_SEARCH_S:g} s")
    pipe.send(tuple(np.concatenate(column) for column in zip(*parts, strict=True)))


def clmer_play(path: str, pipe: Connection) -> None:
    """Play with ``clmer play``, from the moment somebody listens."""
    from clmer_server.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        main(["play", path, "--wait"])


def pyxdf_playback(path: str, pipe: Connection) -> None:
    """Play with pyxdf's own program, at its defaults, from the moment somebody listens."""
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
    info = mne.create_info(list(EPOC_CH_NAMES), SFREQ, "eeg")
    raw = mne.io.RawArray(stream["time_series"].T.astype(np.float64), info, verbose="ERROR")
    with PlayerLSL(raw, name=_RAW_NAME):
        time.sleep(3600)
