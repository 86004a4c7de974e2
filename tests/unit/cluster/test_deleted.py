"""What is left of deleted volumes on a node's disk: kept for its time, then gone; what Raft merely does not know stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.deleted import DeletedVolumes
from davfs.cluster.fetcher import Fetcher
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site, Timing
from davfs.cluster.threads import ThreadSignal
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.effects import Protocol_, Sleep
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage import chunk_store
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.data_dir import DataDirectory
from davfs.storage.replica_db import ReplicaDb

KEEP_S = 100.0


class Node:
    def __init__(self, path: Path) -> None:
        self.directory = DataDirectory(path, "node-1")
        self.now_s = 1000.0
        self.files = DiskChunkStore(self.directory.chunks, lambda: int(self.now_s * 1e9))
        self.state = ClusterState()
        self.commands = 0
        self.command("node_set", "node-1", "http://127.0.0.1:1", "", 1.0, "")
        self.site = Site(
            node="node-1", clock=BootClock(), random=SystemRandom(), state=self.state, applied=ThreadSignal(),
            chunks=self.files, documents=AutomergeDocuments(),
            open_store=lambda volume: ReplicaDb(self.directory.volume_database(volume)), make_signal=ThreadSignal,
            up=lambda node: True, timing=Timing(), stored=self.directory.stored_volumes, drop_store=self.directory.drop_volume,
        )  # fmt: skip
        self.replicas = Replicas(self.site, Fetcher(self.site))
        self.deleted = DeletedVolumes(self.site, self.files, self.replicas, KEEP_S)

    def command(self, *words: Any) -> None:
        self.commands += 1
        value_of(self.state.apply((f"request {self.commands}", *words)))

    def volume(self, volume: str, chunks: int = 3) -> None:
        self.command("volume_create", volume, f"name-{volume}", {}, ["node-1"])
        self.replicas.get(volume)
        for number in range(chunks):
            body = f"{volume} {number}".encode()
            self.files.put(volume, blake3(body).hexdigest(), body)

    def look(self, after_s: float = 0.0) -> None:
        self.now_s += after_s
        work: Protocol_[None] = self.deleted.look()
        for effect in work:
            assert isinstance(effect, Sleep)

    def there(self, volume: str) -> tuple[bool, bool]:
        return (self.directory.chunks / volume).exists(), volume in self.directory.stored_volumes()

    def close(self) -> None:
        self.replicas.stop()
        self.directory.close()


@pytest.fixture
def node(tmp_path: Path) -> Any:
    node = Node(tmp_path / "data")
    yield node
    node.close()


def test_a_deleted_volume_is_kept_for_its_time_and_then_goes_with_all_it_had(node: Node, monkeypatch: Any) -> None:
    monkeypatch.setattr(chunk_store, "_SWEPT_AT_ONCE", 2)
    node.volume("gone")
    node.volume("stays")
    node.command("volume_delete", "gone")
    for _ in range(3):
        node.look(KEEP_S / 3)  # the first time it is noticed
        assert node.there("gone") == (True, True)
    node.look(KEEP_S / 3 + 1)
    assert node.there("gone") == (False, False)
    assert node.there("stays") == (True, True)
    node.look(KEEP_S)


def test_the_time_goes_on_after_a_restart(node: Node, tmp_path: Path) -> None:
    node.volume("gone")
    node.command("volume_delete", "gone")
    node.look()
    state = node.state.dump()
    node.close()
    again = Node(tmp_path / "data")
    again.state.load(state)
    again.look(KEEP_S - 1)
    assert again.there("gone") == (True, True)
    again.look(2)
    assert again.there("gone") == (False, False)
    again.close()


def test_what_raft_does_not_know_is_left_alone(node: Node) -> None:
    node.volume("unknown")
    node.state.volumes = {}
    node.look()
    node.look(10 * KEEP_S)
    assert node.there("unknown") == (True, True)
