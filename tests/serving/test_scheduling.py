from collections.abc import Hashable

from embodied.serving.scheduling import Line, Waiting


def waiting(session: str, sequence: int = 0, group: Hashable = "", expires: float = 10.0) -> Waiting:
    return Waiting(session=session, sequence=sequence, frame=b"", group=group, arrived=0.0, expires=expires)


def names(batch: list[Waiting]) -> list[tuple[str, int]]:
    return [(request.session, request.sequence) for request in batch]


def test_of_a_session_only_the_latest_request_is_kept() -> None:
    line = Line()
    assert line.join(waiting("a", 1)) is None
    older = line.join(waiting("a", 2))
    assert older is not None
    assert older.sequence == 1
    assert names(line.take(5)) == [("a", 2)]
    assert line.take(5) == []


def test_who_asks_again_keeps_the_place_and_who_was_served_goes_to_the_back() -> None:
    line = Line()
    for session in "abc":
        line.join(waiting(session))
    line.join(waiting("a", 1))
    assert names(line.take(1)) == [("a", 1)]
    line.join(waiting("a", 2))
    assert names(line.take(3)) == [("b", 0), ("c", 0), ("a", 2)]


def test_only_what_is_alike_is_decided_together_and_others_come_next() -> None:
    line = Line()
    for session, group in (("a", 1), ("b", 2), ("c", 1), ("d", 1)):
        line.join(waiting(session, group=group))
    assert names(line.take(2)) == [("a", 0), ("c", 0)]
    assert names(line.take(2)) == [("b", 0)]
    assert names(line.take(2)) == [("d", 0)]


def test_what_expired_is_taken_out() -> None:
    line = Line()
    line.join(waiting("a", expires=1.0))
    line.join(waiting("b", expires=3.0))
    assert names(line.expire(2.0)) == [("a", 0)]
    assert len(line) == 1


def test_who_leaves_is_forgotten() -> None:
    line = Line()
    line.join(waiting("a"))
    line.leave("a")
    line.leave("nobody")
    assert line.take(1) == []
