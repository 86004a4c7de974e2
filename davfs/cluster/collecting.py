"""What a node does for the collector: it says what it has, and sets aside what it is told is not named any more.

It looks at its own copies alone and knows no references. What makes an order harmless however late it comes (design,
section 3): it carries the epoch, and a lower one than was seen is refused; it carries the start of the scan on this
node's own clock, and what was promised since is spared, as is what is younger than the grace; it is good for one life of
this process. What is set aside is read for the whole quarantine, and comes back when anyone stores it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from davfs.cluster.replica import Replica
from davfs.cluster.retiring import parted
from davfs.cluster.site import Site
from davfs.core import grants
from davfs.core.chunking import digest_of
from davfs.core.effects import Protocol_, Reply, Sleep, Wait
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError, StaleEpoch
from davfs.core.model import Epoch
from davfs.core.ports import ReplicaStore
from davfs.core.record import decode
from davfs.core.references import of_records

log = logging.getLogger(__name__)

PAGE = 1000
"""Chunks that are looked at in one question."""

SWEEP_EVERY_S = 60.0


class ReplicaSource(Protocol):
    """Where a handler finds the replica of a volume (``Replicas``; a program's one working copy)."""

    def wait_for(self, volume_id: str) -> Protocol_[Replica]: ...

    def store_here(self, volume_id: str) -> ReplicaStore | None:
        """The store of a volume's records on this node, whether it is to keep them or not rid of them yet."""
        ...


class Collecting:
    """The handlers of one node, for as long as this process lives; and the sweep of its quarantine."""

    def __init__(self, site: Site, replicas: ReplicaSource) -> None:
        self._site = site
        self._replicas = replicas
        self._boot = site.random.token(8).hex()
        self._highest: dict[str, Epoch] = {}
        self._stopped = False
        self.swept = 0
        self.swept_bytes = 0

    # --- promises ---------------------------------------------------------------------------------------------------

    def keep(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Say "have it" of each chunk: its size, verified and with its whole grace before it, or -1."""
        yield from self._check(args)
        kept = []
        for digest in args["digests"]:
            try:
                kept.append(self._site.chunks.keep(args["volume"], digest))
            except (ChunkMissing, CorruptData) as error:
                log.info("volume %s: chunk %s cannot be kept: %s", args["volume"], digest, error)
                kept.append(-1)
        return Reply({"kept": kept})

    def held(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Whether each chunk is here and not set aside. Nothing is verified or promised."""
        yield from ()
        return Reply({"held": [self._site.chunks.has(args["volume"], str(digest)) for digest in args["digests"]]})

    # --- the collector's questions and orders -----------------------------------------------------------------------

    def begin(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """A scan begins: what is promised here from now on is spared by the orders that follow from it."""
        yield from self._check(args)
        return Reply({"boot": self._boot, "since": self._site.chunks.age_ns()})

    def page(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """The next chunks that may be removed if nothing names them, and how many there are in all."""
        yield from self._check(args)
        page = self._site.chunks.page(args["volume"], str(args["after"]), PAGE, self._before(args))
        old = [[digest, size] for digest, size in page.old]
        return Reply({"old": old, "seen": page.seen, "bytes": page.seen_bytes, "after": page.after})

    def remove(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """Set aside chunks that nothing names, and no record that this node alone may have: it may have lost its place among
        the replicas while it was cut off, and then nobody has asked for its late records."""
        yield from self._check(args)
        volume = args["volume"]
        spared = self._named_alone(volume)
        digests = [digest for digest in map(str, args["digests"]) if digest not in spared]
        count, size = self._site.chunks.remove(volume, digests, self._before(args))
        return Reply({"count": count, "bytes": size})

    def _named_alone(self, volume: str) -> set[str]:
        store = self._replicas.store_here(volume)
        if store is None:
            return set()
        records = (decode(data, volume) for page in parted(volume, store) for _, data in page)
        return set(of_records(records))

    def named(self, peer: str, args: Mapping[str, Any], blob: bytes) -> Protocol_[Reply]:
        """What the late records of this replica would name, and how far its log goes."""
        replica = yield from self._replicas.wait_for(args["volume"])
        replica.check_sealed(Epoch(*args["epoch"]), digest_of(args["token"]))
        late = [decode(data, replica.volume) for _, data in replica.store.late_records()]
        return Reply({**replica.status().wire(), "names": sorted(set(of_records(late)))})

    def _check(self, args: Mapping[str, Any]) -> Protocol_[None]:
        """Refuse all but the bearer of the grant that this node knows to be the current one."""
        volume, epoch, state = args["volume"], Epoch(*args["epoch"]), self._site.state

        def granted() -> bool:
            known = state.volumes.get(volume)
            return known is not None and known.tenure.last >= epoch

        yield Wait(self._site.applied, granted, self._site.timing.call / 2)
        grants.check(state.volume(volume).tenure, epoch, digest_of(args["token"]))
        highest = self._highest.get(volume, epoch)
        if highest > epoch:
            raise StaleEpoch(f"a holder of epoch {highest} was here already", last=list(highest))
        self._highest[volume] = epoch

    def _before(self, args: Mapping[str, Any]) -> int:
        """Chunks that were last touched before this may go."""
        if args["boot"] != self._boot:
            raise StaleEpoch("this node was restarted since the scan began")
        return min(int(args["since"]), self._site.chunks.age_ns() - int(self._site.timing.grace * 1e9))

    # --- the quarantine ---------------------------------------------------------------------------------------------

    def run(self, save_age: Callable[[], None] = lambda: None) -> Protocol_[None]:
        """The background task that deletes for good what was set aside long enough ago. ``save_age``: keeps the clock."""
        while not self._stopped:
            yield Sleep(min(SWEEP_EVERY_S, self._site.timing.quarantine / 4, self._site.timing.grace / 2))
            try:
                save_age()
            except DavfsError as error:
                log.warning("the clock that chunks age by could not be saved: %s", error)
            for volume in list(self._site.state.volumes):
                try:
                    yield from self.sweep(volume)
                except DavfsError as error:
                    log.warning("volume %s: what was collected could not be deleted: %s", volume, error)

    def sweep(self, volume: str) -> Protocol_[None]:
        """Delete what the quarantine is over for, some at a time."""
        chunks, quarantine = self._site.chunks, int(self._site.timing.quarantine * 1e9)
        while not self._stopped:
            count, size = chunks.sweep(volume, chunks.age_ns() - quarantine)
            self.swept += count
            self.swept_bytes += size
            if not count:
                return
            log.info("volume %s: %d collected chunks (%d bytes) are deleted for good", volume, count, size)
            yield Sleep(0.05)

    def stop(self) -> None:
        self._stopped = True
