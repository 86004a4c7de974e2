"""How a volume's set of replicas changes: steps with versions, and majorities that always meet."""

from __future__ import annotations

from dataclasses import asdict
from itertools import chain, combinations
from typing import Any

import pytest

from davfs.core import replica_set
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import DavfsError, InvalidInput, NodeInUse, NodeNotFound, ReplicaSetChanged, StaleEpoch
from davfs.core.model import VolumePolicy
from davfs.core.quorum import is_joint_majority, is_majority, reached_jointly
from davfs.core.replica_set import ReplicaChange, ReplicaSet

CHANGES = [("d", "a"), ("d", ""), ("", "a")]


def subsets(nodes: str) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(nodes, size) for size in range(len(nodes) + 1)))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("add", "remove"), CHANGES)
def test_a_joint_majority_meets_every_majority_of_either_set(size: int, add: str, remove: str) -> None:
    """The old set's are those of holders whose view is a step behind, the new set's those of holders to come."""
    old = tuple("abcef"[:size])
    if not add and size == 1:
        return
    table = replica_set.want(ReplicaSet(old), add, remove)
    table = replica_set.join(table, table.version, "store" if add else "")
    everyone = subsets("abcdef")
    joint = [set(members) for members in everyone if is_joint_majority(members, table.deciding)]
    single = [set(m) for m in everyone if is_majority(m, old) or is_majority(m, table.next_nodes)]
    assert joint and all(one & other for one in joint for other in single)
    alone = all(one & other for one in single for other in single)
    assert alone is not bool(add and remove and size % 2), "an odd set whose member is replaced is what joint is for"


def test_how_far_both_sets_have_got_is_a_number_that_both_reached() -> None:
    sets = (("a", "b", "c"), ("d", "b", "c"))
    assert reached_jointly({"a": 9, "b": 9, "c": 2, "d": 5}, sets) == 5
    assert reached_jointly({"a": 9, "b": 9}, sets) == 0
    assert reached_jointly({"a": 3, "b": 9, "c": 9}, sets) == 9
    assert reached_jointly({"a": 9}, ()) == 0


