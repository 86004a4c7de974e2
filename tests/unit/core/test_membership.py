"""Join tokens, admission, removal, and the steps of Raft's membership towards what is wanted."""

import pytest

from davfs.core import membership
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.errors import AlreadyExists, Forbidden, InvalidInput, NodeInUse, NodeNotFound
from davfs.core.membership import Membership, next_members
from davfs.core.model import NodeInfo

THREE = ("a", "b", "c")


def state() -> ClusterState:
    made = ClusterState()
    for name in THREE:
        value_of(made.apply((f"set {name}", "node_set", name, f"http://{name}", "", 1.0, f"disk of {name}")))
    return made


def info(name: str, incarnation: str = "") -> dict[str, object]:
    return {"name": name, "dav": f"http://{name}", "rpc": "h:1", "forward": "h:2", "incarnation": incarnation}


def test_a_token_admits_one_node_and_one_only() -> None:
    cluster = state()
    value_of(cluster.apply(("1", "token_add", "t", 60.0)))
    value_of(cluster.apply(("2", "node_admit", "t", info("d"))))
    value_of(cluster.apply(("2", "node_admit", "t", info("d"))))  # asked again, for the answer was lost
    with pytest.raises(Forbidden, match="used already"):
        value_of(cluster.apply(("3", "node_admit", "t", info("e"))))
    assert "d" not in cluster.nodes, "it has not started"
    value_of(cluster.apply(("4", "node_set", "d", "http://d", "", 1.0, "disk of d", "h:1", "h:2")))
    assert cluster.nodes["d"].rpc == "h:1"
    assert not cluster.membership.admitted


def test_an_expired_token_admits_nobody() -> None:
    cluster = state()
    value_of(cluster.apply(("1", "token_add", "t", 60.0)))
    value_of(cluster.apply(("2", "token_expire", "t")))
    with pytest.raises(Forbidden):
        value_of(cluster.apply(("3", "node_admit", "t", info("d"))))


def test_names_in_use_and_too_many_nodes_are_refused_and_spend_no_token() -> None:
    table = membership.add_token(Membership(), "t", 60.0)
    nodes = {name: NodeInfo(name, "") for name in "abcdefg"}
    with pytest.raises(AlreadyExists):
        membership.admit(table, nodes, "t", NodeInfo("a", ""))
    with pytest.raises(InvalidInput, match="7 nodes"):
        membership.admit(table, nodes, "t", NodeInfo("h", ""))
    removed = membership.remove(membership.leave(table, nodes, "g"), nodes, "g")
    del nodes["g"]
    with pytest.raises(AlreadyExists, match="removed"):
        membership.admit(removed, nodes, "t", NodeInfo("g", ""))


def test_a_node_leaves_before_it_is_removed_and_its_name_with_it() -> None:
    cluster = state()
    value_of(cluster.apply(("v", "volume_create", "id", "demo", {}, ["a", "b"])))
    for verb in ("node_leave", "node_remove"):
        with pytest.raises(NodeInUse, match="records of demo"):
            value_of(cluster.apply((f"{verb} a", verb, "a")))
    with pytest.raises(NodeNotFound, match="does not leave"):
        value_of(cluster.apply(("too early", "node_remove", "c")))
    value_of(cluster.apply(("1", "node_leave", "c")))
    assert set(cluster.storing()) == {"a", "b"}
    with pytest.raises(InvalidInput, match="leaves"):
        value_of(cluster.apply(("w", "volume_create", "other", "second", {}, ["a", "b", "c"])))
    value_of(cluster.apply(("2", "node_stay", "c")))
    assert set(cluster.storing()) == {"a", "b", "c"}
    value_of(cluster.apply(("3", "node_leave", "c")))
    value_of(cluster.apply(("4", "node_remove", "c")))
    assert set(cluster.nodes) == {"a", "b"}
    with pytest.raises(Forbidden, match="was removed"):
        value_of(cluster.apply(("5", "node_set", "c", "http://c", "", 1.0, "disk of c")))


def test_another_disk_under_a_known_name_is_refused() -> None:
    cluster = state()
    value_of(cluster.apply(("same", "node_set", "a", "http://elsewhere", "", 1.0, "disk of a")))
    with pytest.raises(Forbidden, match="wiped"):
        value_of(cluster.apply(("other", "node_set", "a", "http://a", "", 1.0, "an empty disk")))


def test_a_node_with_a_new_disk_goes_from_raft_before_it_comes_back() -> None:
    cluster = state()
    value_of(cluster.apply(("1", "node_renew", "a")))
    table = cluster.membership
    assert next_members(THREE, (), cluster.nodes, table) == ({"b", "c"}, set())
    assert next_members(("b", "c"), (), cluster.nodes, table) is None
    with pytest.raises(Forbidden):
        value_of(cluster.apply(("2", "node_set", "a", "http://a", "", 1.0, "a new disk")))
    value_of(cluster.apply(("3", "node_renewed", "a")))
    value_of(cluster.apply(("4", "node_set", "a", "http://a", "", 1.0, "a new disk")))
    assert next_members(("b", "c"), (), cluster.nodes, cluster.membership) == ({"b", "c"}, {"a"})


def test_the_table_survives_a_snapshot() -> None:
    cluster = state()
    for number, command in enumerate([("token_add", "t", 60.0), ("token_add", "u", 9.0), ("node_admit", "u", info("d"))]):
        value_of(cluster.apply((f"{number}", *command)))
    again = ClusterState()
    again.load(cluster.dump())
    assert again.membership == cluster.membership


def test_newcomers_learn_then_vote_and_the_removed_go_first() -> None:
    admitted = Membership(admitted={"d": NodeInfo("d", "")})
    assert next_members(THREE, (), THREE, Membership()) is None
    assert next_members(THREE, (), THREE, admitted) == (set(THREE), {"d"})
    assert next_members(THREE, ("d",), THREE, admitted) is None, "it has not started"
    assert next_members(THREE, ("d",), (*THREE, "d"), Membership()) == ({*THREE, "d"}, set())
    assert next_members(THREE, ("d",), (*THREE, "d"), Membership(removed=("b",))) == ({"a", "c"}, {"d"})
