"""Claims about the other streams of the network: all are taken as they are, none twice, and none of our own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, SignalConfig, physio_source
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.lsl.extra import ALL, NONE, USED, LslExtraSource, extra_stream_info
from clmer_streaming.lsl.inlet import LslSource
from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource
from clmer_streaming.pipeline.liveness import ExtraStreams
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.recording.writer import SessionWriter
from clmer_streaming.types import Chunk, Item, Marker, StreamInfo, Tick
from clmer_streaming.xdf.reader import read_xdf
from tests.support.lab_outlets import CONTACT_NAME, EEG_NAME, MARKER_NAME, MOTION_NAME, PSYCHOPY_NAME, lab
from tests.support.listener import Listener

pytestmark = pytest.mark.lsl

WAIT_S = 60.0


def announced(listener: Listener, n: int) -> dict[str, StreamInfo]:
    """Return the next n announcements by the name of their stream."""
    return {info.name: info for info in (listener.next(StreamInfo) for _ in range(n))}


def test_a_stream_that_is_gone_is_said_to_be_gone() -> None:
    """Words come when they come: that their stream is gone is known by its connection."""
    source = LslExtraSource(MARKER_NAME)
    with Listener(source) as listener:
        with lab():
            info = listener.next(StreamInfo)
            assert source.reason(info.source) == ""
        wait_until(lambda: source.reason(info.source) == f"{MARKER_NAME} is gone; waiting for it to come back")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about."""
    waiting = threading.Event()
    end = time.monotonic() + WAIT_S
    while not condition():
        assert not waiting.wait(0.05)
        assert time.monotonic() < end


def test_none_takes_nothing_and_ends_at_once() -> None:
    """Without a look at the network."""
    found: list[Item] = []
    LslExtraSource(NONE).run(found.append, threading.Event())
    assert found == []


@pytest.mark.deep
def test_a_stream_that_returns_keeps_its_name_and_an_unused_headset_is_taken_in_the_end() -> None:
    """EEG that the EEG source does not want within ten seconds is a stream like any other, until it wants it."""
    headset = LslEegSource(EEG_NAME, SignalConfig())  # which runs only later
    source = LslExtraSource(f"{MARKER_NAME},{EEG_NAME}", [headset])
    with Listener(source) as listener:
        with lab():
            first = listener.next(StreamInfo)
        with lab():
            again = listener.next(StreamInfo)
            eeg = listener.next(StreamInfo)
            listener.next(Chunk, lambda chunk: chunk.source == eeg.source)
            with Listener(headset) as wearer:
                taken = wearer.next(StreamInfo)
                wait_until(lambda: source.reason(eeg.source) == f"{EEG_NAME} has become an input")
    assert first.source == again.source == f"lsl:{MARKER_NAME}"
    assert first.xml != again.xml  # another start of the outlet
    assert (eeg.name, eeg.kind) == (EEG_NAME, "other")
    assert taken.xml == eeg.xml  # by which its status goes away


XML = """<?xml version="1.0"?><info><name>{name}</name><type>{type}</type><channel_count>1</channel_count>
<nominal_srate>{rate}</nominal_srate><channel_format>{format}</channel_format><uid>u-1</uid>
<source_id>id</source_id><hostname>host</hostname><desc/></info>"""


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"type": "Markers", "format": "string"}, "markers"),
        ({"type": "Annotations", "format": "string", "rate": 100}, "markers"),
        ({"type": "markers", "format": "int32"}, "markers"),
        ({"type": "Markers", "format": "int32", "rate": 512}, "other"),  # a trigger channel, sampled
        ({"type": "EEG-Quality"}, "contact"),
        ({"name": "EmotivDataStream-Contact-Quality", "type": "x"}, "contact"),
        ({"type": "EEG"}, "other"),
        ({"type": ""}, "other"),
    ],
)
def test_what_a_stream_carries_is_told_by_its_header(header: dict[str, Any], kind: str) -> None:
    """By type, format and rate."""
    xml = XML.format(**{"name": "X", "type": "", "rate": 0, "format": "float32", **header})
    assert extra_stream_info(xml, "lsl:X").kind == kind


