"""Once all faults have ended: one scrub finds and repairs what they did to chunks (invariants 4 and 7).

May import cluster, core and the simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Iterator

from davfs.cluster.scrub import Scrub
from davfs.core.effects import Protocol_
from davfs.sim.cluster import VOLUME_ID, SimCluster


class LastScrub:
    """A verifying pass of every node that keeps the volume's records, all at once, as ``davfs scrub`` asks for."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._going = 0

    @property
    def done(self) -> bool:
        return not self._going

    def begin(self) -> None:
        """Start it."""
        for name in self._cluster.volume.replicas:
            node = self._cluster.nodes[name]
            if node.process is not None:
                self._going += 1
                node.process.start(self._one(name), "last scrub")

    def _one(self, name: str) -> Protocol_[None]:
        node = self._cluster.nodes[name]
        yield from Scrub(node.site, node.replicas).volume(VOLUME_ID, node.stores[VOLUME_ID], True)
        self._going -= 1


def check_copies_on_disk(cluster: SimCluster) -> Iterator[str]:
    """Every node that a manifest names has a whole copy of the chunk."""
    store = max((node.stores[VOLUME_ID] for node in cluster.nodes.values() if node.stores), key=lambda s: s.committed)
    with store.view() as view:
        chunks = {chunk.digest: chunk for chunk in view.chunks()}
    for digest in sorted(chunks):
        there = [name for name in chunks[digest].nodes if name in cluster.nodes]
        lacking = [name for name in there if not cluster.nodes[name].disk.has_good(VOLUME_ID, digest)]
        if lacking:
            yield f"invariant 7: after a scrub {', '.join(lacking)} still has no good copy of chunk {digest[:8]}"
