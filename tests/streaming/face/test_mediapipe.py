"""Claims about the way from pictures to the participant's face mesh, on real pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from clmer_streaming.errors import StreamError
from clmer_streaming.face.extractor import FaceMeshReader
from clmer_streaming.face.geometry import MeshFrame
from clmer_streaming.face.layout import face_to_row
from clmer_streaming.face.mediapipe import PATIENCE_FRAMES, Box, ParticipantTracker, count_rivals
from clmer_streaming.face.reader import FaceReader, FaceReaderConfig
from clmer_streaming.types import FaceFlag, FaceSample
from tests.support.face_pictures import FACE_AT, Picture, astronaut, read_video, scene, swaying

EYE_CORNERS = [33, 263]


@pytest.fixture(scope="module")
def loaded() -> FaceMeshReader:
    """A reader, made once: loading MediaPipe takes a second."""
    return FaceMeshReader()


@pytest.fixture
def reader(loaded: FaceMeshReader) -> FaceMeshReader:
    """A reader that has seen nothing."""
    loaded.reset()
    return loaded


def seen(frame: MeshFrame | None) -> MeshFrame:
    """Return the frame of a picture in which there must be a face."""
    assert frame is not None
    return frame


def middle(frame: MeshFrame | None) -> tuple[float, float]:
    """Return where the face is, pixels."""
    x, y = seen(frame).points[:, :2].mean(axis=0).tolist()
    return x, y


def test_a_face_is_found_and_then_followed(reader: FaceMeshReader) -> None:
    """The first frame says that the detector ran; the second does not; both have the same face."""
    first, second = seen(reader.process(astronaut())), seen(reader.process(astronaut()))
    assert first.points.shape == (478, 3)
    assert (first.reset, second.reset) == (True, False)
    assert (first.width, first.height, first.n_faces) == (512, 512, 1)
    assert first.presence is not None and first.presence > 0.99
    assert middle(first) == pytest.approx(FACE_AT, abs=8)
    assert np.abs(first.points - second.points).max() < 2.0


def test_the_points_are_those_of_mediapipe_s_own_face_mesh(reader: FaceMeshReader) -> None:
    """FaceMesh itself, fed the same picture until it has settled, puts them in the same places."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    rgb = np.ascontiguousarray(astronaut()[:, :, ::-1])
    with FaceMesh(refine_landmarks=True) as mesh:
        for _ in range(5):
            found = mesh.process(rgb).multi_face_landmarks[0].landmark
    expected = np.array([(p.x, p.y, p.z) for p in found]) * 512
    for _ in range(5):
        frame = seen(reader.process(astronaut()))
    assert np.abs(frame.points - expected)[:, :2].max() < 1.0
    assert np.abs(frame.points - expected).mean() < 0.3


def test_the_same_pictures_give_the_same_bits(reader: FaceMeshReader) -> None:
    """Two readers and one that was reset agree in every bit."""
    pictures = swaying(8)
    one = [seen(reader.process(picture)).points for picture in pictures]
    reader.reset()
    again = [seen(reader.process(picture)).points for picture in pictures]
    other = FaceMeshReader()
    two = [seen(other.process(picture)).points for picture in pictures]
    assert np.array_equal(one, again)
    assert np.array_equal(one, two)


def as_grey(picture: Picture) -> Any:
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


LOOKS: dict[str, Any] = {
    "grey": as_grey,
    "grey with an axis": lambda picture: as_grey(picture)[:, :, np.newaxis],
    "BGRA": lambda picture: cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA),
    "float": lambda picture: picture.astype(np.float32) / 255,
    "float64": lambda picture: picture / 255,
    "in Fortran's order": np.asfortranarray,
    "a view": lambda picture: np.repeat(picture, 2, axis=1)[:, ::2],
}
"""Other forms of one picture."""


@pytest.mark.parametrize("look", LOOKS)
def test_other_forms_of_a_picture_show_the_same_face(reader: FaceMeshReader, look: str) -> None:
    """Colour may go, the face stays where it is."""
    expected = seen(reader.process(astronaut())).points
    reader.reset()
    points = seen(reader.process(LOOKS[look](astronaut()))).points
    exact = look not in ("grey", "grey with an axis")
    assert np.array_equal(points, expected) if exact else np.abs(points - expected)[:, :2].max() < 4


