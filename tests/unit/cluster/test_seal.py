"""Sealing the replicas of a volume whose stores Raft admits only now."""

from types import SimpleNamespace
from typing import Any

import pytest

from davfs.cluster import assign
from davfs.cluster.lagging import Credentials
from davfs.cluster.site import Timing
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Gather, Reply, Wait
from davfs.core.errors import QuorumLost
from davfs.core.model import Epoch

NODES = ("a", "b", "c")


def status(node: str) -> Reply:
    return Reply({"incarnation": f"store of {node}", "sealed": [1, 1], "last": [[0, 0], 0], "committed": [[0, 0], 0]})


def sealing(state: ClusterState) -> Any:
    site: Any = SimpleNamespace(node="program", state=state, applied=object(), timing=Timing())
    protocol = assign._seal(site, "v", Credentials("v", Epoch(1, 1), b"token"))
    gather = protocol.send(None)
    assert isinstance(gather, Gather)
    assert [call.node for call in gather.calls] == list(NODES)
    outcomes: Any = {node: status(node) for node in NODES}
    assert not gather.enough(outcomes)
    effect = protocol.send(outcomes)
    assert isinstance(effect, Wait)
    return protocol, effect


def new_volume() -> ClusterState:
    state = ClusterState()
    state.apply(("1", "volume_create", "v", "new", {}, list(NODES)))
    return state


def test_stores_that_raft_admits_a_moment_later_are_waited_for() -> None:
    state = new_volume()
    protocol, wait = sealing(state)
    assert not wait.ready()
    for node in NODES[:2]:
        state.apply((node, "replica_admit", "v", node, f"store of {node}", None))
    assert wait.ready()
    with pytest.raises(StopIteration) as stop:
        protocol.send(True)
    assert sorted(stop.value.value) == ["a", "b"]


def test_stores_that_raft_knows_otherwise_never_count() -> None:
    state = new_volume()
    protocol, wait = sealing(state)
    for node in NODES:
        state.apply((node, "replica_admit", "v", node, f"another store of {node}", None))
    assert not wait.ready()
    with pytest.raises(QuorumLost, match="no store may vote yet"):
        protocol.send(False)
