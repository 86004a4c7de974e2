"""The judges of a run find what must not be: locks that do not hold, contents that are not whole, changes that vanish."""

from __future__ import annotations

from typing import Any

from compat.client import Answer
from davfs.sim.history import Operation, judge
from davfs.sim.model import tree_of
from tests.faults import answers
from tests.faults.contents import content_of, tag_of
from tests.faults.lock_rules import judge_locks
from tests.faults.record import OK, REFUSED, UNKNOWN, Grant, LockStory, Naked

PLACE = ("demo", "g0-0")


def lock(asked: float, granted: float, given_up: float | None = None, seconds: float = 60.0, **more: Any) -> LockStory:
    return LockStory(Grant(PLACE, "k", f"t{asked}", asked, granted, seconds), given_up, **more)


def change(asked: float, answered: float, name: str = "k") -> Naked:
    return Naked(PLACE, name, asked, answered, "somebody")


def test_what_may_be_beside_a_lock() -> None:
    held = lock(1.0, 2.0, 5.0)
    beside = [change(0.0, 3.0), change(4.0, 5.5), change(3.0, 4.0, "l"), change(6.0, 7.0)]
    assert not list(judge_locks([held, lock(4.9, 5.1, 7.0), lock(0.1, 1.9, 1.95)], beside))
    assert not list(judge_locks([lock(1.0, 2.0, None, 3.0), lock(3.5, 4.5)], [change(4.5, 4.6)]))  # it may have run out
    assert not list(judge_locks([lock(1.0, 2.0, 9.0, 3.0, lost=(8.0, "too late"))], []))


def test_a_change_without_the_token_two_owners_and_a_lost_lock_are_found() -> None:
    held = lock(1.0, 2.0, 5.0)
    assert ["without the token" in found for found in judge_locks([held], [change(2.1, 4.9)])] == [True]
    assert ["and again" in found for found in judge_locks([held, lock(2.5, 3.0, 4.0)], [])] == [True]
    assert ["was lost" in found for found in judge_locks([lock(1.0, 2.0, 5.0, lost=(4.0, "412"))], [])] == [True]


def test_contents_say_whether_they_are_whole() -> None:
    for size in (0, 10, 5000):
        assert tag_of(content_of("c1.7", size)) == f"c1.7 {size}"
    one, other = content_of("c1.7", 5000), content_of("c2.9", 5000)
    for body in (one[:-1], one + b"x", one[:2500] + other[2500:], b"x 5\n", b"no line"):
        assert tag_of(body).startswith("NOT WHOLE")


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, headers, body)


def test_answers_in_the_words_of_the_model() -> None:
    put, get = ("put", ("t", "a"), "c 10"), ("get", ("t", "a"))
    assert answers.read(put, answer(201)) == answers.Result(OK, 201, True)
    assert answers.read(put, answer(204)).value is False
    assert answers.read(get, answer(200, content_of("c", 10))).value == "c 10"
    assert answers.read(get, answer(404)).code == "not-found"
    assert answers.read(get, answer(200, b"<html>", **{"content-type": "text/html"})).code == "forbidden"
    for status, code in ((423, REFUSED), (507, REFUSED), (503, UNKNOWN), (500, UNKNOWN)):
        assert answers.read(put, answer(status)).code == code
    assert answers.read(put, answer(503, b"too few answer; nothing was changed")).code == REFUSED
    assert answers.read(put, answer(500)).wrong and answers.read(put, answer(418)).wrong
    assert answers.read(get, answer(200, b"c 10\nbroken")).wrong


def test_a_vanished_change_is_found() -> None:
    start = tree_of({("t",): None})
    put = Operation("one", ("put", ("t", "a"), "c 10"), 1.0, 2.0, ("ok", True))
    gone = Operation("two", ("get", ("t", "a")), 3.0, 4.0, ("error", "not-found"))
    assert judge([put, gone], start)
    unknown = Operation("one", put.op, 1.0)
    assert not judge([unknown, gone], start)
    assert not judge([put, Operation("two", gone.op, 3.0, 4.0, ("ok", "c 10"))], start)
