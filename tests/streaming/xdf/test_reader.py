"""The XDF reader: intact files as pyxdf reads them, damaged files as far as they go."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.clock import fit_clock, synchronise
from clmer_streaming.xdf.format import BOUNDARY_UUID, encode_length
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import XdfStream, read_xdf
from clmer_streaming.xdf.writer import XdfWriter

INTACT = [
    "minimal.xdf",
    "empty_streams.xdf",
    "eeg_header_no_samples.xdf",
    "twochannel_string_marker.xdf",
    "muse_5ch_256Hz_4streams_P001.xdf",
    "real16_openbci_125Hz_counter.xdf",
    "real8_openbci_250Hz_markers_otherhost.xdf",
    "synthetic/emotivlike_2hosts.xdf",
    "synthetic/emotivlike_killed.xdf",
]
EEG_HEADER = (
    "<info><name>raw</name><type>EEG</type><channel_count>1</channel_count>"
    "<nominal_srate>2</nominal_srate><channel_format>int16</channel_format>{desc}</info>"
)


def chunk(tag: int, content: bytes, stream_id: int | None = 1) -> bytes:
    """One chunk as the format has it."""
    body = struct.pack("<H", tag) + (b"" if stream_id is None else struct.pack("<I", stream_id)) + content
    return encode_length(len(body)) + body


def header(desc: str = "", stream_id: int = 1) -> bytes:
    return chunk(2, EEG_HEADER.format(desc=desc).encode(), stream_id)


def samples(*rows: tuple[float | None, int], stream_id: int = 1) -> bytes:
    """A Samples chunk of one int16 channel; a stamp of None is left for the reader to deduce."""
    body = encode_length(len(rows))
    for t, value in rows:
        body += (b"\x00" if t is None else b"\x08" + struct.pack("<d", t)) + struct.pack("<h", value)
    return chunk(3, body, stream_id)


def boundary() -> bytes:
    return chunk(5, BOUNDARY_UUID, None)


def offset(time: float, value: float) -> bytes:
    return chunk(4, struct.pack("<dd", time, value))


def save(folder: Path, *chunks: bytes) -> Path:
    path = folder / "made.xdf"
    path.write_bytes(b"XDF:" + b"".join(chunks))
    return path


def only_stream(folder: Path, *chunks: bytes) -> XdfStream:
    (stream,) = read_xdf(save(folder, *chunks)).streams
    return stream


def pyxdf_streams(path: Path, **options: Any) -> dict[int, dict[str, Any]]:
    streams = pyxdf.load_xdf(str(path), dejitter_timestamps=False, **options)[0]
    return {stream["info"]["stream_id"]: stream for stream in streams}


@pytest.mark.parametrize("name", INTACT)
def test_intact_recordings_are_read_as_pyxdf_reads_them(sample_data: Path, name: str) -> None:
    """Values and raw stamps are equal, and stamps on the recorder's clock agree to a millisecond."""
    path = sample_data / "xdf" / name
    raw, synced = pyxdf_streams(path, synchronize_clocks=False), pyxdf_streams(path)
    file = read_xdf(path)
    assert {stream.stream_id for stream in file.streams} == set(raw)
    for stream in file.streams:
        expected = raw[stream.stream_id]
        if stream.channel_format == "string":
            assert [list(row) for row in stream.strings] == expected["time_series"]
        elif stream.t.size:
            assert np.array_equal(stream.x, expected["time_series"].T, equal_nan=True)
        assert np.allclose(stream.t, expected["time_stamps"], rtol=0, atol=1e-9)
        assert np.allclose(stream.t_synced, synced[stream.stream_id]["time_stamps"], rtol=0, atol=1e-3)
        assert (stream.name, stream.sfreq) == (
            expected["info"]["name"][0],
            float(expected["info"]["nominal_srate"][0]),
        )


