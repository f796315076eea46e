"""Claims about a new participant whose face and EEG at rest are measured in one live session, among markers.

Headset, camera, experiment and service are real; the service is left alone for the minute that the rest takes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pylsl
import pytest

from clmer_server.archive.verify import CPU_LIMIT
from clmer_server.cli import main
from clmer_server.participants import load_neutral, load_rest
from clmer_streaming.clock import local_clock
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.pipeline.baseline import REST_SCALE_UV
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.types import Item, Marker, RestBaseline, Window
from tests.support.face_pictures import swaying
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera
from tests.support.protocol_client import ProtocolClient, Told, client_of, exchange_clocks
from tests.support.recorded import assert_same_answers, predicted, predictions_of
from tests.support.serving import Service, serving

pytestmark = pytest.mark.deep

REST_S, NEUTRAL_S = 60, 2
AHEAD_S = 1000.0
"""How far the client's clock is ahead of the machine's."""

EXPERIMENT = "Experiment"
"""Name of the LSL stream with markers."""


@dataclass(frozen=True)
class Seen:
    """What a client heard, and what was left."""

    heard: list[Told]
    sent_at: dict[str, float]  # s of the LSL clock, by label of a marker
    printed: str  # by the service
    log: str
    people: Path
    first: Path  # folder of the session with both calibrations
    second: Path  # of the one behind it

    def notices(self, code: str) -> list[str]:
        return [told["message"] for told in self.heard if told.get("code") == code]


class RequestHandler:
    """A client that marks and waits, while windows come."""

    def __init__(self, client: ProtocolClient, outlet: pylsl.StreamOutlet) -> None:
        self.client = client
        self.sent_at: dict[str, float] = {}
        self._outlet = outlet
        self._places = itertools.count(1)

    def mark(self) -> None:
        """Send a marker by the client's clock, and one by LSL."""
        place = next(self._places)
        self.sent_at[f"client {place}"] = now = local_clock()
        request = {"type": "marker", "label": f"client {place}", "t": now + AHEAD_S, "clock": "client"}
        assert self.client.ask(**request)["type"] == "ack"
        self.sent_at[f"lsl {place}"] = now = local_clock()
        self._outlet.push_sample([f"lsl {place}"], now)

    def wait(self, enough: Callable[[Told], bool]) -> Told:
        """Return the first prediction from now on that is enough; each may take as long as any message."""
        while not enough(told := self.client.next("prediction")):
            pass
        return told

    def wait_for_end_of(self, what: str) -> Told:
        """Return the first prediction behind the end of a calibration."""
        return self.wait(lambda _: any(what in told.get("message", "") for told in self.client.heard))


@contextmanager
def experiment() -> Iterator[pylsl.StreamOutlet]:
    """An experiment that marks on the LSL network."""
    yield pylsl.StreamOutlet(pylsl.StreamInfo(EXPERIMENT, "Markers", 1, 0.0, pylsl.cf_string, "EXP-1"))


def is_of_both(told: Told) -> bool:
    """Tell whether this is a prediction from EEG and face."""
    return told["type"] == "prediction" and all(told["modalities"][name]["used"] for name in ("eeg", "face"))


def calibrate(talk: RequestHandler) -> None:
    """Have the rest measured, and the neutral face meanwhile; mark before, between and behind."""
    client = talk.client
    talk.wait(is_of_both)
    exchange_clocks(client, AHEAD_S)
    talk.mark()
    for kind, seconds in (("rest", REST_S), ("neutral", NEUTRAL_S)):
        assert client.ask(type="calibration.start", kind=kind, seconds=seconds)["type"] == "ack"
    talk.wait_for_end_of("neutral face was measured")
    talk.wait(lambda told: bool(told["calibration"]["face"] == "explicit"))
    talk.mark()
    t = talk.wait_for_end_of("EEG at rest was measured")["t_end"]
    talk.mark()
    talk.wait(lambda told: bool(told["t_end"] > t + 3))


def stop_and_start(client: ProtocolClient) -> None:
    """End the session, begin another one of the same person, and wait until it has both signals."""
    assert client.ask(type="session.stop")["type"] == "ack"
    assert client.ask(type="session.start")["type"] == "ack"
    client.until(is_of_both)


def folders(service: Path) -> list[Path]:
    """Return those of the sessions, in the order of their beginning."""
    return sorted((service / "rec").iterdir(), key=lambda path: SessionReader(path / "session.xdf").summary.first)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("both")
    who = ("--participant", "P01", "--participants", "people", "--log-level", "debug")
    with (
        headset(),
        network_camera(swaying(31)) as camera,
        experiment() as outlet,
        serving(folder, "--camera", camera.url, "--record", "rec", *who) as service,
    ):
        talk = talked(service, outlet)
        service.end()
        assert service.process.stdout is not None
        printed = service.process.stdout.read()
    log = (folder / "stderr.txt").read_text()
    return Seen(talk.client.heard, talk.sent_at, printed, log, folder / "people", *folders(folder))


def talked(service: Service, outlet: pylsl.StreamOutlet) -> RequestHandler:
    """Return the conversation when it is over."""
    with client_of(service) as client:
        client.next("stream.status", name=EXPERIMENT, state="live")
        talk = RequestHandler(client, outlet)
        calibrate(talk)
        stop_and_start(client)
    return talk


