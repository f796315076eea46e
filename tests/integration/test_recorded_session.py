"""Claims about a session recorded live: replayed at any speed, or computed offline, it gives the same answers.

The headset, its jitter and the other streams of the lab are in another process, the service in a third one.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyxdf

from clmer_server.cli import main
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.outlets import NO_LABEL
from clmer_streaming.recording.reader import SessionReader
from clmer_streaming.types import Chunk, FloatArray, Marker, StreamInfo
from tests.support.lab_outlets import (
    CONTACT_NAME,
    EEG_NAME,
    LABELS,
    MARKER_NAME,
    MOTION_NAME,
    PSYCHOPY_NAME,
    lab,
    lab_session,
)
from tests.support.lsl_inlets import Inlets
from tests.support.paths import RECORDING
from tests.support.recorded import assert_same_answers, only_folder, predicted, predictions_of, read_until
from tests.support.serving import serving
from tests.support.signals import eeg_path

SETTLED_S = 10.0  # s from the first sample, behind which stamps are as good as promised


@dataclass(frozen=True)
class Recorded:
    """What a session left, and what was seen of it from outside."""

    folder: Path
    begin: float  # s, the true time of the headset's first sample
    messages: list[dict[str, Any]]  # that a client got
    inlets: dict[str, list[tuple[float, list[Any]]]]  # by name of an outlet: stamps and samples

    @property
    def session(self) -> Path:
        """The recording."""
        return self.folder / "session.xdf"

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """As they were recorded."""
        return predictions_of(self.folder)


def valid(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [m for m in messages if m["type"] == "prediction" and m["valid"]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A live session of some twelve seconds."""
    folder = tmp_path_factory.mktemp("live")
    with (
        serving(folder, "--camera", "none", "--record", "rec", "--participant", "P01") as service,
        Inlets("CLMER-Emotion", "CLMER-Label", "CLMER-Markers") as inlets,
        lab() as process,
    ):
        assert process.stdout is not None
        begin = float(process.stdout.readline())
        messages = read_until(service, lambda seen: len(valid(seen)) >= 20)
        service.end()
    yield Recorded(only_folder(folder / "rec"), begin, messages, inlets.samples)


def test_clients_and_the_file_of_predictions_have_the_same_objects(live: Recorded) -> None:
    """Word for word; the file goes on where the client left."""
    told = [message for message in live.messages if message["type"] == "prediction"]
    recorded = live.predictions
    first = recorded.index(told[0])
    assert recorded[first : first + len(told)] == told


def test_replayed_at_full_speed_a_session_gives_the_same_answers(live: Recorded, tmp_path: Path) -> None:
    """Windows bit for bit, by their CRC; reasons, qualities and numbers, too."""
    assert_same_answers(live.predictions, predicted(live.session, tmp_path))


def test_replayed_at_the_speed_of_life_a_session_gives_the_same_answers(live: Recorded, tmp_path: Path) -> None:
    """Time on the wall has no part in it."""
    assert_same_answers(live.predictions, predicted(live.session, tmp_path, "1"))


