"""Invariant 6, watched at each moment: no collector run removes a chunk that is referenced. And what nothing refers to goes.

A copy that was set aside is judged by the newest committed state: if that names the chunk, W copies must
be left elsewhere. (An old, forgotten copy on a node that did not acknowledge the new one may go: it is fetched again.)
May import only core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from davfs.core.model import ORIGIN
from davfs.core.ports import ReplicaStore

if TYPE_CHECKING:
    from davfs.sim.cluster import SimCluster


class CollectedWatch:
    """Judges what the collectors of one cluster do to ``volume``. ``removed``: copies that were set aside so far."""

    def __init__(self, cluster: SimCluster, volume: str, write_quorum: int) -> None:
        self._cluster = cluster
        self._volume = volume
        self._quorum = write_quorum
        self.injured: Callable[[str], set[str]] = lambda digest: set()  # nodes that a fault took a copy from
        self.removed = 0
        self._newest, self._names = ORIGIN, set[str]()
        cluster.watch.on_removed = self._on_removed

    def copies(self, digest: str) -> int:
        """How many disks hold a chunk that is not set aside."""
        count = 0
        for node in self._cluster.nodes.values():
            store = node.stores.get(self._volume)
            count += node.chunks.has(self._volume, digest) or (store is not None and store.has_chunk(digest))
        return count

    def orphans(self) -> list[str]:
        """The copies of chunks that nothing refers to any more, and that are not set aside: "node: digest"."""
        named = self._named()
        found = []
        for node in self._cluster.nodes.values():
            digests = {digest for volume, digest in node.chunks.list() if volume == self._volume}
            if (store := node.stores.get(self._volume)) is not None:
                digests |= {digest for digest, _ in store.chunk_page("", 1 << 30, 1 << 62).old}
            found += [f"{node.name}: {digest[:8]}" for digest in sorted(digests - named)]
        return found

    def _named(self) -> set[str]:
        """The chunks that the newest committed state names: one on any disk, or one that was on a disk which was lost since
        (the others have its records, and may not know yet that they are committed)."""
        stores: list[ReplicaStore] = [n.stores[self._volume] for n in self._cluster.nodes.values() if n.stores]
        newest = max(stores, key=lambda store: store.committed)
        if newest.committed >= self._newest:
            with newest.view() as view:
                self._newest, self._names = view.committed, {chunk.digest for chunk in view.chunks()}
        return self._names

    def _on_removed(self, node: str, digest: str) -> None:
        self.removed += 1
        named = digest in self._named()
        self._cluster.loop.note(f"{node} set {digest[:8]} aside")
        if named and self.copies(digest) + len(self.injured(digest)) < self._quorum:
            self._cluster.loop.fail(f"invariant 6: chunk {digest[:8]} is referenced and was collected on {node}")
