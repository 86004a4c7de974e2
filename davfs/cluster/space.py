"""How much more a volume may take: its quota, and what the nodes' disks have room for, in copies.

Nodes are asked what they have free when somebody wants to know, at most every few seconds; what was known of a node that
does not answer counts for a while. An estimate: placement by weight may fill one disk sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply

if TYPE_CHECKING:
    from davfs.cluster.holder import Holder

FRESH_S = 10.0
RESERVE_BYTES = 8 << 20
"""Kept free on every disk for the records of what is still to be answered; below it nothing new is taken."""


def available(holder: Holder) -> Protocol_[tuple[int, int]]:
    """(bytes that the volume's files and trash take, bytes that may still be written)."""
    room = yield from _room(holder)
    with holder.replica.store.view() as view:
        used = view.usage()[1]
    limit = holder.state().policy.quota
    if limit:
        room = min(room, max(0, limit - used - holder.quota.reserved()))
    return used, room


def _room(holder: Holder) -> Protocol_[int]:
    """The bytes of content that the nodes can take, as they said lately."""
    site = holder.site
    nodes = sorted(site.state.storing())
    if site.clock.now() >= holder.free_until:
        calls = [Call(node, "chunk.free", {}, timeout=site.timing.call) for node in nodes if site.up(node)]
        outcomes: Outcomes = yield Gather(calls)
        said = {node: int(reply.value["free"]) for node, reply in outcomes.items() if isinstance(reply, Reply)}
        holder.free_bytes = {node: size for node, size in {**holder.free_bytes, **said}.items() if node in nodes}
        holder.free_until = site.clock.now() + FRESH_S
    return in_copies([max(0, size - RESERVE_BYTES) for size in holder.free_bytes.values()], holder.state().policy.copies)


def in_copies(free: Sequence[int], copies: int) -> int:
    """How many bytes fit ``copies`` times on disks with so much free each, never twice on one: the largest T for which the
    sum of min(free, T) is at least copies times T."""
    sizes = sorted(free)
    left = copies
    while left and len(sizes) >= left:
        each = sum(sizes) // left
        if sizes[-1] <= each:
            return each
        sizes.pop()  # it takes a copy of everything
        left -= 1
    return 0
