"""Raft members in one process: commit, fail-over, restart, compaction, and a network that misbehaves."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from davfs.consensus import wire
from davfs.consensus.raft import RaftNode
from davfs.consensus.timing import RaftTiming
from davfs.core.errors import ConsensusUnavailable, InvalidInput, StorePoisoned
from davfs.core.raft_log import LogChange
from tests.integration.consensus.cluster import Cluster, Ledger
from tests.integration.consensus.over_http import HttpWires

SEEDS = int(os.environ.get("DAVFS_RAFT_SEEDS", "2"))
COMPACTING = RaftTiming(compact_entries=20)
PATIENT = RaftTiming(election_min=1.5, election_max=2.0, attempt=6.0)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made = Cluster(tmp_path, **getattr(request, "param", {}))
    yield made
    made.close()


def one_leader_a_term(cluster: Cluster) -> None:
    assert all(len(names) == 1 for names in cluster.leaders.values()), cluster.leaders


def test_a_command_is_applied_everywhere_and_answers_where_it_was_submitted(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    assert leader.submit(("a", 1), 5) == 0
    assert follower.submit(("b", [2, {"three": b"3"}]), 5) == 1
    assert cluster.machines[follower.name].values == {"a": 1, "b": [2, {"three": b"3"}]}
    cluster.settle(["a", "b"])
    assert follower.leader == leader.name
    assert follower.term == leader.term >= 1


def test_a_barrier_brings_a_follower_up_to_date(cluster: Cluster) -> None:
    leader = cluster.leader()
    for number in range(20):
        leader.submit((f"r{number}", number), 5)
        for name, node in cluster.nodes.items():
            node.barrier(5)
            assert f"r{number}" in cluster.machines[name].values


def test_one_member_alone_is_a_cluster(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    try:
        assert cluster.nodes["node-1"].submit(("a", 1), 5) == 0
        cluster.stop("node-1")
        cluster.start("node-1")
        assert cluster.nodes["node-1"].submit(("b", 2), 5) == 1
    finally:
        cluster.close()


def test_the_others_go_on_when_the_leader_dies_and_it_catches_up_when_it_returns(cluster: Cluster) -> None:
    first = cluster.leader().name
    cluster.nodes[first].submit(("before", 0), 5)
    cluster.stop(first)
    survivor = next(iter(cluster.nodes.values()))
    start = time.monotonic()
    survivor.submit(("after", 1), 10)
    assert time.monotonic() - start < 5
    cluster.start(first)
    cluster.settle(["before", "after"])
    one_leader_a_term(cluster)


def test_over_http_and_tls(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, timing=COMPACTING, network=HttpWires(tmp_path / "ca").port)
    try:
        first = cluster.leader().name
        requests = [f"r{number}" for number in range(50)]
        for number, request in enumerate(requests):
            cluster.nodes[cluster.names[number % 3]].submit((request, b"x" * 20_000), 5)
        cluster.stop(first)
        next(iter(cluster.nodes.values())).submit(("after", 1), 10)
        cluster.start(first)
        cluster.settle([*requests, "after"])
        one_leader_a_term(cluster)
    finally:
        cluster.close()


def test_a_graceful_stop_hands_over(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.submit(("a", 1), 5)
    leaving = cluster.nodes.pop(leader.name)
    leaving.resign()
    leaving.close()
    start = time.monotonic()
    next(iter(cluster.nodes.values())).submit(("b", 2), 5)
    assert time.monotonic() - start < RaftTiming().election_min


@pytest.mark.parametrize("cluster", [{"timing": PATIENT}], indirect=True)
def test_a_stop_under_load_hands_over_too(cluster: Cluster) -> None:
    """While commands stream in, no follower ever has everything unless the leader takes no more in."""
    waits: list[float] = []
    for round_ in range(4):
        leader = cluster.leader().name
        enough = threading.Event()

        def work(node: RaftNode, label: str, enough: threading.Event = enough) -> None:
            for number in range(100_000):
                if enough.is_set():
                    return
                start = time.monotonic()
                node.submit((f"{label}-{number}", 0), 10)
                waits.append(time.monotonic() - start)

        others = [node for name, node in cluster.nodes.items() if name != leader]
        threads = [
            threading.Thread(target=work, args=(node, f"{round_}-{node.name}-{client}"), daemon=True)
            for node in others
            for client in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        leaving = cluster.nodes.pop(leader)
        leaving.resign()
        leaving.close()
        time.sleep(0.2)
        enough.set()
        for thread in threads:
            thread.join(20)
        cluster.start(leader)
    assert max(waits) < PATIENT.election_min * 0.7
    one_leader_a_term(cluster)


def test_commands_go_on_while_nobody_can_take_over(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is to be removed asks again and again; it must not refuse everything until somebody follows."""
    leader = cluster.leader()
    monkeypatch.setattr(leader._engine, "transferLeadership", lambda: None)
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.1):
            leader.hand_over()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        time.sleep(0.3)
        for number in range(3):
            leader.submit((f"r{number}", number), 3)
    finally:
        ended.set()
        asking.join(5)


