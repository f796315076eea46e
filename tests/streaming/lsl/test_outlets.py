"""Claims about CLMER's own streams on the network, which the field's programs record."""

from __future__ import annotations

import queue
import socket
import weakref
from dataclasses import replace

import pytest

from clmer_server.logs import OF_SESSION
from clmer_server.protocol.codes import NoticeCode
from clmer_server.protocol.outbound import MarkerMessage, Notice
from clmer_server.session.events import EventContext
from clmer_server.session.sink import OutletFeed, outlet_identity
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.lsl.outlets import NO_LABEL
from clmer_streaming.xdf.header import StreamDescription, parse_stream_header
from tests.support.lsl_inlets import Inlets
from tests.support.session_parts import MODEL, event

pytestmark = pytest.mark.lsl

WAIT_S = 30.0
IDENTITY = outlet_identity(EventContext("abc", MODEL, "live"), 8765, PreprocessConfig())
NAMES = ("CLMER-Emotion", "CLMER-Label", "CLMER-Markers")


@pytest.fixture(scope="module")
def inlets() -> Inlets:
    """What other programs got of four predictions and a marker; the model was not asked for the third."""
    told: list[Notice] = []
    feed = OutletFeed(IDENTITY, told.append)
    with Inlets(*NAMES) as others:
        feed.start()
        for seq, skipped in enumerate([False, False, True, False]):
            feed.message(event(seq=seq, skipped=skipped))
        feed.message(Notice(code=NoticeCode.SESSION_WARNING, message="b"))  # nothing for LSL
        feed.message(MarkerMessage(session="abc", t=5.5, id="1", label="刺激", value=None, source="lsl:M"))
        feed.close(WAIT_S)
        others.wait_for({"CLMER-Emotion": 4, "CLMER-Label": 3, "CLMER-Markers": 1})
    assert not told
    return others


def header(inlets: Inlets, name: str) -> StreamDescription:
    return parse_stream_header(0, inlets.headers[name].encode())


def test_every_prediction_is_a_sample_stamped_with_the_end_of_its_window(inlets: Inlets) -> None:
    """Probabilities in the order of the labels, then the rest; NaN where the model was not asked."""
    sure = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    unasked = [float("nan")] * 8 + [0.0]
    samples = inlets.samples["CLMER-Emotion"]
    assert [t for t, _ in samples] == [2.0] * 4
    for (_, sample), expected in zip(samples, [sure, sure, unasked, sure], strict=True):
        assert sample == pytest.approx(expected, nan_ok=True)


def test_the_label_is_said_when_it_changes(inlets: Inlets) -> None:
    """And that there is none."""
    assert inlets.samples["CLMER-Label"] == [(2.0, ["LVLA"]), (2.0, [NO_LABEL]), (2.0, ["LVLA"])]


def test_markers_are_passed_on_with_their_own_stamp(inlets: Inlets) -> None:
    assert inlets.samples["CLMER-Markers"] == [(5.5, ["刺激"])]


def test_the_streams_say_what_is_in_them_and_who_made_it(inlets: Inlets) -> None:
    """What the field's programs read: labels, units, type, manufacturer; and which model answered, on what grid."""
    emotion = header(inlets, "CLMER-Emotion")
    assert (emotion.type, emotion.channel_format, emotion.sfreq) == ("Emotion", "float32", 0.0)
    assert emotion.ch_names == (*MODEL.labels, "valence", "arousal", "confidence", "entropy", "valid")
    assert emotion.units == ("probability",) * 4 + ("normalized",) * 5
    for name in NAMES:
        about = header(inlets, name)
        words = ("manufacturer", "model", "sha256", "config_hash", "trained_on", "window_s", "hop_s")
        said = [about.desc_text(word) for word in words]
        assert said == ["CLMER", MODEL.id, MODEL.sha256, MODEL.config_hash, "simulated", "2.0", "0.5"]
    assert header(inlets, "CLMER-Label").type == header(inlets, "CLMER-Markers").type == "Markers"


def test_the_ids_are_new_in_each_session_and_known_as_our_own(inlets: Inlets) -> None:
    """So that no service takes them as its input, and a recorder tells two sessions apart."""
    ids = [header(inlets, name).source_id for name in NAMES]
    assert all(found.startswith("clmer-") and found.endswith("-8765-abc") for found in ids)
    assert len(set(ids)) == 3
    assert socket.gethostname().split(".")[0] in ids[0]


def test_outlets_that_fail_are_closed_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """An answer without a label of the model: others see the streams go, and nothing more is kept for them."""
    told: queue.Queue[Notice] = queue.Queue()
    feed = OutletFeed(replace(IDENTITY, session="broken"), told.put)
    with Inlets(*NAMES) as others:
        feed.start()
        feed.message(event().model_copy(update={"probs": {"LVLA": 1.0}}))
        notice = told.get(timeout=WAIT_S)
        others.wait_until_lost()
    assert notice.code == "outlets_failed"
    assert "KeyError('LVHA')" in notice.message
    assert [getattr(record, OF_SESSION) for record in caplog.records if "outlets" in record.message] == ["broken"]
    late = event()
    kept = weakref.ref(late)
    feed.message(late)
    del late
    assert kept() is None
    feed.close(WAIT_S)
    assert told.empty()
