"""Claims about sampled series: EEG by segment, and further signals such as ECG, skin conductance, respiration."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from clmer_model.artifact import find_artifact
from clmer_model.checkpoint import Checkpoint
from clmer_model.config import LABELS_VA4, modality_specs
from clmer_model.export import export
from clmer_model.network.clmer import Clmer
from clmer_model.predictor import Predictor
from clmer_server.session.config import check_physio, parse_physio
from clmer_streaming.config import EPOC_CH_NAMES, PhysioConfig, PreprocessConfig, physio_source
from clmer_streaming.errors import ArtifactError, SettingsError
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.pipeline.sampled import SegmentBuffer
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, Reason, StreamInfo, StreamStatus, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.model_windows import SMALL
from tests.support.signals import EEG_INFO, cut, eeg_like, merged, push_all, stamps

ECG = PhysioConfig("ecg", ("ECG",), 128.0, (0.5, 40.0))
BREATH = PhysioConfig("breath", ("chest", "belly"), 32.0)
CONFIG = PreprocessConfig(modalities=("eeg", "landmarks", "aus", "ecg", "breath"), physio=(ECG, BREATH))
ECG_INFO = StreamInfo(physio_source("ecg"), "physio", "Polar", ("",), 250.0, unit="mV")
BREATH_INFO = StreamInfo(physio_source("breath"), "physio", "Belt", ("belly", "chest"), 32.0, unit="a.u.")
SECONDS = 8


def chunk(n: int, t0: float = 100.0, first: int = 0) -> Chunk:
    number = np.arange(first, first + n, dtype=float)[None, :]
    return Chunk("eeg", stamps(n, t0=t0), number, np.zeros((1, n), dtype=bool))


def buffer() -> SegmentBuffer:
    """A buffer of two-second windows that settle for half a second."""
    return SegmentBuffer(n_times=256, sfreq=128.0, window_s=2.0, settle_s=0.5)


def test_a_window_is_the_last_t_samples_before_its_end() -> None:
    """At t = 103 s the window holds samples 128 to 383; sample 384 lies at 103 s and is outside."""
    kept = buffer()
    kept.push(chunk(640))
    cut = kept.cut(103.0)
    assert cut.x is not None
    assert np.array_equal(cut.x[0], np.arange(128, 384))


def test_the_first_window_begins_behind_the_settling() -> None:
    """First sample at 100 s, settled at 100.5 s: the first window ends at 102.5 s."""
    kept = buffer()
    kept.push(chunk(640))
    assert kept.cut(102.0).reasons == (Reason.WARMING_UP,)
    assert kept.cut(102.5).reasons == ()


def test_before_any_sample_there_is_no_eeg() -> None:
    """Nothing heard is missing, not warming up."""
    kept = buffer()
    assert kept.cut(100.0).reasons == (Reason.EEG_MISSING,)
    kept.push(chunk(64))
    assert kept.cut(100.0).reasons == (Reason.EEG_MISSING,)


def test_no_window_spans_a_gap() -> None:
    """Within the gap and a window behind it: gap; then warming up; then samples of the new segment alone."""
    kept = buffer()
    kept.push(chunk(640))
    kept.push(Gap(105.0, 107.0, "eeg", "lost_samples"))
    kept.push(chunk(640, t0=107.0, first=1000))
    assert [kept.cut(t).reasons for t in (106.0, 107.0, 108.5, 109.0, 109.25)] == [
        (Reason.GAP,), (Reason.EEG_STALE,), (Reason.GAP,), (Reason.WARMING_UP,), (Reason.WARMING_UP,),
    ]  # fmt: skip
    cut = kept.cut(109.5)
    assert cut.x is not None
    assert cut.x[0, 0] == 1000 + 64


def test_silence_is_stale() -> None:
    """Samples end at 105 s and nobody said why."""
    kept = buffer()
    kept.push(chunk(640))
    assert kept.cut(105.5).reasons == (Reason.EEG_STALE,)


def test_a_clock_jump_is_named() -> None:
    """Behind a jump of the clock the reason says so."""
    kept = buffer()
    kept.push(chunk(640))
    kept.push(Gap(105.0, 205.0, "eeg", "clock_jump"))
    kept.push(chunk(64, t0=205.0))
    assert Reason.EEG_CLOCK_JUMP in kept.cut(205.5).reasons


def test_forgetting_keeps_what_later_windows_need() -> None:
    """What was dropped changes no later window."""
    kept, whole = buffer(), buffer()
    for each in (kept, whole):
        each.push(chunk(1280))
    kept.drop_before(105.0)
    one, other = kept.cut(105.5).x, whole.cut(105.5).x
    assert one is not None
    assert other is not None
    assert np.array_equal(one, other)


def heart(sfreq: float = 250.0, hz: float = 5.0) -> FloatArray:
    """Return a sine of 1 mV on an offset, (1, n) in mV."""
    x: FloatArray = 3.0 + np.sin(2 * np.pi * hz * np.arange(int(SECONDS * sfreq)) / sfreq)[None, :]
    return x


def breaths() -> FloatArray:
    """Return sample numbers, belly first, (2, n)."""
    n = np.arange(SECONDS * 32, dtype=np.float64)
    return np.stack([n, 1000.0 + n])


def session(
    sizes: tuple[int, ...] = (16,), ecg: StreamInfo = ECG_INFO, config: PreprocessConfig = CONFIG
) -> list[Window]:
    eeg = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,)))
    x = heart()
    beats = list(cut(stamps(x.shape[1], 250.0), x, sizes, ecg.source))
    belts = list(cut(stamps(SECONDS * 32, 32.0), breaths(), (4,), BREATH_INFO.source))
    return push_all(Preprocessor(config), [EEG_INFO, ecg, BREATH_INFO, *merged(eeg, beats, belts)])


def test_a_series_comes_at_its_own_rate_by_label_and_in_microvolts() -> None:
    """ECG of 1 mV at 250 Hz is 1000 uV at 128 Hz without its offset; the belts are told apart by their labels."""
    window = session()[-1]
    assert window.series["ecg"].shape == (1, 256)
    assert np.max(np.abs(window.series["ecg"])) == pytest.approx(1000.0, rel=0.05)
    assert window.series["breath"].shape == (2, 64)
    assert np.array_equal(window.series["breath"][0] - window.series["breath"][1], np.full(64, 1000.0))
    assert window.mask["ecg"].tolist() == [True]
    assert window.mask["breath"].tolist() == [True, True]
    assert window.quality["ecg"]["quality"] == 1.0


def test_samples_of_a_series_lie_in_the_window_of_their_time() -> None:
    """Unfiltered sample numbers: the last one before the end of the window is its last value."""
    for window in session():
        if window.mask["breath"].all():
            assert window.series["breath"][1, -1] == (window.t_end - 100.0) * 32 - 1


def test_a_series_that_is_not_there_is_masked_and_zero() -> None:
    """No ECG stream: the window keeps its shape, and EEG is what it would be."""
    window = push_all(Preprocessor(CONFIG), [EEG_INFO, *cut(stamps(128 * 6), eeg_like(128 * 6), (16,))])[-1]
    assert not window.series["ecg"].any()
    assert not window.mask["ecg"].any()
    assert window.mask["eeg"].all()


def test_a_loss_masks_the_series_alone() -> None:
    """One second of ECG are missing: its mask is down for as long, EEG goes on."""
    x, t = heart(), stamps(SECONDS * 250, 250.0)
    keep = (t < 103.7) | (t >= 104.7)
    eeg = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,)))
    stage = Preprocessor(dataclasses.replace(CONFIG, physio=(ECG,), modalities=("eeg", "ecg")))
    items = [EEG_INFO, ECG_INFO, *merged(eeg, list(cut(t[keep], x[:, keep], (25,), ECG_INFO.source)))]
    at = {window.t_end: window for window in push_all(stage, items)}
    assert at[103.5].mask["ecg"].all()
    assert not at[104.5].mask["ecg"].any()
    assert at[104.5].mask["eeg"].all()
    assert at[107.5].mask["ecg"].all()


@pytest.mark.parametrize("sizes", [(1,), (7, 60), (250,)])
def test_any_cut_of_a_series_gives_the_same_windows(sizes: tuple[int, ...]) -> None:
    """The checksum covers every series, and the cut changes none once chunks of a second have shown their rate."""
    whole = {w.index: w.crc for w in session((25,))}
    pieces = {w.index: w.crc for w in session(sizes)}
    shared = [index for index in whole if index in pieces and 103.0 <= index * 0.5 < 106.5]
    assert [whole[i] for i in shared] == [pieces[i] for i in shared]


def test_a_stream_that_cannot_give_its_series_is_refused_in_one_sentence() -> None:
    """The belts lack a label: the session goes on, the status says what was found and what to do."""
    stage = Preprocessor(CONFIG)
    stage.push(dataclasses.replace(BREATH_INFO, ch_names=("left", "right")))
    (status,) = stage.statuses()
    assert "expected a stream with the channels chest, belly" in status.reason
    assert "'Belt' with left, right" in status.reason


def breathing(
    true_hz: float, nominal_hz: float, jitter_s: float = 0.0, sizes: tuple[int, ...] = (4,)
) -> tuple[list[Window], StreamStatus]:
    """Run a belt that gives a sine of 1 Hz in both channels for 20 s, beside EEG; return its windows and status."""
    n = round(20 * true_hz)
    t = stamps(n, true_hz)
    x = np.tile(np.sin(2 * np.pi * (t - 100.0)), (2, 1))
    jitter = jitter_s * np.random.default_rng(1).standard_normal(n)
    stage = Preprocessor(dataclasses.replace(CONFIG, physio=(BREATH,), modalities=("eeg", "breath")))
    eeg = list(cut(stamps(128 * 20), eeg_like(128 * 20), (16,)))
    belt = dataclasses.replace(BREATH_INFO, sfreq=nominal_hz)
    items = [EEG_INFO, belt, *merged(eeg, list(cut(t + jitter, x, sizes, belt.source)))]
    windows = push_all(stage, items)
    return windows, next(status for status in stage.statuses() if status.kind == "physio")


@pytest.mark.parametrize(
    ("true_hz", "nominal_hz"), [(32.0, 40.0), (32.0, 25.6), (32.0, 0.0), (48.0, 32.0), (25.0, 0.0)]
)
def test_a_wrong_or_absent_rate_of_a_series_is_found_out(true_hz: float, nominal_hz: float) -> None:
    """A sine of 1 Hz stays one, half a sample off at most, without a gap; the status says at which rate it runs."""
    windows, status = breathing(true_hz, nominal_hz)
    said = f"declares {nominal_hz:g} Hz" if nominal_hz else "declares no rate"
    assert status.reason.startswith(f"{said}, runs at {true_hz:g} Hz")
    assert (status.n_gaps, status.n_bridged, status.state) == (0, 0, "live")
    heard = [window for window in windows if window.mask["breath"].all()]
    assert len(heard) >= 26
    for window in heard[2:]:
        t = window.t_end - (np.arange(64)[::-1] + 1) / 32.0
        assert np.max(np.abs(window.series["breath"][0] - np.sin(2 * np.pi * t))) <= 2 * np.pi / 64


def test_a_right_rate_of_a_series_is_no_news_however_slow_and_unsteady_it_is() -> None:
    """Two samples a second with 60 ms of jitter: 6 s of them can look like another rate, and are not taken for one."""
    for true_hz, jitter_s in ((32.0, 0.004), (2.0, 0.06)):
        _, status = breathing(true_hz, true_hz, jitter_s, (1,))
        assert (status.reason, status.n_gaps) == ("", 0)


@pytest.mark.parametrize("nominal_hz", [32.0, 40.0, 0.0])
def test_any_cut_of_a_series_tells_the_same_rate(nominal_hz: float) -> None:
    """Decided by samples, never by chunks: behind the wait, the windows are the same to the last bit."""
    whole, status = breathing(32.0, nominal_hz)
    pieces, again = breathing(32.0, nominal_hz, sizes=(1, 7, 13))
    shared = {window.index for window in whole if 108.0 < window.t_end < 118.0}
    assert {w.index: w.crc for w in whole if w.index in shared} == {w.index: w.crc for w in pieces if w.index in shared}
    assert (status.reason, status.rate_hz) == (again.reason, again.rate_hz)


def test_a_series_too_slow_for_its_band_is_said_and_nothing_is_used() -> None:
    """Declared as 250 Hz, an ECG of 60 Hz cannot carry 40 Hz: the samples are counted as not used, EEG goes on."""
    stage = Preprocessor(CONFIG)
    eeg = list(cut(stamps(128 * 12), eeg_like(128 * 12), (16,)))
    beats = list(cut(stamps(60 * 12, 60.0), np.zeros((1, 60 * 12)), (6,), ECG_INFO.source))
    windows = push_all(stage, [EEG_INFO, ECG_INFO, *merged(eeg, beats)])
    status = next(status for status in stage.statuses() if status.kind == "physio")
    assert status.reason.startswith("runs at 60 Hz, but the model needs")
    assert status.n_dropped == status.n_samples == 720
    assert windows[-1].mask["eeg"].all()
    assert not windows[-1].mask["ecg"].any()


@pytest.mark.parametrize("ahead_s", [30.0, 1.7e9])
def test_a_series_on_another_clock_is_said_and_moves_nothing(ahead_s: float) -> None:
    """Unix time in an ECG: windows keep LSL time and the EEG, the status tells what to do, nothing is hoarded."""
    stage = Preprocessor(CONFIG)
    eeg = list(cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), (16,)))
    x = heart()
    beats = list(cut(stamps(x.shape[1], 250.0, 100.0 + ahead_s), x, (25,), ECG_INFO.source))
    items: list[Item] = [EEG_INFO, ECG_INFO]
    for i, chunk in enumerate(eeg):
        items += [chunk, *beats[i : i + 1]]
    windows, most_kept = [], 0
    for item in items:
        windows += stage.push(item)
        most_kept = max(most_kept, stage.n_kept.get(ECG_INFO.source, 0))
    assert 0 < most_kept <= 3 * 128
    assert windows[-1].t_end == 107.5
    assert windows[-1].mask["eeg"].all()
    assert not windows[-1].mask["ecg"].any()
    (status,) = (status for status in stage.statuses() if status.kind == "physio")
    assert "s ahead of the other streams: let the sender stamp in LSL time" in status.reason


def test_a_series_that_was_ahead_is_not_used_when_its_time_has_come() -> None:
    """An ECG stamped 30 s ahead falls silent after 10 s: half a minute on, no window has any of it."""
    stage = Preprocessor(dataclasses.replace(CONFIG, physio=(ECG,), modalities=("eeg", "ecg")))
    t = stamps(2500, 250.0)
    beats = list(cut(t, np.zeros((1, t.size)), (25,), ECG_INFO.source))
    eeg = list(cut(stamps(128 * 45), eeg_like(128 * 45), (16,)))
    in_order = sorted([*eeg, *beats], key=lambda chunk: float(chunk.t[-1]))
    ahead = [c if c.source == "eeg" else dataclasses.replace(c, t=c.t + 30.0) for c in in_order]
    items: list[Item] = [EEG_INFO, ECG_INFO, *ahead]
    windows = push_all(stage, items)
    assert windows[-1].t_end == 144.5
    assert not any(window.mask["ecg"].any() for window in windows)


def test_settings_with_a_series_survive_json_and_change_the_hash() -> None:
    """What an artifact holds comes back; settings without further series are written as they always were."""
    assert PreprocessConfig.from_dict(CONFIG.to_dict()) == CONFIG
    assert "physio" not in PreprocessConfig().to_dict()
    assert CONFIG.config_hash != dataclasses.replace(CONFIG, physio=()).config_hash


def test_the_option_names_series_and_their_streams() -> None:
    """A series alone is also the name of its stream; a model without it says so in one line."""
    assert parse_physio("ecg, breath=Belt") == {"ecg": "ecg", "breath": "Belt"}
    assert parse_physio(None) == {}
    check_physio({"ECG": "x"}, CONFIG)
    with pytest.raises(SettingsError, match="--physio gsr: this model has no series of that name"):
        check_physio({"gsr": "gsr"}, CONFIG)
    for spec in ("", "=Belt", "ecg,ECG=x"):
        with pytest.raises(SettingsError, match="SERIES"):
            parse_physio(spec)


def test_a_replay_takes_a_series_by_the_name_of_its_stream(tmp_path: Path) -> None:
    """EEG at 128 Hz and ECG at 250 Hz in one file: the windows are those of the same items live."""
    path = tmp_path / "session.xdf"
    with XdfWriter(path) as writer:
        eeg = writer.add_stream(XdfStreamSpec("EPOC", "EEG", EPOC_CH_NAMES, 128.0, units=("microvolts",) * 14))
        ecg = writer.add_stream(XdfStreamSpec("Polar H10", "ECG", ("",), 250.0, units=("mV",)))
        writer.write_samples(eeg, stamps(128 * SECONDS), eeg_like(128 * SECONDS))
        writer.write_samples(ecg, stamps(250 * SECONDS, 250.0), heart())
    config = dataclasses.replace(CONFIG, physio=(ECG,), modalities=("eeg", "ecg"))
    source = ReplaySource(path, speed=float("inf"), signal=config.signal, physio={"ecg": "polar h10", "gsr": "Shimmer"})
    items: list[Item] = []
    source.run(items.append, threading.Event())
    out = push_all(Preprocessor(config), items)
    assert out[-1].mask["ecg"].all()
    assert np.max(np.abs(out[-1].series["ecg"])) == pytest.approx(1000.0, rel=0.05)
    assert source.warnings == ("No stream 'Shimmer' for the series 'gsr'; the recording has 'Polar H10'.",)


def test_a_model_with_a_series_is_exported_and_answers(tmp_path: Path) -> None:
    """The network builds an encoder and its pairs for the series; masking it is heeded, and the file keeps it."""
    config = dataclasses.replace(CONFIG, modalities=("eeg", "landmarks", "ecg"), physio=(ECG,))
    model = Clmer(modality_specs(config), len(LABELS_VA4), SMALL).eval()
    checkpoint = Checkpoint(model, LABELS_VA4, config, SMALL, "simulated", {"people": 0}, {"none": {}})
    path = tmp_path / "with-ecg.ts"
    export(checkpoint, path)
    artifact = find_artifact(str(path))
    assert artifact.meta.preprocess == config
    predictor = Predictor(artifact, "cpu")
    with_ecg = session(config=config)[-1]
    deaf = dataclasses.replace(with_ecg, mask={**with_ecg.mask, "ecg": np.zeros(1, dtype=np.bool_)})
    heard, unheard = predictor.predict([with_ecg, deaf])
    assert heard.used == ("eeg", "ecg")
    assert unheard.used == ("eeg",)
    assert heard.probs != unheard.probs


def test_a_series_too_slow_for_the_network_is_refused() -> None:
    """Eight samples in a window make no token: said when the model is built, not by a crash within."""
    slow = dataclasses.replace(CONFIG, modalities=("eeg", "gsr"), physio=(PhysioConfig("gsr", ("GSR",), 4.0),))
    with pytest.raises(ArtifactError, match="gsr of shape"):
        Clmer(modality_specs(slow), len(LABELS_VA4), SMALL)
