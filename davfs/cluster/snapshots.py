"""Catching up by a snapshot: for a replica whose records precede the oldest that its holder still has.

The holder names a replica to copy from (``replica.catch_up``). That one freezes itself as it is, at a committed position,
and serves the bytes in pieces while it goes on; the other fetches them one by one, at a bounded rate, and what has come
survives a restart. Its old data stays until the verified copy replaces it, at once. What was committed after the position
comes by records, which the holder keeps meanwhile. A holder-to-be whose own replica is stale does the same before it
adopts (``assign.py``).
"""

from __future__ import annotations

import logging
from typing import Any

from davfs.cluster.lagging import Credentials
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.core.chunking import digest_of
from davfs.core.effects import Call, Protocol_, Reply, Sleep, Spawn, Wait
from davfs.core.errors import CorruptData, DavfsError, Unavailable
from davfs.core.model import MIB, Position, position
from davfs.core.snapshot_port import Snapshot

log = logging.getLogger(__name__)

MOST_PIECE = 8 * MIB
POLL_S = 0.3


# --- the replica that is copied -----------------------------------------------------------------------------------------


def offer(site: Site, replica: Replica, least: int) -> Protocol_[dict[str, Any]]:
    """What snapshot there is for others, at ``least`` or later; while there is none, one is made and ``ready`` is false."""
    replica.frozen_used = site.clock.now()
    frozen = replica.store.frozen
    if frozen is not None and frozen.position.seq >= least and not replica.freezing:
        return {"ready": True, "id": frozen.id, "position": _wire(frozen.position), "size": frozen.size}
    if replica.store.committed.seq < least:
        raise Unavailable(f"this replica is committed up to {replica.store.committed} only, not to record {least}")
    if not replica.freezing:
        replica.freezing = True
        yield Spawn(_freeze(site, replica), "freeze")
    return {"ready": False}


def _freeze(site: Site, replica: Replica) -> Protocol_[None]:
    yield Sleep(0.0)
    try:
        frozen = replica.store.freeze(site.bounds.snapshot_rate)
        log.info("volume %s: a snapshot of %d bytes at %s is there for others", replica.volume, frozen.size, frozen.position)
    except DavfsError as error:
        log.warning("volume %s: no snapshot for others: %s", replica.volume, error)
        yield Sleep(POLL_S)
    finally:
        replica.freezing = False


def piece(site: Site, replica: Replica, name: str, offset: int, size: int) -> Reply:
    """Some bytes of the frozen snapshot, with their digest."""
    replica.frozen_used = site.clock.now()
    data = replica.store.read_frozen(name, offset, max(1, min(size, MOST_PIECE)))
    return Reply({"digest": digest_of(data)}, data)


# --- the replica that catches up ----------------------------------------------------------------------------------------


def catch_up(site: Site, replica: Replica, credentials: Credentials, source: str, least: int) -> Protocol_[dict[str, Any]]:
    """Begin to fetch a snapshot unless that is going on or there is no need any more; how it stands."""
    if replica.store.firm.seq < least and replica.catching is None:
        replica.catching = (0, 0)
        yield Spawn(_in_background(site, replica, credentials, source, least), "catch-up")
    done, total = replica.catching or (0, 0)
    return {**replica.status().wire(), "catching": replica.catching is not None, "done": done, "total": total}


def _in_background(site: Site, replica: Replica, credentials: Credentials, source: str, least: int) -> Protocol_[None]:
    try:
        yield from _fetch(site, replica, credentials, source, least)
    except (DavfsError, ValueError) as error:
        log.info("volume %s: catching up from %s stopped, and goes on later: %s", replica.volume, source, error)
        yield Sleep(POLL_S)
    finally:
        replica.catching = None


def pull(site: Site, replica: Replica, credentials: Credentials, source: str, least: int) -> Protocol_[None]:
    """Fetch and install a snapshot at ``least`` or later, and return when it is there."""
    if not (yield Wait(replica.progress, lambda: replica.catching is None, site.timing.transfer)):
        raise Unavailable("this replica is still catching up from another")
    replica.catching = (0, 0)
    try:
        yield from _fetch(site, replica, credentials, source, least)
    finally:
        replica.catching = None


def _fetch(site: Site, replica: Replica, credentials: Credentials, source: str, least: int) -> Protocol_[None]:
    """All the pieces that are not here yet, then the exchange."""
    snapshot = yield from _ask(site, replica, credentials, source, least)
    volume, store = replica.volume, replica.store
    arrived = store.arrived()
    done = arrived[1] if arrived is not None and arrived[0] == snapshot else 0
    log.warning("volume %s: catching up by a snapshot of %s (%d bytes, %d are here)", volume, source, snapshot.size, done)
    while done < snapshot.size:
        args = {**credentials.wire(), "id": snapshot.id, "offset": done, "size": site.bounds.snapshot_piece}
        reply: Reply = yield Call(source, "replica.snapshot_read", args, timeout=site.timing.transfer)
        if not reply.blob or digest_of(reply.blob) != reply.value["digest"]:
            raise CorruptData(f"{source} sent a damaged piece of a snapshot")
        store.receive(snapshot, done, reply.blob)
        done += len(reply.blob)
        replica.catching = (done, snapshot.size)
        yield Sleep(len(reply.blob) / site.bounds.snapshot_rate)
    replica.install()
    store.make_firm(least)  # what is trimmed is firm, though it may not have been yet when the snapshot was made


def _ask(site: Site, replica: Replica, credentials: Credentials, source: str, least: int) -> Protocol_[Snapshot]:
    args = {**credentials.wire(), "least": least}
    while True:
        reply: Reply = yield Call(source, "replica.snapshot", args, timeout=site.timing.call)
        if reply.value["ready"]:
            return Snapshot(reply.value["id"], position(reply.value["position"]), reply.value["size"])
        yield Sleep(POLL_S)


def _wire(at: Position) -> list[Any]:
    return [list(at.epoch), at.seq]
