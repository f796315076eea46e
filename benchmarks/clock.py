"""How exactly samples are timed, behind lost ones and when they come late, against the truth.

Run with ``python -m benchmarks.clock``. CLMER's timeline, pyxdf's and liblsl's de-jitter get the same stamps, liblsl
over a real outlet and inlet with nothing but ``proc_dejitter``.

- ``error``: 128 Hz, 4 ms jitter, a clock that drifts by 35 ppm, and one gap after 20 s.
- ``lateness``: a minute of lossless 128 Hz without a packet counter, pushed in chunks that are late by an exponential
  delay, or held up by a hiccup each 5 s. Windows with EEG (96 % are possible), gaps, samples invented, and the largest
  error of the times from 10 s on: from the truth, and about their own median, since de-jittering to the mean delays
  all times by the mean delay. ``least_late_ms``: the least lateness of any push in the first 10 s; no receiver can know
  the truth better then.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.support.report import Report, Table, make_parser
from benchmarks.support.senders import Sender, push_times
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.lsl.setup import load_pylsl
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.rate import RateDecision, RateGate
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import Chunk, FloatArray, StreamInfo, StreamStatus, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter

SFREQ = 128.0  # Hz, nominal
DRIFT = 35e-6
JITTER_S = 0.004
BEFORE_S, AFTER_S = 20.0, 75.0
GAPS_S = (0.25, 1.0, 3.0, 10.0)
LOOKS_S = (0.0, 10.0, 30.0, 60.0)  # behind the gap
SEEDS = range(10)
CHUNK = 16
PULL_TIMEOUT_S = 5.0

CHUNKS = (1, 8, 16, 32, 64, 128)  # samples of one push
SENDERS = (
    *(Sender(delay_s=delay_s) for delay_s in (0.01, 0.03, 0.06, 0.1, 0.2)),
    *(Sender(hiccup_s=hiccup_s) for hiccup_s in (0.15, 0.4)),
)
LATE_SECONDS, TINY_SECONDS = 60.0, 12.0
SETTLED_S = 10.0  # s, from where on times are judged

Counted = Callable[[FloatArray, FloatArray], FloatArray]
"""From stamps (n,) and sample numbers (n,) to the times given to the samples (n,), all in seconds."""


def main() -> int:
    """Measure and print; return the exit code."""
    args = make_parser(__doc__).parse_args()
    gaps_s, seeds = (GAPS_S[:1], range(1)) if args.tiny else (GAPS_S, SEEDS)
    moments = [f"after_{look:g}_s_ms" for look in LOOKS_S]
    title = f"Largest error of the stamps over {len(seeds)} seeds, within 1 s of each moment behind the gap"
    formats = dict.fromkeys([*moments, "from_10_s_on_ms"], ".2f")
    table = Table("error", title, gap_s="g", by="", **formats)
    for gap_s in gaps_s:
        for name, counted in (("CLMER", by_timeline), ("liblsl proc_dejitter", by_liblsl)):
            errors = np.max([errors_ms(gap_s, seed, counted) for seed in seeds], axis=0).tolist()
            table.add(gap_s=gap_s, by=name, **dict(zip(formats, errors, strict=True)))
    with Report("clock", args.json) as report:
        report.show(table, measure_lateness(tiny=args.tiny))
    return 0


def measure_lateness(*, tiny: bool) -> Table:
    """Return the table of late samples, of one seed."""
    formats = {
        "windows": ".0%", "gaps": "d", "invented": "d", "clmer_ms": ".1f", "clmer_about_median_ms": ".1f",
        "pyxdf_ms": ".1f", "pyxdf_about_median_ms": ".1f", "liblsl_ms": ".1f", "liblsl_about_median_ms": ".1f",
        "least_late_ms": ".1f",
    }  # fmt: skip
    title = "Late samples, lossless: windows with EEG, and the largest error of the times from 10 s on"
    table = Table("lateness", title, late="", chunk="d", **formats)
    seconds, senders, chunks = (TINY_SECONDS, SENDERS[1:2], (32,)) if tiny else (LATE_SECONDS, SENDERS, CHUNKS)
    for sender in senders:
        for chunk in chunks:
            one = dataclasses.replace(sender, chunk=chunk)
            table.add(late=str(one), chunk=chunk, **judge(one, seconds))
    return table


def judge(sender: Sender, seconds: float) -> dict[str, float]:
    """Return one row of the table of late samples, without its head."""
    taken, stamps = push_times(sender, seconds)
    windows, status = see(stamps, sender.chunk)
    first = taken < taken[0] + SETTLED_S
    row = {
        "windows": float(np.mean([window.mask["eeg"].any() for window in windows])),
        "gaps": status.n_gaps,
        "invented": status.n_bridged,
        "least_late_ms": 1e3 * float(np.min((stamps - taken)[first])),
    }
    number, t = by_signal_path(stamps, sender.chunk)
    counted = {
        "clmer": (number, t),
        "pyxdf": (np.arange(stamps.size), by_pyxdf(stamps)),
        "liblsl": (np.arange(stamps.size), by_liblsl(stamps, np.arange(stamps.size, dtype=np.float64), sender.chunk)),
    }
    for name, (samples, times) in counted.items():
        error = 1e3 * (times - taken[samples])[taken[samples] >= taken[0] + SETTLED_S]
        row[f"{name}_ms"] = float(np.max(np.abs(error)))
        row[f"{name}_about_median_ms"] = float(np.max(np.abs(error - np.median(error))))
    return row


def see(stamps: FloatArray, chunk: int) -> tuple[list[Window], StreamStatus]:
    """Return the windows of a stream of noise, and the status of the stream."""
    info = StreamInfo("eeg", "eeg", "Late", EPOC_CH_NAMES, SFREQ, unit="microvolts")
    x = 4200.0 + 10.0 * np.random.default_rng(1).standard_normal((len(EPOC_CH_NAMES), stamps.size))
    stage = Preprocessor(PreprocessConfig())
    windows = stage.push(info)
    for first in range(0, stamps.size, chunk):
        windows += stage.push(Chunk("eeg", stamps[first : first + chunk], x[:, first : first + chunk]))
    return windows, stage.statuses()[0]


def by_signal_path(stamps: FloatArray, chunk: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the numbers of the samples (n,) that rate gate and timeline have placed, and the times given to them."""
    gate, timeline = RateGate(StreamInfo("eeg", "eeg", "Late", ("x",), SFREQ), None), Timeline(SFREQ, [0])
    placed: list[Chunk] = []
    for first in range(0, stamps.size, chunk):
        part = slice(first, first + chunk)
        x = np.arange(stamps.size, dtype=np.float64)[None, part]
        for item in gate.push(Chunk("eeg", stamps[part], x)):
            if isinstance(item, RateDecision):
                timeline = Timeline(item.sfreq, [0])
                timeline.use_measured(item.measured)
            else:
                placed += [out for out in timeline.push(item) if isinstance(out, Chunk)]
    t, number = (np.concatenate(parts) for parts in zip(*((c.t, c.x[0]) for c in placed), strict=True))
    real = ~np.concatenate([c.filled[0] for c in placed if c.filled is not None])
    return number[real].astype(np.intp), t[real]


