"""Playing a recording over a real LSL network: what arrives is what was recorded, when it was recorded."""

from __future__ import annotations

import dataclasses
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import RecordingError, SettingsError
from clmer_streaming.face.layout import EXTRACTOR_ID
from clmer_streaming.lsl.player import Playback
from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.types import Chunk, FaceSample, StreamInfo
from clmer_streaming.xdf.format import NUMERIC_DTYPES, ChannelFormat
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.reader import XdfFile, XdfStream, read_xdf
from clmer_streaming.xdf.writer import XdfWriter
from tests.conftest import sample_data_folder
from tests.support.listener import Listener

pytestmark = pytest.mark.lsl

WAIT_S = 30.0
"""Generous: a network of this machine alone needs a second."""

AT_ONCE = 5
"""Recordings that are played at the same time: each outlet needs one of 128 ports, which other tests need too."""

HEADER = """<?xml version="1.0"?>
<info><name>Cap</name><type>EEG</type><channel_count>2</channel_count><nominal_srate>100</nominal_srate>
<channel_format>int32</channel_format><source_id>clmer-cap</source_id>
<desc><montage kind="10-20">a <b>b</b> c</montage><channels><channel><label>Fz</label><unit>µV</unit></channel>
<channel><label>Cz</label></channel></channels></desc></info>"""


@dataclass
class Heard:
    """What an inlet of one played stream got."""

    info: Any
    inlet: Any
    t: list[float] = field(default_factory=list)  # s, stamps
    rows: list[list[Any]] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)  # s, arrival less stamp

    def listen(self, n_samples: int) -> None:
        """Pull until all samples are there, or for as long as a test may wait."""
        import pylsl

        while len(self.t) < n_samples:
            row, stamp = self.inlet.pull_sample(timeout=WAIT_S)
            assert row is not None, f"{len(self.t)} of {n_samples} samples of {self.info.name()!r} came"
            self.late_s.append(pylsl.local_clock() - stamp)
            self.t.append(stamp)
            self.rows.append(row)


def connect(source_id: str) -> Heard:
    """Open an inlet to a stream of this id."""
    import pylsl

    (info,) = pylsl.resolve_byprop("source_id", source_id, timeout=WAIT_S)
    inlet = pylsl.StreamInlet(info)
    full = inlet.info(timeout=WAIT_S)
    inlet.open_stream(timeout=WAIT_S)
    return Heard(full, inlet)


@contextmanager
def playing(playback: Playback) -> Iterator[threading.Event]:
    """Play in a thread while the test listens."""
    stop = threading.Event()
    thread = threading.Thread(target=playback.run, args=(stop,))
    thread.start()
    try:
        yield stop
        thread.join(WAIT_S)
        assert not thread.is_alive()
    finally:
        stop.set()
        thread.join(WAIT_S)


def heard_of(file: XdfFile, **options: Any) -> list[Heard]:
    """Play a whole file to one listener per stream and return what each got."""
    with Playback(file, **options) as playback, ThreadPoolExecutor(len(playback.streams)) as connecting:
        listeners = list(connecting.map(connect, (stream.source_id for stream in playback.streams)))
        threads = [
            threading.Thread(target=listener.listen, args=(stream.n_samples,))
            for listener, stream in zip(listeners, playback.streams, strict=True)
        ]
        with playing(playback) as stop:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
            stop.set()
        for listener in listeners:
            listener.inlet = None  # it would look for a stream that is gone, again and again
        assert playback.n_pushed == sum(stream.n_samples for stream in playback.streams)
    return listeners


def values_of(stream: XdfStream) -> Sequence[Sequence[Any]]:
    rows: list[list[Any]] = stream.x.T.tolist()
    return [list(row) for row in stream.strings] if stream.channel_format == "string" else rows


def assert_equal_but_moved(streams: Sequence[XdfStream], heard: Sequence[Heard], speed: float = 1.0) -> None:
    """Every value is equal, and one shift takes all recorded stamps to those that came."""
    shifts = []
    for stream, listener in zip(streams, heard, strict=True):
        assert len(listener.t) == stream.t.size
        if stream.channel_format == "string":
            assert listener.rows == values_of(stream)
        else:
            assert np.array_equal(np.array(listener.rows).reshape(-1, stream.n_channels), stream.x.T, equal_nan=True)
        shifts.append(np.array(listener.t) - stream.t_synced / speed)
    joined = np.concatenate(shifts)
    assert np.ptp(joined) < 1e-6


