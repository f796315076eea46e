"""Reading a file chunk by chunk, in the order in which it was written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.errors import RecordingError
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf import chunks
from clmer_streaming.xdf.clock import measure_clock
from clmer_streaming.xdf.header import StreamDescription, XdfStreamSpec
from clmer_streaming.xdf.scan import ClockOffset, Entry, Footer, SampleBlock, read_in_order
from clmer_streaming.xdf.spacing import measure_spacing
from clmer_streaming.xdf.writer import XdfWriter


def written(path: Path) -> None:
    """Two streams whose chunks alternate; the second comes late."""
    with XdfWriter(path) as xdf:
        ramp = xdf.add_stream(XdfStreamSpec("ramp", "EEG", ("a", "b"), sfreq=2.0, channel_format="int16"))
        xdf.write_samples(ramp, [1.0, 1.5], [[1, 2], [10, 20]])
        words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("x", "y"), channel_format="string"))
        xdf.write_samples(words, [9.0], [["go", "left"]])
        xdf.write_offset(ramp, 1.5, -0.25)
        xdf.boundary()
        xdf.write_samples(ramp, [0.5], [[3], [30]])
        xdf.write_samples(words, [2.0], [["stop", ""]])


def told(entry: Entry) -> tuple[object, ...]:
    """An entry in words that can be compared."""
    if isinstance(entry, StreamDescription):
        return "header", entry.stream_id, entry.name
    if isinstance(entry, ClockOffset):
        return "offset", entry.stream.stream_id, entry.time, entry.offset
    if isinstance(entry, Footer):
        return "footer", entry.stream.stream_id
    values = entry.strings or entry.x.tolist()
    return "samples", entry.stream.stream_id, entry.t.tolist(), values


ORDER = [
    ("header", 1, "ramp"),
    ("samples", 1, [1.0, 1.5], [[1.0, 2.0], [10.0, 20.0]]),
    ("header", 2, "words"),
    ("samples", 2, [9.0], [("go", "left")]),
    ("offset", 1, 1.5, -0.25),
    ("samples", 1, [0.5], [[3.0], [30.0]]),
    ("samples", 2, [2.0], [("stop", "")]),
    ("footer", 1),
    ("footer", 2),
]


def test_entries_come_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    """Headers where they were added, chunks as they were cut, stamps as they were stored, back steps included."""
    written(tmp_path / "order.xdf")
    scan = read_in_order(tmp_path / "order.xdf")
    assert [told(entry) for entry in scan] == ORDER
    assert scan.report.n_used == scan.report.n_bytes == (tmp_path / "order.xdf").stat().st_size
    assert scan.report.warnings() == []


def test_a_file_cut_anywhere_gives_what_stands_before_the_cut(tmp_path: Path) -> None:
    """For every length of the file the entries are a beginning of the whole ones; the last may be half a chunk."""
    written(tmp_path / "order.xdf")
    whole = (tmp_path / "order.xdf").read_bytes()
    lengths = []
    for size in range(4, len(whole)):
        (tmp_path / "cut.xdf").write_bytes(whole[:size])
        scan = read_in_order(tmp_path / "cut.xdf")
        entries = [told(entry) for entry in scan]
        if entries and entries[-1] != ORDER[len(entries) - 1]:
            half, full = entries.pop(), ORDER[len(entries)]
            assert half[:2] == full[:2] and half[0] == "samples"
            assert scan.report.cut_off
        assert entries == ORDER[: len(entries)]
        lengths.append(len(entries))
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(ORDER) - 1


def test_samples_that_nobody_wants_are_passed_over_wherever_the_file_ends(tmp_path: Path) -> None:
    """Short chunks and long ones; cut at any byte, all else is what a reading of everything finds."""
    path, cut = tmp_path / "long.xdf", tmp_path / "cut.xdf"
    with XdfWriter(path) as xdf:
        ramp = xdf.add_stream(XdfStreamSpec("ramp", "EEG", ("a",), sfreq=2.0, channel_format="int16"))
        words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("x",), channel_format="string"))
        for n in (1, 40, 2):
            xdf.write_samples(ramp, np.arange(n) / 2, np.arange(n)[np.newaxis])
        xdf.write_samples(words, [9.0], [["go"]])
        xdf.write_samples(ramp, [30.0], [[7]])
        xdf.write_offset(ramp, 1.5, -0.25)
    content = path.read_bytes()
    for n in range(content.rindex(b"<channel_format>"), len(content) + 1, 3):  # from within the last header on
        cut.write_bytes(content[:n])
        every, some = read_in_order(cut), read_in_order(cut, lambda stream: stream.name == "words")
        expected = [told(entry) for entry in every if not isinstance(entry, SampleBlock) or entry.strings]
        assert [told(entry) for entry in some] == expected
        assert vars(some.report) == vars(every.report)


@pytest.mark.parametrize("piece", [32, 100, 1000])
def test_the_pieces_in_which_a_file_is_read_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Cut at any byte, or with any byte changed, it gives the entries and the report of a file read at once."""
    written(tmp_path / "order.xdf")
    whole, bad = (tmp_path / "order.xdf").read_bytes(), tmp_path / "bad.xdf"
    contents = [whole[:n] for n in range(4, len(whole), 7)]
    contents += [whole[:i] + bytes([whole[i] ^ 0x81]) + whole[i + 1 :] for i in range(4, len(whole), 3)]
    for content in contents:
        bad.write_bytes(content)
        monkeypatch.setattr(chunks, "_PIECE", 1 << 20)
        expected = read_in_order(bad)
        entries = [told(entry) for entry in expected]
        monkeypatch.setattr(chunks, "_PIECE", piece)
        found = read_in_order(bad)
        assert [told(entry) for entry in found] == entries
        assert (found.report.n_used, found.report.warnings()) == (expected.report.n_used, expected.report.warnings())


