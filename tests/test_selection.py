"""Claims about the words by which a user says which stream is meant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clmer_streaming.errors import SettingsError, StreamError
from clmer_streaming.sources.selection import StreamQuery, the_only_one, why_none
from clmer_streaming.types import StreamInfo
from clmer_streaming.xdf.description import StreamDescription, parse_stream_header

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
    assert StreamQuery.parse(text).fits(header(), usual_type="EEG")


@pytest.mark.parametrize("text", ["epoc x", "source_id=E-2", "type=ECG", "hostname=lab2,channel_count=15", "name=EEG"])
def test_a_query_leaves_the_rest(text: str) -> None:
    """One property that differs is enough."""
    assert not StreamQuery.parse(text).fits(header())


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("auto", False),
        ("hostname=Lab2", False),
        ("Epoc X", True),
        ("source_id=E-1", True),
        ("type=Contact-Quality", True),
    ],
)
def test_of_one_device_the_eeg_is_meant_unless_another_stream_is_asked_for(text: str, fits: bool) -> None:
    """A headset's contact quality has the same labels as its EEG."""
    assert StreamQuery.parse(text).fits(header(kind="Contact-Quality"), usual_type="EEG") is fits


@pytest.mark.parametrize(
    "text", ["name='Epoc X' and channel_count>8", "starts-with(name,'Epoc')", 'desc/manufacturer="Emotiv"']
)
def test_a_predicate_is_left_to_the_network(text: str) -> None:
    """What it answers is meant, whatever the type."""
    query = StreamQuery.parse(text)
    assert query.predicate == text
    assert query.fits(header(kind="Accelerometer"), usual_type="EEG")


@pytest.mark.parametrize("name", ["Anna's EEG", "Muse (left)", "EEG, left", "salt and pepper"])
def test_names_may_look_like_something_else(name: str) -> None:
    """Quotes, commas and words within a name do not make it a query."""
    assert StreamQuery.parse(name).fits(header(name))


@pytest.mark.parametrize("text", ["colour=red", "name=", "type=EEG,left", "=EEG"])
def test_a_query_that_asks_for_nothing_known_is_refused(text: str) -> None:
    """The properties that can be asked for are listed."""
    with pytest.raises(SettingsError, match="source_id"):
        StreamQuery.parse(text)


def test_one_stream_is_no_question() -> None:
    """Nor is none."""
    the_only_one([_info("one", "A")], "--eeg", "EEG stream")
    the_only_one([], "--eeg", "EEG stream")


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
        the_only_one([_info(*words) for words in infos], "--eeg", "EEG stream")
    assert mend in caught.value.mend
    assert caught.value.found.startswith("2: one (source_id")


def _info(name: str, source_id: str, hostname: str = "h1") -> StreamInfo:
    info = StreamInfo("eeg", "eeg", name, ("AF3",), 128.0)
    return replace(info, source_id=source_id, hostname=hostname)


def test_what_is_there_instead_is_said() -> None:
    """Sorted, so that the same network gives the same sentence."""
    text = why_none([header("b", "ECG"), header("a", "")], StreamQuery.parse("mine"), "EEG stream")
    assert text == "no EEG stream 'mine' found yet; on the network: a (no type), b (ECG)"
    assert "6 more" in why_none([header(str(i)) for i in range(12)], StreamQuery.parse("auto"), "EEG stream")
    assert "no stream at all" in why_none([], StreamQuery.parse("auto"), "EEG stream")
