"""Chunks of adopted records: given their W copies before the new holder serves.

A small chunk travels with its record, so a record that a dead holder had not yet committed may have reached one replica
alone. Adopting it makes it the file's content, perhaps in place of one that was acknowledged; it must not then hang on a
single disk until the fetchers have run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from davfs.cluster.chunk_read import read_chunk
from davfs.cluster.manifests import named_by
from davfs.cluster.site import Site
from davfs.core import keys
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply
from davfs.core.errors import DavfsError
from davfs.core.model import MIB, ChunkRef
from davfs.core.ports import IndexView, ReplicaStore
from davfs.core.record import decode

log = logging.getLogger(__name__)


def secure(
    site: Site, store: ReplicaStore, volume: str, write_quorum: int, first: int, last: int
) -> Protocol_[None]:
    """See to W copies of every chunk that the applied records ``first`` to ``last`` name and that is still in use.

    What cannot be reached now is logged and left to the fetchers: nobody was promised these records.
    """
    with store.view() as view:
        chunks = dict.fromkeys(_named(store, view, volume, first, last))
    for chunk in chunks:
        try:
            yield from spread(site, volume, chunk, write_quorum)
        except DavfsError as error:
            log.warning("volume %s: an adopted record's chunk %s has too few copies: %s", volume, chunk.digest, error)


def _named(store: ReplicaStore, view: IndexView, volume: str, first: int, last: int) -> Iterator[ChunkRef]:
    while first <= last:
        batch = store.read_log(first, MIB)
        if not batch:
            return
        for data in batch:
            record = decode(data, volume)
            first = record.position.seq + 1
            for change in record.changes:
                for key in map(keys.parse, change.keys):
                    yield from named_by(view, key)


def spread(site: Site, volume: str, chunk: ChunkRef, write_quorum: int) -> Protocol_[None]:
    """See to W verified copies of a chunk on the nodes that it names; :class:`ChunkLost` and the like if none is found."""

    def good(outcomes: Outcomes) -> int:
        return sum(isinstance(outcome, Reply) for outcome in outcomes.values())

    args = {"volume": volume, "digest": chunk.digest}
    checks = [Call(node, "chunk.check", args, timeout=site.timing.call) for node in chunk.nodes]
    outcomes: Outcomes = yield Gather(checks, lambda outcomes: good(outcomes) >= write_quorum)
    missing = write_quorum - good(outcomes)
    if missing <= 0:
        return
    data = yield from read_chunk(site, volume, chunk)
    without = [node for node in chunk.nodes if not isinstance(outcomes.get(node), Reply) and site.up(node)]
    puts = [Call(node, "chunk.put", {**args, "repair": True}, data, site.timing.transfer) for node in without]
    if puts:
        yield Gather(puts, lambda outcomes: good(outcomes) >= missing)