def test_a_length_that_is_damage_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of any length is read; a length behind which no chunk begins costs no memory, and the rest is read."""
    monkeypatch.setattr(chunks, "_PIECE", 1000)
    monkeypatch.setattr(chunks, "_LARGE_CHUNK", 10_000)
    path, n = tmp_path / "long.xdf", 5000
    with XdfWriter(path) as xdf:
        ramp = xdf.add_stream(XdfStreamSpec("ramp", "EEG", ("a",), sfreq=2.0, channel_format="int16"))
        xdf.write_samples(ramp, np.arange(n) / 2, np.arange(n)[np.newaxis])
        for i in range(30):
            xdf.write_samples(ramp, np.arange(100) / 2 + 50 * (i + 50), np.full((1, 100), i))
            xdf.boundary()
    assert [entry.t.size for entry in read_in_order(path) if isinstance(entry, SampleBlock)] == [n, *[100] * 30]
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<d", 2500.0)) - 13  # the length of the first short chunk
    assert content[at - 1] == 4
    content[at : at + 4] = struct.pack("<I", 20_000)
    path.write_bytes(content)
    sizes: list[int] = []
    read = chunks.PiecewiseFile._read

    def counted(self: chunks.PiecewiseFile, at: int, n_bytes: int) -> bytes:
        sizes.append(n_bytes)
        return read(self, at, n_bytes)

    monkeypatch.setattr(chunks.PiecewiseFile, "_read", counted)
    assert [entry.t.size for entry in read_in_order(path) if isinstance(entry, SampleBlock)] == [n, *[100] * 29]
    large, *others = sorted(sizes, reverse=True)
    assert 11 * n < large < 11 * n + 100
    assert max(others) < 2000


def test_damage_is_counted_and_said_of_which_stream(tmp_path: Path) -> None:
    """A broken chunk costs its own bytes, and the report names its stream."""
    written(tmp_path / "order.xdf")
    whole = bytearray((tmp_path / "order.xdf").read_bytes())
    at = bytes(whole).index(b"\x04left")
    whole[at] = 200  # a length that the chunk does not hold
    (tmp_path / "broken.xdf").write_bytes(whole)
    scan = read_in_order(tmp_path / "broken.xdf")
    assert [told(entry) for entry in scan] == [entry for entry in ORDER if entry != ORDER[3]]
    (place,) = scan.report.damage
    assert place.stream is not None and place.stream.name == "words"
    assert place.at < at < place.at + place.n_bytes
    assert scan.report.n_used == len(whole) - place.n_bytes


def test_values_are_given_as_the_stream_has_them(tmp_path: Path) -> None:
    """Floats of x for the model, and the stream's own type beside them for who copies it."""
    written(tmp_path / "order.xdf")
    block = next(entry for entry in read_in_order(tmp_path / "order.xdf") if isinstance(entry, SampleBlock))
    assert block.x.dtype == np.float64
    assert block.samples.x.dtype == np.int16


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    """Another file's content, an empty file, a folder and nothing at all: each is said."""
    (tmp_path / "other.xdf").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty.xdf").touch()
    for path in (tmp_path / "other.xdf", tmp_path / "empty.xdf", tmp_path, tmp_path / "none.xdf"):
        with pytest.raises(RecordingError, match=path.name):
            read_in_order(path)


