"""Claims about which stream of a real LSL network is taken, and what is said while none is."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pylsl
import pytest

from clmer_streaming.config import SignalConfig
from clmer_streaming.errors import StreamError
from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.outlets import FaceOutlet
from clmer_streaming.sources.lsl import LslEegSource
from clmer_streaming.sources.lsl_face import LslFaceSource
from clmer_streaming.types import StreamInfo, Tick
from listener import Listener
from lsl_outlet import headset
from serving import serving


def test_of_two_headsets_of_one_name_the_source_id_chooses() -> None:
    """Two of a kind in one lab are the rule, not the exception."""
    with headset("EPOC", "ID-1"), headset("EPOC", "ID-2"):
        with pytest.raises(StreamError, match=r"--eeg source_id=ID-\d or --eeg source_id=ID-\d"):
            LslEegSource("EPOC", SignalConfig()).run(lambda item: None, threading.Event())
        with Listener(LslEegSource("type=EEG, source_id=ID-2", SignalConfig())) as listener:
            assert listener.next(StreamInfo).source_id == "ID-2"


def test_a_predicate_chooses_by_the_whole_header() -> None:
    """LSL's own query language reaches what a stream says only when it is opened."""
    with headset("EPOC", "ID-3"), Listener(LslEegSource("desc/manufacturer='Emotiv'", SignalConfig())) as listener:
        assert listener.next(StreamInfo).source_id == "ID-3"


def test_a_predicate_that_lsl_does_not_understand_is_refused() -> None:
    """Waiting for what can never come would help nobody."""
    with pytest.raises(StreamError, match="XPath"):
        LslEegSource("name='EPOC", SignalConfig()).run(lambda item: None, threading.Event())


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


def test_the_status_says_what_is_there_instead(tmp_path: Path) -> None:
    """Clients and the dashboard read it, not only the log."""
    outlet = pylsl.StreamOutlet(pylsl.StreamInfo("Polar H10", "ECG", 1, 130.0, pylsl.cf_float32, "P-1"))
    with serving(tmp_path, "--eeg", "EPOC", "--camera", "none") as service, service.connect() as client:
        statuses = (json.loads(client.recv(30)) for _ in range(200))
        reason = next(s["reason"] for s in statuses if "Polar H10 (ECG)" in s.get("reason", ""))
    assert reason.startswith("no EEG stream 'EPOC' found yet; on the network: ")
    del outlet


def test_two_face_streams_of_one_name_are_refused() -> None:
    """As for EEG: nobody guesses whose face it is."""
    first, second = (FaceOutlet(_face(camera), "CLMER-Face") for camera in ("left", "right"))
    with pytest.raises(StreamError, match=r"--face-stream source_id=clmer-face-"):
        LslFaceSource("CLMER-Face").run(lambda item: None, threading.Event())
    with Listener(LslFaceSource(f"source_id={_source_id(second)}")) as listener:
        assert listener.next(StreamInfo).source_id == _source_id(second)
    del first


def _face(camera: str) -> StreamInfo:
    return StreamInfo("face", "face", camera, FACE_CH_NAMES, 30.0, source_id=camera, extractor="test")


def _source_id(outlet: FaceOutlet) -> str:
    source_id: str = outlet._outlet.get_info().source_id()
    return source_id
