"""Reading a file chunk by chunk, in the order in which it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.description import StreamDescription
from clmer_streaming.xdf.scan import ClockOffset, Entry, Footer, SampleBlock, read_in_order
from clmer_streaming.xdf.writer import XdfStreamSpec, XdfWriter


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
