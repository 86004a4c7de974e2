"""What a majority holds, counted against all configured replicas and only for stores that may vote."""

import pytest

from davfs.cluster.followers import Followers
from davfs.core.replica_set import ReplicaChange, ReplicaSet

NODES = ("a", "b", "c")
STORES = {"a": "1", "b": "2", "c": "3", "d": "4"}
SET = ReplicaSet(NODES, 1, STORES)


def followers(**matches: int) -> Followers:
    made = Followers((*NODES, "d"), 10, "a")
    for node, match in matches.items():
        made.by_node[node].match = match
        made.by_node[node].incarnation = STORES[node]
    return made


def test_a_majority_of_the_configured_replicas_counts() -> None:
    assert followers(a=12, b=11, c=3).majority_seq(SET) == 11
    assert followers(a=12).majority_seq(SET) == 0
    assert followers(a=12, b=12).majority_seq(SET) == 12


@pytest.mark.parametrize("known", [{}, {"a": "1"}, {"a": "1", "b": "another store", "c": "x"}])
def test_a_store_that_was_not_admitted_does_not_vote(known: dict[str, str]) -> None:
    made = followers(a=12, b=12, c=12)
    assert made.majority_seq(ReplicaSet(NODES, 1, known)) == 0
    assert not made.majority_answers(ReplicaSet(NODES, 1, known))


def test_a_majority_answers_while_no_more_than_a_minority_fails() -> None:
    made = followers(a=1, b=1, c=1)
    made.by_node["c"].failing = True
    assert made.majority_answers(SET)
    made.by_node["b"].failing = True
    assert not made.majority_answers(SET)


def test_replicas_begin_behind_the_base() -> None:
    assert [f.next_seq for f in Followers(NODES, 10, "a").by_node.values()] == [11, 11, 11]


def test_a_newcomer_counts_when_both_sets_decide_and_then_alone() -> None:
    joint = ReplicaSet(NODES, 3, STORES, ReplicaChange("d", "a", joint=True))
    catching_up = ReplicaSet(NODES, 2, STORES, ReplicaChange("d", "a"))
    after = ReplicaSet(("d", "b", "c"), 4, STORES)
    made = followers(a=12, b=12, d=9)
    assert made.majority_seq(catching_up) == 12
    assert made.majority_seq(joint) == 9, "b and d are a majority of the new set, up to 9"
    assert made.majority_seq(after) == 9
    assert made.majority_answers(joint)
    made.by_node["d"].failing = True
    assert made.majority_answers(catching_up) and not made.majority_answers(joint)


def test_followers_come_and_go_but_the_holders_own_copy_stays() -> None:
    made = followers(a=12, b=12, c=12)
    before = made.by_node["b"]
    assert made.follow(("b", "c", "e")) == ["e"]
    assert list(made.by_node) == ["b", "c", "e", "a"]
    assert made.by_node["b"] is before
    assert made.has_caught_up("b", 12) and not made.has_caught_up("b", 13) and not made.has_caught_up("e", 0)
