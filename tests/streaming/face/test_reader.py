"""Frames become samples: calibration, quality, smoothing, loss, change of person; the same frames, the same bits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from clmer_streaming.errors import SettingsError
from clmer_streaming.face.action_units import FaceFeatures
from clmer_streaming.face.geometry import MeshFrame
from clmer_streaming.face.layout import AU_NAMES, face_to_row, row_to_face
from clmer_streaming.face.neutral import (
    N_TRIAL,
    PRIOR_MEAN,
    SAME_PERSON,
    NeutralFace,
    RunningNeutral,
    face_shape,
    shape_distance,
)
from clmer_streaming.face.reader import FaceReader, FaceReaderConfig
from clmer_streaming.types import FaceFlag, FaceSample, FloatArray
from tests.support.face_acting import ACTS, Move, acted, features_of, flat_view, rotation, still_face

FPS = 30.0
AU01, AU12, AU25, AU45 = (AU_NAMES.index(name) for name in ("AU01", "AU12", "AU25", "AU45"))


def view(face: FloatArray | None = None, **changes: object) -> MeshFrame:
    """Return a good frame of a face that looks into the camera."""
    frame = flat_view(still_face() if face is None else face, np.eye(3))
    return replace(frame, **changes)  # type: ignore[arg-type]


def smile(share: float = 1.0) -> FloatArray:
    return acted(still_face(), ACTS["AU12"], share)


def read(reader: FaceReader, frames: Iterable[MeshFrame | None], t0: float = 0.0) -> list[FaceSample]:
    """Read frames at 30 a second."""
    return [reader.read(t0 + i / FPS, frame) for i, frame in enumerate(frames)]


def neutral_of(face: FloatArray) -> NeutralFace:
    return NeutralFace(features_of(face), 0.0, 0.0, tuple(face_shape(face).tolist()), 90)


def other_person() -> FloatArray:
    """Return a face with a longer nose, a higher forehead and a broader head."""
    face = still_face()
    face[[2, 97, 326, 4, 5, 195], 1] -= 0.7
    face[10, 1] += 0.6
    face[[21, 251], 0] *= 1.1
    return face


def flat(samples: Iterable[FaceSample]) -> bytes:
    return b"".join(face_to_row(sample).tobytes() for sample in samples)


def test_the_same_frames_give_the_same_bits() -> None:
    """Two readers, and one that was reset, agree bit for bit; a sample survives the stream's layout."""
    rng = np.random.default_rng(1)
    frames = [view(smile(rng.uniform()) + rng.normal(0, 0.01, (478, 3)), reset=i == 40) for i in range(80)]
    frames_with_loss: list[MeshFrame | None] = [*frames[:60], None, None, *frames[60:]]
    reader = FaceReader()
    first = flat(read(reader, frames_with_loss))
    reader.reset()
    assert flat(read(reader, frames_with_loss)) == first
    samples = read(FaceReader(), frames_with_loss)
    assert flat(samples) == first
    assert flat(row_to_face(s.t, face_to_row(s)) for s in samples) == first


def test_no_face_gives_nan_and_never_zero() -> None:
    """Every number is NaN, quality 0, flag MISSING; points that are no face count as none."""
    reader = FaceReader()
    for sample in read(reader, [None, view(np.full((478, 3), np.nan))]):
        for numbers in (sample.landmarks, sample.aus, sample.gaze, sample.pose):
            assert np.isnan(numbers).all()
        assert (sample.quality, sample.flags) == (0.0, FaceFlag.MISSING)


def test_a_good_face_has_every_number() -> None:
    """Finite numbers, full quality and no flag once the face is tracked; z of the place is its distance."""
    samples = read(FaceReader(), [view()] * 3)
    assert [s.flags for s in samples] == [FaceFlag.RESET, FaceFlag.NONE, FaceFlag.NONE]
    assert [s.quality for s in samples] == [pytest.approx(0.7), 1.0, 1.0]
    last = samples[-1]
    assert np.isfinite(np.concatenate([last.landmarks.ravel(), last.aus.ravel(), last.gaze, last.pose])).all()
    assert last.pose[2] == pytest.approx(500 / 9.0)