def test_two_streams_for_one_series_are_refused_with_their_names() -> None:
    """A type that two streams share does not say which."""
    import pylsl

    outlets = [
        pylsl.StreamOutlet(pylsl.StreamInfo(name, "ECG", 1, 100.0, pylsl.cf_float32, f"belt-{name}"))
        for name in ("Left belt", "Right belt")
    ]
    source = LslExtraSource(NONE, physio={"ecg": "ECG"})
    with pytest.raises(StreamError) as refusal:
        source.run(lambda item: None, threading.Event())
    assert len(outlets) == 2
    assert "Left belt" in refusal.value.found
    assert "Right belt" in refusal.value.found
    assert "--physio ecg=NAME" in refusal.value.mend
    outlets.clear()  # at once: the traceback would keep them on the network until the garbage is collected


@dataclass(frozen=True)
class Lab:
    """What several sources got of the lab, all at the same time."""

    announced: dict[str, dict[str, StreamInfo]]  # by choice of streams, by name
    series: StreamInfo  # of a source that takes one series of the model
    chunk: Chunk  # of the same


@pytest.fixture(scope="module")
def heard() -> Lab:
    """What is announced in a lab whose streams nobody switches off."""
    import pylsl

    own = pylsl.StreamOutlet(pylsl.StreamInfo("CLMER-Other", "Emotion", 1, 0, pylsl.cf_float32, "clmer-x-host-1-abc"))
    expected = {ALL: 4, USED: 3, f"{MOTION_NAME}, Nobody": 1}
    with lab(), contextlib.ExitStack() as stack:
        headset = LslEegSource("auto", SignalConfig())
        listeners = {choice: stack.enter_context(Listener(LslExtraSource(choice, [headset]))) for choice in expected}
        motion = stack.enter_context(Listener(LslExtraSource(NONE, [headset], {"motion": MOTION_NAME})))
        found = {choice: announced(listeners[choice], n) for choice, n in expected.items()}
        series = motion.next(StreamInfo)
        wearer = stack.enter_context(Listener(headset))  # the lab plays when somebody listens to its headset
        wearer.next(StreamInfo)
        chunk = motion.next(Chunk)
    assert own is not None
    for listener in (*listeners.values(), motion):
        assert [item for item in listener.items.queue if isinstance(item, StreamInfo)] == []
    return Lab(found, series, chunk)


def test_all_other_streams_are_announced_with_what_they_carry(heard: Lab) -> None:
    """The headset that the EEG source has, and streams of CLMER itself, are left alone."""
    infos = heard.announced[ALL]
    assert {name: info.kind for name, info in infos.items()} == {
        CONTACT_NAME: "contact",
        MOTION_NAME: "other",
        MARKER_NAME: "markers",
        PSYCHOPY_NAME: "markers",
    }
    assert infos[MOTION_NAME].channel_format == "int16"
    assert infos[MOTION_NAME].ch_names == ("ACCX", "ACCY", "ACCZ")
    assert infos[MOTION_NAME].manufacturer == "Emotiv"


def test_what_the_service_makes_use_of_is_taken_without_a_recording(heard: Lab) -> None:
    """Contact quality and markers; motion is not."""
    assert set(heard.announced[USED]) == {CONTACT_NAME, MARKER_NAME, PSYCHOPY_NAME}


def test_streams_can_be_chosen_by_name(heard: Lab) -> None:
    """And nothing else is taken."""
    assert set(heard.announced[f"{MOTION_NAME}, Nobody"]) == {MOTION_NAME}


def test_a_series_of_the_model_is_taken_by_name_or_type_whatever_was_chosen(heard: Lab) -> None:
    """Its chunks carry the series' name, in live sessions as in replays."""
    info = heard.series
    assert (info.kind, info.source, info.name) == ("physio", physio_source("motion"), MOTION_NAME)
    assert heard.chunk.source == info.source


def twin(channel_format: int, kind: str = "Motion", sfreq: float = 50.0) -> pylsl.StreamOutlet:
    """Publish one of several streams that are equal in name, type, source_id and host."""
    return pylsl.StreamOutlet(pylsl.StreamInfo("twin", kind, 1, sfreq, channel_format, "TWIN-1"))


