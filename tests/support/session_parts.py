"""Small real parts that tests of the service share: streams of items, a source of them, a model's description."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from clmer_model.prediction import Prediction
from clmer_server.protocol.codes import ByeReason, ErrorCode, ErrorMessage, NoticeCode
from clmer_server.protocol.outbound import Bye, GapMessage, Message, Notice, Welcome
from clmer_server.protocol.parts import ClockReading, EmotionEvent, Grid, ModelInfo, ServerInfo, SourceMode
from clmer_server.session.events import EventContext, EventTimes, emotion_event, status_message
from clmer_server.session.sink import EventSink
from clmer_streaming.config import EPOC_CH_NAMES
from clmer_streaming.types import Chunk, Item, Reason, StreamInfo, StreamStatus, Window

EEG = StreamInfo(source="eeg", kind="eeg", name="Headset", ch_names=EPOC_CH_NAMES, sfreq=128.0, unit="microvolts")
"""A headset as the model wants it."""

MODEL = ModelInfo(
    id="tiny",
    sha256="0" * 64,
    config_hash="0123456789ab",
    labels=("LVLA", "LVHA", "HVLA", "HVHA"),
    trained_on="simulated",
    runner="torchscript",
    device="cpu",
)
"""The model that the events name."""


WINDOW = Window(
    index=4,
    t_start=0.0,
    t_end=2.0,
    series={},
    mask={},
    quality={
        "eeg": {"quality": 0.5, "channels_ok": 12.0, "interpolated_frac": 0.0, "age_s": 0.25},
        "face": {"present": 0.0, "quality": math.nan, "yaw_deg": math.nan, "fps": math.nan, "age_s": math.inf},
    },
    reasons=(Reason.FACE_MISSING,),
    calibration={"face": "none", "eeg": "none"},
    crc=7,
)
"""A window as far as events need it: EEG with two bad channels, no face."""

STATUS = StreamStatus(source="eeg", kind="eeg", name="Headset", state="connecting", since=math.nan)
"""A stream that is still waited for."""

WELCOME = Welcome(
    session="abc",
    server=ServerInfo(version="0"),
    model=MODEL,
    streams=(),
    clock=ClockReading(lsl_time=1.0, unix_time=2.0),
    source="live",
    grid=Grid(window_s=2.0, hop_s=0.5),
)
"""The first message of a connection."""


class KeptSink(EventSink):
    """Keeps what a session produces: its messages, and the items that it is fed.

    Args:
        messages: The list of messages; None: a new one.
    """

    def __init__(self, messages: list[Message] | None = None) -> None:
        self.messages: list[Message] = [] if messages is None else messages
        self.items: list[Item] = []  # as a recorder gets them
        super().__init__(self.messages.append)

    def record(self, item: Item) -> None:
        self.items.append(item)


class ListSource:
    """Delivers items that are there already, then ends."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def run(self, put: Callable[[Item], None], stop: threading.Event) -> None:
        for item in self.items:
            if stop.is_set():
                return
            put(item)


def eeg_items(seconds: float, t0: float = 1000.0, chunk: int = 16) -> Iterator[Item]:
    """Yield an announcement and 14 channels of 10 uV noise at 128 Hz."""
    yield EEG
    n = int(seconds * EEG.sfreq)
    x = 10.0 * np.random.default_rng(0).standard_normal((len(EEG.ch_names), n))
    t = t0 + np.arange(n) / EEG.sfreq
    for first in range(0, n, chunk):
        yield Chunk("eeg", t[first : first + chunk], x[:, first : first + chunk])


def certain(window: Window, batch: int = 1) -> Prediction:
    """Return an answer that is sure of low valence and low arousal."""
    return Prediction(
        valid=True,
        probs={"LVLA": 1.0, "LVHA": 0.0, "HVLA": 0.0, "HVHA": 0.0},
        label="LVLA",
        confidence=1.0,
        entropy=0.0,
        valence=0.0,
        arousal=0.0,
        prediction_set=None,
        coverage=None,
        used=("eeg",),
        reasons=window.reasons,
        batch=batch,
        model_s=0.001,
    )


def predict_certain(windows: Sequence[Window]) -> list[Prediction]:
    """Answer every window with ``certain``: a model of the simplest kind."""
    return [certain(window, len(windows)) for window in windows]


def event(source: SourceMode = "live", *, seq: int = 0, skipped: bool = False) -> EmotionEvent:
    """Return the event of ``WINDOW``: ready 0.1 s, answered 0.2 s, published 0.5 s after its end."""
    times = EventTimes(ready=2.1, answered=2.2, out=2.5, unix=1e9, acquire_s=0.05, face_s=0.04)
    return emotion_event(seq, WINDOW, None if skipped else certain(WINDOW), EventContext("abc", MODEL, source), times)


def every_message() -> list[Message]:
    """Return one message of each type."""
    return [
        WELCOME,
        event(),
        status_message(STATUS, "abc"),
        Notice(code=NoticeCode.SESSION_WARNING, message="b"),
        GapMessage(from_seq=1, to_seq=2, dropped=2),
        ErrorMessage(code=ErrorCode.UNKNOWN_TYPE, message="b"),
        Bye(reason=ByeReason.SHUTDOWN),
    ]
