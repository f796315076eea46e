"""The XDF writer, held against pyxdf and against our own reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import NUMERIC_DTYPES, ChannelFormat
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import read_xdf
from clmer_streaming.xdf.writer import XdfWriter

RAMP = np.arange(8.0).reshape(2, 4)
SECONDS = np.array([10.0, 11.0, 12.0, 13.0])
INT_FORMATS: list[ChannelFormat] = ["int8", "int16", "int32", "int64"]


def load(path: Path, **options: Any) -> list[dict[str, Any]]:
    """What pyxdf, the format's reference reader, makes of a file; stamps untouched."""
    plain = {"dejitter_timestamps": False, "synchronize_clocks": False, **options}
    streams: list[dict[str, Any]] = pyxdf.load_xdf(str(path), **plain)[0]
    return streams


def ramp_spec(channel_format: ChannelFormat = "float32") -> XdfStreamSpec:
    return XdfStreamSpec("ramp", "EEG", ("AF3", "AF4"), sfreq=1.0, channel_format=channel_format)


@pytest.mark.parametrize("channel_format", [*INT_FORMATS, "float32", "double64"])
def test_pyxdf_reads_the_numbers_and_stamps_that_were_written(tmp_path: Path, channel_format: ChannelFormat) -> None:
    """Every numeric format arrives in pyxdf with equal values, equal stamps and its own dtype."""
    with XdfWriter(tmp_path / "ramp.xdf") as xdf:
        stream = xdf.add_stream(ramp_spec(channel_format))
        xdf.write_samples(stream, SECONDS[:3], RAMP[:, :3])
        xdf.write_samples(stream, SECONDS[3:], RAMP[:, 3:])
    (read,) = load(tmp_path / "ramp.xdf")
    assert np.array_equal(read["time_series"], RAMP.T)
    assert np.array_equal(read["time_stamps"], SECONDS)
    assert read["time_series"].dtype == np.dtype(NUMERIC_DTYPES[channel_format])


def test_pyxdf_reads_the_strings_that_were_written(tmp_path: Path) -> None:
    """Empty, long and non-Latin strings arrive as they are, in one channel and in two."""
    words = ["", "Reiz an", "刺激 😀", "x" * 300]
    with XdfWriter(tmp_path / "strings.xdf") as xdf:
        one = xdf.add_stream(XdfStreamSpec("one", "Markers", ("",), channel_format="string"))
        two = xdf.add_stream(XdfStreamSpec("two", "Markers", ("a", "b"), channel_format="string"))
        xdf.write_samples(one, SECONDS, words)
        xdf.write_samples(two, SECONDS[:2], [["a1", "b1"], ["a2", "b2"]])
    read = load(tmp_path / "strings.xdf")
    assert read[0]["time_series"] == [[word] for word in words]
    assert read[1]["time_series"] == [["a1", "b1"], ["a2", "b2"]]


def test_the_header_says_what_the_spec_says(tmp_path: Path) -> None:
    """Name, rate, labels, units, types, maker and further words of desc are in the header, special signs escaped."""
    spec = XdfStreamSpec(
        name='<EEG> & "co"',
        type="EEG",
        ch_names=("AF3", "Ω"),
        sfreq=128.0,
        units=("microvolts", "ohm"),
        ch_types=("EEG", "Misc"),
        source_id="epoc-1",
        hostname="lab",
        manufacturer="Emotiv",
        desc={"extractor": "clmer-face-2", "cap/name": "EasyCap", "cap/size": "54"},
    )
    with XdfWriter(tmp_path / "header.xdf", datetime="2026-01-02T03:04:05+0000") as xdf:
        xdf.add_stream(spec)
    info = load(tmp_path / "header.xdf")[0]["info"]
    assert (info["name"], info["type"], info["nominal_srate"]) == ([spec.name], ["EEG"], ["128.0"])
    assert (info["source_id"], info["hostname"]) == (["epoc-1"], ["lab"])
    desc = info["desc"][0]
    assert (desc["manufacturer"], desc["extractor"]) == (["Emotiv"], ["clmer-face-2"])
    assert desc["cap"] == [{"name": ["EasyCap"], "size": ["54"]}]
    channels = desc["channels"][0]["channel"]
    assert [(c["label"][0], c["unit"][0], c["type"][0]) for c in channels] == [
        ("AF3", "microvolts", "EEG"),
        ("Ω", "ohm", "Misc"),
    ]
    assert b"<datetime>2026-01-02T03:04:05+0000</datetime>" in (tmp_path / "header.xdf").read_bytes()


