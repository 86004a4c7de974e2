"""What faults have taken from disks and davfs has not made good yet; and so what they may take besides.

The promise (design, section 9, 1) holds while at most W-1 disks of any chunk and a minority of volume replicas and of Raft
nodes are lost. One who knows everything keeps to it here: it looks at all disks at once. May import only core and the
simulator's own parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from davfs.core import references
from davfs.core.model import STRICT
from davfs.core.quorum import is_joint_majority, is_majority
from davfs.core.record import decode
from davfs.sim.cluster import VOLUME_ID, SimCluster, SimNode

Named: TypeAlias = dict[str, set[str]]

UNNAMED_S = 60.0
"""A chunk that no record names after so long is named by none that is still on its way."""


class Losses:
    """Copies of chunks, and nodes, that are lost until they are there again."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._taken: dict[tuple[str, str], float] = {}  # (node, digest) -> since when
        self._emptied: set[str] = set()  # nodes whose disk, or replica, was lost

    # --- chunks -----------------------------------------------------------------------------------------------------

    def named(self) -> Named:
        """digest -> the nodes that are to have the chunk, of all that any replica's index or log names."""
        found: Named = {}
        for node in self._cluster.nodes.values():
            if (store := node.stores.get(VOLUME_ID)) is not None:
                with store.view() as view:
                    chunks = [*view.chunks()]
                logged = [*store.read_log(store.floor.seq + 1, 1 << 40), *(data for _, data in store.late_records())]
                for data in logged:
                    for change in decode(data, VOLUME_ID).changes:
                        chunks += [chunk for key, value in change.puts for chunk in references.chunks_of(key, value)]
                for chunk in chunks:
                    found.setdefault(chunk.digest, set()).update(chunk.nodes)
        return found

    def good(self, digest: str) -> set[str]:
        """The nodes that have a whole copy on their disk, whether they are up or not."""
        return {name for name, node in self._cluster.nodes.items() if node.disk.has_good(VOLUME_ID, digest)}

    def may_take(self, node: str, digest: str, named: Named) -> bool:
        """Whether the promise still holds when a node loses a chunk: no other disk has lost it, and one has it."""
        self._look(named)
        if any(name == digest and of != node for of, name in self._taken):
            return False
        if digest not in named and self._cluster.volume.policy.consistency == STRICT:
            return True  # W nodes have it, or will have before a record names it
        return bool(self.good(digest) - {node})

    def take(self, node: str, digest: str) -> None:
        """A copy is lost from now on."""
        self._taken[node, digest] = self._cluster.loop.now

    def injured(self, digest: str) -> set[str]:
        """The nodes that have lost a chunk by a fault, and not got it back."""
        return {of for of, name in self._taken if name == digest and not self._good_on(of, digest)}

    def _good_on(self, node: str, digest: str) -> bool:
        simulated = self._cluster.nodes.get(node)
        return simulated is not None and simulated.disk.has_good(VOLUME_ID, digest)

    def _look(self, named: Named) -> None:
        """Forget what is there again, or needed by nobody."""
        now = self._cluster.loop.now
        self._taken = {
            (node, digest): since
            for (node, digest), since in self._taken.items()
            if node in self._cluster.nodes
            and not self._good_on(node, digest)
            and (node in named[digest] if digest in named else now - since < UNNAMED_S)
        }

    # --- replicas and Raft ------------------------------------------------------------------------------------------

    def may_empty(self, node: SimNode, chunks: bool, replica: bool) -> bool:
        """Whether a node may lose all of its chunks, its replica, or both: no other has lost anything like it."""
        named = self.named()
        if self._cluster.volume.policy.consistency != STRICT or any(not self._is_whole(n, named) for n in self._emptied):
            return False
        if replica and not self._others_vote(node.name):
            return False
        if chunks and replica and not self._raft_goes_on(node.name):
            return False
        return all(self.may_take(node.name, digest, named) for digest in self._lost(node, chunks, replica))

    def empty(self, node: SimNode, chunks: bool, replica: bool) -> None:
        """It loses them now."""
        for digest in self._lost(node, chunks, replica):
            self.take(node.name, digest)
        self._emptied.add(node.name)

    @staticmethod
    def _lost(node: SimNode, chunks: bool, replica: bool) -> list[str]:
        if chunks and replica:
            return node.disk.digests(VOLUME_ID)
        if chunks:
            return [digest for volume, digest in node.chunks.list() if volume == VOLUME_ID]
        return node.stores[VOLUME_ID].small_chunks() if VOLUME_ID in node.stores else []

    def _raft_goes_on(self, lost: str) -> bool:
        """Whether a majority of Raft is left. A node that is being removed may be switched off before its vote is gone."""
        raft = self._cluster.raft
        going = (*raft.state.membership.removed, *raft.state.membership.leaving)
        left = [name for name in raft.voters if name != lost and name not in going]
        return is_majority(left, raft.voters)

    def _others_vote(self, lost: str) -> bool:
        """Whether a majority of each set that decides, or is wanted, is left, and the store of every one of them counts: of
        two replicas none may be lost, and no second one before the first is back."""
        table = self._cluster.volume.replica_set
        others = [name for name in table.members if name != lost]
        left = [name for name in (*others, *table.next_nodes) if name != lost]
        return is_joint_majority(left, (*table.deciding, table.next_nodes)) and all(self._votes(name) for name in others)

    def _votes(self, name: str) -> bool:
        node = self._cluster.nodes.get(name)
        store = None if node is None else node.stores.get(VOLUME_ID)
        return store is not None and self._cluster.volume.incarnations.get(name) == store.incarnation

    def _is_whole(self, name: str, named: Named) -> bool:
        """Whether a node has everything again that counts."""
        self._look(named)
        return not any(self._votes_lacking(name)) and not any(of == name for of, _ in self._taken)

    def _votes_lacking(self, name: str) -> Iterator[str]:
        """The votes that a node which lost its disk, or a part of it, has not got back."""
        node = self._cluster.nodes.get(name)
        if node is None:
            return
        if name not in self._cluster.raft.voters or not node.alive:
            yield f"{name} has no vote in Raft yet"
        if name in self._cluster.volume.replica_set.members and not self._votes(name):
            yield f"{name}'s replica does not vote yet"

    def open(self) -> list[str]:
        """The votes that are still missing; of chunks, ``aftermath.py`` asks more than that they are there again."""
        return [line for name in sorted(self._emptied) for line in self._votes_lacking(name)]
