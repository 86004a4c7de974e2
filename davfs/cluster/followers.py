"""How far each volume replica has got, seen from the holder: what a majority holds, who answers, who may vote.

A holder that is none of the configured replicas (a program) has a *working copy*: it follows the log like a replica, so
that its index can answer reads, and never counts in a majority, because nobody would find it after the holder is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from davfs.core.quorum import is_majority, reached_by_majority


@dataclass(slots=True)
class Follower:
    """A replica as the holder knows it. ``match``: the log up to there is durably the same; ``told``: commit mark sent;
    ``applied``: up to there in its documents and index."""

    node: str
    next_seq: int
    match: int = 0
    told: int = 0
    applied: int = 0
    sealed: bool = False
    failing: bool = False
    incarnation: str = ""


class Followers:
    """All replicas of a volume. A replica counts only under the store incarnation that Raft has for it (section 3)."""

    def __init__(self, configured: Collection[str], base_seq: int, holder: str) -> None:
        self.configured = tuple(configured)
        followed = dict.fromkeys((*configured, holder))
        self.by_node = {node: Follower(node, base_seq + 1) for node in followed}

    def voters(self, incarnations: Mapping[str, str]) -> list[Follower]:
        candidates = (self.by_node[node] for node in self.configured)
        return [f for f in candidates if f.incarnation and incarnations.get(f.node) == f.incarnation]

    def majority_seq(self, incarnations: Mapping[str, str]) -> int:
        """The highest seq that a majority of the configured replicas holds durably."""
        return reached_by_majority({f.node: f.match for f in self.voters(incarnations)}, self.configured)

    def majority_answers(self, incarnations: Mapping[str, str]) -> bool:
        """Whether a majority answered last time it was asked: what a holder checks before it sends a record."""
        return is_majority([f.node for f in self.voters(incarnations) if not f.failing], self.configured)