def test_the_footer_sums_up_the_stream(tmp_path: Path) -> None:
    """First and last stamp, number of samples and clock offsets are in the footer."""
    with XdfWriter(tmp_path / "footer.xdf") as xdf:
        stream = xdf.add_stream(ramp_spec())
        xdf.write_samples(stream, SECONDS, RAMP)
        xdf.write_offset(stream, 10.5, -0.25)
    footer = load(tmp_path / "footer.xdf")[0]["footer"]["info"]
    assert (footer["first_timestamp"], footer["last_timestamp"], footer["sample_count"]) == (["10.0"], ["13.0"], ["4"])
    offset = footer["clock_offsets"][0]["offset"][0]
    assert (offset["time"], offset["value"]) == (["10.5"], ["-0.25"])


def test_pyxdf_applies_the_offsets_that_were_written(tmp_path: Path) -> None:
    """A clock 5000 s behind is brought to the recorder's clock."""
    with XdfWriter(tmp_path / "offset.xdf") as xdf:
        stream = xdf.add_stream(ramp_spec())
        xdf.write_offset(stream, 10.0, 5000.0)
        xdf.write_samples(stream, SECONDS, RAMP)
        xdf.boundary()
        xdf.write_offset(stream, 15.0, 5000.0)
    (read,) = load(tmp_path / "offset.xdf", synchronize_clocks=True)
    assert np.allclose(read["time_stamps"], SECONDS + 5000.0, rtol=0, atol=1e-6)


def test_equal_calls_give_equal_bytes(tmp_path: Path) -> None:
    """No wall clock and no chance is in the file."""
    for name in ("a.xdf", "b.xdf"):
        with XdfWriter(tmp_path / name) as xdf:
            stream = xdf.add_stream(ramp_spec())
            xdf.write_samples(stream, SECONDS, RAMP)
            xdf.boundary()
    assert (tmp_path / "a.xdf").read_bytes() == (tmp_path / "b.xdf").read_bytes()


def test_what_was_written_before_a_crash_can_be_read(tmp_path: Path) -> None:
    """Up to the last boundary everything is in the file, though it was never closed."""
    xdf = XdfWriter(tmp_path / "crash.xdf")
    stream = xdf.add_stream(ramp_spec())
    xdf.write_samples(stream, SECONDS, RAMP)
    xdf.boundary()
    left = (tmp_path / "crash.xdf").read_bytes()
    xdf.close()
    (tmp_path / "left.xdf").write_bytes(left)
    assert np.array_equal(read_xdf(tmp_path / "left.xdf").streams[0].x, RAMP)


FOREIGN = """<?xml version="1.0"?>
<info>
\t<name>Cap &amp; co</name>
\t<type>EEG</type><channel_count>2</channel_count>
\t<nominal_srate>500</nominal_srate><channel_format>int16</channel_format>
\t<desc><montage kind="10-20">a <b>b</b> c</montage><channels><channel><label>Fz</label></channel></channels></desc>
</info>"""


def test_a_foreign_header_is_kept_to_the_letter(tmp_path: Path) -> None:
    """Attributes, order and white space of a header that others wrote are in the file; its samples are checked."""
    with XdfWriter(tmp_path / "copy.xdf") as xdf:
        stream = xdf.add_stream_xml(FOREIGN)
        xdf.write_samples(stream, SECONDS, RAMP)
        with pytest.raises(ValueError, match="Cap & co"):
            xdf.write_samples(stream, SECONDS, RAMP[:1])
    assert FOREIGN.encode() in (tmp_path / "copy.xdf").read_bytes()
    (read,) = load(tmp_path / "copy.xdf")
    assert np.array_equal(read["time_series"], RAMP.T)
    assert read["time_series"].dtype == np.int16


def test_words_can_be_added_to_a_foreign_header(tmp_path: Path) -> None:
    """A delay and an origin come beside what was there; a word that was there gets the new text."""
    words = {"synchronization/offset_mean": "0.2", "clmer/source": "eeg", "montage/b": "new"}
    with XdfWriter(tmp_path / "copy.xdf") as xdf:
        xdf.add_stream_xml(FOREIGN, words)
    (stream,) = read_xdf(tmp_path / "copy.xdf").streams
    assert {path: stream.desc_text(path) for path in words} == words
    assert (stream.n_labels, stream.sfreq) == (1, 500.0)
    montage = stream.desc.find("montage")
    assert montage is not None
    assert montage.attrib == {"kind": "10-20"}