class Machine:
    """The commands on a volume of three, with five nodes."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self._ids = iter(range(1000))
        for name in "abcde":
            self.do("node_set", name, f"http://{name}", "", 1.0, f"disk of {name}")
        self.do("volume_create", "v", "demo", asdict(VolumePolicy()), ["a", "b", "c"])
        for name in "abc":
            self.do("replica_admit", "v", name, f"store of {name}", None)

    def do(self, *command: Any) -> Any:
        return value_of(self.state.apply((str(next(self._ids)), *command)))

    def hold(self) -> list[int]:
        epoch: list[int] = self.do("assign", "v", "digest", "b", 5.0)
        return epoch

    def table(self) -> ReplicaSet:
        return self.state.volume("v").replica_set


def test_a_replica_is_replaced_in_three_steps() -> None:
    machine = Machine()
    epoch = machine.hold()
    version = machine.do("replicas_want", "v", "d", "b")
    assert machine.table().deciding == (("a", "b", "c"),)
    assert machine.table().followed == ("a", "b", "c", "d")
    assert machine.table().members == ("a", "b", "c")
    machine.do("replicas_join", "v", epoch, version, "store of d")
    assert machine.table().deciding == (("a", "b", "c"), ("a", "d", "c"))
    assert machine.table().members == ("a", "b", "c", "d")
    machine.do("replicas_done", "v", epoch, version + 1)
    assert machine.table() == ReplicaSet(
        ("a", "d", "c"), version + 2, {"a": "store of a", "c": "store of c", "d": "store of d"}
    )


def test_the_policy_says_how_many_there_are() -> None:
    machine = Machine()
    epoch = machine.hold()
    for add, remove, left in (("d", "", "abcd"), ("e", "", "abcde"), ("", "a", "bcde")):
        version = machine.do("replicas_want", "v", add, remove)
        machine.do("replicas_join", "v", epoch, version, f"store of {add}" if add else "")
        machine.do("replicas_done", "v", epoch, version + 1)
        assert machine.state.volume("v").replicas == tuple(left)
        assert machine.state.volume("v").policy.replicas == len(left)


def test_only_the_holder_takes_the_steps_and_only_in_order() -> None:
    machine = Machine()
    old = machine.hold()
    version = machine.do("replicas_want", "v", "d", "a")
    with pytest.raises(ReplicaSetChanged):
        machine.do("replicas_done", "v", old, version)
    with pytest.raises(ReplicaSetChanged):
        machine.do("replicas_join", "v", old, version - 1, "store of d")
    with pytest.raises(InvalidInput):
        machine.do("replicas_join", "v", old, version, "")
    machine.do("free", "v", old, "digest")
    for step in (("replicas_join", "v", old, version, "x"), ("replicas_done", "v", old, version)):
        with pytest.raises(StaleEpoch):
            machine.do(*step)
    machine.do("replicas_join", "v", machine.hold(), version, "store of d")
    assert machine.table().change == ReplicaChange("d", "a", joint=True)


def test_a_step_that_was_delayed_beyond_a_cancel_does_nothing() -> None:
    machine = Machine()
    epoch = machine.hold()
    first = machine.do("replicas_want", "v", "d", "a")
    machine.do("replicas_join", "v", epoch, first, "store of d")
    machine.do("replicas_cancel", "v", first + 1)
    assert machine.table().nodes == ("a", "b", "c") and machine.table().change is None
    assert "d" not in machine.table().incarnations
    again = machine.do("replicas_want", "v", "d", "a")
    machine.do("replicas_join", "v", epoch, again, "another store of d")
    with pytest.raises(ReplicaSetChanged):
        machine.do("replicas_done", "v", epoch, first + 1)
    assert machine.table().change == ReplicaChange("d", "a", joint=True)


def test_one_change_at_a_time_and_none_that_makes_no_sense() -> None:
    machine = Machine()
    machine.do("node_leave", "e")
    wrong = [("", ""), ("b", "a"), ("d", "e"), ("", "d"), ("e", "a")]
    for add, remove in wrong:
        with pytest.raises(InvalidInput):
            machine.do("replicas_want", "v", add, remove)
    with pytest.raises(NodeNotFound):
        machine.do("replicas_want", "v", "nobody", "a")
    version = machine.do("replicas_want", "v", "d", "a")
    assert machine.do("replicas_want", "v", "d", "a") == version, "asked for twice, wanted once"
    with pytest.raises(InvalidInput, match="under way"):
        machine.do("replicas_want", "v", "d", "b")


def test_the_last_replica_does_not_go() -> None:
    with pytest.raises(InvalidInput):
        replica_set.want(ReplicaSet(("a",)), "", "a")


def test_a_node_that_is_to_keep_records_does_not_leave_the_cluster() -> None:
    machine = Machine()
    version = machine.do("replicas_want", "v", "d", "a")
    for name in "abcd":
        with pytest.raises(NodeInUse, match="replace-replica demo"):
            machine.do("node_leave", name)
    epoch = machine.hold()
    machine.do("replicas_join", "v", epoch, version, "store of d")
    machine.do("replicas_done", "v", epoch, version + 1)
    machine.do("node_leave", "a")


def test_who_went_or_only_follows_is_not_admitted_to_vote() -> None:
    machine = Machine()
    epoch = machine.hold()
    version = machine.do("replicas_want", "v", "d", "a")
    for claim in (None, epoch):
        with pytest.raises(DavfsError):
            machine.do("replica_admit", "v", "d", "store of d", claim)
    machine.do("replicas_join", "v", epoch, version, "store of d")
    with pytest.raises(StaleEpoch):
        machine.do("replica_admit", "v", "d", "a second store of d", None)
    machine.do("replicas_done", "v", epoch, version + 1)
    with pytest.raises(ReplicaSetChanged):
        machine.do("replica_admit", "v", "a", "a new store of a", None)


def test_a_dump_keeps_the_change_and_an_older_one_has_none() -> None:
    machine = Machine()
    machine.do("replicas_join", "v", machine.hold(), machine.do("replicas_want", "v", "d", "a"), "store of d")
    again = ClusterState()
    again.load(machine.state.dump())
    assert again.volume("v") == machine.state.volume("v")
    older = {"replicas": ["a", "b"], "incarnations": {"a": "1"}}
    assert replica_set.load(older) == ReplicaSet(("a", "b"), 1, {"a": "1"})
