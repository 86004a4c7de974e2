"""One node's production flows in this process, on a real disk: a volume with one replica, held, its background tasks running.

What a node has above (HTTP, WebDAV) and beside (Raft) is left out; Raft's state machine is applied directly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from davfs.cluster.clock import BootClock, SystemRandom
from davfs.cluster.compaction import Compaction
from davfs.cluster.fetcher import Fetcher
from davfs.cluster.holder import Holder
from davfs.cluster.holdings import Holdings
from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replicas import Replicas
from davfs.cluster.service import Service
from davfs.cluster.site import Site, Timing
from davfs.cluster.threads import ThreadRuntime, ThreadSignal
from davfs.core.cluster_state import ClusterState
from davfs.core.errors import Unreachable
from davfs.core.model import VolumePolicy
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage.chunk_store import DiskChunkStore
from davfs.storage.replica_db import ReplicaDb

Result = TypeVar("Result")
NODE, VOLUME, VOLUME_ID = "node-1", "growth", "ab" * 16


class Nobody:
    """There are no other nodes."""

    def call(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", *, timeout: float
    ) -> tuple[Any, bytes]:
        raise Unreachable(f"there is no {node}")

    def begin(
        self, node: str, method: str, args: Mapping[str, Any], blob: bytes | memoryview = b"", timeout: float = 5.0
    ) -> None:
        return None

    def answered(self, exchanges: Collection[Any], timeout: float) -> list[Any]:
        return []

    def finish(self, exchange: Any) -> tuple[Any, bytes]:
        raise Unreachable("nothing was begun")


class OneNode:
    """Open it with ``with``. ``look_all_s``: how often compaction looks at all documents."""

    def __init__(self, directory: Path, look_all_s: float) -> None:
        for name in ("chunks", "volumes"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._lock = threading.Lock()
        self._state = ClusterState()
        self._applied = ThreadSignal()
        self.runtime = ThreadRuntime(NODE, Nobody(), self._submit)
        self._submit(("r1", "node_set", NODE, f"http://{NODE}", "", 1.0, ""), 1.0)
        policy = VolumePolicy(copies=1, write_quorum=1, replicas=1, trash_days=0)
        self._submit(("r2", "volume_create", VOLUME_ID, VOLUME, asdict(policy), [NODE]), 1.0)
        site = Site(
            node=NODE,
            clock=BootClock(),
            random=SystemRandom(),
            state=self._state,
            applied=self._applied,
            chunks=DiskChunkStore(directory / "chunks"),
            documents=AutomergeDocuments(),
            open_store=lambda volume: ReplicaDb(directory / "volumes" / f"{volume}.sqlite"),
            make_signal=ThreadSignal,
            up=lambda name: name == NODE,
            timing=Timing(ttl=30.0, commit=30.0, call=30.0, compaction=min(5.0, look_all_s), tidy=1.0),
        )
        fetcher = Fetcher(site)
        self.replicas = Replicas(site, fetcher)
        self.holdings = Holdings(site, self.replicas)
        self.runtime.handlers = Service(site, self.replicas).handlers
        self.compaction = Compaction(
            site, self.replicas, Maintenance(site, self.replicas, self.holdings), look_all_s
        )
        self._stops: list[Callable[[], None]] = [self.compaction.stop, fetcher.stop, self.replicas.stop]
        tasks = {
            "keep": self.replicas.keep(), "fetch": fetcher.run(), "tokens": self.holdings.keep(),
            "compact": self.compaction.run(),
        }  # fmt: skip
        for name, task in tasks.items():
            self.runtime.start(task, name)

    def _submit(self, command: tuple[Any, ...], timeout: float) -> Any:
        with self._lock:
            result = self._state.apply(command)
        self._applied.notify()
        return result

    def run(self, protocol: Generator[Any, Any, Result]) -> Result:
        """Drive a protocol to its end."""
        return self.runtime.run(protocol)

    def holder(self) -> Holder:
        """The holder of the volume, which this node takes if it has not."""
        found = self.run(self.holdings.find(VOLUME, forwarded=False))
        assert isinstance(found, Holder)
        return found

    def __enter__(self) -> OneNode:
        volume = self._state.volumes[VOLUME_ID]
        while not volume.incarnations:  # until the replica is registered nobody can hold the volume
            time.sleep(0.01)
            volume = self._state.volumes[VOLUME_ID]
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.holdings.stop())
        for stop in self._stops:
            stop()
        self.runtime.close()
