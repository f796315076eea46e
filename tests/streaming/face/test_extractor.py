"""Claims about the second extractor: a real FaceLandmarker, its bundle made of the wheel's models, on real pixels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clmer_server.cli import main
from clmer_server.participants import load_neutral
from clmer_streaming.config import PreprocessConfig
from clmer_streaming.errors import SettingsError
from clmer_streaming.face.extractor import (
    FACE_MESH,
    Extractor,
    FaceLandmarkerReader,
    FaceMeshReader,
    MeshReader,
    is_known_extractor,
)
from clmer_streaming.face.geometry import MeshFrame
from clmer_streaming.face.image import CutDetector, to_rgb
from clmer_streaming.face.layout import AU_NAMES, EXTRACTOR_ID, FACE_CH_NAMES, OPENFACE_EXTRACTOR_ID
from clmer_streaming.face.reader import FaceReader, FaceReaderConfig
from clmer_streaming.pipeline.preprocess import Preprocessor
from clmer_streaming.simulation.config import SimulationConfig
from clmer_streaming.simulation.session import simulate, write_session
from clmer_streaming.sources.camera import CameraSource
from clmer_streaming.sources.replay import ReplaySource
from clmer_streaming.sources.video import VideoFaces
from clmer_streaming.types import FloatArray
from clmer_streaming.xdf.reader import read_xdf
from tests.support.face_pictures import FACE_AT, Picture, astronaut, read_video, scene, swaying, write_video
from tests.support.listener import Listener
from tests.support.task_bundle import DETECTOR, LANDMARKS, models, wheel_model, write_bundle

SETTLED = 15
"""Pictures after which FaceLandmarker's smoothing has arrived."""

SMILE = AU_NAMES.index("AU12")
SIX_OUTPUTS, FEWER_POINTS = "face_landmark/face_landmark_with_attention.tflite", "face_landmark/face_landmark.tflite"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FaceLandmarker bundle that works."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "face_landmarker.task")


@pytest.fixture(scope="module")
def loaded(bundle: Path) -> MeshReader:
    """Its reader, made once."""
    return Extractor.choose(bundle).open()


