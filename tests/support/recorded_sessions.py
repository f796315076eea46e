"""A session recorded from a replay, for tests of what is made from recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clmer_model.artifact import find_artifact
from clmer_server.protocol.parts import SourceMode
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, load_predictor, model_info
from clmer_server.session.inputs import Inputs
from clmer_server.session.pipeline import Delivery
from clmer_server.session.recorder import Recorder, plan_recording
from clmer_server.session.run import Listeners
from clmer_server.session.session import Session
from clmer_server.settings import ServeSettings
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, Item, Marker, StreamInfo
from tests.support.paths import RECORDING
from tests.support.session_parts import ListSource

SECONDS = 30.0  # of the example
GAP = (16.0, 18.0)  # s from its first sample, in which EEG is missing
ECG = StreamInfo("lsl:ecg", "other", "Polar H10", ("ECG",), 64.0, unit="mV", type="ECG", channel_format="float32")
CLIP = (20.25, 24.25)  # s, where the markers clip/start and clip/end lie
UNIX_TIME = 1.7e9  # s, the wall clock at the first sample
WAIT_S = 60.0


def beginning() -> tuple[float, list[Item]]:
    """Return the first stamp of the example, and its beginning with a gap, an ECG that ramps, and interval markers."""
    items = list(ReplaySource(RECORDING).items())
    t0 = next(float(item.t[0]) for item in items if isinstance(item, Chunk))
    return t0, [*_with_more(items, t0)]


def _with_more(items: list[Item], t0: float) -> Iterator[Item]:
    markers = [Marker(t0 + CLIP[0], "c-1", "clip/start"), Marker(t0 + CLIP[1], "c-2", "clip/end")]
    yield ECG
    second = 0
    for item in items:
        t = item.t[0] if isinstance(item, Chunk) else getattr(item, "t", t0)
        while t >= t0 + second + 1:
            samples = np.arange(64 * second, 64 * (second + 1))
            yield Chunk(ECG.source, t0 + 0.5 + samples / 64, samples[np.newaxis].astype(np.float64))
            second += 1
        while markers and t >= markers[0].t:
            yield markers.pop(0)
        if t >= t0 + SECONDS:
            return
        if not (isinstance(item, Chunk) and item.source == "eeg" and GAP[0] <= t - t0 < GAP[1]):
            yield item


def record(root: Path, name: str, *, participant: str | None = None, source: SourceMode = "live") -> Path:
    """Record the beginning of the example below a folder, answered by the shipped model; return the recording."""
    settings = ServeSettings(record=root, participant=participant)
    artifact = find_artifact()
    preprocess = artifact.meta.preprocess
    predictor = load_predictor(artifact, "cpu")
    context = EventContext(name, model_info(artifact, predictor, preprocess), source)
    plan = plan_recording(settings, context, preprocess)
    assert plan is not None
    plan = dataclasses.replace(plan, header={**plan.header, "consent_ref": "C-7"})
    t0, items = beginning()
    listeners = Listeners(Recorder(plan, (t0, UNIX_TIME), blocking=True, tell=print))
    inference = InferenceThread(predictor.predict)
    delivery = Delivery(listeners.also(lambda message: None), lambda call: call(), listeners.item)
    session = Session(context, Inputs(source, (ListSource(items),)), preprocess, inference, delivery)
    inference.start()
    listeners.start()
    session.start()
    session.wait()
    listeners.close(WAIT_S)
    inference.stop(WAIT_S)
    return plan.folder.session
