"""Claims about bad channels: what is found, what masks, what only warns."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from clmer_server.session.events import EventContext, EventTimes, emotion_event
from clmer_streaming.config import CAP36_CH_NAMES, EPOC_CH_NAMES, PreprocessConfig, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.quality import MASKING, ChannelJudge, ChannelVerdict, Evidence, RawMonitor, mains_share
from clmer_streaming.pipeline.window import window_crc
from clmer_streaming.types import Chunk, FloatArray, Item, Reason, StreamInfo, Window
from clmer_streaming.xdf.header import announcement
from clmer_streaming.xdf.reader import read_xdf
from tests.support.session_parts import MODEL, certain
from tests.support.signals import EEG_INFO, cut, eeg_like, push_all, stamps

NOTHING_FILLED = np.zeros((4, 256), dtype=bool)


def signal(*sds: float) -> FloatArray:
    """Return one sine per standard deviation, (C, 256)."""
    return np.outer(sds, np.sqrt(2) * np.sin(2 * np.pi * 8 * np.arange(256) / 256))


def faults_of(verdict: ChannelVerdict, channel: int) -> set[str]:
    return {fault for fault, found in verdict.faults.items() if found[channel]}


def test_flat_and_noisy_channels_are_told_apart() -> None:
    """Constant is flat, 300 uV is noisy, 10 and 40 uV are EEG."""
    verdict = ChannelJudge(4, 128.0).judge(signal(0, 10, 40, 300), NOTHING_FILLED)
    assert verdict.faults["flat"].tolist() == [True, False, False, False]
    assert verdict.faults["noisy"].tolist() == [False, False, False, True]
    assert verdict.good.tolist() == [False, True, True, False]


def test_a_channel_of_invented_values_is_bad() -> None:
    """Half of the samples held: not a measurement."""
    filled = NOTHING_FILLED.copy()
    filled[2, :128] = True
    assert ChannelJudge(4, 128.0).judge(signal(10, 10, 10, 10), filled).good.tolist() == [True, True, False, True]


def test_the_verdict_does_not_flicker() -> None:
    """A channel noisy at 110 uV stays so at 90 uV and is good again at 70 uV; 90 uV alone is no reason."""
    judge = ChannelJudge(1, 128.0)
    nothing = NOTHING_FILLED[:1]
    assert [bool(judge.judge(signal(sd), nothing).good[0]) for sd in (90, 110, 90, 70, 90)] == [
        True, False, False, True, True,
    ]  # fmt: skip


def test_a_channel_without_any_value_is_missing_and_nothing_else() -> None:
    """What the stream lacks is neither flat nor filled in the reader's eyes."""
    filled = NOTHING_FILLED.copy()
    filled[1] = True
    verdict = ChannelJudge(4, 128.0).judge(signal(10, 0, 10, 10), filled)
    assert faults_of(verdict, 1) == {"missing"}


# On the whole way: 14 channels of EEG, one of which is treated.

SECONDS = 6


def last_window(x: FloatArray, info: StreamInfo = EEG_INFO, config: PreprocessConfig | None = None) -> Window:
    items: list[Item] = [info, *cut(stamps(x.shape[1], info.sfreq), x, [16])]
    return push_all(Preprocessor(config or PreprocessConfig()), items)[-1]


def scalp(sfreq: float = 128.0, seed: int = 0) -> FloatArray:
    """Return EEG whose channels have most in common, as on one head, (14, n)."""
    n = int(SECONDS * sfreq)
    common = eeg_like(n, 1, seed=seed + 100, sfreq=sfreq) - 4200.0
    return eeg_like(n, seed=seed, sfreq=sfreq) + 2 * common


def found(window: Window, name: str = "AF3") -> tuple[str, ...]:
    return next(channel.faults for channel in window.channels if channel.name == name)


def test_a_good_head_has_no_faults() -> None:
    """Fourteen channels of EEG: every one is judged, good, and without a word."""
    window = last_window(scalp())
    assert [channel.name for channel in window.channels] == list(EPOC_CH_NAMES)
    assert all(channel.good and not channel.faults for channel in window.channels)
    assert not {r for r in window.reasons if r.startswith("eeg")}


