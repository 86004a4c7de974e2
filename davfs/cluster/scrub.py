"""The scrub: a node walks its volume replicas and makes sure of every copy that their manifests say it has.

Right after a start it looks only whether the copies are there, for what a restart forgot to fetch; later, once a day
unless told otherwise, it verifies each against its digest, so that rot is found and repaired while other copies are good
(invariants 4 and 7). Slow on purpose: ``rate`` bytes a second.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from davfs.cluster.chunk_read import fetch_missing, read_chunk
from davfs.cluster.manifests import chunk_page
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.effects import Call, Protocol_, Sleep
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError
from davfs.core.model import MIB, ChunkRef
from davfs.core.ports import ReplicaStore

log = logging.getLogger(__name__)

START_DELAY_S = 10.0
LOOK_S = 0.0005
"""What looking at one copy is reckoned to take, beside its bytes."""


@dataclass(slots=True)
class Findings:
    """What one pass over one volume found: copies looked at, missing or wrong ones, those that were repaired."""

    copies: int = 0
    bad: int = 0
    repaired: int = 0


class Scrub:
    """The background task of one node. ``interval_s``: between verifying passes; ``rate``: bytes a second."""

    def __init__(self, site: Site, replicas: Replicas, interval_s: float = 86_400.0, rate: int = 16 * MIB) -> None:
        self._site = site
        self._replicas = replicas
        self._interval = interval_s
        self._rate = rate
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look for missing copies once, then verify all copies again and again."""
        yield Sleep(START_DELAY_S)
        verify = False
        while not self._stopped:
            for replica in self._replicas.all():
                try:
                    found = yield from self.volume(replica.volume, replica.store, verify)
                except DavfsError as error:
                    log.warning("volume %s: the scrub ended early: %s", replica.volume, error)
                    continue
                if found.bad or verify:
                    log.warning("volume %s: scrub: %s", replica.volume, found)
            verify = True
            yield Sleep(self._interval)

    def volume(self, volume: str, store: ReplicaStore, verify: bool) -> Protocol_[Findings]:
        """One pass over one volume."""
        found = Findings()
        after: str | None = ""
        while after is not None and not self._stopped:
            with store.view() as view:
                after, chunks = chunk_page(view, after)
            budget = 0.0
            for chunk in chunks:
                for node in self._nodes_of(volume, chunk):
                    found.copies += 1
                    budget += LOOK_S + (chunk.size / self._rate if verify else 0.0)
                    yield from self._copy(volume, chunk, node, verify, found)
                if budget > 0.1:
                    yield Sleep(budget)
                    budget = 0.0
        return found

    def _nodes_of(self, volume: str, chunk: ChunkRef) -> list[str]:
        """The nodes whose copy this node looks at: itself, and for its first replica those that keep none."""
        state = self._site.state.volumes.get(volume)
        if state is None:
            return []
        first = state.replicas[0] == self._site.node
        return [n for n in chunk.nodes if n == self._site.node or (first and n not in state.replicas and self._site.up(n))]

    def _copy(self, volume: str, chunk: ChunkRef, node: str, verify: bool, found: Findings) -> Protocol_[None]:
        try:
            if node == self._site.node and not verify:
                if self._site.chunks.has(volume, chunk.digest):
                    return
            else:
                args = {"volume": volume, "digest": chunk.digest}
                yield Call(node, "chunk.check", args, timeout=self._site.timing.transfer)
                return
        except (ChunkMissing, CorruptData) as error:
            log.warning("volume %s: the copy of chunk %s on %s: %s", volume, chunk.digest, node, error)
        except DavfsError as error:
            log.info("volume %s: chunk %s on %s was not checked: %s", volume, chunk.digest, node, error)
            return
        found.bad += 1
        try:
            yield from self._repair(volume, chunk, node)
            found.repaired += 1
        except DavfsError as error:
            log.warning("volume %s: chunk %s on %s is not repaired yet: %s", volume, chunk.digest, node, error)

    def _repair(self, volume: str, chunk: ChunkRef, node: str) -> Protocol_[None]:
        if node == self._site.node:
            yield from fetch_missing(self._site, volume, chunk, even_if_there=True)
            return
        data = yield from read_chunk(self._site, volume, chunk)
        args = {"volume": volume, "digest": chunk.digest, "repair": True}
        yield Call(node, "chunk.put", args, data, self._site.timing.transfer)
