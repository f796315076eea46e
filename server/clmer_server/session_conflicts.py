"""What only one session can have: a headset, a camera, a stream of a face or of another device."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clmer_server.preprocessing import parse_physio
from clmer_server.session_plan import SessionPlan
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.process_capture import CaptureSpec
from clmer_streaming.sources.selection import StreamQuery


def devices(plan: SessionPlan) -> dict[str, str]:
    """Return what a session asks for and cannot share: by what it is, the words for people.

    Raises:
        SettingsError: A stream or a camera is named in words that cannot be read.
    """
    settings = plan.settings
    if settings.replay is not None:
        return {}
    found = {f"eeg {_query(settings.eeg)}": f"the EEG stream {settings.eeg!r}"}
    if settings.face_stream is not None:
        found[f"face {_query(settings.face_stream)}"] = f"the face stream {settings.face_stream!r}"
    for stream in parse_physio(settings.physio).values():
        found[f"physio {stream.lower()}"] = f"the stream {stream!r}"
    if plan.camera is not None and (spec := CaptureSpec.parse(plan.camera)).kind != "file":
        found[f"camera {re.sub('^/dev/video', '', spec.text)}"] = f"the camera {plan.camera}"
    return found


def shared(one: SessionPlan, other: SessionPlan) -> str:
    """Return what both sessions ask for, in words for people; "" where nothing."""
    theirs = devices(other)
    return " and ".join(words for key, words in devices(one).items() if key in theirs)


def check_no_conflict(plans: Sequence[SessionPlan]) -> None:
    """Refuse sessions that ask for the same device.

    Raises:
        SettingsError: Two do.
    """
    for i, one in enumerate(plans):
        for other in plans[:i]:
            if both := shared(other, one):
                raise SettingsError(
                    expected="an EEG stream and a camera for each session alone",
                    found=f"the sessions {other.name} and {one.name} both ask for {both}",
                    mend='say whose is which, as in eeg = "source_id=A1" and camera = "1"; clmer streams lists them',
                )


def _query(text: str) -> str:
    query = StreamQuery.parse(text)
    return str(sorted(query.wanted)) if query.wanted else query.text