def test_a_restarted_clock_is_corrected_run_by_run(sample_data: Path) -> None:
    """Stamps that step back by a week become one rising line; the ends are those of pyxdf 1.17.5.

    (Earlier versions of pyxdf correct the wrong samples of this file.)
    """
    markers, eeg = read_xdf(sample_data / "xdf" / "clock_resets.xdf").streams
    assert np.min(np.diff(eeg.t)) < -600_000
    assert np.min(np.diff(eeg.t_synced)) > 0
    assert np.min(np.diff(markers.t_synced)) > 0
    assert np.allclose(eeg.t_synced[[0, 12875, 12876, -1]], [810.09485, 948.22598, 1221.78196, 1383.09233], atol=1e-3)
    assert np.allclose(markers.t_synced[[0, -1]], [812.92790, 1380.81945], atol=1e-3)


def test_the_header_of_a_real_recording_is_read(sample_data: Path) -> None:
    """Labels, units and maker of a Muse recording are there."""
    by_type = {s.type: s for s in read_xdf(sample_data / "xdf" / "muse_5ch_256Hz_4streams_P001.xdf").streams}
    assert by_type["EEG"].ch_names == ("TP9", "AF7", "AF8", "TP10", "AUX_RIGHT")
    assert (by_type["EEG"].unit, by_type["EEG"].manufacturer, by_type["EEG"].sfreq) == ("microvolts", "Muse", 256.0)
    assert by_type["PPG"].t.size == 0


def test_a_recording_cut_mid_chunk_keeps_its_whole_samples(sample_data: Path) -> None:
    """All that pyxdf reads is there, then the whole samples of the chunk that was cut; the cut is said."""
    path = sample_data / "xdf" / "real16_truncated_midchunk_nofooter.xdf"
    file = read_xdf(path)
    expected = pyxdf_streams(path)[file.streams[0].stream_id]["time_series"].T
    n = expected.shape[1]
    assert np.array_equal(file.streams[0].x[:, :n], expected)
    assert n < file.streams[0].x.shape[1] < n + 125
    assert any("cut off" in warning for warning in file.warnings)
    assert any("not closed" in warning for warning in file.warnings)


def test_damage_in_the_middle_costs_a_second_and_is_said(sample_data: Path) -> None:
    """Of 28 s with 400 random bytes no stamp is odd, at most 2 s of EEG are gone, and there is a warning."""
    file = read_xdf(sample_data / "xdf" / "synthetic" / "corrupt_400B_in_middle.xdf")
    whole = {s.name: s for s in read_xdf(sample_data / "xdf" / "synthetic" / "emotivlike_2hosts.xdf").streams}
    assert any("damaged in 1 place" in warning for warning in file.warnings)
    for stream in file.streams:
        assert np.isin(stream.t, whole[stream.name].t).all()
    eeg = next(stream for stream in file.streams if stream.type == "EEG")
    assert eeg.t.size > whole[eeg.name].t.size - 256


def test_stamps_that_are_not_stored_are_deduced_from_the_rate(tmp_path: Path) -> None:
    """Samples with and without stamps may alternate, also across chunks; 2 Hz means half a second."""
    stream = only_stream(
        tmp_path,
        header(),
        samples((10.0, 1), (None, 2), (None, 3), (20.0, 4), (21.0, 5), (None, 6)),
        samples((None, 7), (None, 8)),
    )
    assert stream.t.tolist() == [10.0, 10.5, 11.0, 20.0, 21.0, 21.5, 22.0, 22.5]
    assert stream.x.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]


def test_a_long_chunk_is_read_to_its_end(tmp_path: Path) -> None:
    """5000 stamped and 5000 deduced samples in one chunk come in order."""
    rows: list[tuple[float | None, int]] = [(0.5 * i, i) for i in range(5000)]
    stream = only_stream(tmp_path, header(), samples(*rows, *((None, i) for i in range(5000, 10000))))
    assert np.array_equal(stream.t, 0.5 * np.arange(10000))
    assert np.array_equal(stream.x[0], np.arange(10000))


