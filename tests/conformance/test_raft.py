"""What the flows of davfs rely on in Raft: real members and the simulator's stand-in must both keep it.

A stand-in that promised more than the real one would hide faults of the flows; each test here is one of its promises.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from davfs.consensus.membership import Members
from davfs.core.errors import ConsensusUnavailable
from tests.conformance.raft_worlds import NAMES, RealWorld, SimulatedWorld, World, leader_of

LIMIT_S = 1.0
LATE_S = 1.5
"""By which a refusal may be later than its limit."""


@pytest.fixture(params=["real", "simulated 0", "simulated 1", "simulated 2"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kind, _, seed = str(request.param).partition(" ")
    made: World = RealWorld(tmp_path) if kind == "real" else SimulatedWorld(int(seed))
    yield made
    made.close()


def settled(world: World, requests: list[str], names: tuple[str, ...] = NAMES) -> None:
    """All have the same ledger, in the same order, with each of the requests once."""

    def same() -> bool:
        ledgers = [list(world.ledger(name).items()) for name in names]
        return all(one == ledgers[0] for one in ledgers) and set(requests) <= {request for request, _ in ledgers[0]}

    assert world.until(same), [list(world.ledger(name)) for name in names]
    assert all(len(leaders) == 1 for leaders in world.leaders().values()), world.leaders()


def test_what_was_acknowledged_survives_any_one_and_then_all(world: World) -> None:
    leader_of(world)
    asked = []
    for number in range(50):  # through each in turn: more than a snapshot's worth
        asked.append(f"r{number}")
        assert world.submit(NAMES[number % 3], f"r{number}", number) == number, "one order, in which each has its place"
    first = leader_of(world)
    world.crash(first)
    rest = tuple(name for name in NAMES if name != first)
    assert world.submit(rest[0], "without it", 0, 10.0) == 50
    world.start(first)
    settled(world, [*asked, "without it"])
    for name in NAMES:
        world.crash(name)
    for name in NAMES:
        world.start(name)
    assert world.submit(NAMES[2], "after all", 0, 10.0) == 51
    settled(world, [*asked, "without it", "after all"])


def test_a_leader_that_is_cut_off_refuses_in_time_and_the_others_go_on(world: World) -> None:
    old = leader_of(world)
    world.submit(old, "before", 0)
    world.isolate(old)
    rest = tuple(name for name in NAMES if name != old)
    assert world.submit(rest[0], "meanwhile", 1, 10.0) == 1
    began = world.now()
    with pytest.raises(ConsensusUnavailable):
        world.submit(old, "unknown", 2, LIMIT_S)
    assert world.now() - began < LIMIT_S + LATE_S
    assert "unknown" not in world.ledger(old), "nothing is applied that is not committed"
    world.heal()
    # What was unknown is asked again under its request id: it takes effect once, before or now.
    place = world.submit(old, "unknown", 2, 10.0)
    assert world.submit(rest[1], "unknown", 2) == place
    settled(world, ["before", "meanwhile", "unknown"])


def test_without_a_majority_nothing_is_confirmed_and_nothing_lost(world: World) -> None:
    leader = leader_of(world)
    world.submit(leader, "kept", 0)
    others = [name for name in NAMES if name != leader]
    for name in others:
        world.crash(name)
    began = world.now()
    with pytest.raises(ConsensusUnavailable):
        world.submit(leader, "unknown", 1, LIMIT_S)
    assert world.now() - began < LIMIT_S + LATE_S
    for name in others:
        world.start(name)
    world.submit(others[0], "later", 2, 10.0)
    settled(world, ["kept", "later"])


def test_whoever_passes_a_barrier_knows_what_was_confirmed_before(world: World) -> None:
    leader_of(world)
    for number in range(6):
        world.submit(NAMES[number % 3], f"r{number}", number)
        reader = NAMES[(number + 1) % 3]
        world.submit(reader, f"barrier {number}", None)
        assert f"r{number}" in world.ledger(reader)


def test_a_member_that_missed_more_than_the_log_keeps_gets_a_snapshot(world: World) -> None:
    leader = leader_of(world)
    away = next(name for name in NAMES if name != leader)
    world.submit(leader, "before", 0)
    world.isolate(away)
    asked = [f"r{number}" for number in range(70)]
    for request in asked:
        world.submit(leader, request, 0, 10.0)
    assert len(world.ledger(away)) <= 1
    world.heal()
    settled(world, ["before", *asked])


def test_members_come_and_go_one_at_a_time(world: World) -> None:
    leader = leader_of(world)
    world.submit(leader, "before", 0)
    now = Members(NAMES)
    world.start("node-4")
    learning = Members(NAMES, ("node-4",))
    follower = next(name for name in NAMES if name != leader)
    assert not world.reconfigure(follower, now, learning), "only the leader changes it"
    assert "before" not in world.ledger("node-4")
    assert world.reconfigure(leader, now, learning)
    assert world.until(lambda: "before" in world.ledger("node-4")), "a learner follows"
    assert not world.reconfigure(leader, now, Members((*NAMES, "node-4"))), "the membership has changed since"
    four = Members((*NAMES, "node-4"))
    assert world.until(lambda: world.reconfigure(leader, learning, four)), "it votes once it has caught up"
    assert world.members(leader) == four
    two_less = Members(tuple(sorted({*NAMES} - {follower})))
    assert not world.reconfigure(leader, four, two_less), "two at once"
    rest = tuple(name for name in four.voters if name != leader)
    assert not world.reconfigure(leader, four, Members(rest)), "a leader does not remove itself"
    without = Members(tuple(name for name in four.voters if name != follower))
    assert world.reconfigure(leader, four, without)
    world.submit("node-4", "after", 1)
    with pytest.raises(ConsensusUnavailable):
        world.submit(follower, "from the grave", 2, LIMIT_S)
    assert "after" not in world.ledger(follower), "who was removed gets nothing"
    settled(world, ["before", "after"], without.voters)
