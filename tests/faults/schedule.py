"""Which faults come when: drawn from a seed, within what the design promises to survive. Pure.

A run is rounds. In each, one to three faults begin and end, overlapping; then all is healed, and the volumes must serve
again. What a schedule never does: harm a second disk before the first is repaired (an acknowledged chunk may have only W
copies, and W - 1 of its disks may be lost), or stop more processes at once than a minority.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

PARTITION, ONE_WAY, DELAY, LOSS = "partition", "one-way", "delay", "loss"
HOLDER, LEADER = "isolate-holder", "isolate-leader"
KILL, STOP = "kill", "stop"
WIPE, FLIP_CHUNKS = "wipe", "flip-chunks"
FLIP_DATABASE, FLIP_JOURNAL = "flip-database", "flip-journal"
FULL, DISK_ERROR = "full-disk", "disk-error"

NETWORK = (PARTITION, ONE_WAY, DELAY, LOSS, HOLDER, LEADER)
PROCESS = (KILL, STOP)
HARM = (WIPE, FLIP_CHUNKS, FLIP_DATABASE, FLIP_JOURNAL)
"""What takes something from a disk for good: one in a round, and the round ends with its repair."""
DISK = (FULL, DISK_ERROR)
KINDS = (*NETWORK, *PROCESS, *HARM, *DISK)
ON_ONE_NODE = frozenset({*PROCESS, *HARM, *DISK})

TTL_S = 5.0
LONGEST_S = 12.0


@dataclass(frozen=True, slots=True)
class Fault:
    """``nodes``: whom it strikes; empty if that is found out when it begins (the holder, the leader). ``at`` and ``seconds``:
    its begin after the begin of the round, and how long it lasts. ``draw``: seeds what else it chooses."""

    kind: str
    nodes: tuple[int, ...]
    at: float
    seconds: float
    draw: int

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(f'node-{number}' for number in self.nodes)}".strip()


@dataclass(frozen=True, slots=True)
class Round:
    """Faults that overlap, and the calm afterwards, in seconds."""

    number: int
    faults: tuple[Fault, ...]
    calm: float

    @property
    def seconds(self) -> float:
        """How long its faults take."""
        return max(fault.at + fault.seconds for fault in self.faults)


class Schedule:
    """Rounds without end. ``small``: the nodes whose disks are small enough to be filled; ``longest``: seconds."""

    def __init__(
        self,
        seed: int,
        nodes: int = 5,
        kinds: Collection[str] = KINDS,
        small: Collection[int] = (),
        longest: float = LONGEST_S,
    ) -> None:
        self._random = random.Random(seed)
        self._longest = longest
        self._minority = (nodes - 1) // 2
        self._numbers = tuple(range(1, nodes + 1))
        self._small = tuple(sorted(small)) or self._numbers
        self._kinds = tuple(kind for kind in KINDS if kind in kinds)
        self._deck: list[str] = []
        self._number = 0

    def next_round(self) -> Round:
        """The round that comes next. Every kind comes once before any comes again, but for rounds that may not hold it."""
        self._number += 1
        count = self._random.choice((1, 2, 2, 3))
        chosen: list[str] = []
        struck: set[int] = set()
        faults = []
        while len(chosen) < min(count, len(self._kinds)):
            kind = self._draw(chosen)
            if not kind:
                break
            chosen.append(kind)
            nodes = self._strike(kind, struck)
            if kind in ON_ONE_NODE:
                struck.update(nodes)
            at = 0.0 if len(chosen) == 1 else self._random.uniform(0.0, 5.0)
            faults.append(Fault(kind, nodes, at, self._length(kind), self._random.getrandbits(32)))
        return Round(self._number, tuple(faults), self._random.uniform(2.0, 4.0))

    def _draw(self, chosen: list[str]) -> str:
        """The next kind that may stand beside what the round has; "" if none may."""
        if not self._deck:
            self._deck = list(self._kinds)
            self._random.shuffle(self._deck)
        for kind in self._deck:
            if self._may_join(kind, chosen):
                self._deck.remove(kind)
                return kind
        return ""

    def _strike(self, kind: str, struck: set[int]) -> tuple[int, ...]:
        if kind in (HOLDER, LEADER, LOSS):
            return ()
        if kind == PARTITION:
            return tuple(sorted(self._random.sample(self._numbers, self._random.randint(1, self._minority))))
        pool = [number for number in (self._small if kind == FULL else self._numbers) if number not in struck]
        return (self._random.choice(pool or self._numbers),)

    def _length(self, kind: str) -> float:
        if kind in (STOP, HOLDER):  # past the ttl: somebody else holds the volume by then
            return self._random.uniform(TTL_S + 2, max(self._longest, TTL_S + 2))
        return self._random.uniform(min(4.0, self._longest), self._longest)

    def _may_join(self, kind: str, chosen: list[str]) -> bool:
        if kind in chosen or (kind in HARM and any(other in HARM for other in chosen)):
            return False
        return kind not in ON_ONE_NODE or sum(other in ON_ONE_NODE for other in chosen) < self._minority