def test_samples_are_decoded_in_any_stretch(tmp_path: Path) -> None:
    """Across blocks and around what was left out, a stretch is what it is of all; a channel, too."""
    t = np.arange(60.0)
    t[[3, 17, 18]] = 1e13, np.inf, -1e14
    blocks = [(0, 1), (1, 4), (4, 20), (20, 21), (21, 60)]
    rows = [samples(*((float(t[i]), i) for i in range(first, last))) for first, last in blocks]
    stream = only_stream(tmp_path, header(), *rows)
    expected = [float(i) for i in range(60) if i not in (3, 17, 18)]
    assert stream.samples.shape == (1, 57)
    assert stream.x.tolist() == [expected]
    assert stream.samples.read_channel(0).tolist() == expected
    for first in range(57):
        for last in range(first, 58):
            assert stream.samples.read(first, last).tolist() == [expected[first:last]]


def test_integers_of_64_bits_keep_their_bits(tmp_path: Path) -> None:
    """Beyond 2**53 a float64 would round them."""
    values = [2**62 + 1, -(2**63), 2**63 - 1, 2**53 + 1]
    with XdfWriter(tmp_path / "int64.xdf") as xdf:
        stream_id = xdf.add_stream(XdfStreamSpec("ns", "Sync", ("ns",), channel_format="int64"))
        xdf.write_samples(stream_id, np.arange(4.0), np.array([values]))
    (stream,) = read_xdf(tmp_path / "int64.xdf").streams
    assert stream.x.dtype == stream.samples.dtype == np.dtype(np.int64)
    assert stream.x.tolist() == [values]


def test_a_file_that_goes_away_is_said_to_be_gone(tmp_path: Path) -> None:
    """Samples are read when they are asked for, which may be later."""
    (tmp_path / "made.xdf").write_bytes(b"XDF:" + header() + samples((1.0, 1)))
    (stream,) = read_xdf(tmp_path / "made.xdf").streams
    (tmp_path / "made.xdf").unlink()
    with pytest.raises(RecordingError, match=r"made\.xdf"):
        stream.samples.read(0, 1)


@pytest.mark.parametrize(
    "desc",
    [
        "<desc><channels><channel><label> F3 </label></channel></channels></desc>",
        "<desc><channels><channel><name>F3</name></channel></channels></desc>",
        "<desc><channel><label>F3</label></channel></desc>",
        "<desc/><channels><channel><label>F3</label></channel></channels>",
    ],
)
def test_labels_are_found_where_makers_put_them(tmp_path: Path, desc: str) -> None:
    """Label or name, below channels or not."""
    stream = only_stream(tmp_path, header(desc))
    assert (stream.ch_names, stream.n_labels) == (("F3",), None)


@pytest.mark.parametrize(("label", "n_labels"), [("F4", 2), ("", None)])
def test_labels_that_are_not_as_many_as_channels_belong_to_none(
    tmp_path: Path, label: str, n_labels: int | None
) -> None:
    """Their number is kept, and the unit that most of them have; descriptions without a label count as no labels."""
    channel = f"<channel><label>{label}</label><unit>uV</unit></channel>"
    stream = only_stream(tmp_path, header(f"<desc><channels>{channel * 2}</channels></desc>"))
    assert (stream.ch_names, stream.units, stream.unit) == (("",), ("",), "uV")
    assert stream.n_labels == n_labels


def test_words_of_desc_can_be_asked_for(tmp_path: Path) -> None:
    """What the description holds beyond the known fields is reached by its path; what is absent is empty."""
    desc = "<desc><synchronization><offset_mean>0.2</offset_mean></synchronization></desc>"
    stream = only_stream(tmp_path, header(desc))
    assert stream.desc_text("synchronization/offset_mean") == "0.2"
    assert stream.desc_text("extractor") == ""


def test_streams_without_offsets_keep_their_stamps(tmp_path: Path) -> None:
    """No clock offset means no correction."""
    stream = only_stream(tmp_path, header(), samples((1.0, 1), (2.0, 2)))
    assert np.array_equal(stream.t_synced, stream.t)


def test_one_offset_is_a_constant(tmp_path: Path) -> None:
    """A single measurement moves all stamps alike, and one sample is enough of a stream."""
    stream = only_stream(tmp_path, header(), samples((1.0, 1)), offset(5.0, 100.0))
    assert stream.t_synced.tolist() == [101.0]


