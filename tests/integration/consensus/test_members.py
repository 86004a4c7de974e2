"""Raft's membership changes one at a time, while commands go on: newcomers follow, then vote; who goes disturbs nobody."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from davfs.consensus.membership import Members, members
from davfs.consensus.raft import RaftNode
from davfs.consensus.timing import RaftTiming
from davfs.core.errors import ConsensusUnavailable
from tests.integration.consensus.cluster import Cluster

FIVE = tuple(f"node-{number}" for number in range(1, 6))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, timing=RaftTiming(compact_entries=60))
    yield made
    made.close()


class Load(threading.Thread):
    """Commands through every member in turn, each until it is acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.cluster, self.acknowledged, self.over = cluster, list[str](), threading.Event()

    def run(self) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            running = list(self.cluster.nodes.values())
            try:
                running[number % len(running)].submit((f"load {number}", number), 3)
            except ConsensusUnavailable:
                continue
            self.acknowledged.append(f"load {number}")

    def finish(self) -> list[str]:
        self.over.set()
        self.join(10)
        assert not self.is_alive()
        return self.acknowledged


def until(what: str, condition: Callable[[], object], limit: float = 15.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def change(cluster: Cluster, make: Callable[[Members], Members]) -> RaftNode:
    """Ask the leader until it has done it."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        leader = cluster.leader()
        before = leader.members
        after = make(before)
        if before == after or leader.reconfigure(before, after, 5):
            return leader
        time.sleep(0.05)
    raise AssertionError("the membership did not change in time")


def learner(name: str) -> Callable[[Members], Members]:
    return lambda now: members(now.voters, {*now.learners, name})


def voter(name: str) -> Callable[[Members], Members]:
    return lambda now: members({*now.voters, name}, set(now.learners) - {name})


def without(name: str) -> Callable[[Members], Members]:
    return lambda now: members(set(now.voters) - {name}, set(now.learners) - {name})


def admit(cluster: Cluster, name: str) -> None:
    cluster.start(name)
    change(cluster, learner(name))
    change(cluster, voter(name))


def test_two_newcomers_become_voters_under_load_and_all_restart(cluster: Cluster) -> None:
    cluster.leader()
    load = Load(cluster)
    load.start()
    until("some load before", lambda: len(load.acknowledged) > 150)  # compacted: the newcomer needs a snapshot
    admit(cluster, "node-4")
    admit(cluster, "node-5")
    until("everyone to know", lambda: {node.members for node in cluster.nodes.values()} == {members(FIVE)})
    acknowledged = load.finish()
    cluster.settle(acknowledged)
    for name in FIVE:
        cluster.stop(name)
    for name in FIVE:  # nobody's configuration names the newcomers: their logs do
        cluster.start(name)
    assert cluster.leader().members == members(FIVE)
    cluster.settle(acknowledged)
    cluster.stop("node-1")
    cluster.stop("node-2")
    cluster.nodes["node-5"].submit(("three of five", 1), 10)
    cluster.stop("node-3")
    with pytest.raises(ConsensusUnavailable):
        cluster.nodes["node-5"].submit(("two of five", 1), 2)


def test_a_learner_counts_for_nothing_and_never_leads(cluster: Cluster) -> None:
    cluster.leader().submit(("a", 1), 5)
    cluster.start("node-4")
    change(cluster, learner("node-4"))
    cluster.settle(["a"])
    cluster.stop("node-1")
    cluster.stop("node-2")
    with pytest.raises(ConsensusUnavailable):
        cluster.nodes["node-3"].submit(("one voter and a learner", 1), 2)
    assert not cluster.nodes["node-4"].is_leader
    assert all("node-4" not in names for names in cluster.leaders.values())


def test_a_change_is_refused_that_could_part_majorities(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.submit(("a", 1), 5)
    now = leader.members
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    assert not follower.reconfigure(now, members((*now.voters, "node-4")), 5)
    assert not leader.reconfigure(now, members((*now.voters, "node-4")), 5), "it has not caught up"
    assert not leader.reconfigure(now, members(("node-1", "node-2", "node-3", "node-4", "node-5")), 5)
    assert not leader.reconfigure(now, members(set(now.voters) - {leader.name}), 5), "a leader removed itself"
    assert not leader.reconfigure(members(("node-1",)), members(("node-1", "node-2")), 5), "made from another membership"
    assert {node.members for node in cluster.nodes.values()} == {now}


def test_a_leader_hands_over_and_is_removed_and_disturbs_nobody(cluster: Cluster) -> None:
    gone = cluster.leader()
    gone.submit(("a", 1), 5)
    gone.hand_over()
    until("another leader", lambda: not gone.is_leader)
    leader = change(cluster, without(gone.name))
    rest = [node for node in cluster.nodes.values() if node is not gone]
    until("the rest to know", lambda: {node.members for node in rest} == {leader.members})
    term = leader.term
    time.sleep(2.0)  # several election timeouts of the removed one
    leader.submit(("b", 1), 5)
    assert leader.term == term
    assert gone.name not in leader.connected_peers
    with pytest.raises(ConsensusUnavailable):
        gone.submit(("c", 1), 1)


def test_a_cautious_member_with_a_blank_log_takes_no_part(cluster: Cluster) -> None:
    cluster.leader().submit(("a", 1), 5)
    cluster.stop("node-3")
    for file in (cluster.directory / "node-3").iterdir():
        file.unlink()
    blank = cluster.start("node-3", cautious=True)
    with pytest.raises(ConsensusUnavailable):
        blank.submit(("b", 1), 1)
    gone = cluster.leader().name
    cluster.stop(gone)
    time.sleep(1.5)
    assert not any(node.is_leader for node in cluster.nodes.values()), "its vote counted"
    assert blank.held and blank.blank
    assert not cluster.start(gone, cautious=True).held, "it remembers"
    cluster.leader().submit(("c", 1), 5)


def test_cautious_members_that_are_all_blank_begin_when_released(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    cluster.names = ["node-1", "node-2", "node-3"]
    cluster.stop("node-1")
    try:
        made = [cluster.start(name, cautious=True) for name in ("node-2", "node-3")]
        time.sleep(1.0)
        assert all(node.held and node.blank and node.leader is None for node in made)
        for node in made:
            node.release()
        cluster.leader().submit(("a", 1), 5)
        assert not any(node.blank for node in made)
    finally:
        cluster.close()