@pytest.fixture
def reader(loaded: MeshReader) -> MeshReader:
    """A reader that has seen nothing."""
    loaded.reset()
    return loaded


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of the astronaut, at 15 Hz."""
    return write_video(tmp_path_factory.mktemp("film") / "face.avi", swaying(45), rate_hz=15.0)


def seen(frame: MeshFrame | None) -> MeshFrame:
    """Return the frame of a picture in which there must be a face."""
    assert frame is not None
    return frame


def last(reader: MeshReader, picture: Picture, n: int = SETTLED) -> MeshFrame:
    """Return what a reader says of a picture that it is shown again and again."""
    return [seen(reader.process(picture)) for _ in range(n)][-1]


def test_a_face_is_found_and_then_followed(reader: MeshReader) -> None:
    """Found anew in the first frame, not in the second; the presence score is not known, and not made up."""
    first, second = seen(reader.process(astronaut())), seen(reader.process(astronaut()))
    assert isinstance(reader, FaceLandmarkerReader)
    assert first.points.shape == (478, 3)
    assert (first.reset, second.reset) == (True, False)
    assert (first.width, first.height, first.n_faces, first.presence) == (512, 512, 1, None)
    assert first.points[:, :2].mean(axis=0).tolist() == pytest.approx(FACE_AT, abs=8)


def test_both_extractors_agree_on_a_face(reader: MeshReader) -> None:
    """With the same weights in both: points within a pixel, landmarks within 2 mm, action units within 0.3."""
    ours, theirs = last(FaceMeshReader(), astronaut()), last(reader, astronaut())
    assert np.abs(ours.points - theirs.points).max() < 1.0
    config = FaceReaderConfig(neutral="prior")
    one, two = (FaceReader(config).read(0.0, frame) for frame in (ours, theirs))
    apart_mm = 10 * np.linalg.norm(one.landmarks - two.landmarks, axis=1)
    apart_au = np.abs(one.aus[:, 0] - two.aus[:, 0])
    worst = AU_NAMES[int(apart_au.argmax())]
    print(f"landmarks {apart_mm.mean():.2f} mm apart, at most {apart_mm.max():.2f}; {worst} by {apart_au.max():.2f}")
    assert apart_mm.max() < 2.0
    assert apart_au.max() < 0.3
    assert np.degrees(np.abs(one.pose[3:] - two.pose[3:])).max() < 2.0


def test_the_same_pictures_give_the_same_bits(reader: MeshReader) -> None:
    """After a reset nothing is left of what was seen."""
    runs = []
    for _ in range(2):
        reader.reset()
        runs.append([seen(reader.process(picture)).points for picture in swaying(12)])
    assert all(np.array_equal(one, two) for one, two in zip(*runs, strict=True))


def test_nobody_is_none_and_a_return_is_a_reset(reader: MeshReader) -> None:
    """An empty wall has no face; whoever comes back was found anew."""
    pictures = [scene((320, 240, 1.0))] * 3 + [scene()] * 3 + [scene((320, 240, 1.0))] * 2
    frames = [reader.process(picture) for picture in pictures]
    assert [frame is not None for frame in frames] == [True] * 3 + [False] * 3 + [True] * 2
    assert [frame.reset for frame in frames if frame is not None] == [True, False, False, True, False]


def test_nothing_is_carried_across_a_cut(reader: MeshReader) -> None:
    """The smoothing begins anew: the first points behind a cut are those of a reader that has seen nothing else."""
    before, after = np.clip(scene((300, 240, 1.0)) + 40.0, 0, 255).astype(np.uint8), scene((330, 250, 1.1)) // 2
    last(reader, before)
    behind = seen(reader.process(after))
    reader.reset()
    fresh = seen(reader.process(after))
    assert behind.reset
    assert np.array_equal(behind.points, fresh.points)


def test_a_second_person_in_view_is_noticed(reader: MeshReader) -> None:
    """FaceLandmarker follows one; the other one still shows in the count."""
    assert seen(reader.process(scene((180, 240, 1.2), (460, 240, 1.2)))).n_faces == 2


def test_a_face_that_jumps_by_its_width_is_found_anew(reader: MeshReader) -> None:
    """It can hardly be the same one, whatever FaceLandmarker says of it."""
    last(reader, scene((180, 240, 1.0)))
    frames = [reader.process(scene((460, 240, 1.0))) for _ in range(4)]
    assert next(frame.reset for frame in frames if frame is not None)


@pytest.mark.parametrize(
    "picture", [np.zeros((0, 0, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)], ids=["empty", "tiny"]
)
def test_a_picture_too_small_for_a_face_does_no_harm(reader: MeshReader, picture: Picture) -> None:
    """It is kept from the graph, which goes on."""
    assert reader.process(picture) is None
    assert reader.process(astronaut()) is not None
    assert reader.n_rebuilt == 0


def test_an_unknown_presence_score_costs_no_quality(reader: MeshReader) -> None:
    """Known is only that FaceLandmarker took it for a face; all else that can spoil a frame is measured."""
    frame = last(reader, astronaut())
    unknown, sure, doubtful = (
        FaceReader().read(0.0, replace(frame, presence=presence)).quality for presence in (None, 1.0, 0.7)
    )
    assert unknown == sure > doubtful > 0


def test_an_id_belongs_to_one_file(bundle: Path, tmp_path: Path) -> None:
    """Other weights are another extractor, and so is another version of what lies behind the points."""
    other = write_bundle(tmp_path / "b.task", {**models(), "note.txt": b"retrained"})
    ids = [Extractor.choose(path).id for path in (bundle, Path(shutil.copy(bundle, tmp_path / "a.task")), other, None)]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert ids[0].startswith(f"{EXTRACTOR_ID}-landmarker-")
    assert all(is_known_extractor(name) for name in (*ids, OPENFACE_EXTRACTOR_ID))
    assert not any(
        is_known_extractor(name) for name in ("", "clmer-face-0", f"{EXTRACTOR_ID}-landmarker-", ids[0] + "0")
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        ({}, "a bundle without face_detector.tflite and face_landmarks_detector.tflite"),
        ({"pose.tflite": b"x", DETECTOR: b"x"}, "a bundle without face_landmarks_detector.tflite"),
        (b"", "no such bundle"),
        (b"no bundle" * 99, "no such bundle"),
    ],
    ids=["missing", "empty-zip", "other-bundle", "empty", "no-zip"],
)
def test_what_is_no_bundle_is_told_before_anything_starts(
    tmp_path: Path, content: dict[str, bytes] | bytes | None, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with one clear line, in every command that takes one."""
    path = tmp_path / "f.task"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        write_bundle(path, content)
    for words in (
        ["serialize", "x.mp4", "--out", str(tmp_path / "out")],
        ["calibrate", "--participant", "P01", "--camera", "63"],
        ["face-stream", "--camera", "63"],
        ["predict", "x.xdf", "--out", "-"],
    ):
        assert main([*words, "--face-landmarker", str(path)]) == 2
        error = capsys.readouterr().err.splitlines()
        assert error[0] == f"expected: a FaceLandmarker bundle (.task) at {path}"
        assert found in error[1]
        assert len(error) == 3