def test_without_a_majority_submit_says_so_in_time_and_nothing_is_lost_after(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.submit(("kept", 1), 5)
    for name in [name for name in cluster.names if name != leader.name]:
        cluster.stop(name)
    start = time.monotonic()
    with pytest.raises(ConsensusUnavailable, match="majority"):
        leader.submit(("unknown", 2), 1.0)
    assert time.monotonic() - start < 2.5
    for name in cluster.names:
        if name != leader.name:
            cluster.start(name)
    leader.submit(("later", 3), 10)
    cluster.settle(["kept", "later"])


def test_a_command_that_is_too_large_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidInput, match="too large"):
        cluster.leader().submit(("big", b"x" * 600_000), 5)
    assert cluster.leader().submit(("large", b"x" * 500_000), 5) == 0


def test_a_command_that_fails_in_the_machine_stalls_nothing(cluster: Cluster) -> None:
    with pytest.raises(InvalidInput, match="state machine failed"):
        cluster.leader().submit(("only one",), 5)
    assert cluster.leader().submit(("a", 1), 5) == 0


@pytest.mark.parametrize("cluster", [{"timing": COMPACTING}], indirect=True)
def test_everything_comes_back_from_journal_and_snapshot(cluster: Cluster) -> None:
    requests = [f"r{number}" for number in range(150)]
    for number, request in enumerate(requests):
        cluster.leader().submit((request, number), 5)
    for name in cluster.names:
        cluster.stop(name)
    for name in cluster.names:
        cluster.start(name)
    # The snapshot and what is known to be committed are there before anybody was asked.
    assert all(len(machine.values) > 100 for machine in cluster.machines.values())
    cluster.leader().submit(("new", 0), 10)
    cluster.settle([*requests, "new"])
    assert all(node._engine._getRaftLogSize() < 60 for node in cluster.nodes.values())


