"""Claims about what a service says of the people that it serves: in its log nothing, at its start what it is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from clmer_server.participants import save_rest
from clmer_streaming.recording.reader import read_contents
from clmer_streaming.types import RestBaseline
from tests.support.paths import RECORDING
from tests.support.protocol_client import ProtocolClient
from tests.support.recorded import only_folder
from tests.support.serving import serving

PSEUDONYM, CONSENT, LABEL = "Quokka-17", "folder-Zebra-4711", "clip-Narwhal/start"
OPTIONS = ("--replay", RECORDING, "--speed", "16", "--record", "rec", "--device", "cpu", "--purpose", "research")


@dataclass(frozen=True)
class Seen:
    """What a service said, and what it recorded."""

    printed: str
    log: str
    header: dict[str, Any]
    labels: set[str]
    predictions: list[dict[str, Any]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A recorded session of a participant, logged in every detail, whose disk is full after a while."""
    import resource  # not on Windows

    folder = tmp_path_factory.mktemp("log")
    save_rest(folder / "participants", PSEUDONYM, RestBaseline(0.0, ("Fz",), (0.0,), (9.0,), "signal", 60.0))
    about = ("--participant", PSEUDONYM, "--consent-ref", CONSENT)
    with serving(folder, *OPTIONS, *about, "--log-level", "debug", "--log-format", "json") as service:
        with service.connect() as socket:
            client = ProtocolClient(socket)
            assert client.ask(type="marker", label=LABEL)["type"] == "ack"
            client.ask(type="marker", label=5)  # refused, and no reason to repeat it in the log
            for _ in range(25):
                client.next("prediction", valid=True)
            recording = only_folder(folder / "rec") / "session.xdf"
            limit = recording.stat().st_size
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
            client.next("notice", code="recording_failed")
        service.end()
        assert service.process.stdout is not None
        printed = service.process.stdout.read()
    contents = read_contents(recording)
    labels = {marker.label for marker in contents.markers}
    return Seen(printed, (folder / "stderr.txt").read_text(), contents.header, labels, contents.predictions)


def test_the_log_names_nobody_and_repeats_no_marker(seen: Seen) -> None:
    """At the level of debug; the very words are in the recording."""
    assert (seen.header["participant"], seen.header["consent_ref"]) == (PSEUDONYM, CONSENT)
    assert LABEL in seen.labels
    for word in (*seen.labels, PSEUDONYM, CONSENT, "Quokka", "Zebra", "Narwhal"):
        assert word not in seen.log


def test_what_is_printed_at_the_start_names_nobody(seen: Seen) -> None:
    """A service manager keeps it beside the log; of a live session see test_both_calibrations."""
    assert "recording  rec" in seen.printed
    assert not any(word in seen.printed for word in (PSEUDONYM, CONSENT, "Quokka", "Zebra"))


def test_the_log_holds_no_probability(seen: Seen) -> None:
    """Nor valence or arousal: none of the numbers that clients got, to four places."""
    answers = [p for p in seen.predictions if p["valid"]]
    numbers = {f"{value:.4f}" for p in answers for value in (*p["probs"].values(), p["valence"], p["arousal"])}
    assert len(numbers) > 50
    assert not any(number in seen.log for number in numbers)


def test_a_line_about_a_session_names_it(seen: Seen) -> None:
    """In a field of its own; each line is an object."""
    lines = [json.loads(line) for line in seen.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (failed,) = [line for line in lines if line["level"] == "error"]
    assert (failed["session"], "recording" in failed["message"]) == (seen.header["session"], True)


def test_the_purpose_is_printed_at_the_start_and_kept_in_the_recording(seen: Seen) -> None:
    assert "purpose    research" in seen.printed.splitlines()
    assert seen.header["settings"]["purpose"] == "research"
