"""What a majority holds, counted against all configured replicas and only for stores that may vote."""

import pytest

from davfs.cluster.followers import Followers

NODES = ("a", "b", "c")
STORES = {"a": "1", "b": "2", "c": "3"}


def followers(**matches: int) -> Followers:
    made = Followers(NODES, 10, "a")
    for node, match in matches.items():
        made.by_node[node].match = match
        made.by_node[node].incarnation = STORES[node]
    return made


def test_a_majority_of_the_configured_replicas_counts() -> None:
    assert followers(a=12, b=11, c=3).majority_seq(STORES) == 11
    assert followers(a=12).majority_seq(STORES) == 0
    assert followers(a=12, b=12).majority_seq(STORES) == 12


@pytest.mark.parametrize("known", [{}, {"a": "1"}, {"a": "1", "b": "another store", "c": "x"}])
def test_a_store_that_was_not_admitted_does_not_vote(known: dict[str, str]) -> None:
    made = followers(a=12, b=12, c=12)
    assert made.majority_seq(known) == 0
    assert not made.majority_answers(known)


def test_a_majority_answers_while_no_more_than_a_minority_fails() -> None:
    made = followers(a=1, b=1, c=1)
    made.by_node["c"].failing = True
    assert made.majority_answers(STORES)
    made.by_node["b"].failing = True
    assert not made.majority_answers(STORES)


def test_replicas_begin_behind_the_base() -> None:
    assert [f.next_seq for f in Followers(NODES, 10, "a").by_node.values()] == [11, 11, 11]
