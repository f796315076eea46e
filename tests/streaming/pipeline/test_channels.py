"""Claims about channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import EPOC_CH_NAMES, PhysioConfig, PreprocessConfig, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.pipeline.channels import (
    ChannelPicker,
    ContactQuality,
    UnitGuess,
    apply_eeg_map,
    microvolts_per_unit,
    normalise_label,
    resolve_channels,
    resolve_series,
    with_unit,
)
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo, Window
from tests.support.signals import EEG_INFO, cut, eeg_like, joined, merged, push_all, stamps

EMOTIV_LABELS = ("Timestamp", "Counter", "Interpolate", *EPOC_CH_NAMES, "HardwareMarker", "Markers")


def renamed(ch_names: tuple[str, ...], **changes: object) -> StreamInfo:
    return dataclasses.replace(EEG_INFO, ch_names=ch_names, **changes)  # type: ignore[arg-type]


def test_labels_are_compared_without_case_prefix_and_old_names() -> None:
    """The same electrode has many spellings; they all meet."""
    assert normalise_label(" eeg_tp9 ") == "TP9"
    assert normalise_label("EEG T3") == "T7"
    assert [normalise_label(old) for old in ("t3", "T4", "T5", "t6")] == ["T7", "T8", "P7", "P8"]


@pytest.mark.parametrize(
    "label",
    ["AF3", "af3", "EEG AF3", "EEG_AF3", "EEG-AF3", "EEG.AF3", "EEG:AF3", "AF3-REF", "EEG AF3-LE", "Af3.", "Af3..",
     "AF3 [uV]", "AF3 (µV)", "EEG Af3-A1", " eeg  af3 - m2 ", "AF3-CPz", "AF3-M1M2", "AF3-A1+A2", "AF3-FCz",
     "EEG00 AF3", "EEG AF3-RE", "AF3_uV", "AF3 µV", "EEG 13 AF3", "Ch1 AF3", "AF3-CMS/DRL", "AF3/CPz", "AF3-Nose",
     "AF3_uVolts", "AF3 microvolts", "AF3-REF_uV", "AF3_uV-REF", "AF3 [counts]"],
)  # fmt: skip
def test_one_electrode_has_many_spellings(label: str) -> None:
    """EDF, EmotivPRO's CSV, PhysioNet, a named reference, a unit behind the name: all are AF3."""
    assert normalise_label(label) == "AF3"


def test_a_bipolar_pair_is_none_of_its_electrodes() -> None:
    """F7-T3 is a difference, and the model wants F7; nor does a quality column pass for its sensor."""
    assert {normalise_label(label) for label in ("F7-T3", "EEG F7-F3", "CQ_F7", "F7-Cz")}.isdisjoint({"F7"})
    assert resolve_channels(renamed(("F7-T3", *EPOC_CH_NAMES[:1], *EPOC_CH_NAMES[2:])), SignalConfig()).picks[1] == -1


@pytest.mark.parametrize(
    "label",
    ["CQ_AF3", "EEG_CQ_AF3", "AF3_CQ", "AF3 (CQ)", "AF3 [CQ]", "AF3 quality", "AF3 [quality]", "AF3 [kOhm]",
     "AF3_impedance", "Counter AF3", "AF3 (counter)", "AF3-0", "AF3 2"],
)  # fmt: skip
def test_a_column_about_a_sensor_is_not_its_signal(label: str) -> None:
    """Wherever it says so: before the name, behind it, or in brackets."""
    assert normalise_label(label) != "AF3"


def test_channels_are_found_by_label_in_any_order() -> None:
    """A reversed stream gives reversed picks: position means nothing."""
    found = resolve_channels(renamed(EPOC_CH_NAMES[::-1]), SignalConfig())
    assert found.picks == tuple(range(13, -1, -1))


def test_emotiv_layout_brings_counter_and_interpolate() -> None:
    """EmotivPRO's 19 columns are told apart."""
    found = resolve_channels(renamed(EMOTIV_LABELS), SignalConfig())
    assert (found.counter, found.interpolate, found.picks[0]) == (1, 2, 3)


