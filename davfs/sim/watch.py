"""Watches all disks while a simulation runs, for invariant 2: who sealed what, which records a majority holds.

A record that is adopted by a later holder may reach a majority at any time; what may not happen is that the holder of a
sealed-off epoch itself brings one there. So each append is judged by the epoch of the holder that sent it.
"""

from __future__ import annotations

from collections.abc import Sequence

from davfs.core.model import NO_EPOCH, Epoch, Position
from davfs.core.quorum import is_majority
from davfs.sim.loop import Loop


class Watch:
    """What is on the replicas of the one volume. ``highest`` is how far histories got, for the figures."""

    def __init__(self, loop: Loop, nodes: Sequence[str]) -> None:
        self._loop = loop
        self._nodes = tuple(nodes)
        self._sealed: dict[str, Epoch] = dict.fromkeys(nodes, NO_EPOCH)
        self._held: dict[str, dict[int, Position]] = {node: {} for node in nodes}
        self.appends = 0
        self.cuts = 0

    def sealed(self, node: str, epoch: Epoch) -> None:
        """A replica refuses lower epochs from now on."""
        self._loop.note(f"{node} sealed to {epoch}")
        self._sealed[node] = epoch

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
        sender = self._sender()
        for at in positions:
            if sender is not None and sender == at.epoch:
                self._judge(at)

    def _sender(self) -> Epoch | None:
        """The epoch of the holder whose request is being served."""
        task = self._loop.running
        if task is None or task.context[0] != "replica.append":
            return None
        return Epoch(*task.context[1])

    def _judge(self, at: Position) -> None:
        holders = [node for node in self._nodes if self._held[node].get(at.seq) == at]
        above = [node for node in self._nodes if self._sealed[node] > at.epoch]
        if is_majority(holders, self._nodes) and is_majority(above, self._nodes):
            self._loop.fail(f"invariant 2: record {at} reached a majority after a majority was sealed above its epoch")
