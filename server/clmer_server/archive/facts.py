"""What a list of sessions tells of each one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clmer_server.archive.exports_made import exports_made
from clmer_server.archive.folders import StoredSession
from clmer_server.archive.verdicts import Verified, verified
from clmer_server.protocol.prediction import EmotionEvent
from clmer_streaming.recording.contents import Contents, read_contents
from clmer_streaming.types import StreamInfo


@dataclass(frozen=True)
class SessionFacts:
    """One recorded session, told in numbers."""

    stored: StoredSession
    contents: Contents
    verified: Verified

    @property
    def participant(self) -> str | None:
        """The pseudonym, where one was given."""
        return header_word(self.contents.header, "participant")

    @property
    def consent_ref(self) -> str | None:
        """Where the consent is filed, where that was given."""
        return header_word(self.contents.header, "consent_ref")

    @property
    def unix_start(self) -> float:
        """Wall clock in seconds when the recording began."""
        return float(self.contents.header["clock"]["unix_time"])

    def unix_of(self, t: float) -> float | None:
        """Return the wall clock at a time of the LSL clock; None in a replay, whose stamps are of another day."""
        clock = self.contents.header["clock"]
        live = self.contents.header.get("source") == "live"
        return float(clock["unix_time"]) + t - float(clock["lsl_time"]) if live else None

    @property
    def duration_s(self) -> float:
        """From the first sample to the end of the last window."""
        predictions = self.contents.predictions
        return max(0.0, float(predictions[-1]["t_end"]) - self.contents.t0) if predictions else 0.0

    @property
    def valid_share(self) -> float | None:
        """Of the windows; None without any."""
        predictions = self.contents.predictions
        return sum(bool(p["valid"]) for p in predictions) / len(predictions) if predictions else None


def session_facts(stored: StoredSession) -> SessionFacts:
    """Read what is told of a session; damaged predictions are left out, and count as lost.

    Raises:
        RecordingError: Its recording cannot be read.
    """
    contents = read_contents(stored.recording)
    whole = [prediction for prediction in contents.predictions if _is_whole(prediction)]
    n_lost = contents.n_lost + len(contents.predictions) - len(whole)
    contents = dataclasses.replace(contents, predictions=whole, n_lost=n_lost)
    return SessionFacts(stored, contents, verified(stored.recording))


def _is_whole(prediction: dict[str, Any]) -> bool:
    """Tell whether a prediction has all that it must have; a later version may have added to it."""
    try:
        EmotionEvent.model_validate(prediction)
    except ValidationError as error:
        return all(fault["type"] == "extra_forbidden" for fault in error.errors())
    return True


def header_word(header: Mapping[str, Any], name: str) -> str | None:
    """Return a word of the first record: of the session's own, else of the settings of the service."""
    value = header.get(name) or header.get("settings", {}).get(name)
    return str(value) if value else None


def facts_as_json(facts: SessionFacts) -> dict[str, Any]:
    """Return the line of a list as JSON values."""
    return {
        "name": facts.stored.name,
        "participant": facts.participant,
        "consent_ref": facts.consent_ref,
        "unix_start": facts.unix_start,
        "source": header_word(facts.contents.header, "source"),
        "duration_s": facts.duration_s,
        "streams": [str(info.name) for info in facts.contents.streams.values()],
        "windows": len(facts.contents.predictions),
        "valid_share": facts.valid_share,
        "markers": len(facts.contents.markers),
        "verified": facts.verified,
        "closed": facts.contents.closed,
        "bytes": facts.stored.n_bytes,
        "video": [path.name for path in facts.stored.videos],
    }


def details_as_json(facts: SessionFacts) -> dict[str, Any]:
    """Return everything that ``show`` tells as JSON values."""
    contents, model = facts.contents, facts.contents.header.get("model", {})
    reasons = Counter(reason for prediction in contents.predictions for reason in prediction["reasons"])
    return {
        **facts_as_json(facts),
        "purpose": header_word(contents.header, "purpose"),
        "folder": str(facts.stored.path),
        "clmer": contents.header.get("version"),
        "model": {name: model.get(name) for name in ("id", "sha256", "trained_on", "labels")},
        "lost_items": contents.n_lost,
        "streams": [_stream_as_json(info) for info in contents.streams.values()],
        "reasons": dict(reasons.most_common()),
        "labels": dict(Counter(p["label"] for p in contents.predictions if p["label"]).most_common()),
        "marker_labels": dict(Counter(marker.label for marker in contents.markers).most_common()),
        "exports": exports_made(facts.stored),
    }


def _stream_as_json(info: StreamInfo) -> dict[str, Any]:
    return {
        "source": info.source,
        "kind": info.kind,
        "name": info.name,
        "channels": len(info.ch_names),
        "nominal_rate_hz": info.sfreq,
        "delay_s": info.delay_s,
    }