def test_a_stream_without_labels_is_refused_with_an_example() -> None:
    """The user reads what was found and what to type."""
    with pytest.raises(StreamError) as caught:
        resolve_channels(renamed(("",) * 16, name="obci_eeg1", sfreq=125.0), SignalConfig())
    text = str(caught.value)
    assert "obci_eeg1" in text
    assert "16 channels, 125 Hz, no labels" in text
    assert "--eeg-map AF3=1,F7=2" in text


def test_half_of_the_channels_is_enough() -> None:
    """Seven of fourteen make a stream usable; six do not."""
    assert resolve_channels(renamed(EPOC_CH_NAMES[:7]), SignalConfig()).present.sum() == 7
    with pytest.raises(StreamError):
        resolve_channels(renamed(EPOC_CH_NAMES[:6]), SignalConfig())


def test_a_map_names_channels_by_index_or_label() -> None:
    """Mapped channels take the new name, others keep theirs."""
    info = renamed(("one", "two", "three"))
    assert apply_eeg_map(info, "AF3=1, F7=three").ch_names == ("one", "AF3", "F7")


def test_a_mapped_label_is_taken_from_whoever_had_it() -> None:
    """No label stands twice behind a map."""
    assert apply_eeg_map(renamed(("AF3", "x")), "AF3=1").ch_names == ("", "AF3")


def test_a_map_contradicts_no_label_of_the_model_without_force() -> None:
    """A channel that says AF3 becomes no F7 by a slip; where the labels are wrong, force makes it so."""
    info = renamed(EPOC_CH_NAMES)
    with pytest.raises(StreamError, match="F7=0, where stream 'TestEEG' says 'AF3'") as caught:
        apply_eeg_map(info, "F7=0", EPOC_CH_NAMES)
    assert "--eeg-map-force" in caught.value.mend
    assert apply_eeg_map(info, "F7=0", EPOC_CH_NAMES, force=True).ch_names[:2] == ("F7", "")
    assert apply_eeg_map(info, "AF3=0", EPOC_CH_NAMES) == info
    with pytest.raises(StreamError, match="Counter=0, where stream 'TestEEG' says 'AF3'"):
        apply_eeg_map(info, "Counter=0", EPOC_CH_NAMES)


def test_a_map_moves_no_label_of_the_model_without_force() -> None:
    """Channel 0 says AF3; that it is channel 14 is a slip, or the labels are wrong. Both moved at once is the same."""
    info = renamed((*EPOC_CH_NAMES, "x"))
    with pytest.raises(StreamError, match="AF3=14, where stream 'TestEEG' says that channel 0 is AF3"):
        apply_eeg_map(info, "AF3=14", EPOC_CH_NAMES)
    moved = apply_eeg_map(info, "AF3=14", EPOC_CH_NAMES, force=True)
    assert resolve_channels(moved, SignalConfig()).picks[:2] == (14, 1)
    with pytest.raises(StreamError, match="--eeg-map-force"):
        apply_eeg_map(info, "AF3=1,F7=0", EPOC_CH_NAMES)


def test_a_map_names_channels_of_the_model_alone() -> None:
    """A slip of the pen is told with the names that there are; a counter may be named, too."""
    info = renamed(("a", "b", "c"))
    with pytest.raises(StreamError, match="'AF33', which is none of them") as caught:
        apply_eeg_map(info, "AF33=1", EPOC_CH_NAMES)
    assert "AF3, F7, F3" in caught.value.expected
    assert apply_eeg_map(info, "COUNTER=0,AF3=1", EPOC_CH_NAMES).ch_names == ("COUNTER", "AF3", "c")


@pytest.mark.parametrize(
    "label",
    ["Counter", "PACKET_COUNTER", "Timestamp", "OriginalTimestamp", "Interpolate", "CQ_AF3", "EQ", "MarkerHardware",
     "Battery", "TRIGGER", "sample number", "RAW_CQ", "AF3_CQ", "AF3 [kOhm]", "PacketIndex", "CNT", "TS",
     "STI", "AccX"],
)  # fmt: skip
def test_counters_stamps_and_quality_never_become_eeg(label: str) -> None:
    """Not by a label, not by a map, not by force."""
    info = renamed((label, *EPOC_CH_NAMES[1:]))
    assert resolve_channels(info, SignalConfig()).picks[0] == -1
    for force in (False, True):
        with pytest.raises(StreamError, match="which is no EEG"):
            apply_eeg_map(info, "AF3=0", EPOC_CH_NAMES, force=force)


