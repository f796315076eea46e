"""Which session has which live stream."""

from __future__ import annotations

from clmer_streaming.sources.stream_claims import Claim, StreamClaims, StreamIdentity

EPOC = StreamIdentity("uid-1", "EPOC", "E-1", "lab")


def both(*asked: str) -> tuple[Claim, Claim]:
    """Return a session that asks for streams, and another one."""
    claims = StreamClaims()
    return claims.join("left", asked), claims.join("right", ())


def test_a_stream_is_taken_by_one_session_alone() -> None:
    """Also when its outlet was started again under another uid; its own session may take it again."""
    left, right = both()
    again = StreamIdentity("uid-2", EPOC.name, EPOC.source_id, EPOC.hostname)
    assert left.take(EPOC)
    assert not right.take(EPOC)
    assert not right.take(again)
    assert left.take(again)
    assert (right.holder(again), left.holder(again)) == ("left", "")


def test_streams_without_an_id_are_told_apart_by_their_outlet() -> None:
    """Two amplifiers of one name are two streams."""
    left, right = both()
    assert left.take(StreamIdentity("uid-1", "Amp", "", "lab"))
    assert right.take(StreamIdentity("uid-2", "Amp", "", "lab"))
    assert not right.take(StreamIdentity("uid-1", "Amp", "", "lab"))


def test_a_session_that_has_ended_frees_its_streams() -> None:
    left, right = both("E-9")
    left.take(EPOC)
    left.leave()
    assert right.take(EPOC)
    assert not right.is_of_another(StreamIdentity("u", "E-9", "", "lab"))


def test_other_streams_of_a_headset_go_with_it() -> None:
    """Its contact quality would tell nothing of another participant's electrodes."""
    left, right = both()
    left.take(EPOC)
    contact = StreamIdentity("uid-5", "EPOC-Contact-Quality", "E-1", "lab")
    assert right.is_of_another(contact)
    assert right.holder(contact) == ""
    assert not right.is_of_another(StreamIdentity("uid-6", "Markers", "task", "lab"))
    assert not left.is_of_another(contact)


def test_what_a_session_asks_for_by_name_is_left_to_it() -> None:
    """Before it has come, too; a query of types and predicates names nobody."""
    for asked in ("EPOC", "source_id=E-1", "type=EEG, hostname=LAB"):
        left, right = both(asked)
        assert right.is_of_another(EPOC)
        assert not left.is_of_another(EPOC)
        assert right.take(EPOC)  # who asks for it in other words may be first
    for asked in ("auto", "type=EEG", "starts-with(name,'E')", "name=EPOC, hostname=elsewhere"):
        assert not both(asked)[1].is_of_another(EPOC)
