"""Quorum writes of chunks: whom they ask, and whom they ask instead. Real flow, scripted answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from davfs.cluster.chunk_write import Upload
from davfs.cluster.clock import BootClock
from davfs.cluster.lagging import Credentials
from davfs.cluster.site import Site, Timing
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Gather, Outcome, Protocol_, Reply, Wait
from davfs.core.errors import NoSpace, QuorumLost, Unreachable
from davfs.core.model import Epoch, VolumePolicy

NODES = ("node-1", "node-2", "node-3", "node-4")


class NoSignal:
    """One thread: nobody waits."""

    def notify(self) -> None:
        """Nobody to tell."""


class Cluster:
    """Nodes that are up or not, and what each answers."""

    def __init__(self, nodes: int) -> None:
        state = ClusterState()
        for name in NODES[:nodes]:
            state.apply((name, "node_set", name, "", "", 1.0, ""))
        self.down: set[str] = set()
        self.answers: dict[str, Callable[[], Outcome]] = {}
        self.asked: list[str] = []
        unused: Any = None
        self.site = Site(
            node="node-1", clock=BootClock(), random=unused, state=state, applied=NoSignal(), chunks=unused, documents=unused,
            open_store=unused, make_signal=NoSignal, up=lambda node: node not in self.down, timing=Timing(),
        )  # fmt: skip

    def upload(self) -> Upload:
        return Upload(self.site, Credentials("v", Epoch(1, 1), b""), VolumePolicy(), "inode")

    def drive(self, protocol: Protocol_[Any]) -> Any:
        result: Any = None
        try:
            while True:
                effect = protocol.send(result)
                result = None
                if isinstance(effect, Gather):
                    for call in effect.calls:
                        self.asked.append(call.node)
                        outcome = self.answers.get(call.node, lambda: Reply({}))()
                        assert effect.late is not None
                        effect.late(call.node, outcome)
                else:
                    assert isinstance(effect, Wait)
                    assert effect.ready(), "it would wait for ever"
                    result = True
        except StopIteration as stop:
            return stop.value


def test_all_nodes_that_are_up_are_asked_and_all_are_named() -> None:
    cluster = Cluster(3)
    cluster.down = {"node-2"}
    upload = cluster.upload()
    cluster.drive(upload.write(b"x"))
    (chunk,) = cluster.drive(upload.finish())
    assert sorted(cluster.asked) == ["node-1", "node-3"]
    assert (sorted(chunk.nodes), chunk.digest, chunk.size) == (["node-1", "node-2", "node-3"], digest_of(b"x"), 1)


def test_a_node_that_was_passed_over_is_asked_when_another_fails_and_it_is_back() -> None:
    cluster = Cluster(3)
    cluster.down = {"node-3"}

    def fail_and_return() -> Outcome:
        cluster.down.clear()
        return Unreachable("gone")

    cluster.answers["node-2"] = fail_and_return
    upload = cluster.upload()
    cluster.drive(upload.write(b"x"))
    assert len(cluster.drive(upload.finish())) == 1
    assert sorted(cluster.asked) == ["node-1", "node-2", "node-3"]


def test_a_node_that_was_not_chosen_takes_the_place_of_one_that_fails() -> None:
    cluster = Cluster(4)
    first = cluster.upload()
    cluster.drive(first.write(b"x"))
    chosen, *_ = cluster.drive(first.finish())
    (other,) = set(NODES) - set(chosen.nodes)
    for failing in chosen.nodes[:2]:
        cluster.answers[failing] = lambda: Unreachable("gone")
    second = cluster.upload()
    cluster.drive(second.write(b"x"))
    (chunk,) = cluster.drive(second.finish())
    assert set(chunk.nodes) == set(NODES)
    assert other in cluster.asked


@pytest.mark.parametrize(("error", "raised"), [(Unreachable("gone"), QuorumLost), (NoSpace(), NoSpace)])
def test_too_few_copies_are_a_definite_error(error: Outcome, raised: type[Exception]) -> None:
    cluster = Cluster(3)
    for node in ("node-2", "node-3"):
        cluster.answers[node] = lambda: error
    upload = cluster.upload()

    def whole() -> Protocol_[Any]:
        yield from upload.write(b"x")
        return (yield from upload.finish())

    with pytest.raises(raised):
        cluster.drive(whole())


def test_a_new_version_goes_where_the_old_one_was() -> None:
    cluster = Cluster(4)
    before = ("node-4", "node-2", "node-1")
    upload = cluster.upload()
    for number in range(20):
        cluster.drive(upload.write(bytes([number]), number, before))
    assert all(set(chunk.nodes) == set(before) for chunk in cluster.drive(upload.finish()))
    cluster.down = {"node-2"}
    upload = cluster.upload()
    cluster.drive(upload.write(b"x", 7, before))
    (chunk,) = cluster.drive(upload.finish())
    assert set(chunk.nodes) == {"node-1", "node-3", "node-4"}
