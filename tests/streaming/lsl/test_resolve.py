"""Claims about the words by which a user says which stream is meant."""

from __future__ import annotations

import threading
from dataclasses import replace

import pylsl
import pytest

from clmer_streaming.config import PreprocessConfig, SignalConfig
from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.lsl.discovery import find_streams, why_not_eeg
from clmer_streaming.lsl.outlets import FaceOutlet
from clmer_streaming.lsl.resolve import (
    Claim,
    StreamClaims,
    StreamIdentity,
    StreamQuery,
    explain_no_stream,
    parse_headers,
    require_single,
)
from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource
from clmer_streaming.types import StreamInfo, Tick
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header
from tests.support.listener import Listener
from tests.support.lsl_outlet import Outlet, headset, headsets

_XML = """<info><name>{name}</name><type>{type}</type><channel_count>14</channel_count>
<nominal_srate>128.0000000000000</nominal_srate><channel_format>float32</channel_format>
<source_id>{source_id}</source_id><hostname>Lab2</hostname></info>"""


def header(name: str = "Epoc X", kind: str = "EEG", source_id: str = "E-1") -> StreamDescription:
    """A stream as the network tells of it."""
    return parse_stream_header(0, _XML.format(name=name, type=kind, source_id=source_id).encode())


@pytest.mark.parametrize(
    "text",
    [
        "Epoc X",
        "name=Epoc X",
        "source_id=E-1",
        "type=eeg",
        "hostname=lab2",
        "type=EEG,hostname=LAB2",
        "type=EEG and hostname=Lab2 and source_id=E-1",
        "channel_count=14, nominal_srate=128",
        "channel_format=Float32",
    ],
)
def test_a_query_finds_what_it_says(text: str) -> None:
    """Names and ids are exact; types, hosts and formats are compared without regard to case; numbers as numbers."""
    assert StreamQuery.parse(text).matches(header(), usual_type="EEG")


@pytest.mark.parametrize("text", ["epoc x", "source_id=E-2", "type=ECG", "hostname=lab2,channel_count=15", "name=EEG"])
def test_a_query_leaves_the_rest(text: str) -> None:
    """One property that differs is enough."""
    assert not StreamQuery.parse(text).matches(header())


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("auto", False),
        ("hostname=Lab2", False),
        ("Epoc X", True),
        ("source_id=E-1", True),
        ("type=Contact-Quality", True),
    ],
)
def test_of_one_device_the_eeg_is_meant_unless_another_stream_is_asked_for(text: str, matches: bool) -> None:
    """A headset's contact quality has the same labels as its EEG."""
    assert StreamQuery.parse(text).matches(header(kind="Contact-Quality"), usual_type="EEG") is matches


@pytest.mark.parametrize(
    "text", ["name='Epoc X' and channel_count>8", "starts-with(name,'Epoc')", 'desc/manufacturer="Emotiv"']
)
def test_a_predicate_is_left_to_the_network(text: str) -> None:
    """What it answers is meant, whatever the type."""
    query = StreamQuery.parse(text)
    assert query.predicate == text
    assert query.matches(header(kind="Accelerometer"), usual_type="EEG")


@pytest.mark.parametrize("name", ["Anna's EEG", "Muse (left)", "EEG, left", "salt and pepper"])
def test_names_may_look_like_something_else(name: str) -> None:
    """Quotes, commas and words within a name do not make it a query."""
    assert StreamQuery.parse(name).matches(header(name))


@pytest.mark.parametrize("text", ["colour=red", "name=", "type=EEG,left", "=EEG"])
def test_a_query_that_asks_for_nothing_known_is_refused(text: str) -> None:
    """The properties that can be asked for are listed."""
    with pytest.raises(SettingsError, match="source_id"):
        StreamQuery.parse(text)


def test_one_stream_is_no_question() -> None:
    """Nor is none."""
    require_single([_info("one", "A")], "--eeg", "EEG stream")
    require_single([], "--eeg", "EEG stream")