@pytest.mark.parametrize("n_labels", [13, 16])
def test_as_many_labels_as_channels_or_a_map(n_labels: int) -> None:
    """Otherwise nobody can know which channel a label means; a map by index is the mend, and the labels are ignored."""
    info = dataclasses.replace(renamed(EPOC_CH_NAMES), n_labels=n_labels)
    with pytest.raises(StreamError, match=f"{n_labels} labels") as caught:
        resolve_channels(info, SignalConfig())
    assert "14 channels" in caught.value.expected
    mapped = apply_eeg_map(info, "AF3=2,F7=3,F3=4,FC5=5,T7=6,P7=7,O1=8", EPOC_CH_NAMES)
    assert resolve_channels(mapped, SignalConfig()).picks == (2, 3, 4, 5, 6, 7, 8, -1, -1, -1, -1, -1, -1, -1)


def test_a_further_series_needs_as_many_labels_as_channels() -> None:
    """Else a label could mean any of them; one channel is the one that is asked for."""
    series = PhysioConfig("acc", ("X", "Y", "Z"), 32.0)
    acc = StreamInfo("acc", "physio", "Belt", ("", "", ""), 32.0, n_labels=4)
    with pytest.raises(StreamError, match="a label for each of the 3 channels of 'Belt'"):
        resolve_series(acc, series)
    assert resolve_series(dataclasses.replace(acc, n_labels=None), series).picks == (0, 1, 2)
    one = dataclasses.replace(acc, ch_names=("",))
    assert resolve_series(one, PhysioConfig("ecg", ("ECG",), 128.0)).picks == (0,)


@pytest.mark.parametrize("spec", ["", "AF3", "AF3=", "=1", "AF3=9", "AF3=nose", "AF3=0,F7=0", "AF3=0,af3=1"])
def test_a_map_that_cannot_hold_is_refused(spec: str) -> None:
    """Each mistake is named; none is guessed around."""
    with pytest.raises(StreamError, match="--eeg-map"):
        apply_eeg_map(renamed(("a", "b")), spec)


def test_every_channel_has_its_own_unit() -> None:
    """Half of the channels in volts, half in microvolts: one signal behind the picker."""
    info = renamed(EPOC_CH_NAMES, unit="microvolts", units=("V",) * 7 + ("uV",) * 6 + ("",))
    found = resolve_channels(info, SignalConfig())
    assert found.scales.tolist() == [1e6] * 7 + [1.0] * 7
    assert found.unit_unknown == ()


def test_channels_without_a_known_unit_are_named() -> None:
    """Counts are no unit: whoever comes next has to guess these."""
    found = resolve_channels(renamed(EPOC_CH_NAMES, unit="counts"), SignalConfig())
    assert found.unit_unknown == tuple(range(14))


def picker(unit: str = "uV", ch_names: tuple[str, ...] = EPOC_CH_NAMES) -> ChannelPicker:
    return ChannelPicker(resolve_channels(renamed(ch_names, unit=unit), SignalConfig()))


def test_picked_channels_are_scaled_and_absent_ones_marked() -> None:
    """A stream in millivolts with half the channels: 1 mV is 1000 uV, the rest is 0 and filled."""
    chunk = Chunk("eeg", np.array([0.0, 1.0]), np.ones((7, 2)))
    (out,) = picker("mV", EPOC_CH_NAMES[:7]).push(chunk)
    assert isinstance(out, Chunk)
    assert np.array_equal(out.x[:7], np.full((7, 2), 1000.0))
    assert np.array_equal(out.x[7:], np.zeros((7, 2)))
    assert out.filled is not None
    assert np.array_equal(out.filled[:, 0], np.arange(14) >= 7)


