"""Joins, drains, removals and readmissions in the simulator: while clients work and all else breaks, and step by step."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from davfs.cluster.departure import RAFT_S
from davfs.core.effects import Call
from davfs.core.errors import NodeInUse, Unavailable, Unreachable
from davfs.sim.cluster import VOLUME_ID
from davfs.sim.minimise import command_of
from davfs.sim.runs import play
from davfs.sim.schedule import general
from tests.simulation import members
from tests.simulation.members import TWO_CHUNKS, join, remove, removed, replace
from tests.simulation.seeds import MEMBERS_FAILED_ONCE
from tests.simulation.stage import Stage

SEEDS = int(os.environ.get("DAVFS_SIM_MEMBER_SEEDS", "6"))
BLOCK = 6


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_invariants_hold_while_nodes_come_and_go(first: int) -> None:
    figures: Counter[str] = Counter()
    for seed in range(first, min(first + BLOCK, SEEDS)):
        plan = general(seed, members=True)
        verdict = play(plan)
        figures.update({name: int(verdict.figures[name]) for name in ("joined", "removed")})
        assert not verdict.failures, f"{verdict.failures}; see {command_of(plan)}"
    assert figures["joined"] and figures["removed"]


@pytest.mark.parametrize("seed", MEMBERS_FAILED_ONCE)
def test_seeds_that_failed_once(seed: int) -> None:
    verdict = play(general(seed, members=True))
    assert not verdict.failures, f"{MEMBERS_FAILED_ONCE[seed]}: {verdict.failures}"


@pytest.mark.parametrize("schedule", [members.slow_copies, members.needed_copies], ids=lambda schedule: schedule.__name__)
def test_no_checker_finds_anything(schedule) -> None:
    assert [schedule(seed) for seed in range(2)] == [[]] * 2


def test_a_newcomer_takes_the_place_of_a_node_that_goes_for_good() -> None:
    stage = Stage(admits=True)
    cluster = stage.cluster
    assert stage.ask("node-3", ("put", ("a",), TWO_CHUNKS)).outcome == ("ok", True)
    refused = removed(stage, "node-3")
    assert isinstance(refused, NodeInUse) and "keeps the records" in refused.message
    join(stage)
    replace(stage, "node-4", "node-3")
    assert removed(stage, "node-3") is None
    assert stage.loop.run_until(lambda: set(cluster.raft.voters) == {"node-1", "node-2", "node-4"}, 10)
    gone = cluster.removed["node-3"]
    assert stage.loop.run_until(lambda: not gone.alive, 10), "a node that hears of its removal ends by itself"
    for node in ("node-1", "node-4"):
        assert stage.ask(node, ("get", ("a",))).outcome == ("ok", TWO_CHUNKS)
    assert stage.failures() == []


def test_a_removed_node_that_did_not_hear_of_it_is_refused_by_all() -> None:
    stage = Stage(admits=True)
    fourth = join(stage)
    assert stage.ask("node-1", ("put", ("a",), TWO_CHUNKS)).outcome == ("ok", True)
    stage.isolate("node-4")
    assert removed(stage, "node-4") is None
    assert stage.loop.run_until(lambda: "node-4" not in stage.cluster.raft.voters, 10)
    stage.cluster.network.heal()
    stage.wait(2.0)
    assert fourth.alive and "node-4" in fourth.state.nodes, "it knows nothing of its removal"
    answers: list[BaseException | None] = []
    assert fourth.process is not None
    asked = Call("node-1", "chunk.free", {})
    stage.cluster.network.call(fourth.process, asked, lambda value, error: answers.append(error))
    applied = stage.cluster.raft.log[-1]
    assert stage.loop.run_until(lambda: bool(answers), 10)
    assert isinstance(answers[0], Unreachable)
    stage.ask("node-4", ("put", ("a",), b"from the grave"))
    assert applied in stage.cluster.raft.log
    assert stage.ask("node-2", ("get", ("a",))).outcome == ("ok", TWO_CHUNKS)
    assert stage.failures() == []


def test_a_removal_whose_helper_dies_is_carried_out_by_another() -> None:
    stage = Stage(admits=True)
    join(stage)
    assert stage.ask("node-1", ("put", ("a",), TWO_CHUNKS)).outcome == ("ok", True)
    ended = remove(stage, "node-4", "node-2")
    state = stage.cluster.nodes["node-1"].state
    assert stage.loop.run_until(lambda: "node-4" in state.membership.leaving, 5)
    stage.cluster.nodes["node-2"].crash()
    stage.wait(8.0)
    assert not ended and "node-4" in state.nodes
    stage.cluster.nodes["node-2"].start()
    stage.wait(1.0)
    assert removed(stage, "node-4", "node-3") is None
    assert stage.ask("node-1", ("get", ("a",))).outcome == ("ok", TWO_CHUNKS)
    assert stage.failures() == []


def test_a_node_whose_vote_raft_needs_is_not_removed() -> None:
    stage = Stage(admits=True)
    join(stage)
    stage.cluster.nodes["node-2"].crash()
    refused = removed(stage, "node-4", "node-3")
    assert isinstance(refused, NodeInUse) and "needs the vote of node-4" in refused.message
    state = stage.cluster.raft.state
    assert "node-4" in state.nodes and "node-4" not in state.membership.leaving, "nothing was changed"
    stage.cluster.nodes["node-2"].start()
    stage.wait(2.0)
    assert removed(stage, "node-4", "node-3") is None


def test_a_node_is_told_as_removed_only_once_raft_does_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(admits=True)
    join(stage)
    raft = stage.cluster.raft
    monkeypatch.setattr(raft, "reconfigure", lambda *_: False)  # the leader cannot make the change yet
    ended = remove(stage, "node-4", "node-2")
    assert stage.loop.run_until(lambda: "node-4" in raft.state.membership.removed, 10)
    stage.wait(3.0)
    assert not ended, "four vote: whoever is told of the removal may switch the machine off"
    stage.wait(RAFT_S)
    assert isinstance(ended[0][1], Unavailable) and "leave its machine on" in ended[0][1].message
    monkeypatch.undo()
    assert removed(stage, "node-4", "node-3") is None
    assert "node-4" not in raft.voters


def test_a_wiped_voter_that_is_readmitted_votes_by_the_leaders_word_alone() -> None:
    stage = Stage(admits=True)
    cluster = stage.cluster
    assert stage.ask("node-1", ("put", ("a",), TWO_CHUNKS)).outcome == ("ok", True)
    wiped = cluster.nodes["node-3"]
    wiped.lose_disk()
    cluster.command("node_renew", "node-3")
    assert stage.loop.run_until(lambda: "node-3" not in cluster.raft.state.membership.renewing, 10)
    assert "node-3" not in cluster.raft.voters, "Raft does without it first"
    wiped.start()
    assert stage.loop.run_until(lambda: "node-3" in cluster.raft.voters, 10)
    table = cluster.nodes["node-1"].state
    assert stage.ask("node-1", ("put", ("b",), TWO_CHUNKS)).outcome == ("ok", True)
    assert stage.loop.run_until(
        lambda: table.volume(VOLUME_ID).incarnations["node-3"] == wiped.stores[VOLUME_ID].incarnation, 10
    )
    assert stage.failures() == []
