"""Documents lose their history while everything fails, and nothing else."""

from __future__ import annotations

import pytest

from davfs.cluster.compaction import outweighs
from davfs.cluster.holder import Holder
from davfs.sim.cluster import TIMING, VOLUME_ID
from davfs.sim.simulation import Simulation
from tests.simulation.stage import Stage
from tests.simulation.test_catch_up import settle, store_of


def overwrite(stage: Stage, count: int) -> None:
    for number in range(count):
        assert stage.ask("node-1", ("put", ("a",), b"%d" % number)).outcome in (("ok", True), ("ok", False))


def sizes(stage: Stage, node: str = "node-1") -> int:
    return sum(size for _, size in store_of(stage, node).document_sizes("", 1000))


def test_overwrites_do_not_pile_up_and_every_replica_takes_the_same_bytes() -> None:
    stage = Stage()
    overwrite(stage, 40)
    few = sizes(stage)
    overwrite(stage, 150)
    assert stage.loop.run_until(lambda: stage.cluster.nodes["node-1"].compaction.compacted > 0, 20)
    stage.loop.run_until(lambda: False, 2 * TIMING.compaction)
    settle(stage)
    assert sizes(stage) < few
    stored = [store_of(stage, node).load_document("d/0") for node in stage.cluster.names]
    assert stored[0] == stored[1] == stored[2]
    assert stage.ask("node-2", ("get", ("a",))).outcome == ("ok", b"149")
    overwrite(stage, 5)
    settle(stage)


def test_a_volume_that_nobody_holds_is_compacted_and_given_back() -> None:
    stage = Stage()
    compaction = stage.cluster.nodes["node-1"].compaction
    for node in stage.cluster.nodes.values():
        node.compaction.stop()
    overwrite(stage, 200)
    state = stage.cluster.nodes["node-1"].state
    assert stage.loop.run_until(lambda: state.volumes[VOLUME_ID].tenure.grant is None, 5 * TIMING.idle)
    before = sizes(stage)
    stage.cluster.nodes["node-1"].crash()
    stage.cluster.nodes["node-1"].start()
    assert stage.loop.run_until(lambda: stage.cluster.nodes["node-1"].compaction.compacted > 0, 60)
    assert compaction.compacted == 0
    settle(stage)
    assert sizes(stage) < before / 4
    assert stage.loop.run_until(lambda: stage.cluster.nodes["node-1"].state.volumes[VOLUME_ID].tenure.grant is None, 20)
    assert stage.ask("node-3", ("get", ("a",))).outcome == ("ok", b"199")


def test_a_replica_that_was_away_during_compactions_converges() -> None:
    stage = Stage()
    overwrite(stage, 50)
    stage.cluster.nodes["node-3"].crash()
    overwrite(stage, 100)
    assert stage.loop.run_until(lambda: stage.cluster.nodes["node-1"].compaction.compacted > 0, 20)
    overwrite(stage, 10)
    stage.cluster.nodes["node-3"].start()
    overwrite(stage, 70)
    settle(stage)


@pytest.mark.parametrize("seed", range(4))
def test_compaction_under_faults(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever weighs more than nothing is compacted, all the time."""
    monkeypatch.setattr("davfs.cluster.compaction.outweighs", lambda size, live: True)
    monkeypatch.setattr("davfs.sim.cluster.LOOK_ALL_S", 1.0)
    made: list[str] = []
    original = Holder.compact

    def counted(self: Holder, documents: list[str]):
        done = yield from original(self, documents)
        made.extend(documents)
        return done

    monkeypatch.setattr(Holder, "compact", counted)
    simulation = Simulation(seed, steps=60)
    verdict = simulation.run()
    assert not verdict.failures, verdict.summary() + "\n" + "\n".join(verdict.failures)
    assert len(made) > 3


def test_what_outweighs() -> None:
    assert outweighs(1, 0)
    assert not outweighs(0, 0)
    assert not outweighs(1300, 200)
    assert outweighs(1500, 200)
