"""Claims about live streams whose stamps are some seconds off those of the other modality, over a real LSL network."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pylsl
import pytest

from clmer_streaming.config import EPOC_CH_NAMES, PreprocessConfig
from clmer_streaming.face.layout import FACE_CH_NAMES
from clmer_streaming.lsl.outlets import FaceOutlet
from clmer_streaming.lsl.sources import LslEegSource, LslFaceSource
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.transform import EegCorrections, TransformedSource
from clmer_streaming.types import Item, StreamStatus, Window
from tests.support.signals import FACE_INFO, eeg_like, face

pytestmark = pytest.mark.lsl

WAIT_S = 60.0
CHUNK_S = 0.125


@contextmanager
def lab(eeg_behind_s: float) -> Iterator[None]:
    """Publish EEG and faces of the same moments, with the stamps of the EEG behind by so many seconds."""
    described = pylsl.StreamInfo("offset-EEG", "EEG", 14, 128.0, pylsl.cf_float32, "offset-1")
    channels = described.desc().append_child("channels")
    for label in EPOC_CH_NAMES:
        channel = channels.append_child("channel").append_child_value("label", label)
        channel.append_child_value("unit", "microvolts")
    eeg, faces = (
        pylsl.StreamOutlet(described),
        FaceOutlet(dataclasses.replace(FACE_INFO, ch_names=FACE_CH_NAMES), "offset-Face"),
    )
    stop = threading.Event()
    samples = np.ascontiguousarray(eeg_like(128).T, dtype=np.float32)

    def push() -> None:
        begin = pylsl.local_clock()
        k = 0
        while not stop.wait(max(0.0, begin + (k + 1) * CHUNK_S - pylsl.local_clock())):
            k += 1
            now = begin + k * CHUNK_S
            rows = np.arange(16 * (k - 1), 16 * k) % 128
            eeg.push_chunk(samples[rows], now - eeg_behind_s)
            for i in range(4):
                faces.push(face(now - (3 - i) * CHUNK_S / 4, 1.0))

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(WAIT_S)


@dataclass
class Live:
    """The signal path of a session over both streams, with a delay that is taken off the EEG."""

    delay_s: float = 0.0
    windows: list[Window] = field(default_factory=list)
    statuses: dict[str, StreamStatus] = field(default_factory=dict)  # by kind

    def run(self, until: Callable[[], Any]) -> None:
        """Run until a condition is met."""
        config = PreprocessConfig()
        path, news, stop = Preprocessor(config), threading.Condition(), threading.Event()

        def put(item: Item) -> None:
            with news:
                self.windows += path.push(item)
                self.statuses = {status.kind: status for status in path.statuses()}
                news.notify_all()

        headset = TransformedSource(
            LslEegSource("offset-EEG", config.signal), EegCorrections(delay_s=self.delay_s).apply
        )
        with ExitStack() as stack:
            for source in (headset, LslFaceSource("offset-Face")):
                thread = threading.Thread(target=source.run, args=(put, stop))
                thread.start()
                stack.callback(thread.join, WAIT_S)
            stack.callback(stop.set)
            with news:
                assert news.wait_for(until, WAIT_S), self.statuses

    @property
    def both(self) -> int:
        """The windows that have both modalities, the face with at least half of its slots."""
        return sum(bool(w.mask["eeg"].any() and w.mask["aus"].mean() >= 0.5) for w in self.windows)


@pytest.mark.parametrize(
    ("eeg_behind_s", "late"),
    [
        (3.2, "eeg"),
        (-3.2, "face"),
        pytest.param(8.0, "eeg", marks=pytest.mark.deep),
        pytest.param(-1.6, "face", marks=pytest.mark.deep),
    ],
)
def test_the_stream_that_is_behind_says_what_takes_it_off(eeg_behind_s: float, late: str) -> None:
    """No window has both; the status says by how much and which option helps; with it, windows have both."""
    with lab(eeg_behind_s):
        offset = Live()
        offset.run(lambda: "--eeg-delay" in _reason(offset, late))
        found = re.fullmatch(
            r"its stamps are (.*) s behind the other streams.*: add (.*) to --eeg-delay, .*", _reason(offset, late)
        )
        assert found is not None
        behind_s, added_s = map(float, found.groups())
        assert behind_s == pytest.approx(abs(eeg_behind_s), abs=0.3)
        assert added_s == pytest.approx(-eeg_behind_s, abs=0.3)
        assert offset.both == 0
        mended = Live(delay_s=added_s)
        mended.run(lambda: mended.both >= 10)
    assert (_reason(mended, "eeg"), _reason(mended, "face")) == ("", "")


def _reason(live: Live, kind: str) -> str:
    return live.statuses[kind].reason if kind in live.statuses else ""
