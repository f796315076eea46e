"""Claims about whose face is the participant's."""

from __future__ import annotations

from clmer_streaming.face.face_mesh_participant import PATIENCE_FRAMES, Box, Participant, count_rivals

WIDTH, HEIGHT = 640, 480
HERE, FAR_LEFT = Box(320, 240, 100), Box(60, 240, 100)


def seated() -> Participant:
    """Return a participant who sits in the middle."""
    participant = Participant()
    participant.acquire(HERE)
    return participant


def test_size_goes_before_place_and_place_decides_among_equals() -> None:
    """Twice the size wins even in a corner; of equal faces the central one is first."""
    assert Participant().rank([Box(320, 240, 50), Box(600, 440, 120)], WIDTH, HEIGHT) == [1, 0]
    assert Participant().rank([FAR_LEFT, HERE], WIDTH, HEIGHT) == [1, 0]


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
