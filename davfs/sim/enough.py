"""Invariant 4, watched at each acknowledgement: every chunk of what was written has W whole copies on disks.

One who sees all disks looks at the very moment when the holder answers, and again when a node is removed. What faults took
is counted as if it were there: that is theirs, and the scrub's (invariant 7). So is nothing on a node that was removed.
Volumes that are ``available`` promise less. May import cluster, core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from davfs.cluster import tree
from davfs.cluster.holder import Holder
from davfs.core.errors import DavfsError
from davfs.core.model import STRICT, ChunkRef

if TYPE_CHECKING:
    from davfs.sim.cluster import SimCluster

Path = tuple[str, ...]
_PLACES: dict[str, Callable[[list[Any]], Path]] = {
    "put": lambda arguments: tuple(arguments[0]),
    "write": lambda arguments: tuple(arguments[0]),
    "copy": lambda arguments: tuple(arguments[1]),
}


class EnoughCopies:
    """Judges the answers of one cluster. ``looked``: chunks of answers that were looked at."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self.looked = 0

    def answered(self, holder: Holder, request: Mapping[str, Any]) -> None:
        """A holder answers a request that it has carried out."""
        kind, *arguments = request["op"]
        if kind not in _PLACES or holder.state().policy.consistency != STRICT:
            return
        with holder.replica.store.view() as view:
            try:
                entry = tree.require(view, _PLACES[kind](arguments))
            except DavfsError:
                return  # somebody has removed it since
            manifest = view.manifest(entry.inode)
        if manifest is not None:
            self._judge(manifest[1].chunks, f"{kind} was answered")

    def removed(self, node: str) -> None:
        """A node has been removed from the cluster."""
        stores = [one.stores[volume] for one in self._cluster.nodes.values() for volume in one.stores]
        if stores and self._cluster.volume.policy.consistency == STRICT:
            with max(stores, key=lambda store: store.committed).view() as view:
                self._judge([*view.chunks()], f"{node} was removed")

    def _judge(self, chunks: Iterable[ChunkRef], what: str) -> None:
        cluster, state = self._cluster, self._cluster.volume
        for digest in sorted({chunk.digest for chunk in chunks}):
            self.looked += 1
            there = {n for n, node in cluster.nodes.items() if node.disk.has_good(state.id, digest)} - self._gone()
            if len(there | (cluster.collected.injured(digest) & cluster.nodes.keys())) < state.policy.write_quorum:
                cluster.loop.fail(
                    f"invariant 4: {what} while chunk {digest[:8]} is whole on {', '.join(sorted(there)) or 'no disk'} alone"
                )

    def _gone(self) -> set[str]:
        return set(self._cluster.raft.state.membership.removed)
