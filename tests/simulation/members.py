"""Nodes that join and go, step by step; and davfs without the safeguards of that, and of invariant 4."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from davfs.cluster.chunk_write import Upload
from davfs.cluster.departure import Departure
from davfs.core.model import NodeInfo
from davfs.sim.cluster import CHUNK_SIZE, VOLUME_ID, SimNode
from tests.simulation.stage import Stage

TWO_CHUNKS = b"1" * CHUNK_SIZE + b"2" * CHUNK_SIZE


def join(stage: Stage, name: str = "node-4") -> SimNode:
    """A machine joins the cluster, and votes."""
    cluster = stage.cluster
    node = cluster.admit(name)
    cluster.command("token_add", f"token of {name}", 60.0)
    cluster.command("node_admit", f"token of {name}", asdict(NodeInfo(name, f"http://{name}", "", 1.0, node.disk.id)))
    node.start()
    assert stage.loop.run_until(lambda: name in cluster.raft.voters, 10), "the newcomer does not vote"
    return node


def replace(stage: Stage, new: str, old: str) -> None:
    """A node keeps the volume's records in the place of another."""
    stage.cluster.command("replicas_want", VOLUME_ID, new, old)
    assert stage.loop.run_until(lambda: stage.cluster.volume.replica_set.change is None, 20)
    assert old not in stage.cluster.volume.replicas


def remove(stage: Stage, name: str, helper: str) -> list[tuple[Any, BaseException | None]]:
    """`davfs node remove`; the list gets what is answered."""
    ended: list[tuple[Any, BaseException | None]] = []
    node = stage.cluster.nodes[helper]
    assert node.process is not None
    removal = node.service.departure.remove(name, lambda: stage.cluster.raft.members)
    node.process.run(removal, lambda value, error: ended.append((value, error)), ("remove",))
    return ended


def removed(stage: Stage, name: str, helper: str = "node-1") -> BaseException | None:
    """The same, to the end: the refusal, if it was refused."""
    ended = remove(stage, name, helper)
    assert stage.loop.run_until(lambda: bool(ended), 60)
    if ended[0][1] is None:
        stage.cluster.take_away(name)
        stage.cluster.enough.removed(name)
    return ended[0][1]


# --- for mutants --------------------------------------------------------------------------------------------------------


def slow_copies(seed: int) -> list[str]:
    """A file of two chunks is written while the other nodes take long to store chunks."""
    stage = Stage(seed)
    stage.cluster.network.extra_delay = lambda node, method: 0.4 if method == "chunk.put" else 0.0
    assert stage.ask("node-1", ("put", ("a",), TWO_CHUNKS)).outcome == ("ok", True)
    return stage.failures()


def needed_copies(seed: int) -> list[str]:
    """A fourth node joins and gets chunks; other nodes lose their copies of those; somebody tries to remove the fourth."""
    stage = Stage(seed, admits=True)
    fourth = join(stage)
    for number in range(8):
        content = b"%d" % number * CHUNK_SIZE
        assert stage.ask("node-1", ("put", (f"f{number}",), content + TWO_CHUNKS)).outcome == ("ok", True)
    stage.wait(0.5)
    # What is missing is soon fetched again from the fourth, but not now.
    stage.cluster.network.extra_delay = lambda node, method: 60.0 if method in ("chunk.get", "chunk.put") else 0.0
    for volume, digest in fourth.chunks.list():
        others = [node for node in stage.cluster.nodes.values() if node is not fourth]
        for node in [node for node in others if node.disk.has_good(volume, digest)][1:]:
            node.stores[volume].rot(digest) if node.stores[volume].has_good_chunk(digest) else None
            node.chunks.lose(volume, digest)
    removed(stage, "node-4")
    return stage.failures()


def one_copy_is_enough(patch: pytest.MonkeyPatch) -> None:
    """A chunk counts as written when one node has it."""
    patch.setattr(Upload, "_has_quorum", lambda self, write: bool(write.stored))


def removed_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """A node is removed whether other nodes have copies of what it holds or not."""

    def check_chunks(self, name):
        yield from ()
        return 0

    patch.setattr(Departure, "_check_chunks", check_chunks)