@pytest.mark.parametrize("turns", [1, 3])
def test_a_face_on_its_side_is_found(reader: FaceMeshReader, turns: int) -> None:
    """Cameras are mounted as they are mounted."""
    right, left = seen(reader.process(np.rot90(astronaut(), turns))).points[EYE_CORNERS, :2]
    along = left - right
    expected = {1: (0, -1), 3: (0, 1)}[turns]
    assert np.dot(along / np.linalg.norm(along), expected) > 0.9


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((480, 640, 3), np.uint8),
        np.full((480, 640, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8),
        np.full((480, 640), 7, np.uint8),
    ],
    ids=["black", "white", "noise", "grey"],
)
def test_there_is_no_face_in_nothing(reader: FaceMeshReader, picture: Picture) -> None:
    """No face is None, whatever the picture is."""
    assert reader.process(picture) is None


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 64, 3), (64, 0, 3), (15, 640, 3), (1, 1, 3), (0, 0)])
def test_a_picture_too_small_for_a_face_does_no_harm(reader: FaceMeshReader, shape: tuple[int, ...]) -> None:
    """It is None, the graphs live on, and the face is not even lost."""
    reader.process(astronaut())
    assert reader.process(np.zeros(shape, np.uint8)) is None
    assert not seen(reader.process(astronaut())).reset


@pytest.mark.parametrize(
    "picture",
    [
        None,
        [[1, 2], [3, 4]],
        np.zeros(100, np.uint8),
        np.zeros((64, 64, 2), np.uint8),
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint16),
        np.zeros((64, 64, 3), np.int64),
        np.zeros((64, 64, 3), bool),
        np.full((64, 64, 3), 200.0),
        np.full((64, 64, 3), np.nan),
    ],
    ids=["None", "list", "1-D", "2 colours", "4-D", "uint16", "int64", "bool", "float to 255", "NaN"],
)
def test_what_is_no_picture_is_refused(reader: FaceMeshReader, picture: Any) -> None:
    """One error says what was expected, and the reader goes on."""
    with pytest.raises(StreamError, match="expected: a picture"):
        reader.process(picture)
    assert reader.process(astronaut()) is not None


def test_a_dead_graph_is_replaced() -> None:
    """An empty picture that reaches a detector kills it; the reader is without a face for one frame."""
    reader = FaceMeshReader()
    with pytest.raises(RuntimeError):
        reader._detectors.near(np.zeros((0, 0, 3), np.uint8))
    assert reader.process(astronaut()) is None
    assert reader.n_rebuilt == 1
    assert seen(reader.process(astronaut())).reset
    assert not seen(reader.process(astronaut())).reset


def test_a_small_face_is_found_which_face_mesh_alone_misses(reader: FaceMeshReader) -> None:
    """45 pixels across in a picture of 640 x 480, and then followed."""
    from mediapipe.python.solutions.face_mesh import FaceMesh

    small = scene((400, 200, 0.5))
    with FaceMesh(refine_landmarks=True) as mesh:
        assert mesh.process(small[:, :, ::-1]).multi_face_landmarks is None
    first, second = seen(reader.process(small)), seen(reader.process(small))
    assert np.ptp(first.points[:, 0]) == pytest.approx(45, abs=6)
    assert middle(first) == pytest.approx((399, 207), abs=6)
    assert (first.reset, second.reset) == (True, False)


def test_the_participant_is_the_largest_central_face(reader: FaceMeshReader) -> None:
    """Of two faces the large one in the middle is taken, and the other one counted."""
    frame = reader.process(scene((110, 130, 1.0), (400, 260, 1.5)))
    assert middle(frame) == pytest.approx((398, 283), abs=15)
    assert seen(frame).n_faces == 2


def test_somebody_who_walks_by_is_not_taken_for_the_participant(reader: FaceMeshReader) -> None:
    """A larger face crosses the picture below; every frame shows the participant, the company is noticed."""
    counts = set()
    for i in range(90):
        frame = seen(reader.process(scene((320, 120, 1.0), (-100 + 9 * i, 380, 1.2))))
        assert middle(frame) == pytest.approx((319, 139), abs=12)
        counts.add(frame.n_faces)
    assert counts == {1, 2}


