"""Replicas that need what logs no longer have: snapshots while the volume is in use, stopped in the middle, adopted."""

from __future__ import annotations

import pytest

from davfs.cluster import assign
from davfs.core.errors import LogTrimmed
from davfs.core.ports import ReplicaStore
from davfs.sim.checkers import caught_up, check_replicas
from davfs.sim.cluster import VOLUME_ID
from tests.simulation.stage import Stage


def store_of(stage: Stage, node: str) -> ReplicaStore:
    return stage.cluster.nodes[node].stores[VOLUME_ID]


def write(stage: Stage, node: str, count: int, name: str = "f") -> None:
    for number in range(count):
        assert stage.ask(node, ("put", (f"{name}{number}",), b"x" * 30)).outcome == ("ok", True)


def behind(seed: int = 0, wiped: bool = False) -> Stage:
    """node-3 was away, or has lost its disk, while the others changed the volume and trimmed their logs."""
    stage = Stage(seed)
    write(stage, "node-1", 3, "before")
    lagging = stage.cluster.nodes["node-3"]
    lagging.crash()
    if wiped:
        lagging.lose_disk()
    write(stage, "node-1", 20)
    assert stage.loop.run_until(lambda: store_of(stage, "node-1").floor.seq > 10, 20)
    return stage


def settle(stage: Stage, limit: float = 60.0) -> None:
    stores: dict[str, ReplicaStore] = {name: node.stores[VOLUME_ID] for name, node in stage.cluster.nodes.items()}
    assert stage.loop.run_until(lambda: caught_up(stores), limit)
    assert list(check_replicas(stores)) == []
    assert not stage.loop.failures


def freed(stage: Stage) -> None:
    state = stage.cluster.nodes["node-2"].state
    assert stage.loop.run_until(lambda: state.volumes[VOLUME_ID].tenure.grant is None, 20)


@pytest.mark.parametrize("wiped", [False, True])
def test_a_replica_catches_up_while_the_volume_is_in_use(wiped: bool) -> None:
    stage = behind(wiped=wiped)
    lagging = stage.cluster.nodes["node-3"]
    lagging.start()
    write(stage, "node-1", 10, "meanwhile")
    settle(stage)
    assert stage.cluster.watch.installs == 1
    incarnations = stage.cluster.nodes["node-1"].state.volumes[VOLUME_ID].incarnations
    assert stage.loop.run_until(
        lambda: stage.cluster.nodes["node-1"].state.volumes[VOLUME_ID].incarnations["node-3"]
        == store_of(stage, "node-3").incarnation,
        20,
    ), incarnations
    # Its copies of the files' chunks come too, and then it counts: with it alone beside node-2 everything is served.
    stage.loop.run_until(lambda: False, 10)
    stage.cluster.nodes["node-1"].crash()
    assert stage.ask("node-3", ("get", ("f7",))).outcome == ("ok", b"x" * 30)
    write(stage, "node-3", 2, "after")


def test_a_crash_in_the_middle_goes_on_with_what_is_here() -> None:
    stage = behind()
    stage.cluster.nodes["node-3"].start()
    pieces: list[int] = []

    def crash(node: str) -> None:
        arrived = stage.cluster.nodes["node-3"].stores[VOLUME_ID].arrived()
        if node == "node-3" and arrived is not None:
            pieces.append(arrived[1])
            if len(pieces) == 1:
                stage.cluster.nodes["node-3"].crash()
                stage.loop.at(1.0, stage.cluster.nodes["node-3"].start)

    stage.cluster.watch.on_durable = crash
    settle(stage)
    assert stage.cluster.watch.installs == 1
    assert pieces[0] > 0


def test_a_holder_to_be_whose_own_replica_is_stale_fetches_first() -> None:
    for seed in range(3):
        stage = behind(seed)
        stage.cluster.nodes["node-3"].start()
        stage.cluster.nodes["node-1"].crash()  # the one that had made node-3 catch up
        freed(stage)
        assert stage.ask("node-3", ("get", ("f7",))).outcome == ("ok", b"x" * 30)
        assert stage.cluster.nodes["node-3"].holdings.held() == [VOLUME_ID]
        stage.cluster.nodes["node-1"].start()
        settle(stage)


def test_without_a_snapshot_it_could_not_adopt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log alone is of no use to it, and says so."""

    def none(*_: object):
        yield from ()

    monkeypatch.setattr(assign, "pull", none)
    stage = behind()
    with pytest.raises(LogTrimmed):
        store_of(stage, "node-1").read_log(store_of(stage, "node-3").committed.seq + 1, 1000)
    stage.cluster.nodes["node-3"].start()
    stage.cluster.nodes["node-1"].crash()
    freed(stage)
    assert stage.ask("node-3", ("get", ("f7",))).outcome != ("ok", b"x" * 30)


def test_a_replica_that_missed_little_gets_records_alone() -> None:
    stage = Stage()
    write(stage, "node-1", 5)
    stage.cluster.network.cut("node-1", "node-3")
    write(stage, "node-1", 2, "missed")
    stage.cluster.network.heal()
    settle(stage)
    assert stage.cluster.watch.installs == 0
