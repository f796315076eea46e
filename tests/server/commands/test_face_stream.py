"""Claims about faces over the network: published on one computer, received on another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.clock import local_clock
from clmer_streaming.config import physio_source
from clmer_streaming.errors import StreamError
from clmer_streaming.face.hog import HOG_CH_NAMES
from clmer_streaming.face.layout import EXTRACTOR_ID, FACE_CH_NAMES, face_to_row, row_to_face
from clmer_streaming.lsl.extra import LslExtraSource
from clmer_streaming.lsl.outlets import FaceOutlet
from clmer_streaming.lsl.sources import LslFaceSource
from clmer_streaming.types import Chunk, FaceFlag, FaceSample, StreamInfo, Tick
from tests.support.face_pictures import swaying
from tests.support.face_player import face_player
from tests.support.listener import Listener
from tests.support.lsl_faults import Watched
from tests.support.lsl_outlet import headset
from tests.support.network_camera import network_camera

pytestmark = pytest.mark.lsl

INFO = StreamInfo(
    "face", "face", "camera 0", FACE_CH_NAMES, 30.0, source_id="camera 0", extractor=EXTRACTOR_ID, delay_s=0.04
)


def test_a_sample_arrives_with_its_bits_and_its_time() -> None:
    """What was published is what is received: 249 numbers, NaN among them, stamped where they were made."""
    row = np.random.default_rng(0).standard_normal(249).astype(np.float32)
    row[:5], row[-3:] = np.nan, (0.5, 4.0, 2.0)
    outlet = FaceOutlet(INFO, "faces-a")
    with Listener(LslFaceSource("faces-a")) as listener:
        info = listener.next(StreamInfo)
        listener.next(Tick)
        t = local_clock()
        outlet.push(row_to_face(t, row))
        sample = listener.next(FaceSample)
    assert (info.name, info.extractor, info.delay_s) == ("faces-a", EXTRACTOR_ID, 0.04)
    assert info.ch_names == FACE_CH_NAMES
    assert sample.t == pytest.approx(t, abs=1e-3)
    assert face_to_row(sample).tobytes() == row.tobytes()


def test_without_the_stream_there_are_ticks() -> None:
    """Waiting is said, and goes on."""
    with Listener(LslFaceSource("nobody")) as listener:
        assert listener.next(Tick).t < listener.next(Tick).t


def test_a_stream_of_another_layout_is_refused() -> None:
    """The user named it, and reads why it cannot be used."""
    with headset("mine"), pytest.raises(StreamError, match="249 channels of CLMER-Face"):
        LslFaceSource("mine").run(lambda item: None, threading.Event())


@pytest.mark.slow
def test_a_face_that_returns_is_taken_up_by_itself() -> None:
    """Stalled, lost, and why; the same face goes on behind a gap, another extractor's is announced anew and refused."""
    with Watched(LslFaceSource("faces-d")) as watched:
        with face_player("faces-d"):
            watched.until_state("live")
        watched.until_state("lost")
        assert watched.status.reason == ""
        with face_player("faces-d"):
            watched.until_state("live")
            (gap,) = watched.gaps
        with face_player("faces-d", extractor="other"):
            watched.until(lambda: "extractor 'other'" in watched.status.reason)
    assert watched.lasting_states[:4] == ["connecting", "live", "lost", "live"]
    assert "faces-d is gone; waiting for it to come back" in [reason for _, _, reason in watched.said]
    faces = [item.t for item in watched.items if isinstance(item, FaceSample)]
    assert (gap.reason, gap.t0 in faces, gap.t1 in faces) == ("stream_restarted", True, True)
    first, second = (item for item in watched.items if isinstance(item, StreamInfo))
    assert (first.note, second.note) == ("", "came back with another description")
    assert watched.replays_equal()


@pytest.mark.slow
def test_a_face_stream_that_sends_nothing_is_told_from_one_that_is_gone() -> None:
    """Its computer answers: what it sends is taken up at once, without a gap."""
    with face_player("faces-e") as silent, Watched(LslFaceSource("faces-e")) as watched:
        watched.until_state("live")
        silent.set()
        watched.until(lambda: "faces-e is on the network but sends nothing" in watched.said[-1][2])
        silent.clear()
        watched.until_state("live")
    assert watched.gaps == []
    assert len([item for item in watched.items if isinstance(item, StreamInfo)]) == 1


@pytest.mark.slow
@pytest.mark.camera
def test_the_command_publishes_a_camera_until_it_is_ended(tmp_path: Path) -> None:
    """Faces of a network camera arrive over LSL, and their HOG beside them; Ctrl-C ends the command with a count."""
    with network_camera(swaying(31)) as camera:
        command = [sys.executable, "-c", "import sys; from clmer_server.cli import main; sys.exit(main())"]
        options = ["face-stream", "--camera", camera.url, "--name", "faces-b", "--hog", "--hog-name", "hog-b"]
        with subprocess.Popen([*command, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "only numbers leave this computer" in process.stdout.readline()
            with Listener(LslFaceSource("faces-b")) as listener:
                sample = listener.next(FaceSample, lambda sample: sample.flags == FaceFlag.NONE)
                assert np.isfinite(sample.landmarks).all()
                assert abs(local_clock() - sample.t) < 2.0
            with Listener(LslExtraSource("none", physio={"hog": "hog-b"})) as listener:
                info = listener.next(StreamInfo)
                chunk = listener.next(Chunk)
                assert (info.source, info.kind, info.ch_names) == (physio_source("hog"), "physio", HOG_CH_NAMES)
                assert (chunk.x >= 0).all()
                assert abs(local_clock() - chunk.t[-1]) < 2.0
            os.kill(process.pid, signal.SIGINT)
            assert "frames published, 0 dropped" in process.stdout.read()
        assert process.returncode == 0