def recorded(path: Path) -> XdfFile:
    """Two seconds: numbers with a gap, steps back and a burst; words; events of integers; silence; one sample."""
    t = 500.0 + np.arange(100) / 100
    t[50:] += 1.0
    t[20:24] = t[20]
    t[30] -= 0.05
    with XdfWriter(path) as xdf:
        cap = xdf.add_stream_xml(HEADER)
        words = xdf.add_stream(XdfStreamSpec("words", "Markers", ("a", "b"), channel_format="string", source_id="w"))
        events = xdf.add_stream(XdfStreamSpec("events", "Markers", ("code",), channel_format="int8"))
        xdf.add_stream(XdfStreamSpec("silent", "PPG", ("x",), sfreq=64.0))
        single = xdf.add_stream(XdfStreamSpec("", "Quality", ("x",), channel_format="double64"))
        xdf.write_samples(cap, t, np.array([np.arange(100), -np.arange(100)]))
        xdf.write_samples(words, [500.2, 501.7], [["Reiz", "刺激 😀"], ["", "x" * 3000]])
        xdf.write_samples(events, [500.5, 500.5, 501.0], [[1, -2, 127]])
        xdf.write_samples(single, [1501.5], [[0.1]])
        xdf.write_offset(single, 1501.0, -1000.0)
    return read_xdf(path)


def formats(path: Path) -> XdfFile:
    """A stream of each numeric format: the ends of each integer range, NaN and infinity."""
    with XdfWriter(path) as xdf:
        for name, dtype in NUMERIC_DTYPES.items():
            integer = np.dtype(dtype).kind == "i"
            values = [0, np.iinfo(dtype).min, np.iinfo(dtype).max] if integer else [np.nan, np.inf, 0.1]
            spec = XdfStreamSpec(name, "Data", ("x",), channel_format=cast(ChannelFormat, name))
            xdf.write_samples(xdf.add_stream(spec), [1.0, 1.1, 1.2], np.array([values], dtype=dtype))
    return read_xdf(path)


PLAYABLE = (
    "clock_resets.xdf",
    "empty_streams.xdf",
    "minimal.xdf",
    "muse_5ch_256Hz_4streams_P001.xdf",
    "real16_openbci_125Hz_counter.xdf",
    "real16_truncated_midchunk_nofooter.xdf",
    "real8_openbci_250Hz_markers_otherhost.xdf",
    "twochannel_string_marker.xdf",
    "synthetic/corrupt_400B_in_middle.xdf",
    "synthetic/emotivlike_2hosts.xdf",
    "synthetic/emotivlike_killed.xdf",
)


@dataclass(frozen=True)
class Played:
    """A recording that was played, and what inlets got of it."""

    file: XdfFile
    speed: float
    heard: list[Heard]

    @classmethod
    def of(cls, name: str, file: XdfFile, speed: float | None = None) -> Played:
        """Play a recording under ids of its own, since two may have an id in common; without a speed, in a second."""
        streams = (dataclasses.replace(stream, source_id=f"{name}-{i}") for i, stream in enumerate(file.streams))
        file = dataclasses.replace(file, streams=tuple(streams))
        speed = max(1.0, Playback(file).duration_s) if speed is None else speed
        return cls(file, speed, heard_of(file, speed=speed))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """Recordings that were played, several at the same time: one of everything, one of each format, the samples."""
    own, samples = tmp_path_factory.mktemp("played"), sample_data_folder()
    files: dict[str, tuple[XdfFile, float | None]] = {
        "mixed": (recorded(own / "mixed.xdf"), 1.0),
        "mixed, ten times": (recorded(own / "mixed10.xdf"), 10.0),
        "formats": (formats(own / "formats.xdf"), 10.0),
    }
    if samples is not None:
        files |= {name: (read_xdf(samples / "xdf" / name), None) for name in PLAYABLE}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        plays = {name: threads.submit(Played.of, name, *play) for name, play in files.items()}
        return {name: play.result() for name, play in plays.items()}


