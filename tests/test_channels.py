"""Claims about channels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from clmer_streaming.channels import (
    ChannelPicker,
    apply_eeg_map,
    normalise_label,
    resolve_channels,
)
from clmer_streaming.config import EPOC_CH_NAMES, SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.types import Chunk, Gap, StreamInfo
from signals import EEG_INFO, push_all

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
     "AF3 [uV]", "AF3 (µV)", "EEG Af3-A1", " eeg  af3 - m2 "],
)  # fmt: skip
def test_one_electrode_has_many_spellings(label: str) -> None:
    """EDF, EmotivPRO's CSV, PhysioNet, a named reference, a unit behind the name: all are AF3."""
    assert normalise_label(label) == "AF3"


def test_a_bipolar_pair_is_none_of_its_electrodes() -> None:
    """F7-T3 is a difference, and the model wants F7; nor does a quality column pass for its sensor."""
    assert {normalise_label("F7-T3"), normalise_label("EEG F7-F3"), normalise_label("CQ_F7")}.isdisjoint({"F7"})
    assert resolve_channels(renamed(("F7-T3", *EPOC_CH_NAMES[:1], *EPOC_CH_NAMES[2:])), SignalConfig()).picks[1] == -1


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
