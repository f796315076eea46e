"""A session recorded from a replay, for tests of what is made from recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from clmer_model.artifact import ArtifactFile, find_artifact
from clmer_server.protocol.parts import SourceMode
from clmer_server.session.config import SessionConfig
from clmer_server.session.events import EventContext
from clmer_server.session.inference import InferenceThread, load_predictor, model_info
from clmer_server.session.inputs import Inputs
from clmer_server.session.recorder import Recorder, plan_recording
from clmer_server.session.session import Session
from clmer_server.session.sink import EventSink
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, Item, Marker, Source, StreamInfo
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


def record_run(
    config: SessionConfig,
    source: Source,
    mode: SourceMode = "replay",
    *,
    artifact: ArtifactFile | None = None,
    clock: tuple[float, float] = (0.0, 0.0),
    header: dict[str, Any] | None = None,
    started: Callable[[Session], None] = lambda session: None,
) -> Path:
    """Record a session over a source to its end, answered on the CPU; return the recording.

    Args:
        config: The session; it names the folder to record in.
        source: What delivers its items.
        mode: Whether they pass for live ones.
        artifact: The model; None: the shipped one.
        clock: Seconds of the LSL clock and of the wall clock at the beginning.
        header: Further fields of the recording's first record.
        started: Called when the session has started.
    """
    artifact = artifact or find_artifact()
    preprocess, predictor = artifact.meta.preprocess, load_predictor(artifact, "cpu")
    context = EventContext(config.name, model_info(artifact, predictor, preprocess), mode)
    plan = plan_recording(config, context, preprocess)
    assert plan is not None
    plan = dataclasses.replace(plan, header={**plan.header, **(header or {})})
    inference, sink = InferenceThread(predictor.predict), EventSink(lambda message: None)
    sink.attach(recorder=Recorder(plan, clock, blocking=True, notify=print))
    session = Session(context, Inputs(mode, (source,)), preprocess, inference, sink)
    inference.start()
    sink.start()
    session.start()
    started(session)
    session.wait()
    sink.close(WAIT_S)
    inference.stop(WAIT_S)
    return plan.folder.session


def record(root: Path, name: str, *, participant: str | None = None, source: SourceMode = "live") -> Path:
    """Record the beginning of the example below a folder, answered by the shipped model; return the recording."""
    t0, items = beginning()
    config = SessionConfig(name=name, record=root, participant=participant)
    return record_run(config, ListSource(items), source, clock=(t0, UNIX_TIME), header={"consent_ref": "C-7"})