@pytest.mark.parametrize(
    ("infos", "mend"),
    [
        ((("one", "A", "h1"), ("two", "B", "h1")), "--eeg NAME"),
        ((("one", "A", "h1"), ("one", "B", "h1")), "--eeg source_id=A or --eeg source_id=B"),
        ((("one", "", "h1"), ("one", "", "h2")), "--eeg hostname=h1 or --eeg hostname=h2"),
        ((("one", "A", "h1"), ("one", "A", "h1")), "a source_id of its own"),
    ],
)
def test_several_streams_are_refused_with_what_tells_them_apart(infos: tuple[tuple[str, ...], ...], mend: str) -> None:
    """The words to use stand in the message."""
    with pytest.raises(StreamError) as caught:
        require_single([_info(*words) for words in infos], "--eeg", "EEG stream")
    assert mend in caught.value.mend
    assert caught.value.found.startswith("2: one (source_id")


def _info(name: str, source_id: str, hostname: str = "h1") -> StreamInfo:
    info = StreamInfo("eeg", "eeg", name, ("AF3",), 128.0)
    return replace(info, source_id=source_id, hostname=hostname)


def test_what_is_there_instead_is_said() -> None:
    """Sorted, so that the same network gives the same sentence."""
    text = explain_no_stream([header("b", "ECG"), header("a", "")], StreamQuery.parse("mine"), "EEG stream")
    assert text == "no EEG stream 'mine' found yet; on the network: a (no type), b (ECG)"
    assert "6 more" in explain_no_stream([header(str(i)) for i in range(12)], StreamQuery.parse("auto"), "EEG stream")
    assert "no stream at all" in explain_no_stream([], StreamQuery.parse("auto"), "EEG stream")


EPOC = StreamIdentity("uid-1", "EPOC", "E-1", "lab")


def both(*asked: str) -> tuple[Claim, Claim]:
    """Return a session that asks for streams, and another one."""
    claims = StreamClaims()
    return claims.join("left", asked), claims.join("right", ())


def test_a_stream_is_taken_by_one_session_alone() -> None:
    """Also when its outlet was started again under another uid; its own session may take it again."""
    left, right = both()
    again = StreamIdentity("uid-2", EPOC.name, EPOC.source_id, EPOC.hostname)
    assert left.acquire(EPOC)
    assert not right.acquire(EPOC)
    assert not right.acquire(again)
    assert left.acquire(again)
    assert (right.holder(again), left.holder(again)) == ("left", "")


def test_streams_without_an_id_are_told_apart_by_their_outlet() -> None:
    """Two amplifiers of one name are two streams."""
    left, right = both()
    assert left.acquire(StreamIdentity("uid-1", "Amp", "", "lab"))
    assert right.acquire(StreamIdentity("uid-2", "Amp", "", "lab"))
    assert not right.acquire(StreamIdentity("uid-1", "Amp", "", "lab"))


def test_a_session_that_has_ended_frees_its_streams() -> None:
    left, right = both("E-9")
    left.acquire(EPOC)
    left.leave()
    assert right.acquire(EPOC)
    assert not right.is_claimed_by_other(StreamIdentity("u", "E-9", "", "lab"))


def test_other_streams_of_a_headset_go_with_it() -> None:
    """Its contact quality would tell nothing of another participant's electrodes."""
    left, right = both()
    left.acquire(EPOC)
    contact = StreamIdentity("uid-5", "EPOC-Contact-Quality", "E-1", "lab")
    assert right.is_claimed_by_other(contact)
    assert right.holder(contact) == ""
    assert not right.is_claimed_by_other(StreamIdentity("uid-6", "Markers", "task", "lab"))
    assert not left.is_claimed_by_other(contact)


def test_what_a_session_asks_for_by_name_is_left_to_it() -> None:
    """Before it has come, too; a query of types and predicates names nobody."""
    for asked in ("EPOC", "source_id=E-1", "type=EEG, hostname=LAB"):
        left, right = both(asked)
        assert right.is_claimed_by_other(EPOC)
        assert not left.is_claimed_by_other(EPOC)
        assert right.acquire(EPOC)  # who asks for it in other words may be first
    for asked in ("auto", "type=EEG", "starts-with(name,'E')", "name=EPOC, hostname=elsewhere"):
        assert not both(asked)[1].is_claimed_by_other(EPOC)


@pytest.mark.lsl
def test_of_two_headsets_of_one_name_the_source_id_chooses() -> None:
    """Two of a kind in one lab are the rule, not the exception."""
    with (
        headsets(Outlet("EPOC", "ID-1"), Outlet("EPOC", "ID-2")),
        Listener(LslEegSource("type=EEG, source_id=ID-2", SignalConfig())) as listener,
    ):
        with pytest.raises(StreamError, match=r"--eeg source_id=ID-\d or --eeg source_id=ID-\d"):
            LslEegSource("EPOC", SignalConfig()).run(lambda item: None, threading.Event())
        assert listener.next(StreamInfo).source_id == "ID-2"


