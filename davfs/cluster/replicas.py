"""The replicas that this node keeps: opened when Raft names this node for a volume, registered, kept applying."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from threading import Lock

from davfs.cluster.fetcher import Fetcher
from davfs.cluster.local_chunks import LocalChunks
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Spawn, Submit, Wait
from davfs.core.errors import DavfsError, StaleEpoch, VolumeNotFound
from davfs.core.ports import ReplicaStore

log = logging.getLogger(__name__)


class Replicas:
    """volume id -> :class:`Replica`, of this node. Makes the small chunks that they hold part of the site's chunks."""

    def __init__(self, site: Site, fetcher: Fetcher) -> None:
        self._site = site
        self._fetcher = fetcher
        self._lock = Lock()
        self._replicas: Mapping[str, Replica] = {}
        self._registered: set[str] = set()
        self._stopped = False
        site.chunks = LocalChunks(site.chunks, self._store_of)

    def _store_of(self, volume_id: str) -> ReplicaStore | None:
        try:
            return self.get(volume_id).store
        except VolumeNotFound:
            return None

    def all(self) -> list[Replica]:
        return list(self._replicas.values())

    def get(self, volume_id: str) -> Replica:
        """The replica of a volume; :class:`VolumeNotFound` if this node has none to keep."""
        replica = self._replicas.get(volume_id)
        if replica is not None:
            return replica
        volume = self._site.state.volume(volume_id)
        if self._site.node not in volume.replicas:
            raise VolumeNotFound(f"{self._site.node} keeps no replica of {volume.name!r}")
        with self._lock:
            if volume_id not in self._replicas:
                store = self._site.open_store(volume_id)
                replica = Replica(self._site, volume_id, store, self._fetcher.applied)
                self._replicas = {**self._replicas, volume_id: replica}
            return self._replicas[volume_id]

    def wait_for(self, volume_id: str) -> Protocol_[Replica]:
        """The same for a request of a holder: Raft may tell this node of a new volume a moment later than the holder."""
        state = self._site.state
        yield Wait(self._site.applied, lambda: volume_id in state.volumes, self._site.timing.call / 2)
        return self.get(volume_id)

    def keep(self) -> Protocol_[None]:
        """The background task: open, register and start what Raft names; forget what it no longer names."""
        while not self._stopped:
            yield Wait(self._site.applied, lambda: self._stopped or bool(self._news()), 5.0)
            for volume_id in self._news():
                try:
                    yield from self._register(volume_id)
                except DavfsError as error:
                    log.info("the replica of volume %s is not registered yet: %s", volume_id, error)
                    yield Wait(self._site.applied, lambda: self._stopped, 0.5)
            for volume_id in [v for v in self._replicas if v not in self._site.state.volumes]:
                self._forget(volume_id)

    def _news(self) -> list[str]:
        return [
            volume.id
            for volume in self._site.state.volumes.values()
            if self._site.node in volume.replicas and volume.id not in self._registered
        ]

    def _register(self, volume_id: str) -> Protocol_[None]:
        replica = self.get(volume_id)
        incarnation = replica.store.incarnation
        known = self._site.state.volume(volume_id).incarnations.get(self._site.node)
        if known != incarnation:
            command = (self._site.request_id(), "replica_admit", volume_id, self._site.node, incarnation, None)
            try:
                value_of((yield Submit(command, self._site.timing.call)))
            except StaleEpoch:
                # This store replaces one that voted: it may vote when a holder has brought it up to date.
                log.warning("volume %s: this store is new; it votes once it has caught up", volume_id)
        self._registered.add(volume_id)
        yield Spawn(replica.keep_applying(lambda: self._stopped or volume_id not in self._replicas), "apply")
        yield Spawn(replica.keep_trimming(lambda: self._stopped or volume_id not in self._replicas), "trim")

    def _forget(self, volume_id: str) -> None:
        with self._lock:
            gone = self._replicas[volume_id]
            self._replicas = {key: value for key, value in self._replicas.items() if key != volume_id}
            self._registered.discard(volume_id)
        gone.progress.notify()

    def stop(self) -> None:
        """Close all stores; nothing may use them any more."""
        self._stopped = True
        self._site.applied.notify()
        for replica in self.all():
            replica.progress.notify()
            replica.close()
