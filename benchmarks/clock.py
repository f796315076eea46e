"""How exactly samples are timed behind lost ones: CLMER's timeline and liblsl's own de-jitter, against the truth.

Run with ``python -m benchmarks.clock``. Both get the same stamps, liblsl over a real outlet and inlet with nothing
but ``proc_dejitter``: 128 Hz, 4 ms jitter, a clock that drifts by 35 ppm, and one gap after 20 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.support.report import Report, Table, make_parser
from clmer_streaming.lsl.setup import load_pylsl
from clmer_streaming.pipeline.timeline import Timeline
from clmer_streaming.types import Chunk, FloatArray

SFREQ = 128.0  # Hz, nominal
DRIFT = 35e-6
JITTER_S = 0.004
BEFORE_S, AFTER_S = 20.0, 75.0
GAPS_S = (0.25, 1.0, 3.0, 10.0)
LOOKS_S = (0.0, 10.0, 30.0, 60.0)  # behind the gap
SEEDS = range(10)
CHUNK = 16
PULL_TIMEOUT_S = 5.0

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
        report.show(table)
    return 0


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


def by_liblsl(stamps: FloatArray, number: FloatArray) -> FloatArray:
    """Send the samples over LSL as fast as possible; return the stamps that liblsl gives them."""
    pylsl = load_pylsl()
    name = f"clmer-clock-{time.monotonic_ns()}"
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo(name, "EEG", 1, SFREQ, pylsl.cf_double64, name))
    (found,) = pylsl.resolve_byprop("name", name, timeout=PULL_TIMEOUT_S)
    inlet = pylsl.StreamInlet(found, processing_flags=pylsl.proc_dejitter)
    inlet.open_stream(PULL_TIMEOUT_S)
    received: list[FloatArray] = []
    for first in range(0, stamps.size, CHUNK):
        outlet.push_chunk(number[first : first + CHUNK, None].copy(), stamps[first : first + CHUNK].tolist())
    while sum(part.size for part in received) < stamps.size:
        _, t = inlet.pull_chunk(timeout=PULL_TIMEOUT_S, max_samples=1024, min_samples=1, as_numpy=True)
        if not len(t):
            raise RuntimeError("liblsl delivered nothing for 5 s")
        received.append(np.array(t))
    inlet.close_stream()
    return np.concatenate(received)


if __name__ == "__main__":
    sys.exit(main())