@pytest.mark.parametrize("cluster", [{"timing": COMPACTING}], indirect=True)
def test_a_member_that_was_away_gets_a_snapshot(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    leader = cluster.leader()
    away = next(name for name in cluster.names if name != leader.name)
    cluster.isolate(away)
    # Larger than one part of a snapshot.
    requests = [f"r{number}" for number in range(60)]
    for request in requests:
        leader.submit((request, b"x" * 30_000), 5)
    engine, installed = cluster.nodes[away]._engine, []
    install = engine._install
    monkeypatch.setattr(engine, "_install", lambda parcel: (installed.append(parcel.last.index), install(parcel)))
    cluster.heal()
    cluster.settle(requests)
    assert installed, "what it missed is in no log any more"
    cluster.stop(away)
    cluster.start(away)
    cluster.settle(requests)


@pytest.mark.parametrize("cluster", [{"size": 5}], indirect=True)
def test_a_minority_that_was_cut_off_does_not_disturb_the_leader_when_it_returns(cluster: Cluster) -> None:
    leader = cluster.leader()
    term = leader.term
    minority = [name for name in cluster.names if name != leader.name][:2]
    rest = [name for name in cluster.names if name not in minority]
    cluster.hub.cut = {pair for one in minority for other in rest for pair in ((one, other), (other, one))}
    leader.submit(("meanwhile", 1), 5)
    time.sleep(2.5)  # several times the longest election time-out
    cluster.heal()
    cluster.settle(["meanwhile"])
    assert leader.is_leader
    assert {node.term for node in cluster.nodes.values()} == {term}


def pause(node: RaftNode, seconds: float) -> threading.Event:
    """Stop a member's Raft at the next applied command; the event is set while it sleeps."""
    asleep = threading.Event()

    def sleep() -> None:
        if not asleep.is_set():
            asleep.set()
            time.sleep(seconds)

    node.on_applied(sleep)
    return asleep


def test_a_follower_that_was_paused_does_not_disturb_the_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    term = leader.term
    asleep = pause(follower, 1.5)
    leader.submit(("first", 0), 5)
    assert asleep.wait(5)
    requests = [f"r{number}" for number in range(20)]
    for request in requests:
        leader.submit((request, 1), 5)
    cluster.settle(["first", *requests])
    time.sleep(0.5)
    assert (leader.is_leader, leader.term) == (True, term)


def test_a_leader_that_was_paused_is_followed_no_more_and_loses_nothing(cluster: Cluster) -> None:
    old = cluster.leader()
    other = next(node for node in cluster.nodes.values() if node is not old)
    asleep = pause(old, 2.0)
    old.submit(("first", 0), 5)
    assert asleep.wait(5)
    other.submit(("meanwhile", 1), 5)
    assert other.leader != old.name
    cluster.settle(["first", "meanwhile"])
    deadline = time.monotonic() + 3
    while old.is_leader and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not old.is_leader
    one_leader_a_term(cluster)


def test_wait_applied_and_callbacks(cluster: Cluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in cluster.nodes.values() if node is not leader)
    machine = cluster.machines[follower.name]
    called = threading.Event()
    follower.on_applied(called.set)
    assert not follower.wait_applied(lambda: "a" in machine.values, 0.05)
    leader.submit(("a", 1), 5)
    assert follower.wait_applied(lambda: "a" in machine.values, 5)
    assert called.wait(5)
    assert follower.read(lambda: len(machine.values)) == 1
    assert follower.applied_index >= 2


def test_garbage_pickles_and_strangers_are_ignored(cluster: Cluster) -> None:
    leader = cluster.leader()
    receive = cluster.hub.ports[leader.name]
    follower = next(name for name in cluster.names if name != leader.name)
    marks: list[str] = []
    pickled = b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x04exit\x94\x93\x94)R\x94."
    for frame in (b"", b"x", b"\0" * 37, b"\1" * 500, pickled, random.Random(1).randbytes(100_000)):
        receive(follower, frame)
        receive("stranger", frame)
        marks.append("sent")
    # A whole frame with a pickle inside, of a session that the leader would welcome.
    receive(follower, wire.encode_frame(wire.Frame(wire.HELLO, 10_000, 1, 0, 0)))
    boot = leader._transport._links[follower]._boot
    receive(follower, wire.encode_frame(wire.Frame(wire.DATA, 10_000, 1, boot, 1, pickled)))
    receive("stranger", wire.encode_frame(wire.Frame(wire.HELLO, 1, 1, 0, 0)))
    other = next(name for name in cluster.names if name not in (leader.name, follower))
    assert cluster.nodes[other].submit(("a", 1), 10) == 0
    assert leader._transport.ignored >= 2 * len(marks)