MANY = PreprocessConfig().with_channels(CAP36_CH_NAMES, 0.1)
"""A model of 36 electrodes that takes any cap with at least four of them."""


def test_what_a_cap_does_not_have_is_not_bad() -> None:
    """An EPOC has 14 of a model's 36 electrodes: those are listed and judged, the others masked without a word."""
    window, alone = last_window(scalp(), config=MANY), last_window(scalp())
    assert [channel.name for channel in window.channels] == [n for n in CAP36_CH_NAMES if n in EPOC_CH_NAMES]
    assert [name for name, known in zip(CAP36_CH_NAMES, window.mask["eeg"], strict=True) if known] == [
        channel.name for channel in window.channels
    ]
    assert window.quality["eeg"] == pytest.approx(alone.quality["eeg"])
    assert not {r for r in window.reasons if r.startswith("eeg")}
    rows = [CAP36_CH_NAMES.index(name) for name in EPOC_CH_NAMES]
    assert np.allclose(window.series["eeg"][rows], alone.series["eeg"])
    assert not np.delete(window.series["eeg"], rows, axis=0).any()


def test_half_of_the_cap_has_to_be_good_whatever_the_model_would_take() -> None:
    """Seven of an EPOC's 14 electrodes will do, six will not, though the model takes caps of four."""
    for n_dead, usable in ((7, True), (8, False)):
        x = scalp()
        x[:n_dead] = 0.0
        window = last_window(x, config=MANY)
        assert window.mask["eeg"].any() == usable
        assert Reason.EEG_CHANNELS_BAD in window.reasons


def test_a_cap_of_four_electrodes_feeds_a_model_of_36_and_one_of_three_does_not() -> None:
    names = ("TP9", "AF7", "AF8", "TP10")
    info = dataclasses.replace(EEG_INFO, ch_names=names)
    assert last_window(scalp()[:4], info, MANY).mask["eeg"].sum() == 4
    with pytest.raises(StreamError, match="at least 4 of the channels"):
        last_window(scalp()[:3], dataclasses.replace(EEG_INFO, ch_names=names[:3]), MANY)


def test_a_preprocessor_says_which_channels_its_stream_has() -> None:
    """Those of the filtered signal that it gives out; none before a stream is announced."""
    stage = Preprocessor(MANY)
    assert not stage.eeg_present.any()
    push_all(stage, [EEG_INFO, *cut(stamps(512), scalp()[:, :512], [16])])
    assert stage.eeg_present.tolist() == [name in EPOC_CH_NAMES for name in CAP36_CH_NAMES]


def test_a_railed_channel_is_called_railed_and_a_dead_one_flat() -> None:
    """Both stand still; one at the amplifier's end, the other where nothing is connected."""
    x = scalp()
    x[0], x[1] = 187_500.0, 0.0
    window = last_window(x)
    assert found(window, "AF3") == ("railed",)
    assert found(window, "F7") == ("flat",)
    assert window.mask["eeg"].tolist() == [False, False, *[True] * 12]


def test_a_channel_that_is_cut_off_at_both_ends_is_railed_though_it_moves() -> None:
    """An open input swings from rail to rail and rests there: its SD alone would call it noisy only."""
    x = scalp()
    x[0] = np.clip(1e6 * np.sin(2 * np.pi * 6 * np.arange(x.shape[1]) / 128), -1000, 1000)
    assert found(last_window(x)) == ("railed", "noisy")


def test_small_steps_of_the_converter_are_no_rail() -> None:
    """A 14-bit headset repeats a value now and then; that is how it counts, and no fault."""
    assert found(last_window(np.round(scalp() / 0.51) * 0.51)) == ()