def test_somebody_who_walks_in_front_does_not_take_the_track_along(reader: FaceMeshReader) -> None:
    """The face that covered the participant's is left again soon after it has passed."""
    pictures = [scene((320, 240, 1.0), (-100 + 12 * i, 240, 1.2)) for i in range(60)] + [scene((320, 240, 1.0))] * 30
    frames = [reader.process(picture) for picture in pictures]
    assert middle(frames[5]) == pytest.approx((319, 258), abs=12)
    assert [middle(frame) for frame in frames[-20:]] == [pytest.approx((319, 258), abs=12)] * 20


def test_somebody_else_does_not_stand_in_for_the_participant(reader: FaceMeshReader) -> None:
    """While the participant's face is hidden there is none, though another, smaller one is in view."""
    both, other = scene((200, 240, 1.2), (520, 200, 0.6)), scene((520, 200, 0.6))
    for _ in range(3):
        reader.process(both)
    assert [reader.process(other) for _ in range(20)] == [None] * 20
    assert middle(reader.process(both)) == pytest.approx((199, 262), abs=12)


def test_after_a_while_another_person_is_the_participant(reader: FaceMeshReader) -> None:
    """Who has left for more than two seconds has made room."""
    for _ in range(3):
        reader.process(scene((200, 240, 1.2)))
    frames = [reader.process(scene((520, 200, 0.6))) for _ in range(70)]
    assert frames[59] is None
    assert middle(frames[-1]) == pytest.approx((519, 211), abs=12)


def test_a_participant_who_moves_at_once_is_found_in_the_same_frame(reader: FaceMeshReader) -> None:
    """A jump loses the track but no frame; it shows as a reset."""
    reader.process(scene((150, 240, 1.2)))
    frame = reader.process(scene((480, 240, 1.2)))
    assert middle(frame) == pytest.approx((479, 262), abs=12)
    assert seen(frame).reset


def test_a_cut_is_a_reset_even_where_a_face_is_in_the_same_place(reader: FaceMeshReader) -> None:
    """Another scene means another person until the contrary is shown."""
    picture = scene((320, 240, 1.2))
    other = np.where(picture == 90, 200, picture).astype(np.uint8)
    resets = [seen(reader.process(shown)).reset for shown in (picture, picture, other, other)]
    assert resets == [True, False, True, False]


def test_blur_and_darkness_are_measured(reader: FaceMeshReader) -> None:
    """Sharpness falls with blur, luma with the light; both are of the face alone."""
    sharp = seen(reader.process(astronaut()))
    blurred = seen(reader.process(cv2.GaussianBlur(astronaut(), (0, 0), 2.5)))
    dark = seen(reader.process((astronaut() * 0.25).astype(np.uint8)))
    assert blurred.sharpness < 0.2 * sharp.sharpness
    assert dark.luma == pytest.approx(0.25 * sharp.luma, rel=0.1)
    assert 100 < sharp.luma < 200


def test_loading_the_models_says_nothing() -> None:
    """MediaPipe's notices would bury our own words."""
    script = "from clmer_streaming.face.extractor import FaceMeshReader; FaceMeshReader(); print('loaded')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("loaded\n", "")


def test_nothing_in_an_animation_is_taken_for_a_face(reader: FaceMeshReader, sample_data: Path) -> None:
    """Animals, clouds and letters (which a detector takes for one) give no face in any frame."""
    assert {reader.process(picture) for picture in read_video(sample_data / "faces/no_face_animation.mp4")} == {None}


def test_a_cut_ends_the_track(reader: FaceMeshReader, sample_data: Path) -> None:
    """Of the stage video's three cuts two lead to a face at once, with a reset; one leads to nobody."""
    frames = [reader.process(picture) for picture in read_video(sample_data / "faces/stage_crowd_cuts.mp4")]
    assert frames[19] is not None
    assert frames[20:82] == [None] * 62  # the back of a head, and hair that looks like a face for a moment
    resets = [number for number, frame in enumerate(frames) if frame is not None and frame.reset]
    assert resets[:2] == [0, 82]
    assert all(number >= 211 for number in resets[2:])