def test_a_member_whose_disk_fails_takes_no_more_part(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.submit(("a", 1), 5)

    def fail(change: LogChange) -> None:
        raise StorePoisoned("the disk is broken")

    leader._engine._journal._store.save = fail  # type: ignore[method-assign]
    with pytest.raises((StorePoisoned, ConsensusUnavailable)):
        leader.submit(("lost", 2), 3)
    others = [node for node in cluster.nodes.values() if node is not leader]
    assert others[0].submit(("b", 3), 10) in (1, 2)
    with pytest.raises(StorePoisoned):
        leader.submit(("c", 4), 1)
    assert leader.leader is None


class Clients:
    """Threads that submit through random members and note what was acknowledged."""

    def __init__(self, cluster: Cluster, seed: object) -> None:
        self.cluster = cluster
        self.acknowledged: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(seed, worker)) for worker in range(3)]
        for thread in self._threads:
            thread.start()

    def _work(self, seed: object, worker: int) -> None:
        choice = random.Random(f"{seed}-{worker}")
        number = 0
        while not self._stop.is_set():
            nodes: list[RaftNode] = list(self.cluster.nodes.values())
            request = f"{seed}-{worker}-{number}"
            number += 1
            if not nodes:
                break
            try:
                choice.choice(nodes).submit((request, number), 1.0)
            except ConsensusUnavailable:
                continue
            self.acknowledged.append(request)

    def finish(self) -> list[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        return self.acknowledged


@pytest.mark.parametrize(("size", "seed"), [(3 + 2 * (seed % 2), seed) for seed in range(SEEDS)])
def test_faults_of_the_network_lose_nothing_and_make_no_second_leader(tmp_path: Path, size: int, seed: int) -> None:
    choice = random.Random(seed)
    cluster = Cluster(tmp_path, size=size, timing=replace(COMPACTING, compact_entries=50), seed=seed)
    try:
        cluster.leader()
        clients = Clients(cluster, seed)
        for _ in range(6):
            cluster.hub.drop, cluster.hub.repeat = choice.random() * 0.05, choice.random() * 0.3
            cluster.hub.late, cluster.hub.mangle = choice.random() * 0.05, choice.random() * 0.02
            fault = choice.randrange(3)
            victim = choice.choice(cluster.names)
            if fault == 0:
                cluster.isolate(victim)
            elif fault == 1:
                cluster.stop(victim)
            else:
                # One direction only: it hears and is not heard.
                cluster.hub.cut |= {(victim, other) for other in cluster.names if other != victim}
            time.sleep(0.5)
            if fault == 1:
                cluster.start(victim)
            cluster.hub.cut.clear()
            time.sleep(0.3)
        cluster.heal()
        cluster.leader()
        acknowledged = clients.finish()
        assert len(acknowledged) > 20
        cluster.settle(acknowledged, 20)
        one_leader_a_term(cluster)
    finally:
        cluster.close()


@pytest.mark.parametrize("seed", [1])
def test_all_lose_what_was_not_synced_at_once(tmp_path: Path, seed: int) -> None:
    """A member that is stopped keeps what its store was told to keep and nothing else (of its disk: ``test_power.py``)."""
    choice = random.Random(seed)
    cluster = Cluster(tmp_path, timing=COMPACTING, seed=seed)
    acknowledged: list[str] = []
    try:
        for power in range(2):
            cluster.leader()
            clients = Clients(cluster, f"{seed}-{power}")
            time.sleep(0.1 + choice.random() * 0.3)
            for name in choice.sample(cluster.names, 3):
                cluster.stop(name)
            acknowledged += clients.finish()
            for name in cluster.names:
                cluster.start(name)
        cluster.leader()
        assert len(acknowledged) > 20
        cluster.settle(acknowledged, 20)
        one_leader_a_term(cluster)
    finally:
        cluster.close()


def test_the_ledger_itself_is_idempotent() -> None:
    ledger = Ledger()
    assert (ledger.apply(("a", 1)), ledger.apply(("b", 2)), ledger.apply(("a", 1))) == (0, 1, 0)
