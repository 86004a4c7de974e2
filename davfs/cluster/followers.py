"""How far each volume replica has got, seen from the holder: what a majority holds, who answers, who may vote.

A holder that is none of the configured replicas (a program) has a *working copy*: it follows the log like a replica, so
that its index can answer reads, and never counts in a majority, because nobody would find it after the holder is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from davfs.core.quorum import is_joint_majority, is_majority, reached_jointly
from davfs.core.replica_set import ReplicaSet


@dataclass(slots=True)
class Follower:
    """A replica as the holder knows it. ``match``: the log up to there is durably the same; ``told``: commit mark sent;
    ``applied``: up to there in its documents and index; ``catching``: it is fetching a snapshot, bytes of how many, for
    which the records behind ``pinned`` are kept."""

    node: str
    next_seq: int
    match: int = 0
    told: int = 0
    applied: int = 0
    catching: tuple[int, int] | None = None
    pinned: int = 0
    sealed: bool = False
    failing: bool = False
    incarnation: str = ""
    late: int = 0  # late records that it has
    busy: bool = False  # an append is on its way; whoever set it settles what comes of it


class Followers:
    """All who get a volume's records. Who counts is said by the set of replicas as Raft shows it at that moment, and a
    replica counts only under the store incarnation that Raft has for it (section 3)."""

    def __init__(self, nodes: Collection[str], base_seq: int, holder: str) -> None:
        self._base_seq = base_seq
        self._holder = holder
        self.by_node = {node: Follower(node, base_seq + 1) for node in dict.fromkeys((*nodes, holder))}

    def follow(self, nodes: Collection[str]) -> list[str]:
        """Go on with these nodes and the holder's own copy; those that are new."""
        wanted = dict.fromkeys((*nodes, self._holder))
        new = [node for node in wanted if node not in self.by_node]
        if new or len(wanted) != len(self.by_node):
            self.by_node = {node: self.by_node.get(node) or Follower(node, self._base_seq + 1) for node in wanted}
        return new

    def voters(self, table: ReplicaSet) -> list[Follower]:
        """The members of the set whose store may vote."""
        candidates = (follower for node in table.members if (follower := self.by_node.get(node)) is not None)
        return [f for f in candidates if f.incarnation and table.incarnations.get(f.node) == f.incarnation]

    def majority_seq(self, table: ReplicaSet) -> int:
        """The highest seq that a majority of the replicas holds durably; of both sets, while a change of them is joint."""
        return reached_jointly({f.node: f.match for f in self.voters(table)}, table.deciding)

    def is_reached(self, seq: int, acknowledged: Collection[str], table: ReplicaSet) -> bool:
        """Whether a majority holds the log up to ``seq`` durably, these nodes among them."""
        holding = [f.node for f in self.voters(table) if f.match >= seq or f.node in acknowledged]
        return is_joint_majority(holding, table.deciding)

    def majority_answers(self, table: ReplicaSet) -> bool:
        """Whether a majority answered last time it was asked: what a holder checks before it sends a record."""
        return is_joint_majority([f.node for f in self.voters(table) if not f.failing], table.deciding)

    def majority_goes_on(self, table: ReplicaSet) -> bool:
        """Whether a majority of the set after the change under way answers, with stores that vote or are about to."""
        able = [f.node for f in self.by_node.values() if not f.failing and f.incarnation]
        newcomer = table.change.add if table.change is not None else ""
        voting = [n for n in able if n == newcomer or table.incarnations.get(n) == self.by_node[n].incarnation]
        return is_majority(voting, table.next_nodes)

    def has_caught_up(self, node: str, seq: int) -> bool:
        """Whether a node answers and holds everything up to ``seq``, under whatever store it has now."""
        follower = self.by_node.get(node)
        return follower is not None and bool(follower.incarnation) and not follower.failing and follower.match >= seq
