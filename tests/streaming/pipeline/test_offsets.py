"""Claims about streams whose stamps are some seconds off those of the other modality."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from clmer_streaming.config import PreprocessConfig
from clmer_streaming.face.layout import FACE_CH_NAMES, face_to_row
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.types import Chunk, Item, StreamStatus, Window
from clmer_streaming.xdf.header import XdfStreamSpec
from clmer_streaming.xdf.writer import XdfWriter
from tests.support.signals import EEG_INFO, FACE_INFO, cut, eeg_like, face, merged, push_all, stamps

SECONDS = 20


def session(eeg_behind_s: float, delay_s: float = 0.0) -> tuple[list[Window], dict[str, StreamStatus]]:
    """Run EEG and faces of the same moments, with the stamps of the EEG behind by so many seconds."""
    t = stamps(128 * SECONDS)
    info = dataclasses.replace(EEG_INFO, delay_s=delay_s)
    chunks = list(cut(t, eeg_like(t.size), [16]))
    faces: list[Item] = [face(stamp, 1.0) for stamp in stamps(30 * SECONDS, 30.0).tolist()]
    in_order: list[Item] = []
    for item in merged(chunks, faces):
        if isinstance(item, Chunk):
            in_order.append(dataclasses.replace(item, t=item.t - eeg_behind_s))
        else:
            in_order.append(item)
    stage = Preprocessor(PreprocessConfig())
    windows = push_all(stage, [info, FACE_INFO, *in_order])
    return windows, {status.kind: status for status in stage.statuses()}


def both(windows: list[Window]) -> int:
    return sum(bool(window.mask["eeg"].any() and window.mask["aus"].any()) for window in windows)


def told(status: StreamStatus) -> tuple[float, ...]:
    """Return by how much the stamps are behind, and what is to be added to the delay, in s, as the status says it."""
    found = re.fullmatch(
        r"its stamps are (.*) s behind the other streams.*: add (.*) to --eeg-delay, .*", status.reason
    )
    assert found is not None, status.reason
    return tuple(map(float, found.groups()))


@pytest.mark.parametrize("behind_s", [1.6, 3.2, 8.0])
def test_eeg_behind_the_face_is_told_with_its_mend(behind_s: float) -> None:
    """No window has both; the status says by how much the EEG is behind, and which option takes that off."""
    windows, statuses = session(behind_s)
    assert both(windows) == 0
    assert told(statuses["eeg"]) == pytest.approx((behind_s, -behind_s), abs=0.15)
    assert any("eeg_stale" in window.reasons for window in windows)
    assert both(session(behind_s, delay_s=-behind_s)[0]) > SECONDS


@pytest.mark.parametrize("ahead_s", [1.6, 3.2, 8.0])
def test_a_face_behind_the_eeg_is_told_with_its_mend(ahead_s: float) -> None:
    """The same the other way round: the EEG is ahead, and so the face is behind."""
    windows, statuses = session(-ahead_s)
    assert both(windows) == 0
    assert told(statuses["face"]) == pytest.approx((ahead_s, ahead_s), abs=0.15)
    assert both(session(-ahead_s, delay_s=ahead_s)[0]) > SECONDS


def test_streams_in_time_say_nothing() -> None:
    """Half a second apart is a matter of delivery, not of clocks."""
    for behind_s in (0.0, 0.5, -0.5):
        windows, statuses = session(behind_s)
        assert both(windows) > SECONDS
        assert (statuses["eeg"].reason, statuses["face"].reason) == ("", "")


def test_an_offset_in_a_recording_is_told_in_its_replay(tmp_path: Path) -> None:
    """A recording merged by stamp has both modalities, whatever their delay: nothing has to be told."""
    path = tmp_path / "session.xdf"
    t, t_face = stamps(128 * SECONDS), stamps(30 * SECONDS, 30.0)
    with XdfWriter(path) as xdf:
        eeg = xdf.add_stream(XdfStreamSpec("EPOC", "EEG", EEG_INFO.ch_names, sfreq=128.0, units=("uV",) * 14))
        spec = XdfStreamSpec("CLMER-Face", "MoCap", FACE_CH_NAMES, 30.0, desc={"extractor": FACE_INFO.extractor})
        faces = xdf.add_stream(spec)
        xdf.write_samples(eeg, t - 3.2, eeg_like(t.size))
        xdf.write_samples(faces, t_face, np.stack([face_to_row(face(stamp, 1.0)) for stamp in t_face], axis=1))
    source = ReplaySource(path, speed=math.inf)
    windows = push_all(Preprocessor(PreprocessConfig()), source.items())
    assert both(windows) > SECONDS
