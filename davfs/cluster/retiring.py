"""What a node still owes when it keeps a volume's records no longer: its copies of the small chunks.

Manifests name this node for chunks of at most 64 KiB that came with records and lie in the replica's database alone
(``local_chunks.py``). They become files like all others before the database goes, so that every manifest stays true.
"""

from __future__ import annotations

import logging

from davfs.cluster.site import Site
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import CorruptData
from davfs.core.ports import ReplicaStore

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
