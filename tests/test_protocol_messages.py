"""Messages and the events made from predictions."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from clmer_server.events import status_message
from clmer_server.protocol.encoding import encode
from clmer_server.protocol.outbound import MESSAGE, Message, Notice
from clmer_server.protocol.prediction import VOLATILE_FIELDS, EmotionEvent
from session_parts import STATUS, event, every_message


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
        Notice.model_validate({"code": "a", "message": "b", "surprise": 1})
