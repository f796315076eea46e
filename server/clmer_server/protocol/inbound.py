"""The messages of clients. An unknown field is refused, so that no option is without effect unnoticed.

To be read in this order: the types of the fields, the messages, ``read_inbound``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from clmer_server.protocol.codes import Encoding, ErrorCode, ErrorMessage
from clmer_server.protocol.encoding import decode
from clmer_server.protocol.parts import Part, RequestId
from clmer_server.settings import StartRequest

Seconds: TypeAlias = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]
"""A time of a clock, in seconds."""

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
"""Name of a topic or a session."""

Names: TypeAlias = Annotated[tuple[Name, ...], Field(strict=False, min_length=1, max_length=32)]
"""Names of topics."""

MarkerClock: TypeAlias = Literal["client", "lsl", "arrival"]
"""Clock of a marker's time; ``arrival``: it has none, and is placed when it arrives."""

CalibrationKind: TypeAlias = Literal["neutral", "rest"]
"""What is measured: the face without expression, or EEG at rest."""

ReplayAction: TypeAlias = Literal["pause", "resume"]
"""What a replay can be asked to do."""


class Request(Part):
    """A message of a client."""

    model_config = ConfigDict(strict=True)

    id: RequestId


class SessionRequest(Request):
    """A message about one session."""

    session: Name | None = None  # null: the one that the welcome named


class Hello(Request):
    """Introduce the client; needed only where the service asks for a token."""

    type: Literal["hello"]
    id: RequestId | None = None  # type: ignore[assignment]  # the only message that needs none
    token: Annotated[str, Field(max_length=512)] | None = None
    client: Annotated[str, Field(max_length=64)] = ""
    version: Annotated[str, Field(max_length=64)] = ""


class Subscribe(SessionRequest):
    """Subscribe to topics. The first subscription of a connection replaces the default topics."""

    type: Literal["subscribe"]
    topics: Names
    max_hz: Annotated[float, Field(gt=0, le=1000)] | None = None  # the newest at most so often; null: all
    overflow: Literal["latest", "queue"] = "queue"  # what waits for a slow client: the newest, or a bounded queue
    smooth_s: Annotated[float, Field(gt=0, le=600)] | None = None  # s, of an exponential mean beside each prediction
    smooth_windows: Annotated[int, Field(ge=2, le=120)] | None = None  # in place of it: of a mean of log-probabilities

    @model_validator(mode="after")
    def _one_mean(self) -> Self:
        if self.smooth_s is not None and self.smooth_windows is not None:
            raise ValueError("smooth_s or smooth_windows, not both")
        return self


class Unsubscribe(SessionRequest):
    """Unsubscribe from topics."""

    type: Literal["unsubscribe"]
    topics: Names


class MarkerRequest(SessionRequest):
    """Mark an event of the experiment, which is recorded and sent to all clients."""

    type: Literal["marker"]
    label: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    t: Seconds | None = None  # s, of the clock
    clock: MarkerClock = "arrival"

    @model_validator(mode="after")
    def _time_of_a_clock(self) -> Self:
        if (self.t is None) != (self.clock == "arrival"):
            raise ValueError("a time t with the clocks client and lsl, and none with arrival")
        return self


class AnsweredExchange(Part):
    """When the client got an earlier ``clock.reply``."""

    model_config = ConfigDict(strict=True)

    id: RequestId  # of that exchange
    t3: Seconds  # s, client's clock


class ClockSync(Request):
    """Compare the client's clock with that of the service."""

    type: Literal["clock.sync"]
    t0: Seconds  # s, client's clock, when this is sent
    previous: AnsweredExchange | None = None


class CalibrationStart(SessionRequest):
    """Start a calibration: measure the participant at rest."""

    type: Literal["calibration.start"]
    kind: CalibrationKind
    seconds: Annotated[float, Field(ge=0.5, le=600)] | None = None  # null: as long as is usual for the kind


class CalibrationStop(SessionRequest):
    """Stop a calibration; what was in force before stays."""

    type: Literal["calibration.stop"]
    kind: CalibrationKind


class SessionStart(StartRequest, SessionRequest):
    """Start a session that waits or has ended."""

    type: Literal["session.start"]


class SessionStop(SessionRequest):
    """Stop a session."""

    type: Literal["session.stop"]


class ReplayControl(SessionRequest):
    """Pause or resume a replay, or change its speed."""

    type: Literal["replay.control"]
    action: ReplayAction | None = None
    speed: Annotated[float, Field(gt=0, le=1000)] | Literal["max"] | None = None  # recorded seconds per second

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.action is None and self.speed is None:
            raise ValueError("an action, a speed, or both")
        return self


Inbound: TypeAlias = (
    Hello
    | Subscribe
    | Unsubscribe
    | MarkerRequest
    | ClockSync
    | CalibrationStart
    | CalibrationStop
    | SessionStart
    | SessionStop
    | ReplayControl
)
"""Anything that a client may send."""

INBOUND: TypeAdapter[Inbound] = TypeAdapter(Annotated[Inbound, Field(discriminator="type")])
"""Validates plain values."""

TYPES: tuple[str, ...] = tuple(get_args(model.model_fields["type"].annotation)[0] for model in get_args(Inbound))
"""The types of all of them."""

_ID: TypeAdapter[RequestId] = TypeAdapter(RequestId)


def read_inbound(data: str | bytes | None, encoding: Encoding) -> Inbound | ErrorMessage:
    """Return the message of a client, or the error to answer where it cannot be read."""
    try:
        value = decode(data, encoding)
    except (ValueError, RecursionError):
        return _bad_message(encoding)
    if not isinstance(value, dict) or not isinstance(kind := value.get("type"), str):
        return _bad_message(encoding)
    request = _request_id(value)
    if kind not in TYPES:
        message = f"no message of the type {ascii(kind)[:64]} is known here; known are {', '.join(TYPES)}"
        return ErrorMessage(id=request, code=ErrorCode.UNKNOWN_TYPE, message=message)
    try:
        return INBOUND.validate_python(value)
    except ValidationError as error:
        return ErrorMessage(id=request, code=ErrorCode.BAD_FIELD, message=_describe(error))


def _bad_message(encoding: Encoding) -> ErrorMessage:
    written = "a JSON object, as text" if encoding is Encoding.JSON else "a MessagePack map, as bytes"
    return ErrorMessage(code=ErrorCode.BAD_MESSAGE, message=f"expected {written}, with a type")


def _request_id(value: dict[Any, Any]) -> RequestId | None:
    try:
        return _ID.validate_python(value.get("id"))
    except ValidationError:
        return None


def _describe(error: ValidationError) -> str:
    """Return the first thing that is wrong, and where."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(ascii(part).strip("'") for part in first["loc"][1:])[:128] or "the message"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}, found {ascii(first['input'])[:64]}"
