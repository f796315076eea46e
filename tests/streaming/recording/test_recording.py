"""Claims about the file of a recorded session: what was fed is read back, bit for bit and in that order."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clmer_streaming.errors import RecordingError
from clmer_streaming.face.layout import AU_NAMES, EXTRACTOR_ID, N_LANDMARKS
from clmer_streaming.lsl.markers import MarkerDecoder, MarkerRow, parse_marker_rows
from clmer_streaming.recording.reader import RecordedPrediction, SessionReader, is_session_recording
from clmer_streaming.recording.records import Lost
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import Chunk, FaceFlag, FaceSample, Gap, Item, Marker, StreamInfo, Tick
from clmer_streaming.xdf.header import XdfStreamSpec, announcement, parse_stream_header, stream_header
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import FACE_INFO, face

HEADER: dict[str, Any] = {"session": "abc", "clock": {"lsl_time": 100.0, "unix_time": 1.7e9}}
EEG = StreamInfo("eeg", "eeg", "Headset", ("Fz", "Cz"), 128.0, unit="microvolts", channel_format="float32")
EEG_AS_INT = dataclasses.replace(EEG, channel_format="int16", delay_s=0.2)


def face32(t: float, seed: int = 0, **changes: Any) -> FaceSample:
    """Return a face of random float32 numbers."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    sample = FaceSample(t, numbers(N_LANDMARKS, 3), numbers(len(AU_NAMES), 2), numbers(2), numbers(6), 0.5)
    return dataclasses.replace(sample, **changes)


def chunk(t0: float, x: Any, source: str = "eeg") -> Chunk:
    values = np.asarray(x, dtype=np.float64)
    return Chunk(source, t0 + np.arange(values.shape[1]) / 128, values)


def recorded(path: Path, *items: Item) -> SessionReader:
    """Record the items and open the recording."""
    writer = SessionWriter(path, HEADER)
    for item in items:
        writer.write(item)
    writer.close()
    return SessionReader(path)


def same(a: Any, b: Any) -> bool:
    """Tell whether two items are equal to the last bit, NaN included."""
    if type(a) is not type(b):
        return False
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, np.ndarray):
            if left.dtype != right.dtype or left.tobytes() != right.tobytes() or left.shape != right.shape:
                return False
        elif left != right:
            return False
    return True


IN_ORDER: list[Item] = [
    Tick(99.5, "eeg"),
    EEG,
    chunk(100.0, [[1, 2, 3], [4, np.nan, 6]]),
    Marker(100.01, "m-1", "刺激 1", 1.0, "lsl:Experiment", ("刺激 1",)),
    FACE_INFO,
    chunk(100.02, [[7], [-0.0]]),
    face32(100.03),
    face32(100.06, flags=FaceFlag.MISSING | FaceFlag.RESET, calibration="running", quality=0.0),
    Tick(100.5, "eeg"),
    Gap(100.02, 101.0, "eeg", "stream_restarted"),
    EEG_AS_INT,
    chunk(101.0, [[-32768, 32767], [0, 1]]),
]
"""A session in small: every kind of item, one behind the other."""


def test_every_kind_of_item_is_read_back_in_the_order_in_which_it_was_fed(tmp_path: Path) -> None:
    """Chunks as they were cut, stamps and values to the last bit, announcements with every field."""
    read = list(recorded(tmp_path / "s.xdf", *IN_ORDER).items())
    assert len(read) == len(IN_ORDER)
    assert all(same(a, b) for a, b in zip(read, IN_ORDER, strict=True))


@pytest.mark.parametrize(
    "item",
    [
        chunk(100.0, [[0.1], [0.2]]),  # float32 cannot hold them
        chunk(100.0, [[1e300], [1.0]]),
        Chunk("eeg", np.array([np.nan]), np.ones((2, 1))),
        Chunk("eeg", np.array([1e15]), np.ones((2, 1))),
        Chunk("eeg", np.empty(0), np.empty((2, 0))),
        chunk(100.0, [[1.0], [2.0], [3.0]]),  # a channel more than announced
        chunk(100.0, [[1.0]], source="nobody"),
        Chunk("eeg", np.array([100.0]), np.array([[2**62 + 1], [-(2**53) - 1]])),  # nor integers of 64 bits
        face(100.0, 0.1),  # not rounded to float32
        face32(float("inf")),
    ],
    ids=lambda item: f"{type(item).__name__}-{item.t}",
)
def test_what_its_stream_cannot_hold_is_kept_bit_for_bit_all_the_same(tmp_path: Path, item: Item) -> None:
    """It becomes a record of the control stream, at its place."""
    reader = recorded(tmp_path / "s.xdf", EEG, FACE_INFO, item, Tick(101.0, "eeg"))
    assert same(list(reader.items())[2], item)


