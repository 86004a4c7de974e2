"""Reads of chunks: any one good copy serves; wrong and missing copies are corrected from it (design, section 2, Read)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from davfs.cluster.site import Site
from davfs.core.chunking import digest_of
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply
from davfs.core.errors import ChunkLost, ChunkMissing, CorruptData, DavfsError, InvalidInput
from davfs.core.model import ChunkRef

log = logging.getLogger(__name__)


def read_order(site: Site, nodes: Sequence[str]) -> list[str]:
    """This node first, then the nodes that answer, then the rest of those named, then everyone else."""
    others = [node for node in site.state.nodes if node not in nodes]
    return sorted(
        [*nodes, *others], key=lambda node: (node != site.node, not site.up(node), node in others)
    )


def read_chunk(site: Site, volume: str, chunk: ChunkRef, read_quorum: int = 1) -> Protocol_[bytes]:
    """The bytes of a chunk, verified. :class:`ChunkLost` when no reachable node has a good copy.

    ``read_quorum`` (R) above 1: that many of its nodes are asked about their copy, and bad ones are repaired, also where
    the first answer was good. One good copy is enough to answer: the digest says what is right.
    """
    if read_quorum == 1 and site.node in chunk.nodes:
        try:
            wanted = {"volume": volume, "digest": chunk.digest}
            own: Reply = yield Call(site.node, "chunk.get", wanted, timeout=site.timing.call)
            if len(own.blob) == chunk.size:
                return own.blob
        except DavfsError:
            pass  # it is asked once more below, where what is wrong with it is repaired
    bad: list[str] = []
    reasons: list[str] = []
    order = read_order(site, chunk.nodes)
    for node in order:
        args = {"volume": volume, "digest": chunk.digest}
        patience = site.timing.transfer if node == order[-1] else site.timing.call
        try:
            reply: Reply = yield Call(node, "chunk.get", args, timeout=patience)
            # The store verified its own; what crossed the network is checked again.
            if len(reply.blob) != chunk.size or (node != site.node and digest_of(reply.blob) != chunk.digest):
                raise CorruptData(f"{node} sent bytes of another digest")
        except (ChunkMissing, CorruptData) as error:
            reasons.append(f"{node}: {error.message}")
            if node in chunk.nodes:
                bad.append(node)
            continue
        except DavfsError as error:
            reasons.append(f"{node}: {error.message}")
            continue
        asked = {*bad, node}
        others = [other for other in order if other in chunk.nodes and other not in asked and site.up(other)]
        bad += yield from _bad_copies(site, volume, chunk, others[: max(0, read_quorum - len(asked))])
        if bad:
            yield from _repair(site, volume, chunk, bad, reply.blob)
        return reply.blob
    raise ChunkLost(f"no good copy of chunk {chunk.digest} answers ({'; '.join(reasons)})")


def _bad_copies(site: Site, volume: str, chunk: ChunkRef, nodes: Sequence[str]) -> Protocol_[list[str]]:
    """Those of the nodes whose copy is missing or wrong, by their own verification."""
    if not nodes:
        return []
    args = {"volume": volume, "digest": chunk.digest}
    outcomes: Outcomes = yield Gather([Call(node, "chunk.check", args, timeout=site.timing.call) for node in nodes])
    return sorted(node for node, outcome in outcomes.items() if isinstance(outcome, ChunkMissing | CorruptData))


def _repair(site: Site, volume: str, chunk: ChunkRef, bad: Sequence[str], data: bytes) -> Protocol_[None]:
    log.warning("volume %s: chunk %s is repaired on %s", volume, chunk.digest, ", ".join(bad))
    args = {"volume": volume, "digest": chunk.digest, "repair": True}
    calls = [Call(node, "chunk.put", args, data, site.timing.transfer) for node in bad]
    yield Gather(calls, lambda outcomes: True)


def fetch_missing(site: Site, volume: str, chunk: ChunkRef, even_if_there: bool = False) -> Protocol_[bool]:
    """Bring a chunk that this node should have here, from any other; True if it had to be fetched.

    ``even_if_there``: the copy that is here was found to be wrong.
    """
    if site.node not in chunk.nodes or (not even_if_there and site.chunks.has(volume, chunk.digest)):
        return False
    for node in read_order(site, chunk.nodes):
        if node == site.node:
            continue
        args = {"volume": volume, "digest": chunk.digest}
        try:
            reply: Reply = yield Call(node, "chunk.get", args, timeout=site.timing.transfer)
            if len(reply.blob) != chunk.size:  # the digest is the store's to check
                raise CorruptData(f"{node} sent {len(reply.blob)} bytes of {chunk.size}")
            site.chunks.put(volume, chunk.digest, reply.blob)
            return True
        except (InvalidInput, DavfsError) as error:
            log.debug("chunk %s from %s: %s", chunk.digest, node, error)
    raise ChunkLost(f"no other node has a good copy of chunk {chunk.digest} right now")
