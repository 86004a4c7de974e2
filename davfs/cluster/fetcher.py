"""A replica that applies a manifest naming this node makes sure that it has the chunks; what is missing it fetches.

So a node that was away gets its copies as it catches up with the records, but for what was overwritten meanwhile: nobody
would take such a copy away again. The list of what is missing lives in memory: what a restart forgets is found by reads and
by the scrub.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from davfs.cluster.chunk_read import fetch_missing
from davfs.cluster.manifests import chunk_page, named_by
from davfs.cluster.site import Site
from davfs.core import keys, references
from davfs.core.effects import Protocol_, Sleep, Wait
from davfs.core.errors import DavfsError
from davfs.core.model import ChunkRef
from davfs.core.ports import AppliedRecord, ReplicaStore

log = logging.getLogger(__name__)

GRACE_S = 2.0
"""How long a copy that is still on its way may take before it is fetched."""

RETRY_S = 5.0
PAGE_PAUSE_S = 0.005
QUEUE = 100_000


class _Wish(NamedTuple):
    """A chunk that is wanted here, as far as the entry of ``key`` goes ("": some entry); looked for when it is ``due``."""

    due: float
    volume: str
    store: ReplicaStore
    key: str
    chunk: ChunkRef

    def stands(self) -> bool:
        """Whether the entry still names the chunk. A value that lost a merge is not shown, and may be brought back."""
        if not self.key or (key := keys.parse(self.key)).kind == keys.SHADOW:
            return True
        with self.store.view() as view:
            return any(chunk.digest == self.chunk.digest for chunk in named_by(view, key))


class Fetcher:
    """The queue of chunks to look for, and the task that does."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._signal = site.make_signal()
        self._queue: deque[_Wish] = deque(maxlen=QUEUE)
        self._whole: deque[tuple[str, ReplicaStore]] = deque()
        self._stopped = False
        self.fetched = 0

    @property
    def waiting(self) -> int:
        """Chunks that are still to be looked for."""
        return len(self._queue)

    def applied(self, volume: str, store: ReplicaStore, records: Sequence[AppliedRecord]) -> None:
        """Note the chunks that records which were just applied want here."""
        due = self._site.clock.now() + GRACE_S
        for record in records:
            for update in record.updates:
                for chunk in references.chunks_of(update.key, update.value):
                    if self._site.node in chunk.nodes:
                        self._queue.append(_Wish(due, volume, store, update.key, chunk))
        if self._queue:
            self._signal.notify()

    def installed(self, volume: str, store: ReplicaStore) -> None:
        """Note that all of a volume's files may want chunks here: a snapshot has replaced what was known of it."""
        self._whole.append((volume, store))
        self._signal.notify()

    def _look_through(self, volume: str, store: ReplicaStore) -> Protocol_[None]:
        """Fetch what is missing of the chunks of all files; what nobody has now is tried again like anything else."""
        after: str | None = ""
        while after is not None and not self._stopped:
            with store.view() as view:
                after, chunks = chunk_page(view, after)
            for chunk in chunks:
                try:
                    self.fetched += yield from fetch_missing(self._site, volume, chunk)
                except DavfsError:
                    self._queue.append(_Wish(self._site.clock.now() + RETRY_S, volume, store, "", chunk))
            yield Sleep(PAGE_PAUSE_S)

    def run(self) -> Protocol_[None]:
        """The background task."""
        while not self._stopped:
            if self._whole:
                volume, store = self._whole.popleft()
                try:
                    yield from self._look_through(volume, store)
                except DavfsError as error:
                    log.info("volume %s: missing chunks are looked for later: %s", volume, error)
                    yield Sleep(RETRY_S)
                    if volume in self._site.state.volumes:
                        self._whole.append((volume, store))
                continue
            if not self._queue:
                yield Wait(self._signal, lambda: self._stopped or bool(self._queue or self._whole), 60.0)
                continue
            wish = self._queue.popleft()
            volume, chunk = wish.volume, wish.chunk
            if (delay := wish.due - self._site.clock.now()) > 0:
                yield Sleep(min(delay, GRACE_S))
            try:
                if not self._site.chunks.has(volume, chunk.digest) and wish.stands():
                    self.fetched += yield from fetch_missing(self._site, volume, chunk)
            except DavfsError as error:
                log.info("volume %s: chunk %s is missing here and is tried again: %s", volume, chunk.digest, error)
                if volume in self._site.state.volumes:
                    self._queue.append(wish._replace(due=self._site.clock.now() + RETRY_S))

    def stop(self) -> None:
        self._stopped = True
        self._signal.notify()