def test_a_face_that_is_found_again_starts_afresh() -> None:
    """After a loss, or when the detector ran, no frame from before is averaged in."""
    explicit = neutral_of(still_face())
    once = FaceReader(neutral=explicit).read(0.0, view(smile())).aus[AU12, 0]
    for before in ([view(), view(), None], [view(), view()]):
        samples = read(FaceReader(neutral=explicit), [*before, view(smile(), reset=len(before) == 2)])
        assert samples[-1].aus[AU12, 0] == once
        assert FaceFlag.RESET in samples[-1].flags


def test_three_frames_are_averaged_and_no_later_one() -> None:
    """A smile of one frame shows in three, causally; old frames of a slow camera are left out."""
    explicit = neutral_of(still_face())
    samples = read(FaceReader(neutral=explicit), [view()] * 3 + [view(smile())] + [view()] * 4)
    assert [s.aus[AU12, 0] > 0 for s in samples] == [False] * 3 + [True] * 3 + [False] * 2
    slow = FaceReader(neutral=explicit)
    assert [slow.read(0.2 * i, frame).aus[AU12, 0] > 0 for i, frame in enumerate([view(), view(smile()), view()])] == [
        False,
        True,
        False,
    ]


def test_the_calibration_goes_with_every_sample() -> None:
    """Prior at first, running once frames have taught, explicit with a measured face, none on request."""
    samples = read(FaceReader(), [view(quiet())] * (N_TRIAL + 2))
    assert samples[0].calibration == "prior"
    assert samples[-1].calibration == "running"
    assert FaceReader(FaceReaderConfig(neutral="prior")).read(0.0, view()).calibration == "prior"
    assert FaceReader(neutral=neutral_of(still_face())).read(0.0, view()).calibration == "explicit"
    assert FaceReader(neutral=neutral_of(still_face())).read(0.0, None).calibration == "explicit"


def test_without_a_neutral_face_there_are_no_action_units() -> None:
    """In mode none they are NaN; landmarks, gaze and pose go on."""
    sample = FaceReader(FaceReaderConfig(neutral="none")).read(0.0, view())
    assert sample.calibration == "none"
    assert np.isnan(sample.aus).all()
    assert np.isfinite(sample.landmarks).all()


