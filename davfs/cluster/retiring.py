"""What a node still owes when it keeps a volume's records no longer: its copies of the small chunks, and what it alone has.

Manifests name this node for chunks of at most 64 KiB that came with records and lie in the replica's database alone
(``local_chunks.py``). They become files like all others before the database goes, so that every manifest stays true.

In an ``available`` volume its records may have been acknowledged while it was cut off, and others may have taken its place
meanwhile: no holder asks it for late records any more. So it gives them to the replicas that there are now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from davfs.cluster.site import Site
from davfs.core.effects import Call, Gather, Protocol_, Reply, Sleep
from davfs.core.errors import ChunkMissing, CorruptData, Unavailable
from davfs.core.model import AVAILABLE, MIB, ORIGIN, Position
from davfs.core.ports import ReplicaStore
from davfs.core.record import decode
from davfs.core.references import of_records

log = logging.getLogger(__name__)

PAGE = 100
_EVERY_AGE = 1 << 62


def rescue_chunks(site: Site, volume: str, store: ReplicaStore) -> Protocol_[int]:
    """Store every small chunk of a replica as a file, durably; how many there were. Errors leave the replica as it is.

    What the collector has set aside is not moved, and a copy that is damaged is as good as missing.
    """
    moved, after = 0, ""
    while True:
        page = store.chunk_page(after, PAGE, _EVERY_AGE)
        for digest, _ in page.old:
            try:
                data = store.chunk(digest)
            except CorruptData as error:
                log.warning("volume %s: %s", volume, error)
                continue
            if data is not None:
                site.chunks.put(volume, digest, data)
                moved += 1
        if page.after is None:
            return moved
        after = page.after
        yield Sleep(0.0)  # others first


def hand_over(site: Site, volume_id: str, store: ReplicaStore) -> Protocol_[int]:
    """Give the records that may be in no other replica to those of now, as late ones; how many it offered.

    One that has them durably is as many as had them before. :class:`Unavailable` if none takes them now. A strict volume
    acknowledged none of them.
    """
    volume = site.state.volume(volume_id)
    if volume.policy.consistency != AVAILABLE:
        return 0
    offered = 0
    for page in parted(volume_id, store):
        _keep_chunks(site, volume_id, page)
        args = {
            "volume": volume_id,
            "positions": [[list(at.epoch), at.seq] for at, _ in page],
            "records": [len(data) for _, data in page],
        }
        blob = b"".join(data for _, data in page)
        calls = [
            Call(node, "replica.take_late", args, blob, timeout=site.timing.transfer) for node in volume.replica_set.members
        ]
        outcomes = yield Gather(calls, lambda _: False)
        if not any(isinstance(reply, Reply) for reply in outcomes.values()):
            raise Unavailable(f"no replica of {volume.name!r} takes the records that only this node has")
        offered += len(page)
    return offered


def _keep_chunks(site: Site, volume_id: str, records: Sequence[tuple[Position, bytes]]) -> None:
    """Begin the grace of their chunks anew: a collector that looked at the replicas before they got the records spares them."""
    for digest in set(of_records(decode(data, volume_id) for _, data in records)):
        try:
            site.chunks.keep(volume_id, digest)
        except (ChunkMissing, CorruptData) as error:
            log.info("volume %s: %s", volume_id, error)


def parted(volume_id: str, store: ReplicaStore) -> Iterator[Sequence[tuple[Position, bytes]]]:
    """The late records, then what the log has and not a majority, as far as this replica knows; a page is not empty."""
    after = ORIGIN
    while late := store.late_page(after, MIB):
        yield late
        after = late[-1][0]
    first = max(store.firm, store.floor).seq + 1  # a snapshot may have brought more than is known to be firm
    while first <= store.last.seq:
        data = store.read_log(first, MIB)
        yield [(decode(record, volume_id).position, record) for record in data]
        first += len(data)