def by_pyxdf(stamps: FloatArray) -> FloatArray:
    """Return the times that pyxdf gives to the samples of a recording, with its own de-jitter."""
    import pyxdf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "late.xdf"
        with XdfWriter(path) as xdf:
            stream = xdf.add_stream(XdfStreamSpec("Late", "EEG", ("x",), sfreq=SFREQ))
            xdf.write_samples(stream, stamps, np.zeros((1, stamps.size)))
        (loaded,), _ = pyxdf.load_xdf(path, synchronize_clocks=False, dejitter_timestamps=True)
    return np.asarray(loaded["time_stamps"], dtype=np.float64)


def errors_ms(gap_s: float, seed: int, counted: Counted) -> list[float]:
    """Return the largest error in ms in the second from each look on, and over all from 10 s behind the gap on."""
    n_before, n_lost = int(SFREQ * BEFORE_S), round(SFREQ * gap_s)
    n = n_before + n_lost + int(SFREQ * AFTER_S)
    true = 1000.0 + np.arange(n) / (SFREQ * (1 + DRIFT))
    stamps = true + JITTER_S * np.random.default_rng(seed).standard_normal(n)
    kept = np.r_[0:n_before, n_before + n_lost : n]
    error = 1e3 * np.abs(counted(stamps[kept], kept.astype(np.float64)) - true[kept])
    behind = true[kept] - true[n_before + n_lost]
    worst = [float(np.max(error[(behind >= look) & (behind < look + 1)])) for look in LOOKS_S]
    return [*worst, float(np.max(error[behind >= 10]))]


def by_timeline(stamps: FloatArray, number: FloatArray) -> FloatArray:
    """Return the times that the signal path gives, with a packet counter that restarts each second."""
    timeline = Timeline(SFREQ, [0], counter=1)
    x = np.stack([number, number % round(SFREQ)])
    pieces = [
        item
        for first in range(0, stamps.size, CHUNK)
        for item in timeline.push(Chunk("eeg", stamps[first : first + CHUNK], x[:, first : first + CHUNK]))
        if isinstance(item, Chunk)
    ]
    return np.concatenate([piece.t for piece in pieces])


def by_liblsl(stamps: FloatArray, number: FloatArray, chunk: int = CHUNK) -> FloatArray:
    """Send the samples over LSL as fast as possible; return the stamps that liblsl gives them."""
    pylsl = load_pylsl()
    name = f"clmer-clock-{time.monotonic_ns()}"
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(name, "EEG", 1, SFREQ, pylsl.cf_double64, name))
    (found,) = pylsl.resolve_byprop("name", name, timeout=PULL_TIMEOUT_S)
    inlet = pylsl.StreamInlet(found, processing_flags=pylsl.proc_dejitter)
    inlet.open_stream(PULL_TIMEOUT_S)
    received: list[FloatArray] = []
    for first in range(0, stamps.size, chunk):
        outlet.push_chunk(number[first : first + chunk, None].copy(), stamps[first : first + chunk].tolist())
    while sum(part.size for part in received) < stamps.size:
        _, t = inlet.pull_chunk(timeout=PULL_TIMEOUT_S, max_samples=1024, min_samples=1, as_numpy=True)
        if not len(t):
            raise RuntimeError("liblsl delivered nothing for 5 s")
        received.append(np.array(t))
    inlet.close_stream()
    return np.concatenate(received)


if __name__ == "__main__":
    sys.exit(main())
