"""The replicas that this node keeps: opened when Raft names this node for a volume, registered, kept applying, and
removed from the disk when others keep the volume in its place (``retiring.py``)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from threading import Lock
from typing import Any

from davfs.cluster.fetcher import Fetcher
from davfs.cluster.local_chunks import LocalChunks
from davfs.cluster.replica import Replica
from davfs.cluster.retiring import hand_over, rescue_chunks
from davfs.cluster.site import Site
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Spawn, Submit, Wait
from davfs.core.errors import DavfsError, StaleEpoch, Unavailable, VolumeNotFound
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
        self._left_over = set(site.stored())  # databases that were there at the start and are not opened yet
        self._leaving: dict[str, Replica] = {}  # not kept any more; their small chunks are still being moved
        self._retiring: set[str] = set()
        self._deleted: dict[str, Replica] = {}  # of volumes that were deleted since the start
        self._stopped = False
        self.broken: Mapping[str, frozenset[str]] = {}  # volume -> nodes that said that theirs cannot be used (``standing.py``)
        site.chunks = LocalChunks(site.chunks, self._store_of)

    def _store_of(self, volume_id: str) -> ReplicaStore | None:
        if (leaving := self._leaving.get(volume_id)) is not None:
            return leaving.store
        try:
            return self.get(volume_id).store
        except VolumeNotFound:
            return None

    def store_here(self, volume_id: str) -> ReplicaStore | None:
        """See the port (``collecting.py``). :class:`Unavailable` while it waits to be opened and removed."""
        if volume_id in self._left_over and self._is_unwanted(volume_id):
            raise Unavailable(f"{self._site.node} has not looked yet at what it kept of volume {volume_id}")
        return self._store_of(volume_id)

    def all(self) -> list[Replica]:
        return list(self._replicas.values())

    def standing(self) -> list[dict[str, Any]]:
        """How far each replica here is: its volume's name and its status, and a snapshot that is on its way."""
        known = self._site.state.volumes
        return [
            {"volume": known[r.volume].name, **r.status().wire(), "catching": None if r.catching is None else list(r.catching)}
            for r in self.all()
            if r.volume in known
        ]

    def get(self, volume_id: str) -> Replica:
        """The replica of a volume; :class:`VolumeNotFound` if this node has none to keep."""
        replica = self._replicas.get(volume_id)
        if replica is not None:
            return replica
        volume = self._site.state.volume(volume_id)
        if self._site.node not in volume.replica_set.followed:
            raise VolumeNotFound(f"{self._site.node} keeps no replica of {volume.name!r}")
        with self._lock:
            if volume_id not in self._replicas:
                replica = self._leaving.pop(volume_id, None) or self._opened(volume_id)
                self._replicas = {**self._replicas, volume_id: replica}
            return self._replicas[volume_id]

    def trouble(self, volume_id: str) -> str:
        """Why this node cannot hold a volume that it keeps a replica of: it is broken, or cannot be opened. "" if it can."""
        try:
            return self.get(volume_id).store.broken
        except DavfsError as error:
            return error.message

    def leads(self, volume_id: str) -> bool:
        """Whether this node does for a volume what one of its replicas has to: the first that is up and can be used."""
        volume = self._site.state.volumes.get(volume_id)
        if volume is None:
            return False
        broken = self.broken.get(volume_id, frozenset())
        able = (node for node in volume.replicas if self._site.up(node) and node not in broken)
        return self._site.node == next(able, "")

    def _opened(self, volume_id: str) -> Replica:
        self._left_over.discard(volume_id)
        store = self._site.open_store(volume_id)
        return Replica(self._site, volume_id, store, self._fetcher.applied, self._fetcher.installed)

    def wait_for(self, volume_id: str) -> Protocol_[Replica]:
        """The same for a request of a holder: Raft may tell this node of a new volume a moment later than the holder."""
        state = self._site.state
        yield Wait(self._site.applied, lambda: volume_id in state.volumes, self._site.timing.call / 2)
        return self.get(volume_id)

    def keep(self) -> Protocol_[None]:
        """The background task: open, register and start what Raft names; forget what it no longer names."""
        while not self._stopped:
            yield Wait(self._site.applied, lambda: self._stopped or bool(self._news() or self._unwanted()), 5.0)
            for volume_id in self._news():
                try:
                    yield from self._register(volume_id)
                except DavfsError as error:
                    log.info("the replica of volume %s is not registered yet: %s", volume_id, error)
                    yield Wait(self._site.applied, lambda: self._stopped, 0.5)
            for volume_id in [v for v in self._replicas if v not in self._site.state.volumes]:
                self._forget(volume_id)
            for volume_id in self._unwanted():
                self._retiring.add(volume_id)
                yield Spawn(self._retire(volume_id), "retire")

    def _news(self) -> list[str]:
        return [
            volume.id
            for volume in self._site.state.volumes.values()
            if self._site.node in volume.replica_set.followed and volume.id not in self._registered
        ]

    def _register(self, volume_id: str) -> Protocol_[None]:
        replica = self.get(volume_id)
        incarnation = replica.store.incarnation
        table = self._site.state.volume(volume_id).replica_set
        # A newcomer is admitted by the holder, when it has caught up.
        if self._site.node in table.members and table.incarnations.get(self._site.node) != incarnation:
            command = (self._site.request_id(), "replica_admit", volume_id, self._site.node, incarnation, None)
            try:
                value_of((yield Submit(command, self._site.timing.call)))
            except StaleEpoch:
                # This store replaces one that voted: it may vote when a holder has brought it up to date.
                log.warning("volume %s: this store is new; it votes once it has caught up", volume_id)
        self._registered.add(volume_id)
        yield Spawn(replica.keep_applying(lambda: self._stopped or volume_id not in self._replicas), "apply")
        yield Spawn(replica.keep_trimming(lambda: self._stopped or volume_id not in self._replicas), "trim")

    # --- the end of a replica ---------------------------------------------------------------------------------------

    def _unwanted(self) -> list[str]:
        """Volumes that others keep now: they are neither this node's to keep nor held by it."""
        kept = {*self._replicas, *self._leaving, *self._left_over} - self._retiring
        return [volume_id for volume_id in sorted(kept) if self._is_unwanted(volume_id)]

    def _is_unwanted(self, volume_id: str) -> bool:
        volume = self._site.state.volumes.get(volume_id)
        if volume is None or self._site.node in volume.replica_set.followed:
            return False
        return volume.tenure.grant is None or volume.tenure.grant.address != self._site.node

    def _retire(self, volume_id: str) -> Protocol_[None]:
        """Move a replica's small chunks to files, hand over what it alone has and remove its database: it would come back as
        a new, empty one.

        What this node knows of Raft's state may be old, right after a start: nothing is removed before Raft has confirmed
        that others keep the volume.
        """
        site = self._site
        try:
            yield Wait(site.applied, lambda: self._stopped or not self._is_unwanted(volume_id), site.timing.retire)
            yield Submit((site.request_id(), "noop"), site.timing.call)
            with self._lock:
                if self._stopped or not self._is_unwanted(volume_id):
                    return
                if volume_id not in self._leaving:
                    self._leaving[volume_id] = self._replicas.get(volume_id) or self._opened(volume_id)
                    self._replicas = {key: value for key, value in self._replicas.items() if key != volume_id}
                    self._registered.discard(volume_id)
                replica = self._leaving[volume_id]
            replica.progress.notify()
            moved = yield from rescue_chunks(site, volume_id, replica.store)
            yield from hand_over(site, volume_id, replica.store)
            with self._lock:
                if self._may_drop(volume_id, replica):
                    del self._leaving[volume_id]
                    replica.close()
                    site.drop_store(volume_id)
                    log.warning("volume %s: others keep its records; %d small chunks are files now", volume_id, moved)
        except DavfsError as error:
            log.info("volume %s: its replica here is removed later: %s", volume_id, error)
        finally:
            self._retiring.discard(volume_id)

    def _may_drop(self, volume_id: str, replica: Replica) -> bool:
        """Unless it is wanted again (``get``) or this node stops."""
        return not self._stopped and self._leaving.get(volume_id) is replica

    def _forget(self, volume_id: str) -> None:
        with self._lock:
            gone = self._replicas[volume_id]
            self._replicas = {key: value for key, value in self._replicas.items() if key != volume_id}
            self._registered.discard(volume_id)
            self._deleted[volume_id] = gone  # open: somebody may be reading what was deleted a moment ago
        gone.progress.notify()

    def discard(self, volume_id: str) -> None:
        """Close what is left of a volume that was deleted long ago: its database goes."""
        self._left_over.discard(volume_id)
        gone = self._deleted.pop(volume_id, None) or self._leaving.pop(volume_id, None)
        if gone is not None:
            gone.close()

    def stop(self) -> None:
        """Close all stores; nothing may use them any more."""
        self._stopped = True
        self._site.applied.notify()
        for replica in [*self.all(), *self._leaving.values(), *self._deleted.values()]:
            replica.progress.notify()
            replica.close()
