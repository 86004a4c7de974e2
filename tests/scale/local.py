"""One replica's database with its holder in this process: commits without a network, for measuring what they cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from davfs.cluster.assign import take
from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.holder import Holder
from davfs.cluster.local_chunks import LocalChunks
from davfs.cluster.replica import Replica
from davfs.cluster.service import Service
from davfs.cluster.site import Site, Timing
from davfs.cluster.threads import ThreadRuntime, ThreadSignal
from davfs.cluster.volume import HeldVolume
from davfs.core.cluster_state import ClusterState, value_of
from davfs.core.effects import Protocol_
from davfs.core.errors import Unavailable
from davfs.core.ports import Documents, ReplicaStore
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.replica_db import ReplicaDb

NODE = "node-1"
TTL_S = 3600.0


class Alone:
    """A cluster of one node, whose Raft is its state machine. ``held`` is the volume as the WebDAV side uses it."""

    def __init__(self, runtime: ThreadRuntime, holder: Holder) -> None:
        self.runtime = runtime
        self.holder = holder
        self.store = holder.replica.store
        self.held = HeldVolume(runtime, holder)


class _NoOthers:
    def call(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", *, timeout: float
    ) -> tuple[Any, bytes]:
        raise Unavailable(f"{node} is not there")

    def begin(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", timeout: float = 5.0
    ) -> Any:
        return None

    def answered(self, exchanges: Collection[Any], timeout: float) -> list[Any]:
        return []

    def finish(self, exchange: Any) -> tuple[Any, bytes]:
        raise Unavailable("nothing was begun")


class _One:
    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def wait_for(self, volume_id: str) -> Protocol_[Replica]:
        yield from ()
        return self._replica

    def store_here(self, volume_id: str) -> ReplicaStore | None:
        return self._replica.store


@contextmanager
def alone(database: Path, volume: str, documents: Documents | None = None, chunk_size: int = 4 << 20) -> Iterator[Alone]:
    """Hold the volume with that id in a replica's database, which is made when it is absent.

    A node's own database must be a copy: it is sealed to an epoch that the node's cluster knows nothing of.
    """
    chunks = database.parent / "chunks"
    chunks.mkdir(exist_ok=True)
    store = ReplicaDb(database)
    state, applied = ClusterState(), ThreadSignal()
    runtime = ThreadRuntime(NODE, _NoOthers(), lambda command, timeout: state.apply(command), 8)
    try:
        policy = {"copies": 1, "write_quorum": 1, "replicas": 1, "chunk_size": chunk_size}
        for number, command in enumerate([
            ("node_set", NODE, "", "", 1.0, store.incarnation),
            ("volume_create", volume, "volume", policy, [NODE]),
            ("replica_admit", volume, NODE, store.incarnation, None),
        ]):  # fmt: skip
            value_of(state.apply((f"set up {number}", *command)))
        state.incarnation = store.sealed.incarnation + 1  # every epoch of this cluster is above the copy's
        site = Site(
            NODE, BootClock(), SystemRandom(), state, applied, DiskChunkStore(chunks),
            documents or AutomergeDocuments(), lambda _: store, ThreadSignal, lambda node: node == NODE, Timing(ttl=TTL_S),
        )  # fmt: skip
        site.chunks = LocalChunks(site.chunks, lambda _: store)
        replica = Replica(site, volume, store)
        runtime.handlers = Service(site, _One(replica)).handlers
        holder = runtime.run(take(site, state.volume(volume), replica))
        yield Alone(runtime, holder)
        holder.log.stop()
    finally:
        runtime.close()
        store.close()
