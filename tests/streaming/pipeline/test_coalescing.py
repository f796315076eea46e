"""EEG that waits to be filtered changes nothing: not a window, nor when it closes, nor the state of a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import EPOC_CH_NAMES, PhysioConfig, PreprocessConfig, SlotSeriesConfig, WindowConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.sampled import join_chunks
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, Marker, StreamInfo, Tick, Window
from tests.support.signals import EEG_INFO, FACE_INFO, cut, eeg_like, eeg_path, face, stamps

Scheduled = list[tuple[float, Item]]
"""Items, each with when it is delivered in seconds; a list is in its source's own order."""

SECONDS = 9.0
T0 = 100.0
CONTACT_INFO = StreamInfo("cq", "contact", "Contact-Quality", EPOC_CH_NAMES, 2.0)
ECG_INFO = StreamInfo("physio-ecg", "physio", "ECG", ("ECG",), 64.0, unit="uV")
ECG = PhysioConfig("ecg", ("ECG",), 32.0)
TRACKER_INFO = StreamInfo("physio-tracker", "physio", "Tracker", ("SMILE",), 0.0)
TRACKER = SlotSeriesConfig("tracker", ("SMILE",))


def eeg_stream(rng: np.random.Generator, sfreq: float, largest: int, *, troubled: bool) -> Scheduled:
    """Return a headset's chunks of 1 to ``largest`` samples, with losses, NaN, odd stamps and a leap if troubled."""
    names, counter = (*EPOC_CH_NAMES, "COUNTER"), rng.random() < 0.5
    info = dataclasses.replace(
        EEG_INFO,
        sfreq=sfreq,
        ch_names=names if counter else EPOC_CH_NAMES,
        unit="uV" if rng.random() < 0.7 else "",
        delay_s=float(rng.choice([0.0, 0.06])),
    )
    n = int(SECONDS * sfreq)
    t, x = stamps(n, sfreq, T0), eeg_like(n, seed=1, sfreq=sfreq)
    if counter:
        x = np.concatenate([x, np.arange(n)[None, :] % round(sfreq)])
    t = t + rng.choice([0.0, 1e-3, 8e-3]) * rng.standard_normal(n)
    if troubled:
        t, x = with_trouble(rng, t, x)
    chunks: Scheduled = [(float(np.max(c.t)), c) for c in cut(t, x, rng.integers(1, largest + 1, 50).tolist())]
    return [(T0, info), *held_up(rng, chunks)]