NONSENSE = b"no model" * 99


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (lambda: {DETECTOR: NONSENSE, LANDMARKS: NONSENSE}, "not a valid Flatbuffer"),
        (lambda: {**models(), LANDMARKS: wheel_model(SIX_OUTPUTS)}, "TensorsToFloatsCalculator"),
        (lambda: {**models(), LANDMARKS: wheel_model(FEWER_POINTS)}, "fewer than 478 points"),
        (lambda: {DETECTOR: models()[LANDMARKS], LANDMARKS: models()[DETECTOR]}, "TensorsToDetectionsCalculator"),
    ],
    ids=["nonsense", "six-outputs", "468-points", "swapped"],
)
def test_models_that_do_not_fit_are_one_clear_error(
    tmp_path: Path, content: Callable[[], dict[str, bytes]], found: str
) -> None:
    """At the latest with the third picture of a face, in one line that holds what MediaPipe said."""
    extractor = Extractor.choose(write_bundle(tmp_path / "f.task", content()))
    with pytest.raises(SettingsError) as caught:
        reader = extractor.open()
        for _ in range(3):
            assert reader.process(astronaut()) is None
    assert found in caught.value.found
    assert "\n" not in caught.value.found


def test_a_bundle_that_was_replaced_is_not_taken_for_the_one_chosen(bundle: Path, tmp_path: Path) -> None:
    """Its numbers would bear the other one's name."""
    path = Path(shutil.copy(bundle, tmp_path / "f.task"))
    extractor = Extractor.choose(path)
    write_bundle(path, {**models(), "note.txt": b"retrained"})
    with pytest.raises(SettingsError, match="another one by now"):
        extractor.open()


@pytest.mark.camera
def test_a_bad_bundle_in_a_face_process_is_a_reason_not_a_crash(film: Path, tmp_path: Path) -> None:
    """The camera says why it gives no faces, and ends; what else runs goes on."""
    extractor = Extractor.choose(write_bundle(tmp_path / "f.task", {**models(), LANDMARKS: wheel_model(SIX_OUTPUTS)}))
    source = CameraSource(str(film), extractor=extractor)
    with Listener(source) as listener:
        listener.rest()
    assert "TensorsToFloatsCalculator" in source.report.reason


def test_serialize_names_the_extractor(film: Path, bundle: Path, tmp_path: Path) -> None:
    """In the stream's header; every frame has a face."""
    words = ["serialize", str(film), "--out", str(tmp_path), "--face-landmarker", str(bundle), "--jobs", "1"]
    assert main(words) == 0
    (stream,) = read_xdf(tmp_path / "face.xdf").streams
    assert stream.desc_text("extractor") == Extractor.choose(bundle).id
    assert stream.x.shape == (len(FACE_CH_NAMES), 45)
    assert np.isfinite(stream.x).all()


