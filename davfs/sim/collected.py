"""Invariant 6, watched at each moment: no collector run removes a chunk that is referenced.

A copy that was set aside is judged by the newest committed state on any disk: if that names the chunk, W copies must
be left elsewhere. (An old, forgotten copy on a node that did not acknowledge the new one may go: it is fetched again.)
May import only core and the simulator's own parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from davfs.core.ports import ReplicaStore

if TYPE_CHECKING:
    from davfs.sim.cluster import SimCluster


class CollectedWatch:
    """Judges what the collectors of one cluster do to ``volume``. ``removed``: copies that were set aside so far."""

    def __init__(self, cluster: SimCluster, volume: str, write_quorum: int) -> None:
        self._cluster = cluster
        self._volume = volume
        self._quorum = write_quorum
        self.removed = 0
        cluster.watch.on_removed = self._on_removed

    def copies(self, digest: str) -> int:
        """How many disks hold a chunk that is not set aside."""
        count = 0
        for node in self._cluster.nodes.values():
            store = node.stores.get(self._volume)
            count += node.chunks.has(self._volume, digest) or (store is not None and store.has_chunk(digest))
        return count

    def _on_removed(self, node: str, digest: str) -> None:
        self.removed += 1
        stores: list[ReplicaStore] = [n.stores[self._volume] for n in self._cluster.nodes.values() if n.stores]
        newest = max(stores, key=lambda store: store.committed)
        with newest.view() as view:
            named = any(chunk.digest == digest for chunk in view.chunks())
        self._cluster.loop.note(f"{node} set {digest[:8]} aside")
        if named and self.copies(digest) < self._quorum:
            self._cluster.loop.fail(f"invariant 6: chunk {digest[:8]} is referenced and was collected on {node}")