def with_trouble(rng: np.random.Generator, t: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return stamps and samples with some lost, some not finite, some stamps odd, and the clock set once."""
    n = t.size
    x[int(rng.integers(0, 14)), rng.integers(0, n, 30)] = np.nan
    x[:, rng.integers(0, n, 5)] = np.nan
    t = t.copy()
    t[rng.integers(0, n, 4)] += rng.uniform(-0.2, 0.2, 4)
    keep = np.ones(n, dtype=bool)
    for share in (0.002, 0.03, 0.15):
        first = int(rng.integers(0, n))
        keep[first : first + int(share * n)] = False
    if rng.random() < 0.3:
        t[int(rng.integers(n // 2, n)) :] += rng.choice([-3.0, 0.5, 4.0, 1000.0])
    return t[keep], x[:, keep]


def held_up(rng: np.random.Generator, items: Scheduled) -> Scheduled:
    """Return items with a stretch delivered late, at once, as a network or a busy machine does."""
    if rng.random() < 0.5:
        return items
    begin = T0 + rng.uniform(1.0, SECONDS)
    end = begin + rng.choice([0.1, 0.7, 1.5, 6.0])
    return [(end if begin < when < end else when, item) for when, item in items]


def face_stream(rng: np.random.Generator) -> Scheduled:
    """Return faces at 30 Hz that lag, are missing for a while, and now and then step back."""
    lag_s = rng.choice([0.0, 0.1, 0.4])
    times = np.arange(T0 + rng.uniform(0.0, 2.0), T0 + SECONDS, 1 / 30)
    silent = T0 + rng.uniform(1.0, SECONDS)
    times = times[(times < silent) | (times > silent + rng.choice([0.0, 0.9, 1.2, 6.0]))]
    samples: Scheduled = [(t + lag_s, face(t - 3.0 * (rng.random() < 0.01), 1.0)) for t in times.tolist()]
    info = dataclasses.replace(FACE_INFO, delay_s=float(rng.choice([0.0, 0.05])))
    return [(T0, info), *held_up(rng, samples)]


def other_streams(rng: np.random.Generator) -> Iterator[Scheduled]:
    """Return contact values, a further series, ticks, markers and a Gap that a source puts, each as it may be."""
    if rng.random() < 0.5:
        values = np.full((14, int(2 * SECONDS)), 4.0)
        values[rng.integers(0, 14, 3), 4:] = 0.0
        chunks = cut(stamps(values.shape[1], 2.0, T0), values, [1], "cq")
        yield [(T0, CONTACT_INFO), *((float(c.t[-1]) + rng.uniform(0.0, 0.3), c) for c in chunks)]
    if rng.random() < 0.4:
        n = int(SECONDS * 64)
        chunks = cut(stamps(n, 64.0, T0), np.sin(np.arange(n))[None, :], [int(rng.integers(1, 64))], "physio-ecg")
        yield [(T0, ECG_INFO), *held_up(rng, [(float(c.t[-1]), c) for c in chunks])]
    if rng.random() < 0.4:
        odd = np.sort(T0 + rng.uniform(0.0, SECONDS, int(rng.integers(1, 90)))) - 0.5 * (rng.random() < 0.1)
        chunks = cut(odd, odd[None, :], [int(rng.integers(1, 8))], "physio-tracker")
        yield [(T0, TRACKER_INFO), *held_up(rng, [(float(c.t[-1]), c) for c in chunks])]
    for source in ("eeg", "face"):
        yield [(t, Tick(t, source)) for t in sorted(T0 + rng.uniform(0.0, SECONDS, int(rng.integers(0, 4))))]
    yield [(t, Marker(t, "1", "word")) for t in sorted(T0 + rng.uniform(0.0, SECONDS, 3))]
    if rng.random() < 0.3:
        t = T0 + rng.uniform(1.0, SECONDS)
        yield [(t, Gap(t - 0.1, t, "eeg", "stream_restarted"))]


def session(seed: int, sfreq: float, largest: int, *, troubled: bool, anew: bool) -> list[Item]:
    """Return what a live session may see: all streams by when they are delivered, each in its own order."""
    rng = np.random.default_rng(seed)
    streams = [eeg_stream(rng, sfreq, largest, troubled=troubled), *other_streams(rng)]
    if rng.random() < 0.7:
        streams.append(face_stream(rng))
    ordered: Scheduled = []
    for items in streams:
        whens = np.maximum.accumulate([when for when, _ in items]) if items else np.empty(0)
        ordered += [(when, item) for when, (_, item) in zip(whens.tolist(), items, strict=True)]
    ordered.sort(key=lambda scheduled: scheduled[0])
    if anew:
        infos = [item for _, item in ordered if isinstance(item, StreamInfo)]
        ordered.insert(int(rng.integers(1, len(ordered))), (0.0, infos[int(rng.integers(len(infos)))]))
    return [item for _, item in ordered]


def seen(window: Window) -> str:
    """Return all that is published of a window, NaN included."""
    quality = {name: dict(measures) for name, measures in window.quality.items()}
    return repr((window.index, window.t_end, window.crc, window.reasons, quality, window.channels))


def known(stage: Preprocessor) -> list[dict[str, Any]]:
    """Return what is known of the streams, save for the words on a unit, which is guessed when EEG is filtered."""
    return [{**dataclasses.asdict(status), "reason": ""} for status in stage.statuses()]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sfreq=st.sampled_from([100.0, 128.0, 250.0, 256.0, 300.0]),
    largest=st.sampled_from([1, 4, 16, 64, 256]),
    hop_s=st.sampled_from([0.125, 0.5, 2.0]),
    troubled=st.booleans(),
    anew=st.booleans(),
)
def test_waiting_changes_no_window_and_no_state(
    *, seed: int, sfreq: float, largest: int, hop_s: float, troubled: bool, anew: bool
) -> None:
    """After each item of a troubled session: the same windows, and the same of each stream, as without waiting."""
    config = PreprocessConfig(
        window=WindowConfig(hop_s=hop_s),
        modalities=("eeg", "landmarks", "aus", "gaze", "ecg", "tracker"),
        physio=(ECG,),
        slot_series=(TRACKER,),
    )
    waiting, at_once = Preprocessor(config), Preprocessor(config, at_once=True)
    for item in session(seed, sfreq, largest, troubled=troubled, anew=anew):
        assert list(map(seen, waiting.push(item))) == list(map(seen, at_once.push(item)))
        assert repr(known(waiting)) == repr(known(at_once))


@pytest.mark.parametrize("n", [1, 16])
def test_what_may_wait_waits_until_it_may_not(n: int) -> None:
    """A path gives nothing for samples before the time that it is told, and then all of them."""
    path, told = eeg_path(EEG_INFO), 110.0
    given = [path.push(chunk) for chunk in cut(stamps(128 * 9), eeg_like(128 * 9), [n])]
    assert sum(chunk.t.size for chunk in joined_chunks(given)) == 128 * 9
    later = [path.push(chunk, told) for chunk in cut(stamps(128 * 2, t0=109.0), eeg_like(128 * 2), [n])]
    first = next(i for i, items in enumerate(later) if items)
    assert 128 - n <= first * n <= 128
    assert sum(chunk.t.size for chunk in joined_chunks(later)) == 128 * 2


def joined_chunks(given: list[list[Item]]) -> list[Chunk]:
    return [item for items in given for item in items if isinstance(item, Chunk)]


def test_waiting_chunks_come_out_as_one_in_their_order() -> None:
    """Chunks of 1, 2 and 3 samples give one of 6; then none waits."""
    t, x = stamps(6), eeg_like(6)
    chunks = [dataclasses.replace(c, filled=np.zeros(c.x.shape, dtype=bool)) for c in cut(t, x, [1, 2, 3])]
    (whole,) = join_chunks(chunks)
    assert np.array_equal(whole.t, t)
    assert np.array_equal(whole.x, x)
    path = eeg_path(EEG_INFO)
    path.push(Chunk("eeg", stamps(128 * 9), eeg_like(128 * 9)))
    for chunk in cut(stamps(64, t0=109.0), eeg_like(64), [16]):
        assert path.push(chunk, 110.0) == []
    assert [item.t.size for item in path.release() if isinstance(item, Chunk)] == [64]
    assert path.release() == join_chunks([]) == []