@pytest.mark.parametrize("sfreq", [128.0, 250.0, 1000.0])
@pytest.mark.parametrize("mains_hz", [50.0, 60.0])
def test_the_mains_are_seen_before_the_filter_takes_them_out(sfreq: float, mains_hz: float) -> None:
    """60 uV of mains in one channel: a warning, not a mask, at any rate, although 4-45 Hz hardly lets it through."""
    x = scalp(sfreq)
    x[0] += 60.0 * np.sin(2 * np.pi * mains_hz * np.arange(x.shape[1]) / sfreq)
    window = last_window(x, dataclasses.replace(EEG_INFO, sfreq=sfreq))
    assert found(window) == ("line",)
    assert window.channels[0].good
    assert window.channels[0].line_share > 0.5
    assert window.channels[1].line_share < 0.1


def test_mains_that_a_notch_takes_out_are_no_fault() -> None:
    """With a notch at 50 Hz, 50 Hz does no harm; 60 Hz still does."""
    x = scalp()
    x[0] += 60.0 * np.sin(2 * np.pi * 50.0 * np.arange(x.shape[1]) / 128)
    x[1] += 60.0 * np.sin(2 * np.pi * 60.0 * np.arange(x.shape[1]) / 128)
    window = last_window(x, config=PreprocessConfig().with_notch(50.0))
    assert (found(window, "AF3"), found(window, "F7")) == ((), ("line",))


def test_the_share_of_the_mains_is_its_share_of_power() -> None:
    """Equal power at 10 and 50 Hz: half. A rate that cannot carry 50 Hz says nothing of it."""
    t = np.arange(512) / 256.0
    x = np.sin(2 * np.pi * 10 * t) + np.sin(2 * np.pi * 50 * t)
    assert mains_share(x[None, :], 256.0) == pytest.approx(0.5, abs=0.01)
    assert mains_share(np.sin(2 * np.pi * 10 * np.arange(200) / 100.0)[None, :], 100.0) == pytest.approx(0.0)


def test_muscle_warns_and_does_not_mask() -> None:
    """A clenched jaw gives 20-45 Hz the most power; there is still EEG below it."""
    x = scalp()
    n = x.shape[1]
    rng = np.random.default_rng(5)
    beta = sum(np.sin(2 * np.pi * hz * np.arange(n) / 128 + rng.uniform(0, 6)) for hz in range(22, 44, 2))
    x[:4] += 20.0 * beta
    window = last_window(x)
    assert found(window) == ("muscle",)
    assert window.mask["eeg"].all()
    assert Reason.EEG_MUSCLE in window.reasons


def test_a_channel_that_goes_its_own_way_is_named() -> None:
    """Noise of its own, in size like EEG: it correlates with no other channel, and that is a warning."""
    x = scalp()
    x[0] = 4200.0 + 15.0 * np.random.default_rng(9).standard_normal(x.shape[1])
    window = last_window(x)
    assert "uncorrelated" in found(window)
    assert window.channels[0].good


def test_few_channels_say_nothing_about_neighbours() -> None:
    """Four channels of noise of their own: too few to expect a correlation."""
    x = np.random.default_rng(0).standard_normal((4, 256)) * 10
    verdict = ChannelJudge(4, 128.0).judge(x, NOTHING_FILLED)
    assert not verdict.faults["uncorrelated"].any()
    assert np.isnan(verdict.measures["correlation"]).all()


def test_contact_that_the_headset_calls_bad_masks() -> None:
    """0 and 1 of 4 are no contact; 2 is; a sensor without a value is judged by its signal alone."""
    evidence = Evidence(contact=np.array([0.0, 1.0, 2.0, np.nan]))
    verdict = ChannelJudge(4, 128.0).judge(signal(10, 10, 10, 10), NOTHING_FILLED, evidence)
    assert verdict.good.tolist() == [False, False, True, True]
    assert faults_of(verdict, 0) == {"contact"}


def test_what_a_quarter_of_the_channels_have_is_a_reason() -> None:
    """Three railed channels of fourteen are masked without a word; four are said, and the rest is used."""
    three, four = scalp(), scalp()
    three[:3], four[:4] = 187_500.0, 187_500.0
    assert Reason.EEG_CHANNELS_BAD not in last_window(three).reasons
    window = last_window(four)
    assert {Reason.EEG_CHANNELS_BAD, Reason.EEG_FLAT} <= set(window.reasons)
    assert window.mask["eeg"].sum() == 10


