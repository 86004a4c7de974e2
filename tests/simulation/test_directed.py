"""Histories that random faults find too seldom, played step by step; each also with its safeguard taken out."""

from collections.abc import Callable
from typing import Any

import pytest

from davfs.core.errors import DavfsError
from davfs.sim.clients import Client, History
from davfs.sim.cluster import VOLUME_ID, SimCluster
from davfs.sim.history import Operation
from davfs.sim.loop import Loop
from tests.simulation import mutants


class Stage:
    """A calm cluster, and requests through a chosen node."""

    def __init__(self, seed: int = 0, nodes: int = 3) -> None:
        self.loop = Loop(seed)
        self.cluster = SimCluster(self.loop, nodes, replicas=3)
        self.history = History(self.loop)
        self.client = Client(self.cluster, self.history, "c")
        self.loop.run_until(lambda: all(self.cluster.registered(name) for name in self.cluster.names), 10)

    def begin(self, node: str, op: tuple[Any, ...]) -> list[Operation]:
        """Send a request; the list gets the operation once it is answered."""
        ended: list[Operation] = []

        def work():
            operation = self.history.begin("c", op)
            request = {"op": list(op), "id": self.loop.random.randbytes(8).hex(), "forwarded": False}
            self.cluster.network.call(self.client.process, mutants.call(node, request), done(operation))
            yield from ()

        def done(operation: Operation) -> Callable[[Any, BaseException | None], None]:
            def answered(reply: Any, error: BaseException | None) -> None:
                assert error is None or isinstance(error, DavfsError)
                self.history.end(operation, None if reply is None else reply.value, error)
                ended.append(operation)

            return answered

        self.client.process.start(work(), "request")
        return ended

    def ask(self, node: str, op: tuple[Any, ...]) -> Operation:
        ended = self.begin(node, op)
        assert self.loop.run_until(lambda: bool(ended), 30)
        return ended[0]

    def isolate(self, node: str) -> None:
        for name in self.cluster.names:
            if name != node:
                self.cluster.network.cut(node, name)


def _read_at_the_old_holder(seed: int) -> Operation:
    stage = Stage(seed)
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    assert stage.cluster.nodes["node-1"].holdings.held() == [VOLUME_ID]
    stage.cluster.raft.leader = "node-2"
    stage.isolate("node-1")
    stage.loop.run_until(lambda: stage.cluster.nodes["node-2"].state.volumes[VOLUME_ID].tenure.grant is None, 20)
    overwritten = stage.ask("node-2", ("put", ("a",), b"two"))
    assert overwritten.outcome == ("ok", False)
    return stage.ask("node-1", ("get", ("a",)))


def test_a_holder_that_is_cut_off_stops_reading_when_its_lease_ends() -> None:
    assert _read_at_the_old_holder(0).outcome is None  # refused: it cannot know


def test_without_the_lease_it_would_show_what_is_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.lease_ignored(monkeypatch)
    assert _read_at_the_old_holder(0).outcome == ("ok", b"one")


def _late_record(seed: int) -> list[str]:
    """The holder is paused while its record is on its way to one other node, for long; the third takes over meanwhile."""
    stage = Stage(seed)
    nodes, network, loop = stage.cluster.nodes, stage.cluster.network, stage.loop
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    loop.run_until(lambda: False, 0.5)  # the token is refreshed
    network.cut("node-1", "node-3")
    paused = nodes["node-1"].process
    assert paused is not None
    arrives = loop.random.uniform(1.8, 3.5)  # before, while or after the new holder seals node-2
    network.extra_delay = lambda node, method: arrives if (node, method) == ("node-2", "replica.append") else 0.0
    before = nodes["node-1"].stores[VOLUME_ID].last.seq
    change = stage.begin("node-1", ("put", ("a",), b"two"))
    assert loop.run_until(lambda: nodes["node-1"].stores[VOLUME_ID].last.seq > before, 2)
    paused.pause()
    network.extra_delay = lambda node, method: 0.0
    stage.cluster.raft.leader = "node-3"
    assert loop.run_until(lambda: nodes["node-3"].state.volumes[VOLUME_ID].tenure.grant is None, 10)
    stage.ask("node-3", ("get", ("a",)))
    loop.run_until(lambda: False, 2.0)
    paused.resume()
    loop.run_until(lambda: bool(change), 30)
    stale = change[0].outcome is not None and stage.ask("node-3", ("get", ("a",))).outcome == ("ok", b"one")
    return loop.failures + (["an acknowledged change is lost"] if stale else [])


def test_a_late_record_of_a_sealed_off_holder_is_lost_or_adopted_but_never_acknowledged_and_lost() -> None:
    assert [_late_record(seed) for seed in range(20)] == [[]] * 20


@pytest.mark.parametrize("mutant", [mutants.read_before_seal, mutants.no_fence])
def test_without_seal_or_fence_it_would_be(mutant: mutants.Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    assert any(_late_record(seed) for seed in range(40))


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

    stage.cluster.network.call(stage.client.process, mutants.call("node-1", request), answered)
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