def test_two_outlets_that_are_equal_in_everything_are_two_streams() -> None:
    """Both are there at the same time: each has a source key of its own, and no sample changes sides."""
    outlets = [twin(pylsl.cf_float32), twin(pylsl.cf_float32)]
    with Listener(LslExtraSource(ALL)) as listener:
        sources = {listener.next(StreamInfo, lambda info: info.name == "twin").source for _ in outlets}
        assert len(sources) == 2
        for _ in range(20):
            for value, outlet in enumerate(outlets):
                outlet.push_sample([float(value)])
        values: dict[str, set[float]] = {source: set() for source in sources}
        n = 0
        while n < 40:
            chunk = listener.next(Chunk, lambda chunk: chunk.source in sources)
            values[chunk.source] |= set(chunk.x[0].tolist())
            n += chunk.t.size
    assert sorted(map(sorted, values.values())) == [[0.0], [1.0]]


def test_two_equal_streams_of_markers_are_two_streams() -> None:
    """The words of one are not those of the other."""
    outlets = [twin(pylsl.cf_string, "Markers", 0.0), twin(pylsl.cf_string, "Markers", 0.0)]
    with Listener(LslExtraSource(ALL)) as listener:
        sources = {listener.next(StreamInfo, lambda info: info.name == "twin").source for _ in outlets}
        for word, outlet in zip(("one", "two"), outlets, strict=True):
            outlet.push_sample([word])
        markers = [listener.next(Marker) for _ in outlets]
    assert {marker.source for marker in markers} == sources
    assert sorted(marker.label for marker in markers) == ["one", "two"]


def test_whole_numbers_of_64_bits_keep_their_bits_to_the_file(tmp_path: Path) -> None:
    """Nanoseconds since 1970 are beyond what float64 can hold: from the outlet to the XDF file nothing is rounded."""
    sent = [2**62 + 1, -(2**53) - 1, 1_764_600_000_123_456_789]
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("stamps", "Sync", 1, 0.0, pylsl.cf_int64, "I-1"))
    writer = SessionWriter(tmp_path / "session.xdf", {"clock": {"lsl_time": 0.0, "unix_time": 0.0}})
    with Listener(LslExtraSource("stamps")) as listener:
        writer.write(listener.next(StreamInfo))
        for value in sent:
            outlet.push_sample([value])
        n = 0
        while n < len(sent):
            chunk = listener.next(Chunk)
            writer.write(chunk)
            n += chunk.t.size
    writer.close()
    (stream,) = (stream for stream in read_xdf(tmp_path / "session.xdf").streams if stream.name == "stamps")
    assert stream.x.dtype == np.int64
    assert stream.x[0].tolist() == sent
    replayed = [item for item in SessionReader(tmp_path / "session.xdf").items() if isinstance(item, Chunk)]
    assert np.concatenate([chunk.x[0] for chunk in replayed]).tolist() == sent


def published(name: str, kind: str, n_channels: int, source_id: str = "") -> pylsl.StreamOutlet:
    """Publish a stream whose samples nobody needs."""
    return pylsl.StreamOutlet(pylsl.StreamInfo(name, kind, n_channels, 100.0, pylsl.cf_float32, source_id))


@pytest.mark.parametrize(
    ("source", "left"),
    [
        (LslEegSource("wanted", SignalConfig()), {"wanted"}),
        (LslEegSource("source_id=W-1", SignalConfig()), {"headset"}),
        (LslEegSource("auto", SignalConfig()), {"headset"}),
        (LslFaceSource("auto"), {"faces"}),
        (LslFaceSource("wanted"), {"wanted"}),
    ],
    ids=["name", "source_id", "auto", "face", "face name"],
)
def test_what_an_input_wants_is_left_to_it_and_nothing_else(source: LslSource, left: set[str]) -> None:
    """Whatever its type is, so that it is recorded once; the input runs elsewhere, or is about to."""
    outlets = [
        published("wanted", "signal", 14),
        published("headset", "EEG", 14, "W-1"),
        published("faces", "MoCap", len(FACE_CH_NAMES)),
        published("bystander", "Motion", 3),
    ]
    with Listener(LslExtraSource(ALL, [source])) as listener:
        found = announced(listener, len(outlets) - len(left))
        with pytest.raises(queue.Empty):  # two more looks at the network find nothing new
            listener.items.get(timeout=1.5)
    assert found.keys() == {"wanted", "headset", "faces", "bystander"} - left


