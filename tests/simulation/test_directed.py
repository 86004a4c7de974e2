"""Histories that random faults find too seldom, played step by step (``schedules.py``): no checker finds anything."""

from collections.abc import Callable
from typing import Any

import pytest

from davfs.core import values
from davfs.sim.checkers import outcomes_of
from davfs.sim.cluster import VOLUME_ID
from tests.simulation import schedules
from tests.simulation.stage import Stage, call


@pytest.mark.parametrize("schedule", schedules.ALL, ids=lambda schedule: schedule.__name__)
def test_no_checker_finds_anything(schedule: Callable[[int], list[str]]) -> None:
    assert [schedule(seed) for seed in range(4)] == [[]] * 4


def test_a_late_record_of_a_sealed_off_holder_is_lost_or_adopted_but_never_acknowledged_and_lost() -> None:
    assert [schedules.late_record(seed) for seed in range(20)] == [[]] * 20


def test_nothing_is_kept_in_memory_of_what_was_done() -> None:
    assert schedules.a_long_day(0) == []


def test_a_put_that_is_sent_again_is_answered_as_before_though_its_file_is_gone() -> None:
    stage = Stage()
    put = {"op": ["put", ["a"], b"one"], "id": "once", "forwarded": False}
    for request in (put, {"op": ["delete", ["a"]], "id": "other", "forwarded": False}, put):
        assert _answer(stage, request) == (True, None)
    assert stage.ask("node-1", ("get", ("a",))).outcome == ("error", "not-found")


def _answer(stage: Stage, request: dict[str, Any]) -> tuple[Any, BaseException | None]:
    answers: list[tuple[Any, BaseException | None]] = []

    def answered(reply: Any, error: BaseException | None) -> None:
        answers.append((None if reply is None else reply.value, error))

    stage.cluster.network.call(stage.client.process, call("node-1", request), answered)
    assert stage.loop.run_until(lambda: bool(answers), 10)
    return answers[0]


def test_a_commit_does_not_wait_for_a_silent_replica_while_a_majority_has_the_record() -> None:
    """node-2 is busy with the record before when the next is sent to the idle ones, of which node-3 has fallen silent."""
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"0")).outcome == ("ok", True)
    stage.loop.run_until(lambda: False, 1.0)
    stage.cluster.network.extra_delay = lambda node, method: 0.05 if (node, method) == ("node-2", "replica.append") else 0.0
    assert stage.ask("node-1", ("put", ("a",), b"1")).outcome == ("ok", False)
    silent = stage.cluster.nodes["node-3"].process
    assert silent is not None
    silent.pause()
    began = stage.loop.now
    assert stage.ask("node-1", ("put", ("a",), b"2")).outcome == ("ok", False)
    assert stage.loop.now - began < 0.5, "a call's time-out is 1 s"


def test_a_record_that_no_replica_can_apply_does_not_stop_its_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder with a bug makes one durable everywhere: it gives up, the next cuts it, serves, and says what became of it."""
    stage = Stage()
    assert stage.ask("node-1", ("put", ("a",), b"0")).outcome == ("ok", True)
    dump = values._dump
    with monkeypatch.context() as bug:
        bug.setattr(values, "_LARGEST", 1 << 200)
        bug.setattr(values, "_dump", lambda value: dump({**value, "c": 1 << 80} if value.get("n") == "bad" else value))
        assert stage.ask("node-1", ("put", ("bad",), b"1")).outcome is None, "it is unknown"
        stage.wait(2.0)  # nobody takes the volume over meanwhile: the next holder has no bug
    for node in stage.cluster.names:
        assert stage.ask(node, ("put", ("b",), node.encode())).outcome in (("ok", True), ("ok", False)), node
        assert stage.ask(node, ("get", ("a",))).outcome == ("ok", b"0")
        assert stage.ask(node, ("get", ("bad",))).outcome == ("error", "not-found")
    stage.wait(10.0)
    stores = [stage.cluster.nodes[node].stores[VOLUME_ID] for node in stage.cluster.names]
    assert [store.late for store in stores] == [0, 0, 0]
    assert [outcome.split()[0] for outcome in outcomes_of(stores[0])] == ["dropped"]