@pytest.mark.parametrize("xml", ["", "<info>", "<info><channel_count>2</channel_count></info>"])
def test_a_foreign_header_that_describes_no_samples_is_refused(tmp_path: Path, xml: str) -> None:
    """Broken XML and headers without a format raise, and leave no stream behind."""
    with XdfWriter(tmp_path / "copy.xdf") as xdf:
        with pytest.raises(ValueError, match=r"no element|format"):
            xdf.add_stream_xml(xml)
        assert xdf.add_stream(ramp_spec()) == 1


WRITE_FOR_EVER = """
import sys, time, itertools
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
xdf = XdfWriter(sys.argv[1])
eeg = xdf.add_stream(XdfStreamSpec("count", "EEG", ("n",), sfreq=100.0, channel_format="int32"))
words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("",), channel_format="string"))
for n in itertools.count():
    xdf.write_samples(eeg, [n / 100], [[n]])
    if n % 100 == 99:
        xdf.write_samples(words, [n / 100], [f"second {n // 100}"])
        xdf.flush()
        print(n, flush=True)
"""


def test_a_writer_that_is_killed_loses_at_most_what_came_after_its_last_flush(tmp_path: Path) -> None:
    """Killed (-9) in the middle of writing: all that was flushed is there for us and for pyxdf, each sample once."""
    path = tmp_path / "killed.xdf"
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        flushed = [int(writer.stdout.readline()) for _ in range(20)][-1]
        os.kill(writer.pid, signal.SIGKILL)
    count, words = read_xdf(path).streams
    n = count.t.size
    assert n > flushed
    assert np.array_equal(count.x[0], np.arange(n))
    assert len(words.strings) == n // 100
    by_pyxdf = load(path)
    assert np.array_equal(by_pyxdf[0]["time_series"][:, 0], np.arange(n))
    assert np.array_equal(by_pyxdf[0]["time_stamps"], np.arange(n) / 100)


WRITE_UNTIL_FULL = """
import resource, signal, sys
from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
xdf = XdfWriter(sys.argv[1])
eeg = xdf.add_stream(XdfStreamSpec("count", "EEG", ("n",), sfreq=100.0, channel_format="int32"))
errors, n = [], 0
while len(errors) < 3:
    try:
        xdf.write_samples(eeg, [n / 100], [[n]])
        n += 1
        if n % 100 == 0:
            xdf.flush()
    except RecordingError as error:
        errors.append(error)
xdf.close()
assert errors[0] is errors[1] is errors[2]
print(n, errors[0].found)
"""


def test_a_full_disk_is_said_and_leaves_whole_chunks(tmp_path: Path) -> None:
    """The first call that finds no room raises, later ones raise the same, and all whole chunks can be read."""
    path = tmp_path / "full.xdf"
    run = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_FULL, str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    n_taken, found = run.stdout.split(maxsplit=1)
    assert "large" in found
    file = read_xdf(path)
    (count,) = file.streams
    assert int(n_taken) - 100 <= count.t.size <= int(n_taken)
    assert np.array_equal(count.x[0], np.arange(count.t.size))
    assert not any("cut off" in warning or "damaged" in warning for warning in file.warnings)
    assert np.array_equal(load(path)[0]["time_series"][:, 0], np.arange(count.t.size))


def test_a_disk_without_any_room_is_said() -> None:
    """ENOSPC from the first byte on: one error that says it, and closing is quiet."""
    xdf = XdfWriter("/dev/full")
    stream = xdf.add_stream(ramp_spec())
    xdf.write_samples(stream, SECONDS, RAMP)
    with pytest.raises(RecordingError, match="No space left") as first:
        xdf.flush(to_disk=True)
    with pytest.raises(RecordingError) as second:
        xdf.boundary()
    assert first.value is second.value
    xdf.close()


def test_characters_that_xml_cannot_hold_do_not_break_the_header(tmp_path: Path) -> None:
    """A control character in a name becomes the replacement character; the file stays readable."""
    with XdfWriter(tmp_path / "bell.xdf") as xdf:
        xdf.add_stream(XdfStreamSpec("bell\x07", "EEG", ("A\x00",)))
    (stream,) = read_xdf(tmp_path / "bell.xdf").streams
    assert (stream.name, stream.ch_names) == ("bell\ufffd", ("A\ufffd",))


@pytest.mark.parametrize(
    ("t", "x"),
    [
        (SECONDS, RAMP.T),
        (SECONDS[:3], RAMP),
        ([1.0, np.nan, 2.0, 3.0], RAMP),
        ([1.0, 1e13, 2.0, 3.0], RAMP),
        (SECONDS[:, np.newaxis], RAMP),
    ],
)
def test_samples_that_do_not_fit_the_stream_are_refused(tmp_path: Path, t: Any, x: Any) -> None:
    """Shapes that disagree and stamps that are no time raise, and nothing is written of them."""
    with XdfWriter(tmp_path / "refused.xdf") as xdf:
        stream = xdf.add_stream(ramp_spec())
        with pytest.raises(ValueError, match="'ramp'"):
            xdf.write_samples(stream, t, x)
    assert read_xdf(tmp_path / "refused.xdf").streams[0].t.size == 0