def test_a_predicate_leaves_what_it_matches_and_nothing_else() -> None:
    """What it matches is known to the network alone, which is waited for: nothing is read in the meantime."""
    headset = LslEegSource("starts-with(name,'want')", SignalConfig())
    outlets = [published("wanted", "signal", 14), published("bystander", "Motion", 3)]
    with Listener(headset) as wearer, Listener(LslExtraSource(ALL, [headset])) as listener:
        assert announced(listener, 1).keys() == {"bystander"}
        with pytest.raises(queue.Empty):
            listener.items.get(timeout=1.5)
        assert headset.reason  # 14 channels without labels are no EEG for the model
        assert not any(isinstance(item, StreamInfo) for item in wearer.items.queue)
    assert len(outlets) == 2


def eeg_outlet() -> pylsl.StreamOutlet:
    """Publish a headset without a source_id, as some bridges do."""
    info = pylsl.StreamInfo("headset", "EEG", 14, 128.0, pylsl.cf_float32, "")
    channels = info.desc().append_child("channels")
    for name in EPOC_CH_NAMES:
        channels.append_child("channel").append_child_value("label", name)
    return pylsl.StreamOutlet(info)


def test_a_headset_without_a_source_id_that_is_started_again_is_read_once() -> None:
    """Its new start is known by name, type and host, though it says nothing new of itself."""
    headset = LslEegSource("auto", SignalConfig())
    with Listener(headset) as wearer, Listener(LslExtraSource(ALL, [headset])) as listener:
        outlets = {"first": eeg_outlet()}
        wearer.next(StreamInfo)
        first = headset.uid
        del outlets["first"]
        outlets["second"] = eeg_outlet()
        wait_until(lambda: headset.uid not in ("", first))
        with pytest.raises(queue.Empty):
            listener.items.get(timeout=2.0)


def test_a_stream_that_is_started_again_at_once_goes_on_in_its_own() -> None:
    """Though the network still lists the one that is gone: that is not taken for a second stream."""
    with Listener(LslExtraSource(ALL)) as listener:
        sources: list[str] = []
        outlets: dict[str, pylsl.StreamOutlet] = {}
        for _ in range(4):
            outlets.clear()
            outlets["again"] = twin(pylsl.cf_float32)
            sources.append(listener.next(StreamInfo).source)
    assert sources == ["lsl:twin"] * 4


def test_two_equal_streams_for_one_series_are_refused() -> None:
    """They cannot be told apart, and their samples must not be mixed."""
    outlets = [twin(pylsl.cf_float32, "ECG"), twin(pylsl.cf_float32, "ECG")]
    source = LslExtraSource(NONE, physio={"ecg": "twin"})
    with pytest.raises(StreamError) as refusal:
        source.run(lambda item: None, threading.Event())
    assert len(outlets) == 2
    assert refusal.value.found.count("twin (source_id TWIN-1") == 2
    assert "rename one of them" in refusal.value.mend


def test_a_stream_that_becomes_an_input_is_not_lost() -> None:
    """It was followed as a bystander; from its announcement as EEG on it has one status, that of the input."""
    xml = "<info><uid>1</uid></info>"
    streams = ExtraStreams()
    streams.push(StreamInfo("lsl:EPOC", "other", "EPOC", ("",), 128.0, xml=xml), 100.0)
    assert [status.source for status in streams.push(Tick(101.0, "eeg"), 101.0)] == ["lsl:EPOC"]
    assert streams.push(StreamInfo("eeg", "eeg", "EPOC", ("",), 128.0, xml=xml), 101.5) == ()
    assert streams.push(Tick(110.0, "eeg"), 110.0) == ()


def test_markers_in_unix_time_are_stamped_when_they_arrive() -> None:
    """As EEG is, and the stream says so; its outlet is the only one that stamps so."""
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("unix-markers", "Markers", 1, 0.0, pylsl.cf_string, "U-1"))
    with Listener(LslExtraSource("unix-markers")) as listener:
        assert listener.next(StreamInfo).note == ""
        before = pylsl.local_clock()
        outlet.push_sample(["begin"], time.time())
        assert listener.next(StreamInfo).note == "its stamps are Unix time: its samples are stamped when they arrive"
        marker = listener.next(Marker)
        outlet.push_sample(["end"], time.time())
        again = listener.next(Marker)
        after = pylsl.local_clock()
    assert (marker.label, again.label) == ("begin", "end")
    assert before <= marker.t <= again.t <= after
