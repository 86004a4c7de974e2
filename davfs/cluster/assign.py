"""Assign: ask Raft for the volume, seal its replicas, adopt what a majority knows, open with a start record.

Design, section 2, Assign 1 to 3. Nothing is read from a replica before it is sealed, and nothing is served before the
start record is committed: so the new holder sees every change that any earlier holder acknowledged. A holder that keeps
none of the volume's replicas (a program) adopts into a working copy; what is sealed and counted are the replicas alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

from davfs.cluster.adopted import secure
from davfs.cluster.holder import Holder, free
from davfs.cluster.lagging import Credentials
from davfs.cluster.late import LateRecords
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.cluster.snapshots import pull
from davfs.core.chunking import digest_of
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply, Spawn, Submit, Wait
from davfs.core.errors import CorruptData, DavfsError, QuorumLost
from davfs.core.model import MIB, Epoch, Position, position
from davfs.core.quorum import is_joint_majority

log = logging.getLogger(__name__)

SECRET_BYTES = 32

Granted: TypeAlias = Callable[[Credentials, str, float], None]


def take(
    site: Site, volume: VolumeState, replica: Replica, granted: Granted = lambda credentials, digest, since: None,
    yields: bool = False,
) -> Protocol_[Holder]:
    """Become the volume's holder. :class:`VolumeHeld` if it is held, :class:`QuorumLost` if too few replicas answer.

    ``granted`` is told (credentials, token digest, when the grant was first asked for) before anything is adopted: who
    has much to adopt refreshes the token from then on. ``yields``: for maintenance (``maintenance.py``).
    """
    token = site.random.token(SECRET_BYTES)
    digest = digest_of(token)
    before_send = site.clock.now()
    command = (site.request_id(), "assign", volume.id, digest, site.node, site.timing.ttl, *([True] if yields else []))
    epoch = Epoch(*value_of((yield Submit(command, site.timing.call))))
    credentials = Credentials(volume.id, epoch, token)
    granted(credentials, digest, before_send)
    holder: Holder | None = None
    try:
        base, committed = yield from _seal_and_adopt(site, volume.id, replica, credentials)
        state = site.state.volume(volume.id)
        followed = state.replica_set.followed
        holder = Holder(site, replica, credentials, digest, followed, before_send + site.timing.lease)
        yield from holder.open(base, site.request_id())
        quorum = state.policy.write_quorum
        yield from secure(site, replica.store, volume.id, quorum, committed + 1, base.seq)
        holder.serving = holder.log.trims = True
        yield Spawn(LateRecords(holder).run(), "late")
        return holder
    except DavfsError:
        if holder is not None:
            holder.depose("it could not be opened")
        yield from give_back(site, credentials, digest)
        raise


def give_back(site: Site, credentials: Credentials, digest: str) -> Protocol_[None]:
    """Free a grant that is of no use, so that nobody waits for its end; if Raft cannot be told it expires."""
    try:
        yield from free(site, credentials, digest)
    except DavfsError as error:
        log.info("volume %s: epoch %s was not freed: %s", credentials.volume, credentials.epoch, error)


def _seal_and_adopt(
    site: Site, volume_id: str, replica: Replica, credentials: Credentials
) -> Protocol_[tuple[Position, int]]:
    """(the end of what was adopted, how far some sealed replica knows it to be committed)."""
    statuses = yield from _seal(site, volume_id, credentials)
    best = max(statuses, key=lambda node: (position(statuses[node]["last"]), node == site.node))
    wanted = position(statuses[best]["last"])
    if site.node not in statuses:
        yield from replica.seal(credentials.epoch, digest_of(credentials.token))  # a working copy
    # What a sealed replica has committed stands in every log that can be the best one, so it may be applied here as it
    # comes, rather than all at once while the start record waits.
    committed = max(position(status["firm"]).seq for status in statuses.values())
    if replica.store.last != wanted:
        yield from _adopt(site, replica, credentials, best, statuses[best], committed)
    return _without_bad(replica, wanted, committed), committed


def _without_bad(replica: Replica, wanted: Position, committed: int) -> Position:
    """The end of what can be applied: a record that no replica can apply was never acknowledged, and would stop the volume for
    good. What is known to be committed has been applied by somebody, and is never cut."""
    bad = replica.trial() if replica.store.committed.seq < wanted.seq else None
    if bad is None or bad <= committed:
        return wanted
    log.error("volume %s: record %d cannot be applied by anybody; it and what follows are cut", replica.volume, bad)
    replica.cut(bad)
    return replica.store.last


def _seal(site: Site, volume_id: str, credentials: Credentials) -> Protocol_[dict[str, Any]]:
    """Seal a majority of the configured replicas, of both sets while a change of them is joint, and this node's own among
    them if it keeps one; node -> status.

    The set is that of the moment when the grant was applied, or newer: who held the volume before cannot change it any more.
    """
    table = site.state.volume(volume_id).replica_set

    def counted(outcomes: Outcomes) -> dict[str, Any]:
        return {
            node: reply.value
            for node, reply in outcomes.items()
            if isinstance(reply, Reply) and site.state.volume(volume_id).incarnations.get(node) == reply.value["incarnation"]
        }

    def enough(outcomes: Outcomes) -> bool:
        own = site.node in outcomes or site.node not in table.members
        return own and is_joint_majority(counted(outcomes), table.deciding)

    calls = [Call(node, "replica.seal", credentials.wire(), timeout=site.timing.call) for node in table.members]
    outcomes: Outcomes = yield Gather(calls, enough)
    own = outcomes.get(site.node)
    if isinstance(own, DavfsError):
        raise own
    if is_joint_majority([n for n, outcome in outcomes.items() if isinstance(outcome, Reply)], table.deciding):
        # Raft admits the stores of a volume that was just made about now; who asks may hear of that a moment later.
        yield Wait(site.applied, lambda: is_joint_majority(counted(outcomes), table.deciding), site.timing.call)
    if not is_joint_majority(counted(outcomes), table.deciding):
        reasons = "; ".join(f"{node}: {error}" for node, error in outcomes.items() if isinstance(error, DavfsError))
        raise QuorumLost(f"too few replicas of the volume could be sealed ({reasons or 'no store may vote yet'})")
    return counted(outcomes) | {node: r.value for node, r in outcomes.items() if isinstance(r, Reply) and node == site.node}


def _adopt(
    site: Site, replica: Replica, credentials: Credentials, source: str, status: dict[str, Any], committed: int
) -> Protocol_[None]:
    """Bring the holder's own log to the end of the best one that was found, applying what is known to be committed."""
    wanted = position(status["last"])
    at = _common(replica, status)
    if at.seq < (least := position(status["floor"]).seq):
        yield from pull(site, replica, credentials, source, least)
        at = replica.store.firm
    digest = digest_of(credentials.token)
    while at.seq < wanted.seq:
        args = {**credentials.wire(), "first": at.seq + 1, "limit": MIB}
        reply: Reply = yield Call(source, "replica.read_log", args, timeout=site.timing.transfer)
        records = unpack(reply.blob, reply.value["records"])
        if not records:
            raise CorruptData(f"the log of {source} ends before {wanted}, which it said it has")
        replica.append(credentials.epoch, digest, at, records, committed, firm=committed)
        replica.apply_committed()
        reached = replica.store.position_at(at.seq + len(records))
        if reached is None:
            raise CorruptData(f"the log has no record {at.seq + len(records)}")
        at = reached
    if at != wanted:
        raise CorruptData(f"the log of {source} leads to {at} instead of {wanted}")


def _common(replica: Replica, status: dict[str, Any]) -> Position:
    """Up to where this replica's log is known to be the other's, and the other still has what follows."""
    floor = position(status["floor"])
    if replica.store.firm.seq < floor.seq and replica.store.position_at(floor.seq) == floor:
        return floor  # it has logged more than it has applied
    return replica.store.firm


def unpack(blob: bytes, sizes: list[int]) -> list[bytes]:
    """The items that stand one behind the other in a blob; :class:`CorruptData` unless the sizes fit it."""
    if any(size < 0 for size in sizes) or sum(sizes) != len(blob):
        raise CorruptData("the sizes of a request's parts do not add up to its length")
    items, start = [], 0
    for size in sizes:
        items.append(blob[start : start + size])
        start += size
    return items