def ticks(n: int = 2560, rate_hz: float = 128.0) -> FloatArray:
    """Twenty seconds of an even clock."""
    return 1000.0 + np.arange(n) / rate_hz


def without(t: FloatArray, first: int, n: int) -> FloatArray:
    """The stamps less ``n`` of them: a loss."""
    return np.delete(t, np.arange(first, first + n))


def jittered(t: FloatArray, sd_s: float) -> FloatArray:
    return t + np.random.default_rng(1).normal(0.0, sd_s, t.size)


@pytest.mark.parametrize("true_hz", [127.94, 128.0, 100.0, 250.0])
def test_the_rate_is_the_true_one_whatever_is_declared(true_hz: float) -> None:
    """Drifting, wrong and right nominal rates: the stamps decide, to a hundredth of a percent."""
    spacing = measure_spacing(jittered(ticks(5000, true_hz), 0.004), 128.0)
    assert spacing.rate_hz == pytest.approx(true_hz, rel=1e-4)
    assert spacing.gaps == ()


def test_an_even_stream_has_nothing_to_tell() -> None:
    """No gap, no loss, no step back, no bunch."""
    spacing = measure_spacing(ticks(), 128.0)
    assert (spacing.gaps, spacing.n_short_losses, spacing.n_clock_jumps) == ((), 0, 0)
    assert (spacing.n_steps_back, spacing.step_back_s, spacing.n_bunched) == (0, 0.0, 0)


@pytest.mark.parametrize("seconds", [0.25, 1, 3, 10])
def test_a_gap_is_found_with_its_length_and_does_not_change_the_rate(seconds: float) -> None:
    """Under 4 ms of jitter: one gap, its length to 10 ms, its place to the sample, and the rate between gaps."""
    n_lost = round(seconds * 128)
    spacing = measure_spacing(jittered(without(ticks(), 600, n_lost), 0.004), 128.0)
    ((before, length),) = spacing.gaps
    assert before == pytest.approx(1000.0 + 599 / 128, abs=0.02)
    assert length == pytest.approx((n_lost + 1) / 128, abs=0.01)
    assert spacing.rate_hz == pytest.approx(128.0, rel=1e-3)


def test_a_short_loss_is_counted_and_no_gap() -> None:
    """Eight samples at 128 Hz, 62 ms, twice."""
    spacing = measure_spacing(without(without(ticks(), 2000, 8), 500, 8), 128.0)
    assert (spacing.gaps, spacing.n_short_losses) == ((), 2)
    assert spacing.rate_hz == pytest.approx(128.0)