def items_of(folder: Path) -> list[Item]:
    return list(SessionReader(folder / "session.xdf").items())


def settings_of(folder: Path) -> PreprocessConfig:
    """Return the signal settings of a recorded session."""
    return PreprocessConfig.from_dict(SessionReader(folder / "session.xdf").header["preprocess"])


def test_somebody_of_whom_nothing_is_kept_can_begin(seen: Seen) -> None:
    """With a warning, which tells what to do; the next session needs none."""
    (warning,) = seen.notices("session_warning")
    assert "No neutral face of this session's participant in people yet" in warning
    assert f"warning    {warning}" in seen.printed


def test_neither_what_is_printed_nor_the_log_names_who_takes_part(seen: Seen) -> None:
    """In every detail, calibrations and all; a service manager keeps both."""
    assert "P01" not in seen.printed + seen.log


def test_both_are_kept_under_the_pseudonym(seen: Seen) -> None:
    """And the notices say where."""
    assert {path.name for path in seen.people.iterdir()} == {"P01.json", "P01.rest.json"}
    done = seen.notices("calibration_done")
    assert [Path("people", name).as_posix() in " ".join(done) for name in ("P01.json", "P01.rest.json")] == [True, True]
    assert load_neutral(seen.people, "P01") is not None
    assert load_rest(seen.people, "P01", settings_of(seen.first)) is not None


def test_from_the_neutral_face_on_events_say_so(seen: Seen) -> None:
    """Everything before is running or the average one; the shipped model does not look at the rest."""
    events = [event for event in predictions_of(seen.first) if event["modalities"]["face"]["used"]]
    states = [event["calibration"]["face"] for event in events]
    first = states.index("explicit")
    assert first > 0
    assert set(states[:first]) <= {"prior", "running"}
    assert set(states[first:]) == {"explicit"}
    assert {event["calibration"]["eeg"] for event in events} == {"none"}


def test_markers_of_client_and_lsl_are_in_the_recording_where_they_happened(seen: Seen) -> None:
    """Six of them: before, between and behind the calibrations."""
    kept = {item.label: item for item in items_of(seen.first) if isinstance(item, Marker)}
    assert kept.keys() == seen.sent_at.keys()
    for label, t in seen.sent_at.items():
        assert abs(kept[label].t - t) <= (kept[label].uncertainty_s or 0.001)
    assert {marker.source for marker in kept.values()} == {"websocket", f"lsl:{EXPERIMENT}"}


@pytest.mark.parametrize("run", ["first", "second"])
def test_it_verifies_at_0(seen: Seen, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All windows bit for bit, and every answer that the model gave to one window alone."""
    folder: Path = getattr(seen, run)
    assert main(["verify", str(folder)]) == 0
    said = capsys.readouterr().out
    n, shared = len(predictions_of(folder)), sum(event["batch"] > 1 for event in predictions_of(folder))
    assert f"{n} windows, {n} equal bit for bit" in said
    assert "differs" not in said
    (largest,) = re.findall(r"largest probability difference (\S+)", said)
    assert float(largest) <= (CPU_LIMIT if shared else 0.0)


def test_replayed_at_full_speed_it_gives_the_same_answers(seen: Seen, tmp_path: Path) -> None:
    """Calibration states, windows, reasons, numbers."""
    assert_same_answers(predictions_of(seen.first), predicted(seen.first / "session.xdf", tmp_path))


def test_a_model_that_wants_the_rest_gets_it_from_its_end_on(seen: Seen) -> None:
    """From the recording: the rest stands at its place, and behind it each channel is of the size of the rest."""
    items, config = items_of(seen.first), settings_of(seen.first)
    (rest,) = [item for item in items if isinstance(item, RestBaseline)]
    assert rest == load_rest(seen.people, "P01", config)
    windows = windows_of(items, replace(config, eeg_calibration="rest"))
    states = {window.t_end: window.calibration["eeg"] for window in windows if window.mask["eeg"].any()}
    assert {state for t_end, state in states.items() if t_end <= rest.t} == {"none"}
    assert {state for t_end, state in states.items() if t_end > rest.t} == {"rest"}
    measured = [w for w in windows if w.calibration["eeg"] == "rest" and w.mask["eeg"].any()]
    behind = [np.median(w.series["eeg"][w.mask["eeg"]].std(axis=1)) for w in measured]
    assert np.median(behind) == pytest.approx(REST_SCALE_UV, rel=0.2)


def test_the_next_session_begins_with_both(seen: Seen) -> None:
    """Every face in it is measured against the neutral one, and the rest stands before the first window."""
    faces = [event for event in predictions_of(seen.second) if event["modalities"]["face"]["used"]]
    assert {event["calibration"]["face"] for event in faces} == {"explicit"}
    items, config = items_of(seen.second), settings_of(seen.second)
    assert [item for item in items if isinstance(item, RestBaseline)] == [load_rest(seen.people, "P01", config)]
    windows = windows_of(items, replace(config, eeg_calibration="rest"))
    assert {window.calibration["eeg"] for window in windows if window.mask["eeg"].any()} == {"rest"}


def windows_of(items: list[Item], config: PreprocessConfig) -> list[Window]:
    path = Preprocessor(config)
    return [window for item in items for window in path.push(item)]
