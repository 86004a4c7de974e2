"""What the watch over all disks lets pass and what it finds, by hand-made histories (invariants 1 and 2)."""

from __future__ import annotations

from davfs.core.model import Epoch, Position
from davfs.sim.loop import Loop
from davfs.sim.watch import Watch

NODES = ("a", "b", "c")


def at(counter: int, seq: int) -> Position:
    return Position(Epoch(1, counter), seq)


class Disks:
    """Three replicas under a watch."""

    def __init__(self) -> None:
        self.loop = Loop(0)
        self.watch = Watch(self.loop, NODES)

    def log(self, node: str, *positions: Position, cut: int | None = None, data: bytes = b"") -> None:
        self.watch.appended(node, [(position, data or str(position).encode()) for position in positions], cut)

    def found(self, invariant: int) -> bool:
        return any(failure.startswith(f"invariant {invariant}:") for failure in self.loop.failures)


def test_a_record_is_committed_by_a_majority_and_everywhere() -> None:
    disks = Disks()
    for node in "ab":
        disks.log(node, at(1, 1))
    for node in "abc":
        disks.watch.committed(node, [at(1, 1)])
    assert disks.loop.failures == []


def test_committed_without_a_majority() -> None:
    disks = Disks()
    disks.log("a", at(1, 1))
    disks.watch.committed("a", [at(1, 1)])
    assert disks.found(1)


def test_a_majority_that_was_cut_again_is_none() -> None:
    disks = Disks()
    for node in "ab":
        disks.log(node, at(1, 1))
    disks.log("b", at(2, 1), cut=1)
    disks.watch.committed("a", [at(1, 1)])
    assert disks.found(1)


def test_another_record_is_committed_in_the_place_of_one() -> None:
    disks = Disks()
    for node in "ab":
        disks.log(node, at(1, 1))
    disks.watch.committed("a", [at(1, 1)])
    for node in "bc":
        disks.log(node, at(2, 1), cut=1 if node == "b" else None)
    assert not disks.found(1)
    disks.watch.committed("c", [at(2, 1)])
    assert disks.found(1)


def test_an_available_volume_may_take_back_what_it_committed_alone() -> None:
    disks = Disks()
    disks.watch.strict = False
    disks.log("a", at(1, 1))
    disks.watch.committed("a", [at(1, 1)])
    disks.log("a", at(2, 1), cut=1)
    disks.watch.committed("a", [at(2, 1)])
    assert disks.loop.failures == []


def test_a_position_names_one_record() -> None:
    disks = Disks()
    disks.log("a", at(1, 1), data=b"one")
    disks.log("b", at(1, 1), data=b"one")
    assert not disks.found(2)
    disks.log("c", at(1, 1), data=b"another")
    assert disks.found(2)


def test_a_record_reaches_a_majority_after_one_was_sealed_above_it() -> None:
    disks = Disks()
    disks.log("a", at(1, 1))
    for node in "bc":
        disks.watch.sealed(node, Epoch(1, 2))
    assert not disks.found(2)
    disks.log("b", at(1, 1))
    assert disks.found(2)


def test_what_a_sealed_replica_had_may_reach_a_majority_later() -> None:
    disks = Disks()
    for node in "ab":
        disks.log(node, at(1, 1))
    for node in "bc":
        disks.watch.sealed(node, Epoch(1, 2))
    disks.log("c", at(1, 1))
    assert disks.loop.failures == []


def test_while_replicas_change_both_sets_decide() -> None:
    disks = Disks()
    disks.watch.views = lambda: [(("a", "b", "c"), ("b", "c", "d"))]
    disks.log("a", at(1, 1))
    disks.log("b", at(1, 1))
    disks.watch.committed("a", [at(1, 1)])
    assert disks.found(1)