def test_the_offline_modules_find_no_difference(live: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """``clmer verify`` computes every window and every answer once more."""
    assert main(["verify", str(live.session)]) == 0
    said = capsys.readouterr().out
    n = len(live.predictions)
    assert f"{n} windows, {n} equal bit for bit; largest probability difference" in said
    assert "differs" not in said


def test_values_are_those_that_were_sent_and_stamps_are_true_within_a_millisecond(live: Recorded) -> None:
    """4 ms of jitter; from ten seconds on, by what the simulator knows."""
    sent = lab_session()
    items = list(SessionReader(live.session).items())
    info = next(item for item in items if isinstance(item, StreamInfo) and item.kind == "eeg")
    chunks = [item for item in items if isinstance(item, Chunk) and item.source == info.source]
    x = np.concatenate([chunk.x for chunk in chunks], axis=1)
    (first,) = np.flatnonzero((sent.eeg_x.astype(np.float32) == x[:, :1]).all(axis=0))
    assert np.array_equal(x, sent.eeg_x[:, first : first + x.shape[1]].astype(np.float32))
    path = eeg_path(info)
    t: FloatArray = np.concatenate([c.t for i in chunks for c in path.timeline.push(i) if isinstance(c, Chunk)])
    true = live.begin + (first + np.arange(t.size)) / sent.truth.true_rate_hz
    behind = true > true[0] + SETTLED_S
    assert behind.sum() > 64
    assert np.max(np.abs(t - true)[behind]) < 1e-3


def test_live_predictions_come_as_soon_as_the_window_is_full(live: Recorded) -> None:
    """The first valid event ends at the first grid point behind first sample + settling + window."""
    config = PreprocessConfig()
    began = next(m["since"] for m in live.messages if m.get("kind") == "eeg" and m["state"] == "live")
    hop_s = config.window.hop_s
    (first, *_) = valid(live.messages)
    assert first["t_end"] == math.ceil((began + config.signal.settle_s + config.window.window_s) / hop_s) * hop_s
    assert first["source"] == "live"
    assert sum(first["probs"].values()) == pytest.approx(1.0, abs=1e-6)


def test_the_other_streams_are_live_too_and_none_of_them_is_an_input(live: Recorded) -> None:
    """Each has its status; the headset's column of markers is part of the headset."""
    told = {m["source"]: m for m in live.messages if m["type"] == "stream.status"}
    kinds = {m["name"]: m["kind"] for m in told.values() if m["state"] == "live"}
    side = {CONTACT_NAME: "contact", MOTION_NAME: "other", MARKER_NAME: "markers", PSYCHOPY_NAME: "markers"}
    assert kinds == {EEG_NAME: "eeg", **side}
    assert told[f"lsl:{MOTION_NAME}"]["n_samples"] > 0


def test_other_programs_open_a_recording(live: Recorded) -> None:
    """Raw EEG in its own format, contact quality, motion and markers of the lab, all with the headers they had."""
    streams, _ = pyxdf.load_xdf(live.session, synchronize_clocks=True, dejitter_timestamps=False)
    by_name = {stream["info"]["name"][0]: stream for stream in streams}
    formats = {name: stream["info"]["channel_format"][0] for name, stream in by_name.items()}
    assert formats == {
        "CLMER-Session": "string",
        "CLMER-Predictions": "string",
        EEG_NAME: "float32",
        f"{EEG_NAME}-Markers": "string",
        CONTACT_NAME: "float32",
        MOTION_NAME: "int16",
        MARKER_NAME: "string",
        PSYCHOPY_NAME: "double64",
    }
    assert by_name[EEG_NAME]["info"]["source_id"] == [f"LAB-{EEG_NAME}"]
    assert set(by_name[CONTACT_NAME]["time_series"][:, 2:].ravel().tolist()) == {4.0}
    moved = by_name[MOTION_NAME]["time_series"]
    assert np.array_equal(moved[:, 1], -moved[:, 0])
    assert {row[0] for row in by_name[MARKER_NAME]["time_series"]} == set(LABELS)
    psychopy = by_name[PSYCHOPY_NAME]["time_series"]
    assert np.array_equal(psychopy[:, 0], 1.7e9 + psychopy[:, 1])


def test_the_example_of_the_manual_opens_a_recording(live: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """Copied from the page and run, with the path of this recording."""
    page = (RECORDING.parents[1] / "docs" / "recording.md").read_text(encoding="utf-8")
    (example, *_) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(re.sub(r'"recordings/.*?"', repr(str(live.session)), example), {})
    assert "19)" in capsys.readouterr().out


def test_markers_reach_the_clients_as_they_are_recorded(live: Recorded) -> None:
    """From a stream, from PsychoPy's three channels, and from the headset's own column."""
    told = [message for message in live.messages if message["type"] == "marker"]
    recorded = {item.id: item for item in SessionReader(live.session).items() if isinstance(item, Marker)}
    assert {message["source"] for message in told} == {f"lsl:{MARKER_NAME}", f"lsl:{PSYCHOPY_NAME}", "eeg:Markers"}
    for message in told:
        marker = recorded[message["id"]]
        assert (message["t"], message["label"], message["value"]) == (marker.t, marker.label, marker.value)
    assert all(m.value == float(m.fields[1]) for m in recorded.values() if m.source == f"lsl:{PSYCHOPY_NAME}")


def test_predictions_labels_and_markers_are_on_the_network_for_others(live: Recorded) -> None:
    """Stamped with the end of their window; what is not there is NaN."""
    by_end = {prediction["t_end"]: prediction for prediction in live.predictions}
    emotion = live.inlets["CLMER-Emotion"]
    assert len(emotion) > 10
    for t_end, sample in emotion:
        said = by_end[t_end]
        numbers = [*(said["probs"] or dict.fromkeys(range(4))).values(), said["valence"], said["arousal"]]
        expected = [*numbers, said["confidence"], said["entropy"], float(said["valid"])]
        wanted = [np.nan if number is None else number for number in expected]
        assert sample == pytest.approx(wanted, abs=1e-6, nan_ok=True)
    labels = [sample[0] for _, sample in live.inlets["CLMER-Label"]]
    assert all(a != b for a, b in itertools.pairwise(labels))
    assert set(labels) <= {prediction["label"] for prediction in live.predictions} | {NO_LABEL}
    echoed = {sample[0] for _, sample in live.inlets["CLMER-Markers"]}
    assert set(LABELS) <= echoed


def test_a_killed_session_loses_a_second_at_most_and_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The headset was switched off and on again meanwhile; the same file goes on."""
    with serving(tmp_path, "--camera", "none", "--record", "rec", "--no-outlets") as service:
        with lab():
            before = read_until(service, lambda seen: len(valid(seen)) >= 4)
        with lab():
            gone = max(m["t_end"] for m in valid(before))
            after = read_until(service, lambda seen: any(m["t_end"] > gone + 3 for m in valid(seen)))
        service.end(signal.SIGKILL)
    told = {m["t_end"]: m for m in (*before, *after) if m["type"] == "prediction"}
    newest = max(message["t_out"] for message in told.values())
    folder = only_folder(tmp_path / "rec")
    recorded = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    ends = {prediction["t_end"] for prediction in recorded}
    assert {t_end for t_end, message in told.items() if message["t_out"] < newest - 1.0} <= ends
    assert main(["verify", str(tmp_path / "rec")]) == 0
    said = capsys.readouterr().out
    assert "not closed" in said
    assert f"{len(recorded)} equal bit for bit" in said


def test_a_full_disk_is_said_at_once_and_the_session_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written before can be verified. A limit on the size of files stands for the disk."""
    import resource  # not on Windows

    with serving(tmp_path, "--replay", RECORDING, "--speed", "max", "--record", "rec") as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        messages = read_until(service, lambda seen: bool(seen) and seen[-1].get("code") == "replay_ended")
    codes = [message["code"] for message in messages if message["type"] == "notice"]
    assert codes == ["recording_failed", "replay_ended"]
    assert len([message for message in messages if message["type"] == "prediction"]) == 120
    assert main(["verify", str(tmp_path / "rec")]) == 0
    n_windows = int(capsys.readouterr().out.split(": ")[1].split()[0])
    assert 20 < n_windows < 120
