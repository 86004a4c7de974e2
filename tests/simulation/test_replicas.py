"""A volume's replicas come, go and take each other's place while nodes crash, pause and are cut off: nothing is lost.

Random faults, which strike the holder just as Raft has taken a step of the change; and one history played step by step,
in which a record that a majority of the old set holds must not be missing from a majority of the new one.
"""

from __future__ import annotations

import pytest

from davfs.sim.cluster import VOLUME_ID
from davfs.sim.faults import Troubles
from davfs.sim.history import Operation
from davfs.sim.simulation import Simulation, Verdict
from tests.simulation import mutants
from tests.simulation.test_directed import Stage

TROUBLES = Troubles(replace=8)


def simulated(seed: int) -> Verdict:
    return Simulation(seed, nodes=5, replicas=3, troubles=TROUBLES).run()


@pytest.mark.parametrize("seed", range(10))
def test_replicas_change_under_faults(seed: int) -> None:
    verdict = simulated(seed)
    assert not verdict.failures, f"{verdict.summary()}: {verdict.failures}"


def test_the_seeds_change_replicas() -> None:
    assert sum(simulated(seed).figures["changes"] for seed in range(5)) > 5 * 3


def _lost_in_the_change(seed: int) -> bool:
    """node-4 takes the place of node-1, which holds the volume. Just as that is done, and node-1 does not know yet, it is
    cut off from node-3 and node-4 and writes once more; then it dies, and the other two are alone."""
    stage = Stage(seed, nodes=5)  # the fifth only votes in Raft
    cluster, loop = stage.cluster, stage.loop
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    written: list[list[Operation]] = []

    def step(verb: str) -> None:
        if verb != "replicas_done" or written:
            return
        cluster.raft.lag = 1.0
        for other in ("node-3", "node-4"):
            cluster.network.cut("node-1", other)
        written.append(stage.begin("node-1", ("put", ("a",), b"two")))

    cluster.raft.on_append = step
    cluster.command("replicas_want", VOLUME_ID, "node-4", "node-1")
    assert loop.run_until(lambda: bool(written), 10)
    loop.run_until(lambda: bool(written[0]), 0.05)
    cluster.raft.lag = 0.005
    cluster.nodes["node-1"].crash()
    cluster.network.heal()
    cluster.nodes["node-2"].crash()
    cluster.raft.leader = "node-3"
    read = stage.ask("node-3", ("get", ("a",)))
    acknowledged = bool(written[0]) and written[0][0].outcome == ("ok", False)
    return bool(acknowledged and read.outcome == ("ok", b"one"))


def test_what_a_majority_of_the_old_replicas_holds_is_not_lost_in_the_change() -> None:
    assert not any(_lost_in_the_change(seed) for seed in range(30))


def test_without_majorities_of_both_sets_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.two_step_change_of_replicas(monkeypatch)
    assert any(_lost_in_the_change(seed) for seed in range(30))


def _lost_with_the_old_replicas(seed: int) -> bool:
    """node-3 has missed a record, and node-4, which takes the place of node-2, gets none for a while; then the two that
    have it die."""
    stage = Stage(seed, nodes=5)
    cluster, loop = stage.cluster, stage.loop
    cluster.network.cut("node-1", "node-3")
    assert stage.ask("node-1", ("put", ("a",), b"one")).outcome == ("ok", True)
    cluster.network.extra_delay = lambda node, method: 9.0 if (node, method) == ("node-4", "replica.append") else 0.0
    cluster.command("replicas_want", VOLUME_ID, "node-4", "node-2")
    loop.run_until(lambda: cluster.volume.replica_set.change is None, 3)
    cluster.network.extra_delay = lambda node, method: 0.0
    cluster.network.heal()
    cluster.nodes["node-1"].crash()
    cluster.nodes["node-2"].crash()
    cluster.raft.leader = "node-3"
    return stage.ask("node-3", ("get", ("a",))).outcome == ("error", "not-found")


def test_the_old_replicas_are_not_given_up_before_the_newcomer_has_caught_up() -> None:
    assert not any(_lost_with_the_old_replicas(seed) for seed in range(5))


def test_a_newcomer_that_is_not_awaited_loses_records(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants.newcomer_not_awaited(monkeypatch)
    assert all(_lost_with_the_old_replicas(seed) for seed in range(5))