def test_markers_of_64_bits_are_written_as_they_came(tmp_path: Path) -> None:
    """Nanoseconds since 1970 as a code: the record, the label and the stream of the file have every digit."""
    code = 1_764_600_000_123_456_789
    header = stream_header(XdfStreamSpec("Sync", "Markers", ("ns",), channel_format="int64"))
    info = announcement(parse_stream_header(0, header), "markers")
    marker = MarkerDecoder(info, itertools.count(1)).decode(100.0, [code])
    assert marker.label == str(code)
    reader = recorded(tmp_path / "s.xdf", info, marker)
    assert list(reader.items()) == [info, marker]
    (stream,) = (stream for stream in read_xdf(tmp_path / "s.xdf").streams if stream.name == "Sync")
    assert stream.x.tolist() == [[code]]
    assert parse_marker_rows(stream) == [MarkerRow(str(code), float(code), ())]


def test_a_stream_that_returns_unchanged_goes_on_in_its_xdf_stream(tmp_path: Path) -> None:
    """Other programs see one stream; the replay sees both announcements."""
    again = dataclasses.replace(EEG, xml="<info>not a header</info>")
    reader = recorded(tmp_path / "s.xdf", EEG, chunk(100.0, [[1], [2]]), again, chunk(105.0, [[3], [4]]))
    assert [item for item in reader.items() if isinstance(item, StreamInfo)] == [EEG, again]
    (headset,) = [stream for stream in read_xdf(tmp_path / "s.xdf").streams if stream.name == "Headset"]
    assert headset.x.tolist() == [[1, 3], [2, 4]]


def test_other_programs_find_streams_that_make_sense(tmp_path: Path) -> None:
    """Samples in the stream's own format, with unit, delay and extractor; markers where markers are looked for."""
    recorded(tmp_path / "s.xdf", *IN_ORDER)
    streams = {stream.name: stream for stream in read_xdf(tmp_path / "s.xdf").streams}
    assert streams["CLMER-Face"].ch_names[:2] == ("LM00_X", "LM00_Y")
    assert streams["CLMER-Face"].desc_text("extractor") == EXTRACTOR_ID
    assert streams["Headset"].channel_format == "int16"  # the one that was announced last
    assert streams["Headset"].desc_text("synchronization/offset_mean") == "0.2"
    assert streams["Headset"].unit == "microvolts"
    assert streams["lsl:Experiment"].strings == (("刺激 1",),)
    assert streams["lsl:Experiment"].type == "Markers"
    assert all(stream.t_synced.tolist() == stream.t.tolist() for stream in streams.values())


def test_a_header_is_copied_to_the_letter_and_a_delay_of_ours_is_added(tmp_path: Path) -> None:
    """What a manufacturer says of its stream stays with the samples."""
    donor = tmp_path / "donor.xdf"
    with XdfWriter(donor) as xdf:
        xdf.add_stream(XdfStreamSpec("Headset", "EEG", ("Fz", "Cz"), 128.0, desc={"cap/name": "Große Kappe"}))
    (header,) = read_xdf(donor).streams
    as_it_is = dataclasses.replace(EEG, xml=header.xml)
    delayed = dataclasses.replace(EEG, xml=header.xml, delay_s=0.25)
    recorded(tmp_path / "s.xdf", as_it_is, delayed)
    first, second = (stream for stream in read_xdf(tmp_path / "s.xdf").streams if stream.name == "Headset")
    assert first.xml == header.xml
    assert (second.desc_text("cap/name"), second.desc_text("synchronization/offset_mean")) == ("Große Kappe", "0.25")


