"""Watches all disks while a simulation runs, for invariant 2: who sealed what, which records a majority holds.

What a replica held when it was sealed is read out to the new holder, who adopts the best of it: such a record may reach a
majority at any time, even by a late request of its own holder, for it is part of the new history already. What may not
happen is that a record reaches a majority which none of the sealed ones had when they were sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from davfs.core.model import NO_EPOCH, Epoch, Position
from davfs.core.quorum import is_joint_majority
from davfs.sim.loop import Loop


class Watch:
    """What is on the replicas of the one volume. ``on_durable(node)``: told after each step that a disk has kept;
    ``deciding``: the sets of replicas that decide now, as Raft has them; ``on_removed(node, digest)``: told after the
    collector has set a chunk aside."""

    def __init__(self, loop: Loop, nodes: Sequence[str]) -> None:
        self.deciding: Callable[[], Sequence[Sequence[str]]] = lambda: (self._nodes,)
        self._loop = loop
        self._nodes = tuple(nodes)
        self._gone: set[Position] = set()
        self._sealed: dict[str, Epoch] = dict.fromkeys(nodes, NO_EPOCH)
        self._held: dict[str, dict[int, Position]] = {node: {} for node in nodes}
        self._read_out: dict[str, set[Position]] = {node: set() for node in nodes}
        self.appends = 0
        self.cuts = 0
        self.taken_back = 0
        self.installs = 0
        self.on_removed: Callable[[str, str], None] = lambda node, digest: None
        self.on_durable: Callable[[str], None] = lambda node: None

    def sealed(self, node: str, epoch: Epoch) -> None:
        """A replica refuses lower epochs from now on."""
        self._loop.note(f"{node} sealed to {epoch}")
        self._sealed[node] = epoch
        self._read_out[node] = set(self._held[node].values())
        self.on_durable(node)

    def appended(self, node: str, positions: Sequence[Position], cut_from: int | None) -> None:
        """A replica has durably logged records, and cut what stood in their place."""
        if not positions:
            return
        held = self._held[node]
        if cut_from is not None:
            self.cuts += 1
            for seq in [seq for seq in held if seq >= cut_from]:
                del held[seq]
        held.update((at.seq, at) for at in positions)
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
        self.installs += 1
        for at in history:
            self._judge(at)
        self.on_durable(node)

    def _judge(self, at: Position) -> None:
        holders = [node for node in self._nodes if self._held[node].get(at.seq) == at]
        above = [node for node in self._nodes if self._sealed[node] > at.epoch]
        known = at in self._gone or any(at in self._read_out[node] for node in above)
        sets = self.deciding()
        if not known and is_joint_majority(holders, sets) and is_joint_majority(above, sets):
            self._loop.fail(f"invariant 2: record {at} reached a majority after a majority was sealed above its epoch")
