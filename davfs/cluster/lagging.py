"""How a holder brings a replica into its log: sealed, behind the last record of both, by a snapshot if it lacks too much,
and admitted to vote under the store that it has now.

Each is a step of the task that sends to that replica (``log.py``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from davfs.cluster.followers import Follower, Followers
from davfs.cluster.site import Site
from davfs.core.effects import Call, Protocol_, Reply, Sleep, Submit
from davfs.core.errors import ChunkMissing, DavfsError, LogMismatch
from davfs.core.model import Epoch, position
from davfs.core.replica_set import ReplicaSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves the grant to the replicas: every request for a volume carries it."""

    volume: str
    epoch: Epoch
    token: bytes

    def wire(self) -> dict[str, Any]:
        return {"volume": self.volume, "epoch": list(self.epoch), "token": self.token}


def seal(site: Site, credentials: Credentials, follower: Follower) -> Protocol_[None]:
    """Have the replica refuse all lower epochs, and note which store it has."""
    reply: Reply = yield Call(follower.node, "replica.seal", credentials.wire(), timeout=site.timing.call)
    if follower.incarnation not in ("", reply.value["incarnation"]):
        follower.match = 0  # another store than the one that acknowledged
    follower.incarnation = reply.value["incarnation"]
    follower.sealed = True


def resume_at(tried: int, floor: int, last: int, error: LogMismatch) -> int:
    """The next record for a replica that does not have what precedes the one that was ``tried``. ``floor``: before the oldest
    record of this node's log, which ends at ``last``."""
    first = min(position(error.data["firm"]).seq, last) + 1  # what is not firm it can take back
    if first <= floor < tried - 1 and position(error.data["last"]).seq >= floor:
        return floor + 1  # it has logged more than it has applied: perhaps up to what is still here
    return first


def catch_up(
    site: Site, credentials: Credentials, follower: Follower, source: str, floor: int, last: int
) -> Protocol_[Reply]:
    """Have a replica fetch a snapshot from ``source``, for the records that it lacks are here no longer; look how far it is."""
    if follower.catching is None:
        follower.pinned = floor
    args = {**credentials.wire(), "source": source, "least": floor}
    reply: Reply = yield Call(follower.node, "replica.catch_up", args, timeout=site.timing.call)
    if reply.value["catching"]:
        follower.catching = reply.value["done"], reply.value["total"]
        yield Sleep(site.timing.heartbeat)
        return reply
    follower.catching = None
    if (reached := position(reply.value["firm"]).seq) >= floor:
        follower.next_seq = min(reached, last) + 1
    else:
        yield Sleep(site.timing.heartbeat)
    return reply


def source_for(lagging: str, own: str, floor: int, table: ReplicaSet, followers: Followers) -> str:
    """Whom to copy from: this node, or for a program, which serves nobody, a replica that has what is wanted."""
    if own in table.members:
        return own
    able = [f.node for f in followers.by_node.values() if f.applied >= floor and not f.failing]
    source = next((node for node in table.members if node in able and node != lagging), None)
    if source is None:
        raise ChunkMissing(f"no other replica has record {floor} to copy from")
    return source


def admit(site: Site, credentials: Credentials, follower: Follower) -> Protocol_[None]:
    """Ask Raft to let a new store vote, which holds everything that is committed (section 3: wiped replicas)."""
    admission = "replica_admit", credentials.volume, follower.node, follower.incarnation, list(credentials.epoch)
    try:
        yield Submit((site.request_id(), *admission), site.timing.call)
    except DavfsError as error:  # asked again with the next append
        log.info("volume %s: the new store of %s does not vote yet: %s", credentials.volume, follower.node, error)
