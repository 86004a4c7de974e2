"""A request whose first attempt was settled as a conflict copy before a later one succeeded: nothing superfluous stays."""

from collections.abc import Callable
from typing import Any

import pytest

from davfs.core.conflict_names import is_conflict_name
from davfs.core.errors import DavfsError
from davfs.core.model import ROOT
from davfs.sim.checkers import check_copies, check_replicas, outcomes_of
from davfs.sim.cluster import VOLUME_ID
from tests.simulation.stage import Stage, call

BEFORE, AFTER = b"before", b"what is written"
PUT = ("put", ("a",), AFTER)
LATER_HOLDER = "node-2"


def send(stage: Stage, node: str, op: tuple[Any, ...], request_id: str) -> list[tuple[Any, DavfsError | None]]:
    """Send a request under an id; the list gets its (result, error)."""
    answers: list[tuple[Any, DavfsError | None]] = []

    def answered(reply: Any, error: BaseException | None) -> None:
        assert error is None or isinstance(error, DavfsError)
        answers.append((None if reply is None else reply.value, error))

    request = {"op": [list(part) if isinstance(part, tuple) else part for part in op], "id": request_id, "forwarded": False}
    stage.cluster.network.call(stage.client.process, call(node, request), answered)
    return answers


def ask(stage: Stage, op: tuple[Any, ...], request_id: str) -> Any:
    answers = send(stage, LATER_HOLDER, op, request_id)
    assert stage.loop.run_until(lambda: bool(answers), 30)
    assert answers[0][1] is None
    return answers[0][0]


def names(stage: Stage) -> dict[str, int]:
    """What stands in the root: name -> bytes."""
    with stage.cluster.nodes[LATER_HOLDER].stores[VOLUME_ID].view() as view:
        return {entry.name: entry.size for entry in view.children(ROOT)}


def copies(stage: Stage) -> list[str]:
    return [name for name in names(stage) if is_conflict_name(name)]


def settled(op: tuple[Any, ...] = PUT, request_id: str = "once") -> Stage:
    """The first holder logs the record of a request alone, is cut off and followed; its record is settled when it is back."""
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), BEFORE)).outcome == ("ok", True)
    _leave_late(stage, "node-1", op, request_id)
    assert stage.loop.run_until(lambda: bool(outcomes_of(_store(stage))), 30)
    assert outcomes_of(_store(stage)) == ["copy"]
    assert len(copies(stage)) == 1
    return stage


def _stores(stage: Stage) -> dict[str, Any]:
    return {name: stage.cluster.nodes[name].stores[VOLUME_ID] for name in stage.cluster.names}


def _store(stage: Stage) -> Any:
    return stage.cluster.nodes[LATER_HOLDER].stores[VOLUME_ID]


def _leave_late(stage: Stage, node: str, op: tuple[Any, ...], request_id: str, follower: str = LATER_HOLDER) -> None:
    stage.wait(0.5)
    before = stage.cluster.nodes[node].stores[VOLUME_ID].last.seq
    stage.cluster.network.extra_delay = lambda _, method: 100.0 if method == "replica.append" else 0.0
    answers = send(stage, node, op, request_id)
    assert stage.loop.run_until(lambda: stage.cluster.nodes[node].stores[VOLUME_ID].last.seq > before, 2)
    stage.isolate(node)
    stage.cluster.network.extra_delay = lambda _, method: 0.0
    stage.follow(follower)
    assert stage.ask(follower, ("list", ())).outcome is not None
    stage.cluster.network.heal()
    assert stage.loop.run_until(lambda: bool(answers), 30)
    assert answers[0][1] is not None, "nobody was promised anything"


def agree(stage: Stage) -> None:
    """The replicas are the same in the end."""
    stage.wait(3.0)
    assert [*check_replicas(_stores(stage))] == []


