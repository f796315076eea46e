"""Claims about units: what is declared, and what is guessed where nothing is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.preprocess import Preprocessor
from clmer_streaming.types import Chunk, FloatArray, Gap, Item, StreamInfo, Window
from clmer_streaming.units import UnitGuess, microvolts_per_unit, with_unit
from signals import EEG_INFO, cut, eeg_like, joined, push_all, stamps

UNDECLARED = dataclasses.replace(EEG_INFO, unit="")


@pytest.mark.parametrize(
    ("factor", "spellings"),
    [
        (1e6, ["V", "v", "volt", "Volts", "VOLTS", "0"]),
        (1e3, ["mV", "mv", "millivolt", "MilliVolts", "-3"]),
        (1.0, ["uV", "UV", "µV", "μV", "µv", "microvolt", "MICROVOLTS", " microvolts ", "-6"]),
        (1e-3, ["nV", "nanovolts", "-9"]),
        (None, ["", "counts", "mmHg", "a.u.", "7"]),
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
    items: list[Item] = [info, *cut(stamps(x.shape[1]), x, [16])]
    return stage, [window for item in items for window in stage.push(item)]


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