def test_one_odd_stamp_is_no_gap() -> None:
    """A sample that is half a second late, alone, is a bad stamp; the one behind it steps back."""
    t = ticks()
    t[700] += 0.5
    spacing = measure_spacing(t, 128.0)
    assert spacing.gaps == ()
    assert spacing.n_steps_back == 1
    assert spacing.step_back_s == pytest.approx(0.5 - 1 / 128)


def test_bursts_stamped_on_arrival_are_no_gaps() -> None:
    """Blocks of 16 samples with one stamp: a staircase at the true rate."""
    t = ticks()
    spacing = measure_spacing(np.repeat(t[15::16], 16), 128.0)
    assert spacing.gaps == ()
    assert spacing.rate_hz == pytest.approx(128.0, rel=1e-3)
    assert spacing.n_bunched == 2560 * 15 // 16


def test_a_clock_that_goes_back_for_good_is_told_from_a_step() -> None:
    """Half a minute back, and on from there."""
    t = ticks()
    t[1000:] -= 30.0
    spacing = measure_spacing(t, 128.0)
    assert (spacing.n_clock_jumps, spacing.n_steps_back) == (1, 1)
    assert spacing.rate_hz == pytest.approx(128.0, rel=1e-3)


def test_an_irregular_stream_that_keeps_a_rate_has_gaps() -> None:
    """Thirty frames a second, declared as irregular, without two seconds in the middle."""
    spacing = measure_spacing(jittered(without(ticks(600, 30.0), 300, 60), 0.002), 0.0)
    assert spacing.steady
    assert [round(length, 1) for _, length in spacing.gaps] == [2.0]
    assert spacing.rate_hz == pytest.approx(30.0, rel=1e-3)


def test_events_have_a_mean_rate_and_no_gaps() -> None:
    """Forty key presses at random in a minute, and markers once a second with one left out."""
    presses = np.sort(np.random.default_rng(2).uniform(0.0, 60.0, 40))
    for t in (presses, without(np.arange(60.0), 30, 1)):
        spacing = measure_spacing(t, 0.0)
        assert (spacing.steady, spacing.gaps) == (False, ())
        assert spacing.rate_hz == pytest.approx((t.size - 1) / np.ptp(t))


@pytest.mark.parametrize("t", [[], [5.0], [5.0, 5.0], [5.0] * 100, [5.0, 4.0, 3.0], [1e12, -1e12] * 50])
@pytest.mark.parametrize("nominal_hz", [0.0, 1e-300, 128.0, 1e300])
def test_stamps_that_tell_no_rate_give_none(t: list[float], nominal_hz: float) -> None:
    """Too few, all equal, falling, to and fro: a rate of 0 or a finite one, never an error."""
    spacing = measure_spacing(np.array(t), nominal_hz)
    assert np.isfinite(spacing.rate_hz)
    assert spacing.rate_hz == 0.0 or len(t) > 2


def test_drift_and_wild_offsets_are_told() -> None:
    """35 ppm to the ppm, three wild values of sixty, and an offset in the middle of the recording."""
    times = 5.0 * np.arange(60)
    offsets = 100.0 + 35e-6 * times
    offsets[[5, 30, 50]] += [0.4, -7.0, 0.02]
    clock = measure_clock(times, times, offsets)
    assert clock.drift_ppm == pytest.approx(35.0, abs=0.1)
    assert (clock.n_offsets, clock.n_outliers, clock.n_restarts) == (60, 3, 0)
    assert clock.offset_s == pytest.approx(100.0 + 35e-6 * 147.5, abs=1e-4)


def test_too_few_offsets_tell_no_drift() -> None:
    """None, one and three: what is there is told, and the drift is not invented."""
    assert measure_clock(np.arange(9.0), np.empty(0), np.empty(0)).n_offsets == 0
    for n in (1, 3):
        clock = measure_clock(np.arange(9.0), np.arange(float(n)), np.full(n, 2.5))
        assert (clock.offset_s, clock.drift_ppm) == (2.5, None)