@pytest.mark.camera
def test_a_model_of_another_extractor_does_not_use_the_face(film: Path, bundle: Path, tmp_path: Path) -> None:
    """The shipped model learnt from FaceMesh: the events say so and rest on EEG alone."""
    write_session(simulate(SimulationConfig(seconds=3, seed=1)), tmp_path / "eeg.xdf")
    out = tmp_path / "p.jsonl"
    words = ["predict", str(tmp_path / "eeg.xdf"), "--video", str(film), "--out", str(out)]
    assert main([*words, "--face-landmarker", str(bundle)]) == 0
    event = json.loads(out.read_text().splitlines()[-1])
    assert "face_extractor_mismatch" in event["reasons"]
    assert (event["modalities"]["eeg"]["used"], event["modalities"]["face"]["used"]) == (True, False)


@pytest.mark.camera
def test_a_model_of_this_extractor_uses_the_face(film: Path, bundle: Path, tmp_path: Path) -> None:
    """Trained with the same file, the video fills the slots."""
    write_session(simulate(SimulationConfig(seconds=3, seed=1)), tmp_path / "eeg.xdf")
    extractor = Extractor.choose(bundle)
    preprocessor = Preprocessor(PreprocessConfig(extractor=extractor.id))
    faces = VideoFaces(film, extractor=extractor)
    source = ReplaySource(tmp_path / "eeg.xdf", video=faces, extractor=extractor.id)
    windows = [window for item in source.items() for window in preprocessor.push(item)]
    assert faces.info.extractor == extractor.id
    assert windows[-1].mask["aus"].all()


@pytest.mark.camera
def test_a_neutral_face_belongs_to_its_extractor(film: Path, bundle: Path, tmp_path: Path) -> None:
    """Measured with one, it is no baseline for the other."""
    words = ["calibrate", "--participant", "P01", "--camera", str(film), "--seconds", "1"]
    assert main([*words, "--participants", str(tmp_path), "--face-landmarker", str(bundle)]) == 0
    extractor = Extractor.choose(bundle)
    assert load_neutral(tmp_path, "P01", extractor.id) is not None
    with pytest.raises(SettingsError, match=EXTRACTOR_ID):
        load_neutral(tmp_path, "P01")


def test_a_smile_on_film_is_the_same_smile(reader: MeshReader, sample_data: Path) -> None:
    """AU12 of a man who smiles goes the way that it goes with the usual extractor."""
    pictures = read_video(sample_data / "faces/neutral_smile_neutral_man.mp4")
    mine, usual = (smile(mesh, pictures) for mesh in (reader, FACE_MESH.open()))
    assert mine[:15].max() < 1
    assert mine.max() > 4
    assert np.corrcoef(mine, usual)[0, 1] > 0.95


def test_no_face_is_seen_in_an_animation_and_none_across_cuts(reader: MeshReader, sample_data: Path) -> None:
    """A cartoon is no face; what was followed before a cut is not followed behind it."""
    animation, crowd = (
        read_video(sample_data / f"faces/{name}.mp4") for name in ("no_face_animation", "stage_crowd_cuts")
    )
    assert all(reader.process(picture) is None for picture in animation)
    reader.reset()
    cuts, frames = CutDetector(), [reader.process(picture) for picture in crowd]
    behind = [frame for picture, frame in zip(crowd, frames, strict=True) if cuts.push(to_rgb_of(picture))]
    assert len(behind) >= 2
    assert all(frame is None or frame.reset for frame in behind)


def to_rgb_of(picture: Picture) -> Picture:
    """Return a picture's colours in the order of the reader."""
    rgb = to_rgb(picture)
    assert rgb is not None
    return rgb


def smile(mesh: MeshReader, pictures: list[Picture]) -> FloatArray:
    """Return AU12 of each picture."""
    face = FaceReader()
    return np.array([face.read(i / 30, mesh.process(picture)).aus[SMILE, 0] for i, picture in enumerate(pictures)])
