"""Documents lose their history when it outweighs what they hold (design, section 5).

automerge never forgets, so a document whose entries come and go grows without end. Its holder makes it anew with the
entries that it has, and replaces it by a record like any other, whose (epoch, seq) names the generation; every replica takes
those very bytes. Background work of each node for the volumes that it holds, or may take for it (``maintenance.py``), a
few documents at a time, at a fifth of the time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from davfs.cluster.maintenance import Maintenance
from davfs.cluster.replica import Replica
from davfs.cluster.replicas import Replicas
from davfs.cluster.site import Site
from davfs.core.effects import Protocol_, Sleep
from davfs.core.errors import DavfsError

log = logging.getLogger(__name__)

SLACK_BYTES = 1024
"""A document may weigh twice what it would without history, and this."""

LOOK_ALL_S = 600.0
PAGE = 200
AT_ONCE = 500
"""So many are compacted under one loan; then the volume is given back for a moment."""

PORTION = 16
PORTION_BYTES = 64 << 10
"""So many documents, of so many bytes, are replaced by one record: it takes about ten milliseconds to make."""

CALM = 4
LEAST_REST_S = 0.005
_NO_ACTOR = bytes(16)


def outweighs(size: int, live: int) -> bool:
    """Whether a document of ``size`` bytes, which would be ``live`` bytes without its history, is to be compacted."""
    return size > (2 * live + SLACK_BYTES if live else 0)


class Compaction:
    """The background task of one node. ``look_all_s``: how often all documents are looked at; those that were saved anew
    are looked at each time."""

    def __init__(
        self, site: Site, replicas: Replicas, maintenance: Maintenance, look_all_s: float = LOOK_ALL_S
    ) -> None:
        self._look_all_s = look_all_s
        self._site = site
        self._replicas = replicas
        self._maintenance = maintenance
        self._stopped = False
        self._looked: dict[str, float] = {}  # volume -> when all of its documents were looked at
        self._weighed: dict[tuple[str, str], int] = {}  # (volume, document) -> its size when it was found good enough
        self.compacted = 0
        self.quiet = 0  # looks at all documents of a volume that found nothing to do

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> Protocol_[None]:
        """Look at all volumes again and again."""
        while not self._stopped:
            yield Sleep(self._site.timing.compaction)
            for replica in self._replicas.all():
                try:
                    yield from self.volume(replica)
                except DavfsError as error:
                    log.info("volume %s: compaction goes on later: %s", replica.volume, error)

    def volume(self, replica: Replica) -> Protocol_[int]:
        """Compact what needs it in one volume, if this node may; how many documents that were."""
        if not self._maintenance.may_borrow(replica.volume):
            return 0
        done, began_all = 0, self._site.clock.now()
        heavy: list[tuple[str, int]] = []
        for name, size in self._candidates(replica):
            if self._stopped or not self._maintenance.may_borrow(replica.volume):
                self._looked.pop(replica.volume, None)  # they are found again
                return done
            began = self._site.clock.now()
            if self._is_heavy(replica, name, size):
                heavy.append((name, size))
            yield from self._rest(began)
            if len(heavy) >= AT_ONCE:
                done += yield from self._compact(replica, heavy)
                heavy = []
        if heavy:
            done += yield from self._compact(replica, heavy)
        elif not done and self._looked.get(replica.volume, 0.0) >= began_all:
            self.quiet += 1
        return done

    def _candidates(self, replica: Replica) -> Iterator[tuple[str, int]]:
        """The documents that may have grown too large, with their size; now and then all of them."""
        now = self._site.clock.now()
        grown, replica.grown = replica.grown, {}
        if now - self._looked.get(replica.volume, float("-inf")) < self._look_all_s:
            yield from sorted(grown.items())
            return
        self._looked[replica.volume] = now
        after = ""
        while page := replica.store.document_sizes(after, PAGE):
            yield from page
            after = page[-1][0]

    def _is_heavy(self, replica: Replica, name: str, size: int) -> bool:
        key = (replica.volume, name)
        if size <= self._weighed.get(key, 0) * 3 // 2:
            return False
        stored = replica.store.load_document(name)
        document = self._site.documents.load(stored.snapshot, stored.changes, _NO_ACTOR)
        live = len(self._site.documents.without_history(document))
        if outweighs(size, live):
            self._weighed.pop(key, None)
            return True
        if size > SLACK_BYTES:
            self._weighed[key] = size
        return False

    def _compact(self, replica: Replica, heavy: list[tuple[str, int]]) -> Protocol_[int]:
        loan = yield from self._maintenance.borrow(replica.volume)
        if loan is None:
            self._looked.pop(replica.volume, None)
            return 0
        done = 0
        try:
            for names in _portions(heavy):
                if loan.over() or self._stopped:
                    self._looked.pop(replica.volume, None)
                    break
                began = self._site.clock.now()
                done += yield from loan.holder.compact(names)
                yield from self._rest(began)
        except DavfsError:
            yield from loan.end()
            raise
        yield from loan.end()
        self.compacted += done
        log.info("volume %s: %d of %d documents lost their history", replica.volume, done, len(heavy))
        return done

    def _rest(self, began: float) -> Protocol_[None]:
        yield Sleep(max(LEAST_REST_S, CALM * (self._site.clock.now() - began)))


def _portions(heavy: list[tuple[str, int]]) -> Iterator[list[str]]:
    """So many documents that nobody who wants to write waits long for the record of all of them."""
    names: list[str] = []
    total = 0
    for name, size in heavy:
        if names and (total + size > PORTION_BYTES or len(names) >= PORTION):
            yield names
            names, total = [], 0
        names.append(name)
        total += size
    yield names