def test_nan_is_held_across_chunks_and_marked() -> None:
    """A channel that drops out keeps its last value until it returns, and says so."""
    x = np.arange(14 * 6, dtype=float).reshape(14, 6)
    x[3, 2:5] = [np.nan, np.inf, -np.inf]
    stage = picker()
    outs = push_all(stage, [Chunk("eeg", np.arange(3.0), x[:, :3]), Chunk("eeg", np.arange(3.0), x[:, 3:])])
    held = np.concatenate([o.x for o in outs if isinstance(o, Chunk)], axis=1)
    filled = np.concatenate([o.filled for o in outs if isinstance(o, Chunk) and o.filled is not None], axis=1)
    assert np.array_equal(held[3], [18, 19, 19, 19, 19, 23])
    assert np.array_equal(filled[3], [False, False, True, True, True, False])
    assert not filled[np.arange(14) != 3].any()


def test_a_held_value_does_not_cross_a_gap() -> None:
    """Behind a gap nothing is known of a channel until it is measured."""
    stage = picker()
    x = np.full((14, 1), 7.0)
    stage.push(Chunk("eeg", np.zeros(1), x))
    stage.push(Gap(0, 1, "eeg", "lost_samples"))
    x = x.copy()
    x[0] = np.nan
    (out,) = stage.push(Chunk("eeg", np.ones(1), x))
    assert isinstance(out, Chunk)
    assert out.x[0, 0] == 0.0


UNDECLARED = dataclasses.replace(EEG_INFO, unit="")


@pytest.mark.parametrize(
    ("factor", "spellings"),
    [
        (1e6, ["V", "v", "volt", "Volts", "VOLTS", "0"]),
        (1e3, ["mV", "mv", "millivolt", "MilliVolts", "-3"]),
        (1.0, ["uV", "UV", "µV", "μV", "µv", "microvolt", "MICROVOLTS", " microvolts ", "-6"]),
        (1.0, ["uVolts", "µVolt", "µVolts", "microV", "(uV)", "[uV]", "microvolt(s)", "micro volts"]),
        (1e-3, ["nV", "nanovolts", "-9"]),
        (None, ["", "counts", "mmHg", "a.u.", "7", "()", "(counts)", "uV^2"]),
    ],
)
def test_known_spellings_become_microvolts(factor: float | None, spellings: list[str]) -> None:
    """Any case, both letters mu, MNE's codes; a word that is not known is not guessed here."""
    assert [microvolts_per_unit(unit) for unit in spellings] == [factor] * len(spellings)


def guessed(x: FloatArray, sizes: tuple[int, ...] = (16,), declared: str = "") -> tuple[UnitGuess, list[Item]]:
    stage = UnitGuess(range(x.shape[0]), 128.0, declared)
    return stage, push_all(stage, cut(stamps(x.shape[1]), x, sizes))


def test_volts_are_told_from_microvolts_by_their_size() -> None:
    """The same EEG in either unit comes out the same, and the guess is said."""
    x = eeg_like(256)
    in_volts, volts = guessed(x * 1e-6)
    in_microvolts, microvolts = guessed(x)
    assert joined(volts)[1] == pytest.approx(x, rel=1e-12)
    assert np.array_equal(joined(microvolts)[1], x)
    assert "declares no unit; taken as volts" in in_volts.note
    assert "taken as microvolts" in in_microvolts.note


def test_a_word_that_is_not_known_is_named() -> None:
    """The reader sees what the stream said and what was made of it."""
    stage, _ = guessed(eeg_like(256), declared="counts")
    assert "declares the unit 'counts', which is not known; taken as microvolts" in stage.note


def test_flat_channels_have_no_say() -> None:
    """Ten of fourteen channels are flat, and flat looks like volts; the four that move decide."""
    x = eeg_like(256)
    x[:10] = 4200.0
    assert "microvolts" in guessed(x)[0].note


def test_one_second_is_held_and_nothing_is_lost() -> None:
    """Nothing comes before the 128th sample; with it everything does, in order."""
    x = eeg_like(256)
    stage = UnitGuess(range(14), 128.0)
    sizes = [sum(o.t.size for o in stage.push(c) if isinstance(o, Chunk)) for c in cut(stamps(256), x, [16])]
    assert sizes == [0] * 7 + [128] + [16] * 8