@pytest.mark.lsl
def test_a_predicate_chooses_by_the_whole_header() -> None:
    """LSL's own query language reaches what a stream says only when it is opened."""
    with headset("EPOC", "ID-3"), Listener(LslEegSource("desc/manufacturer='Emotiv'", SignalConfig())) as listener:
        assert listener.next(StreamInfo).source_id == "ID-3"


@pytest.mark.lsl
def test_a_predicate_that_lsl_does_not_understand_is_refused() -> None:
    """Waiting for what can never come would help nobody."""
    with pytest.raises(StreamError, match="XPath"):
        LslEegSource("name='EPOC", SignalConfig()).run(lambda item: None, threading.Event())


@pytest.mark.lsl
def test_a_stream_that_does_not_fit_is_said_while_waiting() -> None:
    """Neither taken nor passed over in silence: without labels nobody knows which electrode is which."""
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("OpenBCI", "EEG", 8, 250.0, pylsl.cf_float32, "O-1"))
    source = LslEegSource("auto", SignalConfig())
    with Listener(source) as listener:
        listener.next(Tick, lambda tick: "OpenBCI" in source.reason)
        assert "no labels" in source.reason
        assert "--eeg-map" in source.reason
        with headset():
            listener.next(StreamInfo)
            assert source.reason == ""
    del outlet


@pytest.mark.lsl
def test_two_face_streams_of_one_name_are_refused() -> None:
    """As for EEG: nobody guesses whose face it is."""
    first, second = (FaceOutlet(_face(camera), "CLMER-Face") for camera in ("left", "right"))
    with Listener(LslFaceSource(f"source_id={_source_id(second)}")) as listener:
        with pytest.raises(StreamError, match=r"--face-stream source_id=clmer-face-"):
            LslFaceSource("CLMER-Face").run(lambda item: None, threading.Event())
        assert listener.next(StreamInfo).source_id == _source_id(second)
    del first


def _face(camera: str) -> StreamInfo:
    return StreamInfo("face", "face", camera, FACE_CH_NAMES, 30.0, source_id=camera, extractor="test")


def _source_id(outlet: FaceOutlet) -> str:
    source_id: str = outlet._outlet.get_info().source_id()
    return source_id


def outlet_of(name: str, channel_format: int, label: str = "AF3") -> pylsl.StreamOutlet:
    """Publish a stream of one channel with a label."""
    info = pylsl.StreamInfo(name, "EEG", 1, 128.0, channel_format, f"{name}-1")
    info.desc().append_child("channels").append_child("channel").append_child_value("label", label)
    return pylsl.StreamOutlet(info)


@pytest.mark.lsl
def test_a_stream_of_text_that_is_asked_for_by_name_is_told_as_text() -> None:
    """It can never be EEG, and nobody waits for it."""
    outlet = outlet_of("words", pylsl.cf_string)
    with pytest.raises(StreamError, match="'words', a stream of text"):
        LslEegSource("words", SignalConfig()).run(lambda item: None, threading.Event())
    del outlet


@pytest.mark.lsl
def test_a_header_that_cannot_be_read_is_told_as_such() -> None:
    """A control character in a label makes the header no XML: the stream is there, and its fault is said."""
    outlet = outlet_of("broken", pylsl.cf_float32, label="AF3\x02")
    with pytest.raises(StreamError, match="a header of 'broken' in XML that can be read"):
        LslEegSource("broken", SignalConfig()).run(lambda item: None, threading.Event())
    (found,) = (stream for stream in find_streams(0.2) if stream.header.name == "broken")
    assert found.trouble.startswith("its header cannot be read")
    assert why_not_eeg(found, PreprocessConfig()) == found.trouble
    del outlet


def test_a_result_without_readable_xml_keeps_what_liblsl_reads_of_it() -> None:
    """Name, type, channels, rate and format come from liblsl itself; the XML is empty."""
    info = pylsl.StreamInfo("odd\x02", "EEG", 3, 128.0, pylsl.cf_float32, "O-1")
    ((_, found),) = parse_headers([info])
    assert (found.type, found.n_channels, found.sfreq, found.channel_format, found.xml) == (
        "EEG",
        3,
        128.0,
        "float32",
        "",
    )