@pytest.mark.parametrize(
    ("op", "path", "content"),
    [
        (PUT, "a", AFTER),
        (("put", ("new",), AFTER), "new", AFTER),
        (("write", ("a",), 2, b"what"), "a", b"bewhat"),
        (("copy", ("a",), ("new",), False), "new", BEFORE),
    ],
    ids=["overwrite", "new", "part", "copy"],
)
def test_the_attempt_that_succeeds_takes_the_copy_of_an_earlier_one_away(
    op: tuple[Any, ...], path: str, content: bytes
) -> None:
    stage = settled(op)
    ask(stage, op, "once")
    assert copies(stage) == []
    assert ask(stage, ("get", (path,)), "read") == content
    agree(stage)


def test_a_request_of_its_own_leaves_the_copy() -> None:
    stage = settled()
    ask(stage, PUT, "another")
    assert len(copies(stage)) == 1


def test_the_copy_stays_when_the_file_was_written_meanwhile_and_the_next_attempt_writes_something_else() -> None:
    op = ("write", ("a",), 2, b"what")
    stage = settled(op)
    ask(stage, ("put", ("a",), b"somebody else's"), "else")
    ask(stage, op, "once")
    assert len(copies(stage)) == 1


def _move(stage: Stage, name: str) -> None:
    ask(stage, ("move", (name,), ("kept",), False), "user")
    ask(stage, ("move", ("kept",), (name,), False), "user again")


def _overwrite(stage: Stage, name: str) -> None:
    ask(stage, ("put", (name,), AFTER), "user")


def _label(stage: Stage, name: str) -> None:
    ask(stage, ("proppatch", (name,), "{x}colour", "<c>red</c>"), "user")


def _lock(stage: Stage, name: str) -> None:
    ask(stage, ("lock", (name,), "opaquelocktoken:mine", 600.0), "user")


@pytest.mark.parametrize("touch", [_move, _overwrite, _label, _lock])
def test_a_copy_that_somebody_touched_stays(touch: Callable[[Stage, str], None]) -> None:
    stage = settled()
    touch(stage, copies(stage)[0])
    ask(stage, PUT, "once")
    assert len(copies(stage)) == 1
    agree(stage)


def test_a_move_of_the_copy_at_the_same_moment_waits_for_the_attempt_or_it_for_the_move() -> None:
    stage = settled()
    name = copies(stage)[0]
    moved = send(stage, LATER_HOLDER, ("move", (name,), ("kept",), False), "user")
    put = send(stage, LATER_HOLDER, PUT, "once")
    assert stage.loop.run_until(lambda: bool(moved and put), 30)
    assert put[0][1] is None
    assert names(stage).get("kept") == (None if moved[0][1] is not None else len(AFTER))
    assert copies(stage) == []
    agree(stage)


def test_a_copy_whose_source_was_overwritten_before_it_was_sent_again_leaves_none() -> None:
    op = ("copy", ("a",), ("b",), True)
    stage = settled(op)
    assert stage.ask("node-2", ("put", ("a",), AFTER)).outcome == ("ok", False)
    ask(stage, op, "once")
    assert (copies(stage), names(stage)["b"]) == ([], len(AFTER))
    assert stage.failures() == []


def test_two_attempts_that_were_late_make_one_copy_and_the_third_takes_it_away() -> None:
    stage = settled()
    _leave_late(stage, LATER_HOLDER, PUT, "once", "node-3")
    assert stage.loop.run_until(lambda: len(outcomes_of(_store(stage))) == 2, 30)
    assert outcomes_of(_store(stage)) == ["copy", "nothing"]
    assert len(copies(stage)) == 1
    ask(stage, PUT, "once")
    stage.wait(1.0)
    assert copies(stage) == []
    agree(stage)


def test_the_checker_of_copies_excuses_a_copy_to_that_name_whose_outcome_nobody_knows_and_nothing_else() -> None:
    op = ("copy", ("a",), ("new",), False)
    stage = settled(op)
    agree(stage)
    stage.history.begin("d", ("copy", ("a",), ("other",), False))
    (found,) = check_copies(stage.history, _stores(stage))
    assert "new (conflict" in found
    stage.history.begin("c", op)
    assert [*check_copies(stage.history, _stores(stage))] == []