def test_no_value_crosses_a_cut(sample_data: Path) -> None:
    """From each cut of the stage video on, samples are those of a reader that has seen nothing before, bit for bit."""
    pictures = read_video(sample_data / "faces/stage_crowd_cuts.mp4")
    whole = samples_of(pictures)
    for cut in (20, 82, 211):
        fresh = samples_of(pictures[cut : cut + 40])
        assert [face_to_row(sample).tobytes() for sample in whole[cut : cut + 40]] == [
            face_to_row(sample).tobytes() for sample in fresh
        ]
    missing = {number for number, sample in enumerate(whole) if FaceFlag.MISSING in sample.flags}
    assert missing == {*range(20, 82), *range(211, 217)}


def samples_of(pictures: list[Picture]) -> list[FaceSample]:
    """Return what a new reader says, against the average neutral face, at 30 Hz."""
    mesh, reader = FaceMeshReader(), FaceReader(FaceReaderConfig(neutral="prior"))
    return [reader.read(number / 30, mesh.process(picture)) for number, picture in enumerate(pictures)]


@pytest.mark.deep
def test_ten_thousand_frames_do_not_grow_the_process(reader: FaceMeshReader) -> None:
    """Resident memory stays where it is after the first thousand."""
    pictures = swaying(50)
    sizes = []
    for number in range(10_000):
        reader.process(pictures[number % 50])
        if number in (1_000, 9_999):
            sizes.append(_resident_mib())
    assert sizes[1] - sizes[0] < 20


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


WIDTH, HEIGHT = 640, 480
HERE, FAR_LEFT = Box(320, 240, 100), Box(60, 240, 100)


def seated() -> ParticipantTracker:
    """Return a participant who sits in the middle."""
    participant = ParticipantTracker()
    participant.acquire(HERE)
    return participant


def test_size_goes_before_place_and_place_decides_among_equals() -> None:
    """Twice the size wins even in a corner; of equal faces the central one is first."""
    assert ParticipantTracker().rank([Box(320, 240, 50), Box(600, 440, 120)], WIDTH, HEIGHT) == [1, 0]
    assert ParticipantTracker().rank([FAR_LEFT, HERE], WIDTH, HEIGHT) == [1, 0]


def test_the_place_decides_once_somebody_sits_there() -> None:
    """The nearer face is the participant's, and a far one is not asked at all."""
    assert seated().rank([Box(330, 240, 60), Box(500, 240, 200)], WIDTH, HEIGHT) == [0]
    assert seated().rank([FAR_LEFT, Box(560, 240, 100)], WIDTH, HEIGHT) == []


def test_a_single_face_of_the_same_size_may_have_moved() -> None:
    """Nobody else is there; but a face of half the size is somebody else's."""
    assert seated().rank([FAR_LEFT], WIDTH, HEIGHT) == [0]
    assert seated().rank([Box(60, 240, 50)], WIDTH, HEIGHT) == []


def test_the_place_is_kept_for_a_while() -> None:
    """After 60 frames without the participant the choice is open again."""
    participant, stranger = seated(), [Box(60, 240, 40)]
    for _ in range(PATIENCE_FRAMES):
        participant.miss()
    assert participant.rank(stranger, WIDTH, HEIGHT) == []
    participant.miss()
    assert participant.rank(stranger, WIDTH, HEIGHT) == [0]


def test_a_track_that_goes_off_with_a_passer_by_is_noticed() -> None:
    """The followed face has left while another one sits in the usual place; alone, it has just moved."""
    participant = seated()
    gone = HERE
    for step in range(30):
        gone = Box(320 + 5 * step, 240, 100)
        participant.follow(gone)
    assert participant.was_left_behind(gone, [gone, HERE])
    assert not participant.was_left_behind(gone, [gone])
    assert not participant.was_left_behind(HERE, [HERE, FAR_LEFT])


def test_the_usual_place_follows_who_moves_slowly() -> None:
    """Somebody who moved the chair is at home there after some seconds."""
    participant = seated()
    for _ in range(600):
        participant.follow(FAR_LEFT)
    assert not participant.was_left_behind(FAR_LEFT, [FAR_LEFT, HERE])


def test_only_other_faces_of_some_size_count_as_company() -> None:
    """The participant's own face is not counted, nor are faces far behind."""
    assert count_rivals([Box(322, 241, 96), FAR_LEFT, Box(500, 100, 30)], HERE) == 1
