"""Maintenance of a volume that nobody holds: it may write, and gives way at once to whoever wants the volume."""

from __future__ import annotations

import pytest

from davfs.cluster.maintenance import Loan
from davfs.cluster.standing import Standing
from davfs.core.errors import DavfsError
from davfs.core.model import Epoch, Position
from davfs.sim.cluster import TIMING, VOLUME_ID
from tests.simulation.stage import Stage

LOOK_S = 3.0


def borrow(stage: Stage, node: str) -> list[Loan | None]:
    got: list[Loan | None] = []

    def work():
        got.append((yield from stage.cluster.nodes[node].maintenance.borrow(VOLUME_ID)))

    stage.cluster.nodes[node].process.start(work(), "borrow")
    assert stage.loop.run_until(lambda: bool(got), 20)
    return got


def commit(stage: Stage, node: str, loan: Loan) -> list[str]:
    """How a change under the loan ends."""
    ended: list[str] = []

    def work():
        try:
            yield from loan.holder.commit(lambda edits: edits.create("root", f"m{len(edits.version)}", "d", 1), "")
            ended.append("committed")
        except DavfsError as error:
            ended.append(error.code)

    stage.cluster.nodes[node].process.start(work(), "commit")
    assert stage.loop.run_until(lambda: bool(ended), 20)
    return ended


def idle(stage: Stage) -> None:
    """Nobody holds the volume, after all that the collector and others had to do with it for a moment."""
    stage.loop.run_until(lambda: False, 3 * TIMING.idle)
    state = stage.cluster.nodes["node-1"].state
    assert stage.loop.run_until(lambda: state.volumes[VOLUME_ID].tenure.grant is None, 1.0)


def test_a_free_volume_is_taken_kept_and_given_back() -> None:
    stage = Stage()
    assert stage.ask("node-2", ("put", ("a",), b"one")).outcome == ("ok", True)
    idle(stage)
    (loan,) = borrow(stage, "node-1")
    assert loan is not None
    stage.loop.run_until(lambda: False, 3 * TIMING.ttl)
    assert not loan.over(), "its token is refreshed"
    assert commit(stage, "node-1", loan) == ["committed"]
    stage.cluster.nodes["node-1"].process.start(loan.end(), "end")
    epoch = loan.holder.credentials.epoch
    assert stage.loop.run_until(lambda: not is_granted(stage, epoch), 1.0)


def is_granted(stage: Stage, epoch: Epoch) -> bool:
    grant = stage.cluster.nodes["node-1"].state.volumes[VOLUME_ID].tenure.grant
    return grant is not None and grant.epoch == epoch


def test_it_gives_way_at_once() -> None:
    for node in ("node-1", "node-3"):
        stage = Stage()
        idle(stage)
        (loan,) = borrow(stage, "node-1")
        assert loan is not None
        began = stage.loop.now
        assert stage.ask(node, ("put", ("a",), b"one")).outcome == ("ok", True)
        assert stage.loop.now - began < 0.5
        assert loan.over()
        assert commit(stage, "node-1", loan) != ["committed"]


def test_one_node_alone_tries_and_a_served_volume_is_lent() -> None:
    stage = Stage()
    assert borrow(stage, "node-2") == [None]
    assert stage.ask("node-2", ("put", ("a",), b"one")).outcome == ("ok", True)
    assert borrow(stage, "node-1") == [None]
    (loan,) = borrow(stage, "node-2")
    assert loan is not None
    assert loan.holder is stage.cluster.nodes["node-2"].holdings.holder(VOLUME_ID)
    assert commit(stage, "node-2", loan) == ["committed"]


def look_after(stage: Stage) -> None:
    """Let all nodes ask each other now and then how their replicas stand."""
    for node in stage.cluster.nodes.values():
        node.process.start(Standing(node.site, node.replicas, node.maintenance, LOOK_S).run(), "standing")


def lasts(stage: Stage) -> dict[str, Position]:
    return {name: node.stores[VOLUME_ID].last for name, node in stage.cluster.nodes.items()}


def lagging(stage: Stage) -> None:
    """Nobody holds the volume, and node-3 lacks what was written last; nothing else takes it for a moment."""
    for node in stage.cluster.nodes.values():
        node.collector.stop()
        node.compaction.stop()
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    stage.isolate("node-3")
    assert stage.ask("node-1", ("put", ("b",), b"two")).outcome == ("ok", True)
    stage.wait(4 * TIMING.idle)
    idle(stage)
    stage.cluster.network.heal()
    stage.wait(2 * TIMING.ttl)


@pytest.mark.parametrize("asked", [False, True])
def test_a_replica_that_lags_is_brought_up_to_date_while_nobody_holds_the_volume(asked: bool) -> None:
    stage = Stage()
    lagging(stage)
    if asked:
        look_after(stage)
    same = stage.loop.run_until(lambda: len(set(lasts(stage).values())) == 1, 4 * LOOK_S)
    assert same is asked, lasts(stage)
    idle(stage)
    before = lasts(stage)
    stage.wait(3 * LOOK_S)
    assert lasts(stage) == before, "once is enough"
    assert not stage.failures()


def test_a_first_replica_that_is_broken_keeps_nobody_from_maintenance() -> None:
    stage = Stage()
    idle(stage)
    first, second, _ = stage.cluster.nodes["node-1"].state.volumes[VOLUME_ID].replicas
    stage.cluster.nodes[first].stores[VOLUME_ID]._damage = "a page is bad"
    assert borrow(stage, first) == borrow(stage, second) == [None]
    look_after(stage)
    stage.wait(2 * LOOK_S)
    (loan,) = borrow(stage, second)
    assert loan is not None
    assert not stage.failures()