@pytest.mark.parametrize("value", [200.0, 1.5, np.nan])
def test_an_integer_stream_refuses_what_it_cannot_hold(tmp_path: Path, value: float) -> None:
    """int8 takes neither 200 nor 1.5 nor NaN; nothing is rounded or wrapped in silence."""
    with XdfWriter(tmp_path / "int8.xdf") as xdf:
        stream = xdf.add_stream(ramp_spec("int8"))
        with pytest.raises(ValueError, match="int8"):
            xdf.write_samples(stream, [1.0], [[value], [0.0]])


@pytest.mark.parametrize("x", ["ab", ["a"], [1, 2], [["a", "b"], ["c", "d"]]])
def test_a_string_stream_refuses_what_are_not_its_strings(tmp_path: Path, x: Any) -> None:
    """Two samples of one channel need two strings."""
    with XdfWriter(tmp_path / "strings.xdf") as xdf:
        stream = xdf.add_stream(XdfStreamSpec("words", "Markers", ("",), channel_format="string"))
        with pytest.raises(ValueError, match="words"):
            xdf.write_samples(stream, [1.0, 2.0], x)


def test_a_spec_whose_parts_disagree_is_refused() -> None:
    """One unit for two channels, or a desc element with a name that XML cannot have, raises at once."""
    with pytest.raises(ValueError, match="2 channels"):
        XdfStreamSpec("ramp", "EEG", ("AF3", "AF4"), units=("microvolts",))
    with pytest.raises(ValueError, match="desc"):
        XdfStreamSpec("ramp", "EEG", ("AF3", "AF4"), desc={"two words": "no"})


def test_a_file_that_cannot_be_created_says_how_to_mend_it(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(RecordingError, match=r"nowhere.*x\.xdf"):
        XdfWriter(tmp_path / "nowhere" / "x.xdf")


def values_of(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Values that the dtype holds and float64 holds exactly."""
    if dtype.kind == "f":
        return st.floats(width=8 * dtype.itemsize)  # type: ignore[arg-type]
    bits = min(8 * dtype.itemsize - 1, 53)
    return st.integers(-(2**bits), 2**bits - 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), channel_format=st.sampled_from(list(NUMERIC_DTYPES)), n_channels=st.integers(1, 5))
def test_what_is_written_is_read_bit_for_bit(
    tmp_path: Path, data: st.DataObject, channel_format: ChannelFormat, n_channels: int
) -> None:
    """Random values and stamps, cut into random chunks, come back from our reader unchanged."""
    dtype = np.dtype(NUMERIC_DTYPES[channel_format])
    sizes = data.draw(st.lists(st.integers(0, 300), max_size=4))
    x = data.draw(hnp.arrays(dtype, (n_channels, sum(sizes)), elements=values_of(dtype)))
    # Ten minutes: a lone stamp hours from all others is taken for damage, and left out.
    t = data.draw(hnp.arrays(np.float64, sum(sizes), elements=st.floats(0, 600)))
    spec = XdfStreamSpec("random", "EEG", ("",) * n_channels, sfreq=128.0, channel_format=channel_format)
    with XdfWriter(tmp_path / "random.xdf") as xdf:
        stream = xdf.add_stream(spec)
        for start, stop in zip(np.cumsum([0, *sizes]), np.cumsum(sizes), strict=False):
            xdf.write_samples(stream, t[start:stop], x[:, start:stop])
    file = read_xdf(tmp_path / "random.xdf")
    assert file.warnings == ()
    assert np.array_equal(file.streams[0].t, t)
    assert np.array_equal(file.streams[0].x, x.astype(np.float64), equal_nan=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text(max_size=400), max_size=20))
def test_any_text_is_read_as_it_was_written(tmp_path: Path, words: list[str]) -> None:
    """Markers of any characters come back from our reader unchanged."""
    with XdfWriter(tmp_path / "text.xdf") as xdf:
        stream = xdf.add_stream(XdfStreamSpec("text", "Markers", ("",), channel_format="string"))
        xdf.write_samples(stream, np.arange(len(words)), words)
    assert read_xdf(tmp_path / "text.xdf").streams[0].strings == tuple((word,) for word in words)
