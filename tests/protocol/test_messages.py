"""Messages and the events made from predictions."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import msgpack
import pytest
from pydantic import ValidationError

from clmer_server.protocol.codes import Encoding, ErrorMessage
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.inbound import read_inbound
from clmer_server.protocol.outbound import MESSAGE, Message, Notice
from clmer_server.protocol.parts import VOLATILE_FIELDS, EmotionEvent
from clmer_server.session.events import marked_windows, quality_message, status_message
from clmer_streaming.config import WindowConfig
from clmer_streaming.types import ChannelQuality
from tests.support.session_parts import STATUS, WINDOW, event, every_message


@pytest.mark.parametrize("message", every_message(), ids=lambda message: message.type)
def test_a_message_of_any_type_is_read_back_from_its_json(message: Message) -> None:
    """What a client decodes is what the service meant."""
    assert MESSAGE.validate_json(encode(message)) == message


def test_a_number_that_was_not_measured_is_null() -> None:
    """NaN and infinity never reach the wire, which is JSON that every reader accepts."""
    face = json.loads(encode(event()), parse_constant=pytest.fail)["modalities"]["face"]
    assert face == {"used": False, "present": 0.0, "confidence": None, "yaw_deg": None, "fps": None, "age_ms": None}


def test_an_event_carries_what_was_measured() -> None:
    """Quality, age and latencies are in the units that the fields name."""
    made = event()
    assert made.modalities.eeg.model_dump() == {
        "used": True,
        "quality": 0.5,
        "age_ms": 250.0,
        "channels_ok": 12,
        "interpolated_frac": 0.0,
        "channels_bad": (),
        "faults": {},
    }
    assert made.latency_ms.model_dump() == pytest.approx(
        {"acquire": 50, "face": 40, "window": 100, "model": 1, "publish": 300, "total": 500}
    )
    assert made.reasons == ("face_missing",)


def test_a_replay_knows_no_latency_against_its_old_stamps() -> None:
    """The difference to a stamp of another day would be a number without meaning."""
    latency = event("replay").latency_ms
    assert (latency.acquire, latency.face, latency.window, latency.total) == 4 * (None,)
    assert latency.model == pytest.approx(1.0)


def test_a_skipped_window_still_gives_an_event() -> None:
    """It is not valid, it says why, and it has no numbers."""
    made = event(skipped=True)
    assert not made.valid
    assert made.reasons == ("face_missing", "overload_skipped")
    assert (made.probs, made.label, made.confidence, made.latency_ms.model, made.batch) == (None, None, None, None, 0)


def test_rates_are_null_until_they_are_known() -> None:
    """A stream that has not delivered has no rate, rather than a rate of zero."""
    message = status_message(STATUS, "abc")
    assert (message.rate_hz, message.drift_ppm, message.nominal_rate_hz, message.since) == (None, None, None, None)


def test_the_fields_that_may_differ_are_fields_of_the_event() -> None:
    """A name that no event has would hide nothing, and mean that the list is out of date."""
    assert set(VOLATILE_FIELDS) <= set(EmotionEvent.model_fields)


def test_a_field_that_nobody_declared_is_refused() -> None:
    """The protocol has the fields that it declares, and no other."""
    with pytest.raises(ValidationError, match="surprise"):
        Notice.model_validate({"code": "replay_ended", "message": "b", "surprise": 1})


def test_quality_has_every_measure_of_every_channel() -> None:
    """NaN becomes null; names and faults are those of the window."""
    measures = dict.fromkeys(("stuck_share", "line_share", "muscle_share", "correlation", "contact"), math.nan)
    channel = ChannelQuality("AF3", False, ("flat", "contact"), sd_uv=0.5, filled_share=0.25, **measures)
    made = quality_message(4, replace(WINDOW, channels=(channel,)), event(seq=4))
    assert (made.seq, made.t_end, made.modalities) == (4, WINDOW.t_end, event(seq=4).modalities)
    assert made.channels[0].model_dump() == {
        "name": "AF3",
        "good": False,
        "faults": ("flat", "contact"),
        "sd_uv": 0.5,
        "filled_share": 0.25,
        **dict.fromkeys(measures),
    }


GRID = WindowConfig(window_s=2.0, hop_s=0.5)


@pytest.mark.parametrize(
    ("t", "ends", "seqs"),
    [
        (10.2, (10.5, 12.0), (3, 6)),
        (10.5, (11.0, 12.5), (4, 7)),  # a window that ends at t does not hold it, one that begins there does
        (8.7, (9.0, 10.5), (0, 3)),
        (7.2, (7.5, 9.0), (0, 0)),  # only the last of these four was a window of the session
        (6.0, (6.5, 8.0), (None, None)),
    ],
)
def test_a_marker_falls_in_the_windows_that_hold_its_time(
    t: float, ends: tuple[float, float], seqs: tuple[int | None, int | None]
) -> None:
    """Windows of two seconds every half second; the one numbered 2 ends at 10."""
    found = marked_windows(t, GRID, newest=(2, 20))
    assert found is not None
    assert (found.t_end_first, found.t_end_last) == ends
    assert (found.seq_first, found.seq_last) == seqs


def test_before_the_first_window_only_times_are_known() -> None:
    """And of no time, nothing."""
    found = marked_windows(10.2, GRID, newest=None)
    assert found is not None
    assert (found.t_end_last, found.seq_last) == (12.0, None)
    assert marked_windows(math.nan, GRID, newest=None) is None
    assert marked_windows(math.inf, GRID, newest=(0, 0)) is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\xc1", "bad_message"),
        (b"\x91" * 50_000, "bad_message"),
        (msgpack.packb([1]), "bad_message"),
        (msgpack.packb({b"type": "hello"}), "bad_message"),
        (msgpack.packb({"type": 5}), "bad_message"),
        ('{"type": "hello"}', "bad_message"),
        (msgpack.packb({"type": "shout"}), "unknown_type"),
        (msgpack.packb({"type": "marker", "id": 1, "label": b"a"}), "bad_field"),
        (msgpack.packb({"type": "marker", "id": 1, "label": "a", "value": float("nan")}), "bad_field"),
        (msgpack.packb({"type": "hello", 7: 8}), "bad_field"),
    ],
    ids=["no-msgpack", "deep", "list", "bytes-key", "type-5", "text", "unknown", "bytes", "nan", "number-key"],
)
def test_msgpack_that_cannot_be_understood_is_answered_too(said: bytes | str, code: str) -> None:
    """As JSON is, by its code."""
    answer = read_inbound(said, Encoding.MSGPACK)
    assert isinstance(answer, ErrorMessage)
    assert answer.code == code


@pytest.mark.parametrize(
    ("said", "id_of_the_answer"),
    [
        ('{"type": "subscribe", "id": "a", "topics": 5}', "a"),
        ('{"type": "shout", "id": 7}', 7),
        ('{"type": "shout", "id": true}', None),
        ('{"type": "shout", "id": "\\ud800"}', None),
        ('{"type": "\\ud800"}', None),
        ('{"type": "hello", "\\ud800": 1}', None),
        ('{"type": "marker", "id": 1, "label": "a", "value": NaN}', None),
        ('{"type": "marker", "id": 1, "label": "a", "value": 1e999}', 1),
        ('{"type": "session.start", "id": 2, "consent_ref": "two\\nlines"}', 2),
        ('{"type": "session.start", "id": 3, "consent_ref": ""}', 3),
    ],
)
def test_an_error_names_the_request_where_that_can_be_read(said: str, id_of_the_answer: object) -> None:
    """And is itself always a message that can be sent."""
    answer = read_inbound(said, Encoding.JSON)
    assert isinstance(answer, ErrorMessage)
    assert json.loads(encode(answer))["id"] == id_of_the_answer