def test_a_headset_that_is_put_on_late_is_still_told_by_its_signal() -> None:
    """Three seconds of a dead line pass as they are; the first second that moves decides, and stages start anew."""
    x = 1e-6 * eeg_like(640)
    x[:, :384] = x[:, 384:385]
    _, out = guessed(x)
    t, y = joined(out)
    assert np.array_equal(t, stamps(640))
    assert np.array_equal(y[:, :384], x[:, :384])
    assert y[:, 384:] == pytest.approx(1e6 * x[:, 384:])
    assert [(type(item), item.reason) for item in out if isinstance(item, Gap)] == [(Gap, "invalid_values")]


def test_channels_of_known_unit_need_no_second() -> None:
    """Nothing to guess: the first sample passes at once, untouched."""
    stage = UnitGuess((), 128.0)
    chunk = Chunk("eeg", stamps(1), eeg_like(1))
    assert stage.push(chunk) == [chunk]
    assert stage.note == ""


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    n_flat=st.sampled_from([0, 100, 128, 300]),
    gap_at=st.integers(1, 399),
    factor=st.sampled_from([1.0, 1e-6]),
)
def test_any_cut_gives_the_same_guess_at_the_same_sample(
    sizes: list[int], n_flat: int, gap_at: int, factor: float
) -> None:
    """Gaps, dead lines and cuts wherever they are: the same values and the same gaps."""
    x = factor * eeg_like(500)
    x[:, :n_flat] = x[:, n_flat : n_flat + 1]
    x[3, 50:60] = np.nan
    t = stamps(500)

    def run(pieces: list[int]) -> list[Item]:
        before, after = cut(t[:gap_at], x[:, :gap_at], pieces), cut(t[gap_at:], x[:, gap_at:], pieces)
        gap = Gap(t[gap_at - 1], t[gap_at], "eeg", "lost_samples")
        return push_all(UnitGuess(range(14), 128.0), [*before, gap, *after])

    whole, pieces = run([500]), run(sizes)
    for one, other in zip(joined(whole), joined(pieces), strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert [o for o in whole if isinstance(o, Gap)] == [o for o in pieces if isinstance(o, Gap)]


def session(info: StreamInfo, x: FloatArray) -> tuple[Preprocessor, list[Window]]:
    stage = Preprocessor(PreprocessConfig())
    return stage, push_all(stage, [info, *cut(stamps(x.shape[1]), x, [16])])


def test_a_stream_without_a_unit_gives_the_windows_of_one_with_it_and_says_so() -> None:
    """Undeclared microvolts: the same bits; undeclared volts: the same EEG; the status tells the guess."""
    x = eeg_like(128 * 6)
    known, of_known = session(EEG_INFO, x)
    guessed_uv, of_uv = session(UNDECLARED, x)
    guessed_v, of_v = session(UNDECLARED, 1e-6 * x)
    assert [w.crc for w in of_uv if w.mask["eeg"].any()] == [w.crc for w in of_known if w.mask["eeg"].any()]
    assert of_v[-1].series["eeg"] == pytest.approx(of_known[-1].series["eeg"], abs=1e-6)
    assert known.statuses()[0].reason == ""
    assert "taken as microvolts" in guessed_uv.statuses()[0].reason
    assert "taken as volts" in guessed_v.statuses()[0].reason


def test_a_named_unit_overrides_what_the_stream_declares() -> None:
    """A stream that calls its volts microvolts is put right by --eeg-unit."""
    x = eeg_like(128 * 6)
    wrong = dataclasses.replace(EEG_INFO, units=("uV",) * 14)
    assert session(with_unit(wrong, "V"), 1e-6 * x)[1][-1].series["eeg"] == pytest.approx(
        session(EEG_INFO, x)[1][-1].series["eeg"], abs=1e-6
    )


LABELS = ("battery", "overall", "signal", *EPOC_CH_NAMES)
CONTACT = StreamInfo("contact", "contact", "EmotivDataStream-Contact-Quality", LABELS, 2.0)
SECONDS = 16


def contact(t: float, source: str = "contact", **values: float) -> Chunk:
    """Return one sample in which every sensor is at 4, but for those named."""
    row = [90.0, 100.0, 2.0, *(values.get(name, 4.0) for name in EPOC_CH_NAMES)]
    return Chunk(source, np.array([t]), np.array(row)[:, None])


def windows(*others: Item, sizes: tuple[int, ...] = (16,), info: StreamInfo = CONTACT) -> dict[float, Window]:
    """Return by end the windows of 16 s of good EEG and of contact values, each put in by its time."""
    chunks = cut(stamps(128 * SECONDS), eeg_like(128 * SECONDS), sizes)
    items = [EEG_INFO, info, *merged(chunks, others)]
    return {window.t_end: window for window in push_all(Preprocessor(PreprocessConfig()), items)}


def bad(window: Window) -> list[str]:
    return [channel.name for channel in window.channels if not channel.good]


def test_a_sensor_without_contact_is_masked_from_the_next_window_on() -> None:
    """T7 falls to 0 at 105.2 s and is back at 108.2 s; its signal looked fine throughout."""
    at = windows(contact(103.0), contact(105.2, T7=0.0), contact(107.0, T7=1.0), contact(108.2, T7=2.0))
    assert bad(at[105.0]) == []
    assert bad(at[105.5]) == bad(at[108.0]) == ["T7"]
    assert bad(at[108.5]) == []
    assert at[106.0].channels[4].faults == ("contact",)
    assert not at[106.0].mask["eeg"][4]


def test_a_value_of_the_future_is_not_used() -> None:
    """What was measured at the end of a window or later belongs to the next one."""
    at = windows(contact(103.0), contact(106.0, O1=0.0))
    assert bad(at[106.0]) == []
    assert bad(at[106.5]) == ["O1"]


def test_after_five_seconds_of_silence_a_value_tells_nothing() -> None:
    """The contact stream dies on a bad value: the sensor is judged by its signal again."""
    at = windows(contact(104.0, F4=0.0))
    assert bad(at[109.0]) == ["F4"]
    assert bad(at[109.5]) == []
    assert np.isnan(at[109.5].channels[0].contact)


def test_either_stream_may_condemn_a_sensor() -> None:
    """Contact-Quality and EEG-Quality side by side: the worse value counts."""
    other = StreamInfo("quality", "contact", "EmotivDataStream-EEG-Quality", LABELS, 2.0)
    items: list[Item] = [EEG_INFO, CONTACT, other, contact(102.5, F3=1.0), contact(102.6, "quality", O2=0.0)]
    items += cut(stamps(128 * 4), eeg_like(128 * 4), [16])
    out = push_all(Preprocessor(PreprocessConfig()), items)
    assert bad(out[-1]) == ["F3", "O2"]


def test_labels_may_carry_a_prefix_and_come_in_any_order() -> None:
    """CQ_T7 is the sensor T7; what the stream does not report is not known."""
    info = StreamInfo("contact", "contact", "CQ", ("CQ_T7", "cq.af3", "battery"), 2.0)
    known = ContactQuality(info, EPOC_CH_NAMES)
    known.push(Chunk("contact", np.array([1.0]), np.array([[3.0], [1.0], [90.0]])))
    values = known.at(2.0)
    assert (values[0], values[4]) == (1.0, 3.0)
    assert np.isnan(np.delete(values, [0, 4])).all()


def test_nan_and_the_declared_delay_are_heeded() -> None:
    """A sample that is not there tells nothing; a stream that is late is put back in time."""
    info = StreamInfo("contact", "contact", "CQ", EPOC_CH_NAMES, 2.0, delay_s=0.5)
    known = ContactQuality(info, EPOC_CH_NAMES)
    x: FloatArray = np.full((14, 2), 4.0)
    x[0, 0] = np.nan
    known.push(Chunk("contact", np.array([10.0, np.nan]), x))
    assert np.isnan(known.at(9.5)).all()
    assert np.isnan(known.at(9.6)[0])
    assert known.at(9.6)[1] == 4.0


@settings(max_examples=6, deadline=None)
@given(sizes=st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_the_cut_of_the_eeg_changes_nothing(sizes: list[int]) -> None:
    """Stream time decides which contact value a window has, not the order of arrival within a chunk's length."""
    values = [contact(102.0 + 0.5 * i, P7=float(i % 5)) for i in range(24)]
    whole, pieces = windows(*values, sizes=(1,)), windows(*values, sizes=tuple(sizes))
    shared = sorted(whole.keys() & pieces.keys())
    assert [whole[t].crc for t in shared if t < 113] == [pieces[t].crc for t in shared if t < 113]