def test_predictions_and_losses_stand_where_they_happened(tmp_path: Path) -> None:
    """So that a comparison knows what each answer was made from."""
    writer = SessionWriter(tmp_path / "s.xdf", HEADER)
    writer.write(EEG)
    writer.write_prediction(2.0, '{"label":"HVHA"}')
    writer.write_lost(3)
    writer.write(Tick(3.0, "eeg"))
    writer.close()
    entries = list(SessionReader(tmp_path / "s.xdf").entries())
    assert entries == [EEG, RecordedPrediction('{"label":"HVHA"}'), Lost(3), Tick(3.0, "eeg")]


def test_a_recording_cut_off_anywhere_is_read_up_to_its_end(tmp_path: Path) -> None:
    """Every cut gives the first items and nothing else."""
    whole = tmp_path / "s.xdf"
    recorded(whole, *IN_ORDER)
    content = whole.read_bytes()
    numbers = []
    for size in range(len(content) // 4, len(content), 31):
        (tmp_path / "cut.xdf").write_bytes(content[:size])
        reader = SessionReader(tmp_path / "cut.xdf")
        read = list(reader.items())
        assert all(same(a, b) for a, b in zip(read, IN_ORDER, strict=False))
        assert reader.summary.warnings
        numbers.append(len(read))
    assert numbers == sorted(numbers)
    assert numbers[-1] == len(IN_ORDER)


def test_damage_costs_only_what_it_hits_and_is_said_at_its_place(tmp_path: Path) -> None:
    """A record that is no JSON any more: everything else is read, and its place is marked."""
    whole = tmp_path / "s.xdf"
    recorded(whole, *IN_ORDER)
    content = bytearray(whole.read_bytes())
    content[content.index(b'"record":"gap"')] = ord("?")
    whole.write_bytes(content)
    entries = list(SessionReader(whole).entries())
    place = next(i for i, item in enumerate(IN_ORDER) if isinstance(item, Gap))
    assert entries[place] == Lost(1)
    assert all(same(a, b) for i, (a, b) in enumerate(zip(entries, IN_ORDER, strict=True)) if i != place)


def test_no_damage_breaks_the_reader(tmp_path: Path) -> None:
    """One byte changed, at 250 places: read, or refused in three lines."""
    recorded(tmp_path / "s.xdf", *IN_ORDER)
    content = (tmp_path / "s.xdf").read_bytes()
    rng = np.random.default_rng(0)
    n_read = 0
    for at, value in zip(rng.integers(4, len(content), 250).tolist(), rng.integers(0, 256, 250).tolist(), strict=True):
        (tmp_path / "bad.xdf").write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        with contextlib.suppress(RecordingError):
            n_read += len(list(SessionReader(tmp_path / "bad.xdf").entries()))
    assert n_read > 200 * len(IN_ORDER)


def test_what_was_flushed_can_be_read_while_the_session_goes_on(tmp_path: Path) -> None:
    """A program that dies then leaves this."""
    writer = SessionWriter(tmp_path / "s.xdf", HEADER)
    for item in IN_ORDER:
        writer.write(item)
    writer.flush()
    reader = SessionReader(tmp_path / "s.xdf")
    assert len(list(reader.items())) == len(IN_ORDER)
    assert not reader.summary.closed
    writer.close()
    assert SessionReader(tmp_path / "s.xdf").summary.closed


def test_only_a_recorded_session_is_taken_for_one(tmp_path: Path) -> None:
    """Any other XDF file, no file, or something else is none."""
    recorded(tmp_path / "s.xdf", *IN_ORDER)
    with XdfWriter(tmp_path / "other.xdf") as xdf:
        xdf.add_stream(XdfStreamSpec("Headset", "EEG", ("Fz",), 128.0))
    (tmp_path / "text.xdf").write_text("hello")
    names = ("s.xdf", "other.xdf", "text.xdf", "none.xdf")
    assert [is_session_recording(tmp_path / name) for name in names] == [True, False, False, False]


def test_a_recording_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """Reading it wrongly would be worse."""
    writer = SessionWriter(tmp_path / "s.xdf", {**HEADER, "format": 99, "version": "9.9"})
    writer.close()
    with pytest.raises(RecordingError, match="format 99"):
        SessionReader(tmp_path / "s.xdf")