def quiet() -> FloatArray:
    """Return the still face with the mouth's corners where the average person has them: the reference smiles."""
    corners = (61, 291)
    face = still_face()
    features = features_of(face)
    unit = math.dist(face[33], face[263])
    sides = np.array([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    face[list(corners)] += sides * unit * (PRIOR_MEAN.corner_out - features.corner_out)
    face[list(corners), 1] += unit * (PRIOR_MEAN.corner_over_lips - features.corner_over_lips)
    return face


def test_three_quiet_seconds_make_a_neutral_face() -> None:
    """Measured on purpose, the person's own face shows nothing, though it is far from the average one."""
    reader = FaceReader()
    reader.begin_calibration(0.0, seconds=3.0)
    assert reader.calibrating
    read(reader, [view()] * 91)
    assert not reader.calibrating
    assert reader.calibration == "explicit"
    assert reader.neutral_face is not None
    assert reader.neutral_face.features == pytest.approx(features_of(still_face()))
    assert reader.read(5.0, view()).aus[:, 0].max() < 1e-4
    assert FaceReader().read(0.0, view()).aus[:, 0].max() > 1


def test_a_calibration_without_a_face_fails_and_leaves_what_was() -> None:
    """Fewer than ten good frames are no measurement."""
    reader = FaceReader()
    reader.begin_calibration(0.0, seconds=3.0)
    read(reader, [None] * 85 + [view()] * 10)
    assert not reader.calibrating
    assert reader.neutral_face is None
    assert reader.calibration != "explicit"


def test_blinks_do_not_lower_the_open_eye() -> None:
    """With the eyes shut in a quarter of the frames, the neutral eye is still the open one."""
    shut = acted(still_face(), ACTS["AU45"])
    reader = FaceReader()
    reader.begin_calibration(0.0, seconds=3.0)
    read(reader, [view(shut) if i % 4 == 0 else view() for i in range(100)])
    assert reader.neutral_face is not None
    assert reader.neutral_face.features.eye_open == pytest.approx(features_of(still_face()).eye_open)


def test_a_neutral_face_survives_its_file() -> None:
    """JSON and back is the same; nonsense and another extractor's face are refused with a cure."""
    face = neutral_of(still_face())
    assert NeutralFace.from_json(face.to_json()) == face
    alien = replace(face, extractor="other-1").to_json()
    for text in ("", "[]", "{}", '{"features": {}, "shape": []}', alien):
        with pytest.raises(SettingsError):
            NeutralFace.from_json(text)


def running(frames: Iterable[FaceFeatures]) -> RunningNeutral:
    neutral = RunningNeutral()
    for features in frames:
        neutral.push(features, 0.0, 0.0)
    return neutral


def test_the_running_neutral_begins_with_the_average_person() -> None:
    """Before any frame it is the prior, to a thousandth of a bin."""
    start = RunningNeutral().baseline
    assert start.features == pytest.approx(PRIOR_MEAN, abs=1e-6)
    assert start.calibration == "prior"


def test_the_running_neutral_moves_to_the_person() -> None:
    """A person with brows .04 higher than the average is learned: in part after 90 frames, nearly after 900."""
    person = PRIOR_MEAN._replace(brow_inner=PRIOR_MEAN.brow_inner + 0.04)
    learned = [running([person] * n).baseline.features.brow_inner - PRIOR_MEAN.brow_inner for n in (30, 90, 900)]
    assert 0 < learned[0] < learned[1] < learned[2]
    assert learned[2] == pytest.approx(0.04, abs=0.004)


@pytest.mark.parametrize(
    "loud",
    [
        PRIOR_MEAN._replace(lip_gap=0.1),
        PRIOR_MEAN._replace(corner_over_lips=PRIOR_MEAN.corner_over_lips + 0.05),
        PRIOR_MEAN._replace(corner_out=PRIOR_MEAN.corner_out + 0.05),
    ],
    ids=["open mouth", "corners up", "mouth wide"],
)
def test_neutral_never_learns_from_a_smile_or_an_open_mouth(loud: FaceFeatures) -> None:
    """A minute of it leaves the neutral face as it was."""
    assert running([loud] * 1800).baseline == RunningNeutral().baseline


def test_a_long_smile_stays_a_smile() -> None:
    """After three quiet seconds, ten seconds of smiling read the same at their end as at their beginning."""
    reader = FaceReader()
    read(reader, [view(quiet())] * 90)
    smiling = read(reader, [view(acted(quiet(), ACTS["AU12"]))] * 300, t0=3.0)
    assert smiling[5].aus[AU12, 0] > 2
    assert smiling[-1].aus[AU12, 0] == pytest.approx(smiling[5].aus[AU12, 0])


def test_bad_frames_teach_nothing() -> None:
    """A dark, blurred or turned face is read but not learned from."""
    reader = FaceReader()
    read(reader, [view(quiet(), luma=5.0)] * 100)
    assert reader.calibration == "prior"


def test_another_person_starts_from_the_prior() -> None:
    """When a face is found again and its bones differ, what was learned is dropped; on a mere loss it stays."""
    reader = FaceReader()
    read(reader, [view(quiet())] * 60)
    back = read(reader, [None] * 5 + [view(quiet())] * (N_TRIAL + 1), t0=2.0)
    assert {s.calibration for s in back} == {"running"}
    other = read(reader, [None] * 5 + [view(other_person())] * N_TRIAL, t0=3.0)
    assert other[-2].calibration == "running"
    assert other[-1].calibration == "prior"


def test_a_measured_neutral_waits_for_its_owner() -> None:
    """While another person sits there it is not used; when the owner is back it is."""
    reader = FaceReader(neutral=neutral_of(still_face()))
    people = [still_face(), other_person(), still_face()]
    seen = [read(reader, [None] + [view(face)] * (N_TRIAL + 1), t0=float(i))[-1] for i, face in enumerate(people)]
    assert [s.calibration == "explicit" for s in seen] == [True, False, True]


def test_turning_the_head_makes_no_other_person() -> None:
    """The shape is the aligned face's: pose and distance do not enter."""
    assert shape_distance(face_shape(still_face()), face_shape(3 * still_face() @ rotation(0.5, 0.5))) < 1e-9
    assert shape_distance(face_shape(still_face()), face_shape(other_person())) > SAME_PERSON


@pytest.mark.parametrize(
    ("spoil", "flag"),
    [
        ({"luma": 10.0}, FaceFlag.DARK),
        ({"sharpness": 5.0}, FaceFlag.BLURRED),
        ({"points": flat_view(still_face(), np.eye(3), scale=2.0).points}, FaceFlag.SMALL),
        ({"points": flat_view(still_face(), rotation(yaw=0.6)).points}, FaceFlag.TURNED),
        ({"points": flat_view(still_face(), rotation(pitch=0.6)).points}, FaceFlag.TURNED),
        ({"n_faces": 2}, FaceFlag.MULTIPLE),
        ({"presence": 0.6}, FaceFlag.NONE),
        ({"points": flat_view(still_face() * [1.0, 1.7, 1.0], np.eye(3)).points}, FaceFlag.NONE),
    ],
    ids=["dark", "blurred", "small", "turned aside", "bowed", "company", "covered", "distorted"],
)
def test_each_fault_lowers_the_quality_and_says_why(spoil: dict[str, object], flag: FaceFlag) -> None:
    """Only company costs nothing: the participant is still seen well."""
    sample = read(FaceReader(), [view(), view(**spoil)])[-1]  # type: ignore[arg-type]
    assert sample.flags == flag
    assert sample.quality == 1.0 if flag is FaceFlag.MULTIPLE else sample.quality < 0.7


def test_a_dim_picture_is_not_called_blurred() -> None:
    """A quarter of the light leaves a sixteenth of the Laplacian's variance: sharpness is judged against the luma."""
    sample = read(FaceReader(), [view(), view(luma=30.0, sharpness=200.0 / 16)])[-1]
    assert sample.flags == FaceFlag.NONE
    assert sample.quality == 1.0


def test_quality_falls_from_fifteen_degrees_on() -> None:
    """Up to 15 degrees it is full, half at 30, nothing at 45, straight between."""
    angles = np.deg2rad([0, 10, 14.9, 22.5, 30, 45, 60])
    turned = [flat_view(still_face(), rotation(yaw=angle)) for angle in angles]
    centred = [replace(f, points=f.points - [*f.points[:, :2].mean(axis=0) - [320, 240], 0.0]) for f in turned]
    quality = [read(FaceReader(), [view(), frame])[-1].quality for frame in centred]
    assert quality == pytest.approx([1, 1, 1, 0.75, 0.5, 0, 0], abs=1e-6)


def test_turn_is_counted_from_the_pose_of_the_neutral_face() -> None:
    """A camera below the screen sees every face from below: only the departure from that costs quality."""
    bowed = flat_view(still_face(), rotation(pitch=0.55))
    neutral = replace(neutral_of(still_face()), pitch=0.55)
    assert read(FaceReader(neutral=neutral), [bowed] * 2)[-1].quality == 1.0
    assert read(FaceReader(), [bowed] * 2)[-1].quality < 0.7


def test_gaze_rests_while_the_eyes_are_shut() -> None:
    """A blink keeps the last gaze; eyes that were never open look where the head points."""
    aside = still_face()
    aside[468:, 0] += 0.4
    shut = acted(still_face(), ACTS["AU45"])
    open_then_shut = read(FaceReader(), [view(aside), view(shut)])
    assert open_then_shut[0].gaze[0] > 0.2
    assert np.array_equal(open_then_shut[1].gaze, open_then_shut[0].gaze)
    assert FaceReader().read(0.0, view(shut)).gaze == pytest.approx([0.0, 0.0], abs=0.1)


def test_a_longer_session_takes_no_more_memory() -> None:
    """The reader keeps histograms, sums and three frames; nothing grows with the number of frames."""
    import pickle

    reader = FaceReader()
    read(reader, [view(quiet())] * 50)
    before = len(pickle.dumps(reader))
    read(reader, [view(quiet())] * 500, t0=2.0)
    assert len(pickle.dumps(reader)) < before + 200


def test_a_brow_is_read_with_the_head_anywhere() -> None:
    """The same raised brows give the same intensity, turned, moved and far away."""
    face = acted(still_face(), (Move((107, 55, 66, 65), (0, 0.6, 0)),))
    neutral = neutral_of(still_face())
    frames = [flat_view(face, rotation(0.2, 0.3, 0.4), (100.0, 90.0), 4.0), flat_view(face, np.eye(3))]
    values = [FaceReader(neutral=neutral).read(0.0, frame).aus[AU01, 0] for frame in frames]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    assert values[0] > 3
