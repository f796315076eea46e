"""Claims about face samples on the slots of a window."""

from __future__ import annotations

import dataclasses

import numpy as np

from clmer_streaming.config import WindowConfig
from clmer_streaming.pipeline.face import FaceSlots
from clmer_streaming.types import FaceFlag, FaceSample, Reason
from tests.support.signals import face

CONFIG = WindowConfig(window_s=2.0, face_slots=8)


def slots(*samples: FaceSample) -> FaceSlots:
    kept = FaceSlots(CONFIG)
    for sample in samples:
        kept.push(sample)
    return kept


def test_a_slot_is_the_mean_of_the_valid_frames_in_it() -> None:
    """Two frames in the first quarter second, one in the last: 1 and 3 give 2; the rest is masked."""
    cut = slots(face(10.0, 1.0), face(10.2, 3.0), face(11.99, 5.0)).cut(12.0)
    assert cut.mask.tolist() == [True, *[False] * 6, True]
    assert cut.aus[0, 0, 0] == 2.0
    assert cut.landmarks[7, 0, 0] == 5.0
    assert np.array_equal(cut.gaze[3], [0, 0])


def test_one_frame_a_second_is_one_slot_of_one_second() -> None:
    """The paper's series: a window of 1 s with F = 1 holds the mean of its frames, and nothing of those around."""
    kept = FaceSlots(WindowConfig(window_s=1.0, face_slots=1))
    for t, level in ((10.9, 9.0), (11.0, 1.0), (11.5, 2.0), (11.99, 6.0), (12.0, 9.0)):
        kept.push(face(t, level))
    assert kept.cut(12.0).aus[:, 0, 0].tolist() == [3.0]


def test_the_window_is_half_open() -> None:
    """A frame at t_start belongs to the window, one at t_end does not."""
    cut = slots(face(10.0), face(12.0)).cut(12.0)
    assert len(cut.frames) == 1


def test_frames_without_face_or_trust_do_not_count() -> None:
    """NaN, a missing flag, or quality below the bound: masked, never zero."""
    cut = slots(
        face(10.1, np.nan),
        dataclasses.replace(face(10.4), flags=FaceFlag.MISSING),
        face(10.6, quality=0.1),
    ).cut(12.0)
    assert not cut.mask.any()
    assert cut.reasons() == (Reason.FACE_MISSING,)
    assert np.isnan(cut.quality(12.0, 2.0)["quality"])


def test_no_frames_at_all_is_a_stale_video() -> None:
    """A face that cannot be seen and a camera that sends nothing are different things."""
    assert slots(face(5.0)).cut(12.0).reasons() == (Reason.VIDEO_STALE,)


def test_half_of_the_slots_make_a_face() -> None:
    """Four slots of eight are enough, three are not."""
    assert slots(*(face(10.1 + 0.25 * i) for i in range(4))).cut(12.0).reasons() == ()
    assert slots(*(face(10.1 + 0.25 * i) for i in range(3))).cut(12.0).reasons() == (Reason.FACE_MISSING,)


def test_a_flag_on_most_frames_becomes_a_reason() -> None:
    """Turned in three frames of five."""
    frames = [face(10.05 + 0.4 * i) for i in range(5)]
    frames[:3] = [dataclasses.replace(f, flags=FaceFlag.TURNED) for f in frames[:3]]
    assert Reason.FACE_TURNED in slots(*frames).cut(12.0).reasons()


def test_a_frame_that_goes_back_in_time_is_not_taken() -> None:
    """Order is kept by dropping what breaks it."""
    assert len(slots(face(11.0), face(10.5)).cut(12.0).frames) == 1


def test_no_slot_averages_over_a_cut() -> None:
    """A face that was found anew may be another one: its slot begins with it, the slots beside keep theirs."""
    anew = dataclasses.replace(face(10.3, 7.0), flags=FaceFlag.RESET)
    for found in (anew, dataclasses.replace(anew, quality=0.1)):  # a first frame may be too poor to count
        cut = slots(face(10.1, 1.0), face(10.26, 1.0), found, face(10.4, 7.0), face(10.6, 7.0)).cut(12.0)
        assert cut.aus[:3, 0, 0].tolist() == [1.0, 7.0, 7.0]
        assert len(cut.valid) == 5 - (found.quality < 0.2)
