"""Where chunks go: weighted rendezvous hashing over nodes and zones.

Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); weights by the logarithmic method of
Schindelhauer and Schomaker (2005). The order of nodes for a key changes only where a node comes or goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log

from blake3 import blake3

from davfs.core.model import NodeInfo


def ranked(volume: str, inode: str, index: int, nodes: Iterable[NodeInfo]) -> list[str]:
    """All node names, best first, for chunk ``index`` of a file."""
    key = f"{volume}\0{inode}\0{index}\0".encode()

    def score(node: NodeInfo) -> float:
        draw = int.from_bytes(blake3(key + node.name.encode()).digest(8), "big")
        return -max(node.weight, 1e-9) / log((draw + 1) / (2**64 + 2))

    return [node.name for node in sorted(nodes, key=lambda node: (-score(node), node.name))]


def choose(order: Iterable[str], copies: int, up: Callable[[str], bool], zones: Callable[[str], str]) -> list[str]:
    """``copies`` nodes of a ranking: those that are up first, and as many zones as there are before a zone repeats."""
    candidates = sorted(order, key=lambda name: not up(name))  # stable: the ranking stays within each half
    chosen: list[str] = []
    used: set[str] = set()
    while candidates and len(chosen) < copies:
        fresh = [name for name in candidates if up(name) and (not zones(name) or zones(name) not in used)]
        name = fresh[0] if fresh else candidates[0]
        candidates.remove(name)
        chosen.append(name)
        used.add(zones(name))
    return chosen