def test_an_event_names_the_bad_channels() -> None:
    """A client reads which channels were left out and what ails the others."""
    x = scalp()
    x[4] = 187_500.0
    x[0] += 60.0 * np.sin(2 * np.pi * 50 * np.arange(x.shape[1]) / 128)
    window = last_window(x)
    event = emotion_event(0, window, certain(window), EventContext("s", MODEL, "replay"), EventTimes(1, 1, 1, 1))
    said = json.loads(event.model_dump_json())["modalities"]["eeg"]
    assert said["channels_bad"] == ["T7"]
    assert said["faults"] == {"AF3": ["line"], "T7": ["railed"]}
    assert said["channels_ok"] == 13


def test_quality_takes_no_part_in_the_checksum() -> None:
    """A verdict describes a window; the window's bits are its series and masks."""
    window = last_window(scalp())
    assert window.channels
    assert window.crc == window_crc(window.index, window.series, window.mask)


def test_the_monitor_forgets_what_no_window_needs() -> None:
    """What lies before a time goes, and what is left is judged as before."""
    monitor = RawMonitor(128.0)
    for chunk in cut(stamps(1280), eeg_like(1280), [16]):
        monitor.push(Chunk(chunk.source, chunk.t, chunk.x))
    before = monitor.view(108.0, 110.0)
    monitor.drop_before(108.0)
    after = monitor.view(108.0, 110.0)
    assert before is not None
    assert after is not None
    assert np.array_equal(before.line, after.line)
    assert monitor.view(100.0, 102.0) is None


def test_every_masking_fault_masks() -> None:
    """The list of faults and the mask are one thing."""
    verdict = ChannelJudge(4, 128.0).judge(signal(0, 10, 10, 300), NOTHING_FILLED)
    for channel in range(4):
        assert verdict.good[channel] == (not faults_of(verdict, channel) & set(MASKING))


# Real recordings.


def faults_by_channel(path: Path, first: int) -> tuple[dict[str, Counter[str]], int]:
    """Return how often each channel of a recording has which fault, and how many windows were judged."""
    stream = next(s for s in read_xdf(path).streams if s.type.lower() == "eeg")
    labels = stream.ch_names if any(stream.ch_names) else tuple(f"C{i}" for i in range(stream.n_channels))
    info = dataclasses.replace(announcement(stream, "eeg"), ch_names=labels)
    stage = Preprocessor(PreprocessConfig(SignalConfig(ch_names=labels[first:]), modalities=("eeg",)))
    items: list[Item] = [info, *cut(stream.t_synced, stream.x[:].astype(np.float64), [64])]
    judged = [window for window in push_all(stage, items) if window.channels]
    return {
        name: Counter(f for window in judged for f in window.channels[i].faults)
        for i, name in enumerate(labels[first:])
    }, len(judged)


def test_two_railed_channels_of_a_real_headset_are_named_throughout(sample_data: Path) -> None:
    """OpenBCI at 187.5 mV: railed in every window, no other channel ever; mains in half of the others."""
    faults, n_windows = faults_by_channel(sample_data / "xdf/real16_openbci_125Hz_counter.xdf", first=1)
    assert n_windows > 700
    assert {name: n["railed"] for name, n in faults.items() if n["railed"]} == {"C1": n_windows, "C2": n_windows}
    assert sum(n["line"] > n_windows / 2 for n in faults.values()) == 7


def test_an_open_input_of_a_real_headset_is_named_railed(sample_data: Path) -> None:
    """The Muse's auxiliary input swings between its rails; its electrodes do not rest anywhere."""
    faults, n_windows = faults_by_channel(sample_data / "xdf/muse_5ch_256Hz_4streams_P001.xdf", first=0)
    assert faults["AUX_RIGHT"]["railed"] == n_windows
    assert not any(faults[name]["railed"] for name in ("TP9", "AF7", "AF8", "TP10"))