def test_drift_is_followed_and_wild_offsets_are_not() -> None:
    """20 ppm of drift are found to a microsecond though one offset in five is wild."""
    times = 100.0 + 5.0 * np.arange(100)
    offsets = 3.0 + 20e-6 * (times - 100.0)
    offsets[::5] = np.resize([1e5, -0.4, 0.0, 1e-300, -7.0], 20)
    synced = synchronise(times, times, offsets)
    assert np.allclose(synced - times, 3.0 + 20e-6 * (times - 100.0), rtol=0, atol=1e-6)


def test_a_drift_that_no_clock_has_is_not_believed() -> None:
    """Two offsets a second apart that differ by 0.4 s give their middle and no slope."""
    line = fit_clock(np.array([0.0, 1.0]), np.array([0.0, 0.4]))
    assert (line.offset, line.drift) == (0.2, 0.0)


def test_a_wild_offset_with_a_wild_time_is_no_restart() -> None:
    """LabRecorder takes the offset off its own clock; a wild one lands where the stream has no samples."""
    t = np.arange(7400.0, 7500.0)
    times = np.array([7405.0, 7410.0, 2415.0, 2420.0, 7425.0, 7430.0])
    offsets = np.array([-5000.0, -5000.0, -10.0, -10.0, -5000.0, -5000.0])
    assert np.allclose(synchronise(t, times, offsets), t - 5000.0, rtol=0, atol=1e-9)


def test_a_clock_that_restarts_into_the_same_hours_is_cut_at_the_step() -> None:
    """The second run shows times that the first showed too; order in the file tells them apart."""
    t = np.concatenate([np.arange(100.0, 400.0), np.arange(50.0, 300.0)])
    times = np.concatenate([np.arange(105.0, 400.0, 5.0), np.arange(55.0, 300.0, 5.0)])
    offsets = np.concatenate([np.full(59, 1000.0), np.full(49, 1400.0)])
    synced = synchronise(t, times, offsets)
    assert np.array_equal(synced[:300], t[:300] + 1000.0)
    assert np.array_equal(synced[300:], t[300:] + 1400.0)


def test_hours_of_offsets_are_fitted_at_once() -> None:
    """Ten hours of measurements give the drift they hold."""
    times = 5.0 * np.arange(7200.0)
    assert fit_clock(times, 1e-5 * times).drift == pytest.approx(1e-5)


def test_samples_with_impossible_stamps_are_left_out_and_said(tmp_path: Path) -> None:
    """NaN, infinite, astronomic and lone far-off stamps go with their samples; the rest stays in order."""
    good: list[tuple[float | None, int]] = [(float(i), i) for i in range(20)]
    bad: list[tuple[float | None, int]] = [(np.nan, 100), (np.inf, 101), (-1e279, 102), (9e9, 103)]
    path = save(tmp_path, header(), samples(*good[:10]), samples(*bad), samples(*good[10:]))
    file = read_xdf(path)
    assert np.array_equal(file.streams[0].t, np.arange(20.0))
    assert np.array_equal(file.streams[0].x[0], np.arange(20.0))
    assert any("4 sample(s) of 'raw'" in warning for warning in file.warnings)


def test_every_kind_of_nan_is_read(tmp_path: Path) -> None:
    """A signalling NaN in float32 is a NaN like any other, and no warning."""
    bits = np.array([[0x7FA00000, 0x7FC00000, 0x3F800000]], dtype=np.uint32)
    with XdfWriter(tmp_path / "nan.xdf") as xdf:
        xdf.write_samples(xdf.add_stream(XdfStreamSpec("nan", "EEG", ("",))), [1.0, 2.0, 3.0], bits.view(np.float32))
    assert np.array_equal(read_xdf(tmp_path / "nan.xdf").streams[0].x, [[np.nan, np.nan, 1.0]], equal_nan=True)


