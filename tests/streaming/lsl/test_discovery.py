"""Claims about the list of streams: what is on a real LSL network, at which rate, on which clock, of what use."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pylsl
import pytest

from clmer_server.cli import main
from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES
from clmer_streaming.lsl.discovery import FoundStream, find_streams, why_not_eeg, why_not_face
from clmer_streaming.lsl.outlets import FaceOutlet
from clmer_streaming.types import StreamInfo
from tests.support.lsl_outlet import headset

pytestmark = pytest.mark.lsl

CONFIG = PreprocessConfig()


def described(name: str, kind: str, source_id: str, labels: tuple[str, ...], sfreq: float = 128.0) -> pylsl.StreamInfo:
    """A stream with these labels, none where they are empty."""
    info = pylsl.StreamInfo(name, kind, len(labels), sfreq, pylsl.cf_float32, source_id)
    channels = info.desc().append_child("channels")
    for label in filter(None, labels):
        channels.append_child("channel").append_child_value("label", label)
    return info


@contextlib.contextmanager
def playing(info: pylsl.StreamInfo, rate_hz: float, clock_offset_s: float = 0.0) -> Iterator[None]:
    """Publish zeros at a rate, stamped by a clock that is ahead of LSL's."""
    outlet, stop = pylsl.StreamOutlet(info), threading.Event()

    def play() -> None:
        begin, n = pylsl.local_clock(), 0
        while not stop.wait(max(0.0, begin + n / rate_hz - pylsl.local_clock())):
            outlet.push_sample([0.0] * info.channel_count(), begin + n / rate_hz + clock_offset_s)
            n += 1

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def found() -> dict[str, FoundStream]:
    """What one look of two seconds finds of a lab in which everything is on at the same time, by name."""
    unix_s = time.time() - pylsl.local_clock()
    bystanders = [
        pylsl.StreamInfo("text", "Markers", 1, 0.0, pylsl.cf_string, "T-1"),
        described("bare", "EEG", "B-1", ("",) * 8),
        described("contact", "Contact-Quality", "C-1", EPOC_CH_NAMES, 2.0),
        described("own", "EEG", "clmer-x", EPOC_CH_NAMES),
    ]
    with (
        headset("Epoc", "E-77"),
        playing(described("half", "EEG", "H-1", EPOC_CH_NAMES), rate_hz=64.0),
        playing(described("on LSL", "EEG", "S-1", EPOC_CH_NAMES), 128.0),
        playing(described("on Unix time", "EEG", "S-2", EPOC_CH_NAMES), 128.0, unix_s),
        playing(described("on other", "EEG", "S-3", EPOC_CH_NAMES), 128.0, 1e5),
    ):
        outlets = [pylsl.StreamOutlet(info) for info in bystanders]
        faces = [
            FaceOutlet(StreamInfo("face", "face", "camera", FACE_CH_NAMES, 30.0, "", name, extractor=name), name)
            for name in (EXTRACTOR_ID, "another")
        ]
        streams = find_streams(2.0)
        assert (len(outlets), len(faces)) == (4, 2)
    assert len(streams) == 11
    return {stream.header.name: stream for stream in streams}


def test_a_headset_is_described_and_measured(found: dict[str, FoundStream]) -> None:
    """Labels, ids and what it is good for; the rate is counted, not believed."""
    stream = found["Epoc"]
    assert stream.header.ch_names[3:17] == EPOC_CH_NAMES
    assert (stream.header.source_id, stream.header.manufacturer) == ("E-77", "Emotiv")
    assert stream.rate_hz == pytest.approx(128.0, rel=0.1)
    assert stream.clock == "LSL"
    assert why_not_eeg(stream, CONFIG) == ""
    assert "CLMER-Face" in why_not_face(stream, CONFIG)


def test_a_wrong_nominal_rate_shows(found: dict[str, FoundStream]) -> None:
    """It announces 128 Hz and delivers half of that: lost samples, or a wrong header."""
    assert found["half"].rate_hz == pytest.approx(64.0, rel=0.1)


@pytest.mark.parametrize("clock", ["LSL", "Unix time", "other"])
def test_the_clock_of_a_stream_is_told(found: dict[str, FoundStream], clock: str) -> None:
    """By how far its newest stamp is from now."""
    assert found[f"on {clock}"].clock == clock


def test_what_cannot_be_used_is_said_with_its_reason(found: dict[str, FoundStream]) -> None:
    """Text, other types, other channels, our own outlets."""
    reasons = {name: why_not_eeg(stream, CONFIG) for name, stream in found.items()}
    assert {name: reasons[name].partition(",")[0] for name in ("text", "contact", "own")} == {
        "text": "it carries text",
        "contact": "it is of type Contact-Quality",
        "own": "it is one of clmer's own",
    }
    assert "no labels" in reasons["bare"]
    assert "--eeg-map" in reasons["bare"]


@pytest.mark.parametrize(("extractor", "reason"), [(EXTRACTOR_ID, ""), ("another", "its extractor is another")])
def test_a_face_stream_is_known_by_its_channels_and_extractor(
    found: dict[str, FoundStream], extractor: str, reason: str
) -> None:
    """Numbers of another extractor mean something else."""
    assert why_not_face(found[extractor], CONFIG).partition(",")[0] == reason


def test_the_command_lists_warnings_for_what_will_trouble(capsys: pytest.CaptureFixture[str]) -> None:
    """No source_id, silence; the JSON keeps every label, the table the first."""
    outlet = pylsl.StreamOutlet(described("mute", "EEG", "", EPOC_CH_NAMES))
    assert main(["streams", "--seconds", "0.2", "--json"]) == 0
    listed: dict[str, Any] = json.loads(capsys.readouterr().out)
    (entry,) = (entry for entry in listed["streams"] if entry["name"] == "mute")
    assert entry["labels"] == list(EPOC_CH_NAMES)
    assert entry["rate_hz"] is None
    assert ["no source_id" in line or "nothing came" in line for line in entry["warnings"]] == [True, True]
    assert main(["streams", "--seconds", "0"]) == 0
    assert "clmer-serve --eeg auto takes mute" in capsys.readouterr().out
    del outlet


def test_an_empty_network_is_told_with_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, for scripts that wait for a stream."""
    assert main(["streams", "--seconds", "0"]) == 1
    assert "--lsl-config" in capsys.readouterr().out