def test_everything_arrives_with_the_spacing_it_was_recorded_with(played: dict[str, Played]) -> None:
    """Integers, strings, a gap, a burst, steps back, a second clock: all equal but for one shift, none early."""
    mixed = played["mixed"]
    assert_equal_but_moved(mixed.file.streams, mixed.heard)
    late = np.concatenate([listener.late_s for listener in mixed.heard])
    assert late.min() >= 0.0


def test_a_played_stream_says_of_itself_what_the_recording_says(tmp_path: Path) -> None:
    """Name, type, rate, format and the whole desc with attributes are there; the id says that it is played."""
    file = recorded(tmp_path / "mixed.xdf")
    with Playback(file) as playback:
        ids = [stream.source_id for stream in playback.streams]
        assert ids == ["play-clmer-cap", "play-w", "play-events-3", "play-silent-4", "play--5"]
        with ThreadPoolExecutor(len(ids)) as connecting:
            infos = [listener.info for listener in connecting.map(connect, ids)]
    cap = infos[0]
    assert (cap.name(), cap.type(), cap.channel_count(), cap.nominal_srate()) == ("Cap", "EEG", 2, 100.0)
    said, recorded_desc = ET.fromstring(cap.as_xml()).find("desc"), ET.fromstring(HEADER).find("desc")
    assert said is not None and recorded_desc is not None
    assert ET.canonicalize(ET.tostring(said), strip_text=True) == ET.canonicalize(
        ET.tostring(recorded_desc), strip_text=True
    )
    assert [info.name() for info in infos] == ["Cap", "words", "events", "silent", "stream-5"]
    assert [info.channel_format() for info in infos] == [4, 3, 6, 1, 2]  # int32, string, int8, float32, double64


@pytest.mark.parametrize("channel_format", NUMERIC_DTYPES)
def test_every_format_is_published_as_itself(played: dict[str, Played], channel_format: ChannelFormat) -> None:
    """The ends of each integer range, and NaN and infinity of floats, arrive."""
    of_formats = played["formats"]
    ((stream, heard),) = (
        pair
        for pair in zip(of_formats.file.streams, of_formats.heard, strict=True)
        if pair[0].channel_format == channel_format
    )
    assert_equal_but_moved([stream], [heard], speed=10.0)


def test_speed_brings_stamps_together_and_raises_the_rate(played: dict[str, Played]) -> None:
    """At ten times real time a second takes a tenth, and 100 Hz are announced as 1000."""
    fast = played["mixed, ten times"]
    heard = fast.heard
    assert_equal_but_moved(fast.file.streams, heard, speed=10.0)
    assert heard[0].info.nominal_srate() == 1000.0
    assert min(min(listener.late_s) for listener in heard if listener.late_s) >= 0.0


def test_the_live_sources_take_a_played_session_like_the_real_one(tmp_path: Path) -> None:
    """Headset and face of a simulated session are found, announced and read to the last value."""
    simulated = simulate(SimulationConfig(seconds=2.0, seed=5))
    write_session(simulated, tmp_path / "s.xdf")
    truth = simulated.eeg_x.astype(np.float32)
    with (
        Playback(read_xdf(tmp_path / "s.xdf")) as playback,
        Listener(LslEegSource("auto", SignalConfig())) as eeg,
        Listener(LslFaceSource("CLMER-Face")) as face,
    ):
        info = eeg.next(StreamInfo)
        assert (info.name, info.ch_names) == (simulated.eeg_info.name, simulated.eeg_info.ch_names)
        assert face.next(StreamInfo).extractor == EXTRACTOR_ID
        with playing(playback) as stop:
            x = eeg.next(Chunk).x
            while not np.array_equal(x[:, -1], truth[:, -1]):
                x = np.concatenate([x, eeg.next(Chunk).x], axis=1)
            assert x.shape[1] > truth.shape[1] / 2
            assert np.array_equal(x, truth[:, -x.shape[1] :])
            assert face.next(FaceSample).quality > 0
            stop.set()


def test_a_stream_can_be_chosen(tmp_path: Path) -> None:
    """One name publishes that stream alone, begun at its own first sample; a wrong name lists the right ones."""
    file = recorded(tmp_path / "mixed.xdf")
    with Playback(file, names=["events"]) as playback:
        assert [stream.name for stream in playback.streams] == ["events"]
        assert playback.duration_s == 0.5
    with pytest.raises(SettingsError, match="'Cap', 'words', 'events', 'silent'"):
        Playback(file, names=["event"])