def test_offsets_that_are_no_numbers_are_ignored(tmp_path: Path) -> None:
    """NaN and astronomic offsets leave the good ones in charge."""
    stream = only_stream(
        tmp_path,
        header(),
        samples((1.0, 1)),
        offset(1.0, np.nan),
        offset(np.inf, 1.0),
        offset(1.0, 1e200),
        offset(2.0, 7.0),
    )
    assert stream.t_synced.tolist() == [8.0]


def test_a_chunk_with_a_broken_inside_costs_only_itself(tmp_path: Path) -> None:
    """A wrong stamp flag inside a chunk: the samples well before it and all other chunks are kept."""
    broken = bytearray(samples((2.0, 3), (3.0, 4), (4.0, 5), (5.0, 6)))
    broken[-11] = 77  # the flag of the last sample
    path = save(tmp_path, header(), samples((0.0, 1), (1.0, 2)), bytes(broken), samples((6.0, 7)))
    file = read_xdf(path)
    assert file.streams[0].x.tolist() == [[1, 2, 3, 4, 7]]
    assert any("damaged in 1 place" in warning for warning in file.warnings)


def test_a_broken_length_is_passed_over_to_the_next_boundary(tmp_path: Path) -> None:
    """Nonsense between chunks: reading goes on behind the next boundary."""
    noise = bytes(range(7, 57))
    path = save(tmp_path, header(), samples((0.0, 1)), noise, samples((1.0, 2)), boundary(), samples((2.0, 3)))
    file = read_xdf(path)
    assert file.streams[0].x.tolist() == [[1, 3]]
    assert any("damaged in 1 place" in warning for warning in file.warnings)


def test_a_length_beyond_the_file_is_not_allocated(tmp_path: Path) -> None:
    """A chunk and a sample count that claim 2**60 are a file cut off, and what they do hold is read."""
    rows = b"\x08" + (2**60).to_bytes(8, "little") + b"\x08" + struct.pack("<dh", 1.0, 42)
    body = struct.pack("<HI", 3, 1) + rows
    claim = b"\x08" + (2**60).to_bytes(8, "little") + body
    file = read_xdf(save(tmp_path, header(), claim))
    assert file.streams[0].x.tolist() == [[42]]
    assert any("cut off" in warning for warning in file.warnings)


def test_unknown_chunks_are_passed_over(tmp_path: Path) -> None:
    """A chunk with a tag of the future is no damage."""
    file = read_xdf(save(tmp_path, header(), chunk(99, b"news", None), samples((0.0, 1)), chunk(6, b"<info/>")))
    assert file.streams[0].x.tolist() == [[1]]
    assert file.warnings == ()


@pytest.mark.parametrize("depth", [200, 5000])
def test_a_header_that_nests_without_sense_is_refused(tmp_path: Path, depth: int) -> None:
    """Thousands of elements within each other would break what walks through them."""
    path = save(tmp_path, header("<desc>" + "<a>" * depth + "</a>" * depth + "</desc>"), header(stream_id=2))
    file = read_xdf(path)
    assert [stream.stream_id for stream in file.streams] == [2]
    assert any("within each other" in warning for warning in file.warnings)


def test_two_equal_headers_with_one_id_are_one_stream(tmp_path: Path) -> None:
    """A recorder that writes the header again goes on with the same stream, and it is said."""
    file = read_xdf(save(tmp_path, header(), samples((0.0, 1)), header(), samples((1.0, 2))))
    assert len(file.streams) == 1
    assert file.streams[0].x.tolist() == [[1, 2]]
    assert any("more than one header" in warning for warning in file.warnings)


def test_another_layout_under_the_same_id_is_another_stream(tmp_path: Path) -> None:
    """Samples belong to the newest header of their id."""
    other = chunk(2, EEG_HEADER.format(desc="").replace("int16", "int8").encode())
    eight_bit = chunk(3, encode_length(1) + b"\x08" + struct.pack("<db", 1.0, -5))
    file = read_xdf(save(tmp_path, header(), samples((0.0, 1)), other, eight_bit))
    assert [stream.x.tolist() for stream in file.streams] == [[[1]], [[-5]]]


