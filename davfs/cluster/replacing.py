"""How a holder carries out a change of its volume's replicas: one node comes, goes, or takes the place of another.

Design, section 3: one member at a time, by the holder's command, after the newcomer has caught up; until the command is
applied, writes and seals need majorities of both sets. In steps, each a command of Raft (``core/replica_set.py``):

1. *wanted* (an administrator): the holder sends the newcomer the log like any replica. It counts in no majority.
2. *joint* (the holder, once the newcomer holds all that is committed and a majority of the new set answers): from the
   moment when the holder sees this applied, nothing is committed without majorities of both sets. Whoever takes the volume
   over from then on seals both.
3. *done* (the holder, once majorities of both sets hold all that was ever committed, what it committed before it saw the
   set become joint included): the new set alone decides.

Why nothing is lost: steps 2 and 3 carry the holder's epoch, so the set that a grant finds when it is applied is changed
by nobody else while it lasts; whoever seals then knows it. A holder whose view is one step behind commits by the old set,
which every seal before *done* meets; it asks for *done* only with the joint set in view. A deposed holder's command is
refused for its epoch, a delayed one for its version. A holder that dies between two steps leaves the rest to the next.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from davfs.cluster.holder import Holder
from davfs.cluster.site import Site
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.effects import Protocol_, Spawn, Submit, Wait
from davfs.core.errors import DavfsError
from davfs.core.replica_set import ReplicaChange, ReplicaSet

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often a holder looks whether the newcomer has caught up."""


def is_due(holder: Holder) -> bool:
    """Whether the holder has something to do about its volume's replicas."""
    table = holder.state().replica_set
    return table.change is not None or set(holder.log.followers.by_node) != {*table.followed, holder.site.node}


def can_go_on(site: Site, volume: VolumeState) -> bool:
    """Whether a change is wanted, and its newcomer, if it has one, answers."""
    change = volume.replica_set.change
    return change is not None and (not change.add or site.up(change.add))


def may_take(site: Site, volume: VolumeState) -> bool:
    """Whether this node should take a volume that nobody holds, for the sake of a change: one that stays does it."""
    table = volume.replica_set
    stays = site.node in table.next_nodes or len(table.nodes) == 1
    return site.node in table.nodes and stays and volume.tenure.grant is None and can_go_on(site, volume)


def carry_out(holder: Holder) -> Protocol_[None]:
    """Follow the replicas as Raft names them, and take the next steps of a change, until it is over or the grant is.

    One such task a holder: a second one ends at once.
    """
    if holder.replacing:
        return
    holder.replacing = True
    try:
        while not holder.log.stopped and holder.credentials.volume in holder.site.state.volumes and is_due(holder):
            table = holder.state().replica_set
            yield from _go_on(holder, table)
            yield Wait(holder.site.applied, partial(_moved, holder, table.version), LOOK_S)
    finally:
        holder.replacing = False


def _go_on(holder: Holder, table: ReplicaSet) -> Protocol_[None]:
    site, volume = holder.site, holder.credentials.volume
    for node in holder.log.followers.follow(table.followed):
        yield Spawn(holder.log.replicate(node), f"replicate-{node}")
    step = None if table.change is None else _next_step(holder, table, table.change)
    if step is None:
        return
    try:
        value_of((yield Submit((site.request_id(), *step), site.timing.call)))
        log.warning("volume %s: %s: %s", volume, table.change, step[0])
    except DavfsError as error:
        log.info("volume %s: %s: %s is not done yet: %s", volume, table.change, step[0], error)


def _moved(holder: Holder, version: int) -> bool:
    volume = holder.site.state.volumes.get(holder.credentials.volume)
    return holder.log.stopped or volume is None or volume.replica_set.version != version


def _next_step(holder: Holder, table: ReplicaSet, change: ReplicaChange) -> tuple[Any, ...] | None:
    """The command that is due, without its request id; None while there is something to wait for."""
    records = holder.log
    if records.committed <= records.base.seq:
        return None  # what is adopted is not known to be committed before the start record is
    if change.add and not records.followers.has_caught_up(change.add, records.committed):
        return None
    if not change.joint and not records.followers.majority_goes_on(table):
        return None  # nothing could be committed any more, and the store of one that lost its disk would never vote
    common = (holder.credentials.volume, list(holder.credentials.epoch), table.version)
    if not change.joint:
        return "replicas_join", *common, records.followers.by_node[change.add].incarnation if change.add else ""
    return ("replicas_done", *common) if records.majority_holds_all(table.version) else None