def test_a_loop_begins_again_one_period_behind_the_end(tmp_path: Path) -> None:
    """Three rounds of five samples at 10 Hz are fifteen samples at 10 Hz."""
    with XdfWriter(tmp_path / "loop.xdf") as xdf:
        stream = xdf.add_stream(XdfStreamSpec("loop", "Data", ("n",), sfreq=10.0, source_id="loop"))
        xdf.write_samples(stream, 7.0 + np.arange(5) / 10, [np.arange(5)])
    with Playback(read_xdf(tmp_path / "loop.xdf"), loop=True, speed=5.0) as playback:
        listener = connect("play-loop")
        with playing(playback) as stop:
            listener.listen(15)
            stop.set()
    assert [row[0] for row in listener.rows] == [0.0, 1.0, 2.0, 3.0, 4.0] * 3
    assert np.allclose(np.diff(listener.t), 0.1 / 5, rtol=0, atol=1e-6)


def test_it_can_wait_for_a_listener(tmp_path: Path) -> None:
    """Nobody there: it waits until it is told to stop; somebody there: it begins."""
    file = recorded(tmp_path / "mixed.xdf")
    with Playback(file) as playback:
        stop = threading.Event()
        stop.set()
        assert not playback.wait_for_listener(stop)
        listener = connect("play-w")
        assert playback.wait_for_listener(threading.Event())
        assert listener.t == []


def test_two_streams_of_one_id_get_ids_of_their_own(tmp_path: Path) -> None:
    """LSL recovers no stream whose id is there twice."""
    with XdfWriter(tmp_path / "twins.xdf") as xdf:
        for _ in range(2):
            xdf.write_samples(xdf.add_stream(XdfStreamSpec("twin", "EEG", ("x",), source_id="a")), [1.0], [[1.0]])
    assert [s.source_id for s in Playback(read_xdf(tmp_path / "twins.xdf")).streams] == ["play-a-0", "play-a-1"]


@pytest.mark.parametrize("speed", [0.0, -1.0, np.nan, np.inf])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    """Nothing can be played at speed 0, or at no speed at all."""
    with pytest.raises(SettingsError, match="above 0"):
        Playback(recorded(tmp_path / "mixed.xdf"), speed=speed)


def test_a_recording_without_samples_is_refused(tmp_path: Path) -> None:
    """There is nothing to play, and it is said."""
    with XdfWriter(tmp_path / "none.xdf") as xdf:
        xdf.add_stream(XdfStreamSpec("EPOC", "EEG", ("AF3",), sfreq=128.0))
    with pytest.raises(RecordingError, match="no sample"):
        Playback(read_xdf(tmp_path / "none.xdf"))


@pytest.mark.usefixtures("sample_data")
@pytest.mark.parametrize("name", PLAYABLE)
def test_every_sample_recording_is_played_to_the_last_sample(played: dict[str, Played], name: str) -> None:
    """Within a second each: all streams appear, all values arrive equal, all stamps but for one shift."""
    recording = played[name]
    assert_equal_but_moved(recording.file.streams, recording.heard, recording.speed)


def test_a_sample_recording_without_samples_is_refused(sample_data: Path) -> None:
    """A header alone cannot be played."""
    with pytest.raises(RecordingError, match="no sample"):
        Playback(read_xdf(sample_data / "xdf" / "eeg_header_no_samples.xdf"))


def test_the_command_prints_what_it_publishes_and_what_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line per stream with its id, then the length; behind the last sample the count."""
    recorded(tmp_path / "mixed.xdf")
    assert main(["play", str(tmp_path / "mixed.xdf"), "--speed", "10", "--stream", "Cap", "--stream", "silent"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "'Cap' (EEG, 2 channels, 1000 Hz, 100 samples) as 'play-clmer-cap'",
        "'silent' (PPG, 1 channels, 640 Hz, 0 samples) as 'play-silent-4'",
        "2.0 s at speed 10; Ctrl+C ends it",
        "100 samples of 2 streams were published",
    ]