def test_samples_without_a_header_are_left_out_and_said(tmp_path: Path) -> None:
    """A header that never came costs its stream, not the others."""
    file = read_xdf(save(tmp_path, header(), samples((0.0, 9), stream_id=7), samples((0.0, 1))))
    assert file.streams[0].x.tolist() == [[1]]
    assert any("stream id 7" in warning for warning in file.warnings)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><info>&b;</info>', "document type"),
        ("<info><channel_count>1</channel_count>", "no element found"),
        (EEG_HEADER.replace("int16", "int128").format(desc=""), "int128"),
        (EEG_HEADER.replace("<channel_count>1", "<channel_count>0").format(desc=""), "0 channels"),
        (EEG_HEADER.replace("<channel_count>1", "<channel_count>9999999999").format(desc=""), "9999999999 channels"),
    ],
)
def test_a_header_that_cannot_be_used_is_said(tmp_path: Path, xml: str, reason: str) -> None:
    """Entity bombs, broken XML and impossible layouts cost their stream and no memory."""
    file = read_xdf(save(tmp_path, chunk(2, xml.encode(), 5), header(), samples((0.0, 1))))
    assert [stream.stream_id for stream in file.streams] == [1]
    assert any(reason in warning for warning in file.warnings)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "empty"), (b"PK\x03\x04 a zip file", "begins with"), (b"XDF:", "4 bytes"), (b"XDF:" + boundary(), "header")],
)
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    """Empty, foreign and stream-less files raise an error with the path, what was found and what to do."""
    path = tmp_path / "broken.xdf"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=found) as caught:
        read_xdf(path)
    assert str(path) in caught.value.found
    assert caught.value.mend


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    """The error says which of the two it is."""
    with pytest.raises(RecordingError, match="no file at"):
        read_xdf(tmp_path / "missing.xdf")
    with pytest.raises(RecordingError, match="the folder"):
        read_xdf(tmp_path)


def small_recording(path: Path) -> bytes:
    """The bytes of a file with numbers, strings, offsets, boundaries and footers."""
    with XdfWriter(path) as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", ("AF3", "AF4"), sfreq=128.0, units=("uV", "uV")))
        words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("",), channel_format="string"))
        for i in range(4):
            t = 10.0 + i + np.arange(4) / 128
            xdf.write_samples(eeg, t, np.vstack([t, -t]))
            xdf.write_samples(words, t[:1], [f"trial {i}"])
            xdf.write_offset(eeg, t[0], 0.5)
            xdf.boundary()
    return path.read_bytes()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one random change: some overwritten, some taken out, some put in, or the end cut off."""
    at, size = chance.randrange(len(data)), chance.choice([1, 1, 2, 8, 40])
    kind = chance.randrange(4)
    if kind == 0:
        return data[:at] + chance.randbytes(size) + data[at + size :]
    if kind == 1:
        return data[:at] + data[at + size :]
    if kind == 2:
        return data[:at] + chance.randbytes(size) + data[at:]
    return data[:at]


def test_no_damage_makes_the_reader_fail_otherwise_than_by_a_recording_error(tmp_path: Path) -> None:
    """Six hundred damaged files: each gives plausible samples of consistent shapes, or a RecordingError."""
    chance = random.Random(20)
    data = small_recording(tmp_path / "whole.xdf")
    path = tmp_path / "damaged.xdf"
    read = 0
    for _ in range(600):
        damaged = data
        for _ in range(chance.choice([1, 1, 3])):
            damaged = mutated(damaged, chance) or b"X"
        path.write_bytes(damaged)
        try:
            file = read_xdf(path)
        except RecordingError:
            continue
        read += 1
        for stream in file.streams:
            assert stream.t.shape == stream.t_synced.shape == stream.x.shape[1:]
            assert np.all(np.abs(stream.t) <= 1e12)
            assert np.isfinite(stream.t_synced).all()
            assert len(stream.strings) == (stream.t.size if stream.channel_format == "string" else 0)
    assert read > 400
