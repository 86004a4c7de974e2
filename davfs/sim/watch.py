"""Watches all disks while a simulation runs, for invariants 1 and 2: who sealed what, which records a majority holds.

What a replica held when it was sealed is read out to the new holder, who adopts the best of it: such a record may reach a
majority at any time, even by a late request of its own holder, for it is part of the new history already. What may not
happen is that a record reaches a majority which none of the sealed ones had when they were sealed. (Invariant 2.)

A position names one record for ever, and in a strict volume a record is committed once a majority has it, after which no
other is ever committed in its place. (Invariant 1: else what was acknowledged could be lost.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from davfs.core.model import NO_EPOCH, Epoch, Position
from davfs.core.quorum import is_joint_majority
from davfs.sim.loop import Loop


class Watch:
    """What is on the replicas of the one volume. ``on_durable(node)``: told after each step that a disk has kept;
    ``deciding``: the sets of replicas that decide now, as Raft has them, ``views``: as each node knows them; ``strict``:
    the volume's promise; ``on_removed(node, digest)``: told after the collector has set a chunk aside."""

    def __init__(self, loop: Loop, nodes: Sequence[str]) -> None:
        self.deciding: Callable[[], Sequence[Sequence[str]]] = lambda: (self._nodes,)
        self.views: Callable[[], Iterable[Sequence[Sequence[str]]]] = lambda: [self.deciding()]
        self.strict = True
        self._loop = loop
        self._nodes = tuple(nodes)
        self._gone: set[Position] = set()
        self._sealed: dict[str, Epoch] = dict.fromkeys(nodes, NO_EPOCH)
        self._held: dict[str, dict[int, Position]] = {node: {} for node in nodes}
        self._read_out: dict[str, set[Position]] = {node: set() for node in nodes}
        self._named: dict[Position, bytes] = {}  # digests of records
        self._logged: dict[Position, set[str]] = {}  # by whom, lost since or not
        self._committed: dict[int, Position] = {}  # by seq, whoever did it first
        self._judged = 0
        self.appends = 0
        self.cuts = 0
        self.taken_back = 0
        self.installs = 0
        self.on_removed: Callable[[str, str], None] = lambda node, digest: None
        self.on_durable: Callable[[str], None] = lambda node: None

    def add(self, node: str) -> None:
        """A node has joined."""
        self._nodes = (*self._nodes, node)
        self._sealed[node], self._held[node], self._read_out[node] = NO_EPOCH, {}, set()

    def sealed(self, node: str, epoch: Epoch) -> None:
        """A replica refuses lower epochs from now on."""
        self._loop.note(f"{node} sealed to {epoch}")
        self._sealed[node] = epoch
        self._read_out[node] = set(self._held[node].values())
        self.on_durable(node)

    def appended(self, node: str, records: Sequence[tuple[Position, bytes]], cut_from: int | None) -> None:
        """A replica has durably logged records, and cut what stood in their place."""
        if not records:
            return
        positions = [at for at, _ in records]
        held = self._held[node]
        if cut_from is not None:
            self.cuts += 1
            for seq in [seq for seq in held if seq >= cut_from]:
                self._logged[held.pop(seq)].discard(node)
        for at, data in records:
            held[at.seq] = at
            self._logged.setdefault(at, set()).add(node)
            if self._named.setdefault(at, digest := blake3(data).digest()) != digest:
                self._loop.fail(f"invariant 2: {node} logged another record {at} than there was before")
        self.appends += 1
        cut = "" if cut_from is None else f", cut from {cut_from}"
        self._loop.note(f"{node} logged {positions[0]} .. {positions[-1].seq}{cut}")
        for at in positions:
            self._judge(at)
        self.on_durable(node)

    def dropped(self, node: str) -> None:
        """A node that keeps the volume no longer has removed its replica; what it once read out stays read out."""
        self._loop.note(f"{node} dropped its replica")
        self._gone |= self._read_out[node]
        self._sealed[node], self._held[node], self._read_out[node] = NO_EPOCH, {}, set()

    def received(self, node: str) -> None:
        """A piece of a snapshot has come: a moment to be struck at."""
        self.on_durable(node)

    def installed(self, node: str, history: Sequence[Position]) -> None:
        """A snapshot has replaced all that a replica held."""
        self._loop.note(f"{node} installed a snapshot up to {history[-1]}")
        self._held[node] = {at.seq: at for at in history}
        for at in history:
            self._logged.setdefault(at, set()).add(node)
        self.installs += 1
        for at in history:
            self._judge(at)
        self.on_durable(node)

    def committed(self, node: str, positions: Iterable[Position]) -> None:
        """A replica has entered records into documents and index."""
        for at in positions if self.strict else ():
            if (first := self._committed.setdefault(at.seq, at)) != at:
                self._loop.fail(f"invariant 1: {node} commits record {at} where {first} was committed before")
            elif len(self._committed) > self._judged:
                self._judged = len(self._committed)
                holders = self._logged.get(at, set())
                if not any(is_joint_majority(holders, sets) for sets in self.views()):
                    self._loop.fail(f"invariant 1: {node} commits record {at}, which only {', '.join(sorted(holders))} logged")

    def _judge(self, at: Position) -> None:
        holders = [node for node in self._nodes if self._held[node].get(at.seq) == at]
        above = [node for node in self._nodes if self._sealed[node] > at.epoch]
        known = at in self._gone or any(at in self._read_out[node] for node in above)
        sets = self.deciding()
        if not known and is_joint_majority(holders, sets) and is_joint_majority(above, sets):
            self._loop.fail(f"invariant 2: record {at} reached a majority after a majority was sealed above its epoch")
