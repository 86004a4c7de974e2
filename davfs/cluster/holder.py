"""A grant in use: the lease, the commit of records, and the end of it (free, lost, deposed).

Whoever holds a volume serves while its lease lasts, commits records one behind the other, and stops for good the moment
it cannot: it then assigns the volume anew like anyone else (design, sections 2 and 3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from davfs.cluster.gates import Gates
from davfs.cluster.lagging import Credentials
from davfs.cluster.log import HolderLog
from davfs.cluster.quota import Quota
from davfs.cluster.replica import Replica
from davfs.cluster.sessions import Sessions
from davfs.cluster.site import Site
from davfs.cluster.tail import Attachment, Pending
from davfs.cluster.workspace import Workspace
from davfs.core.cluster_state import VolumeState
from davfs.core.effects import Call, Gather, Outcomes, Protocol_, Reply, Spawn, Submit, Wait
from davfs.core.errors import DavfsError, InvalidInput, LeaseLost, OutcomeUnknown, QuorumLost
from davfs.core.model import AVAILABLE, MAX_RECORD, DavLock, Position
from davfs.core.namespace import Edits
from davfs.core.quorum import is_joint_majority
from davfs.core.record import OPERATION, START, encode

log = logging.getLogger(__name__)

RECORD_ROOM = MAX_RECORD * 7 // 16
"""An operation whose edits are larger is written in several records: edits stand in a record twice, in the CRDT's own bytes
and in plain words."""


class Holder:
    """The holder of one volume under one grant. ``lease_until`` is in seconds of the site's clock."""

    def __init__(
        self, site: Site, replica: Replica, credentials: Credentials, digest: str, nodes: Sequence[str], lease_until: float
    ) -> None:
        self.site = site
        self.replica = replica
        self.credentials = credentials
        self.digest = digest
        self.lease_until = lease_until
        self.gates = Gates(site.make_signal())
        self.serving = False
        self.replacing = False  # a change of the volume's replicas is being carried out
        self.used_at = site.clock.now()  # when anyone last asked for anything
        self.sessions = Sessions(site.clock, site.timing.idle)
        if (claimed := self.state().session) is not None:
            self.sessions.recall(claimed)
        self.quota = Quota(replica.store)
        self.free_bytes: dict[str, int] = {}  # what the nodes said last that they have free (``space.py``)
        self.free_until = 0.0  # when they are to be asked again
        self.available = self.state().policy.consistency == AVAILABLE
        self.log = HolderLog(site, replica, credentials, nodes, self.depose)
        self._workspace = Workspace(site, replica.store, credentials.volume)
        self._lock = Lock()

    # --- the lease --------------------------------------------------------------------------------------------------

    def state(self) -> VolumeState:
        """The volume as Raft shows it here."""
        return self.site.state.volume(self.credentials.volume)

    def locks(self) -> list[DavLock]:
        """The volume's DAV locks, as Raft shows them here."""
        return list(self.state().locks.values())

    @property
    def leased(self) -> bool:
        """Whether this node may answer for the volume right now."""
        if not self.serving or self.log.stopped or self.replica.store.broken:
            return False
        return self.site.clock.now() < self.lease_until or (self.available and self._is_granted())

    def _is_granted(self) -> bool:
        """Whether this node knows of nothing that ended its grant: enough for an available volume."""
        volume = self.site.state.volumes.get(self.credentials.volume)
        grant = None if volume is None else volume.tenure.grant
        return grant is not None and grant.epoch == self.credentials.epoch

    @property
    def alone(self) -> bool:
        """Whether this node goes on although it is cut off: what it does is merged with what others do meanwhile."""
        return self.available and self.serving and (
            self.log.goes_alone() or self.site.clock.now() >= self.lease_until
        )

    def check_lease(self) -> None:
        """Raise :class:`LeaseLost` unless this node may answer for the volume right now."""
        if not self.leased:
            raise LeaseLost("this node no longer holds the volume", holder=None)
        self.used_at = self.site.clock.now()

    def refreshed(self, first_sent: float) -> None:
        """A refresh was applied; the lease counts from before its first send (section 3: pauses)."""
        lapsed = self.site.clock.now() >= self.lease_until
        self.lease_until = max(self.lease_until, first_sent + self.site.timing.lease)
        if lapsed:
            self.site.applied.notify()  # requests that came meanwhile wait for it

    def depose(self, reason: str) -> None:
        """Stop serving at once and for good."""
        if not self.log.stopped:
            log.warning("volume %s, epoch %s: no longer held: %s", self.credentials.volume, self.credentials.epoch, reason)
        self.serving = False
        self.log.stop()
        self.site.applied.notify()  # whoever waits for this volume looks again

    # --- opening ----------------------------------------------------------------------------------------------------

    def open(self, base: Position, request_id: str) -> Protocol_[None]:
        """Commit the start record: with it, everything adopted is committed and may be served (``serving``)."""
        for node in tuple(self.log.followers.by_node):
            yield Spawn(self.log.replicate(node), f"replicate-{node}")
        committed = yield from self._commit(lambda edits: None, request_id, (), START, base)
        if committed is None:
            self.depose("the start record was not committed in time")
            raise QuorumLost("too few volume replicas answer")

    def confirm(self) -> Protocol_[None]:
        """Ask a majority whether this is still the holder, for volumes that trust no clock with their reads (section 3).

        What is read after it is at least as new as the moment of the last answer; :class:`LeaseLost` without them.
        """
        table = self.state().replica_set

        def confirmed(outcomes: Outcomes) -> bool:
            votes = [
                node
                for node, reply in outcomes.items()
                if isinstance(reply, Reply) and table.incarnations.get(node) == reply.value["incarnation"]
            ]
            return is_joint_majority(votes, table.deciding)

        wire = self.credentials.wire()
        calls = [Call(node, "replica.confirm", wire, timeout=self.site.timing.call) for node in table.members]
        if not confirmed((yield Gather(calls, confirmed))):
            raise LeaseLost("too few volume replicas confirm that this node still holds the volume", holder=None)

    # --- commit -----------------------------------------------------------------------------------------------------

    def require_majority(self) -> None:
        """Definitely refuse what could not be committed anyway (section 3: record sent, quorum unknown)."""
        if not self.available and not self.log.majority_answers():
            raise QuorumLost("too few volume replicas answer; nothing was changed")

    def commit(
        self, build: Callable[[Edits], Any], request_id: str, attachments: Sequence[Attachment] = ()
    ) -> Protocol_[Any]:
        """One operation, one record: ``build`` makes its edits and the reply; that reply once it is committed.

        A definite error has changed nothing. :class:`OutcomeUnknown`: the record was sent and may yet be committed.
        """
        self.check_lease()
        self.require_majority()
        committed = yield from self._commit(build, request_id, attachments, OPERATION, None)
        if committed is None:
            self.depose("a record that was sent is not committed")
            raise OutcomeUnknown()
        return committed[0]

    def _commit(
        self,
        build: Callable[[Edits], Any],
        request_id: str,
        attachments: Sequence[Attachment],
        kind: str,
        base: Position | None,
    ) -> Protocol_[tuple[Any] | None]:
        with self._lock:
            if kind != START:
                self.check_lease()
            edits = Edits(self.log.next_position())
            reply = build(edits)
            if edits.size > RECORD_ROOM:
                raise InvalidInput(f"one operation of {edits.size} bytes is more than a record holds")
            try:
                record = self._workspace.record(edits, request_id if edits.answers else "", reply, kind, base)
                data = encode(record)
            except (DavfsError, ValueError) as error:
                self.depose(f"a record could not be made: {error}")  # the working documents are ahead of the log now
                raise
            idle = self.log.push(Pending(record.position, data, attachments))
        done = yield from self.log.replicate_now(record.position.seq, idle)
        return (reply,) if done else None

    def compact(self, documents: Sequence[str]) -> Protocol_[int]:
        """Replace documents by such without their history, by a record like any other; how many of them fitted into one.

        The errors of ``commit``. It is maintenance: that the volume is in use does not follow from it.
        """
        if not self.leased:
            raise LeaseLost("this node no longer holds the volume", holder=None)
        self.require_majority()
        with self._lock:
            try:
                record = self._workspace.compacted(documents, self.log.next_position(), RECORD_ROOM)
                if record is None:
                    return 0
                data = encode(record)
            except (DavfsError, ValueError) as error:
                self.depose(f"a document could not be compacted: {error}")
                raise
            idle = self.log.push(Pending(record.position, data))
        if not (yield from self.log.replicate_now(record.position.seq, idle)):
            self.depose("a record that was sent is not committed")
            raise OutcomeUnknown()
        return len(record.changes)

    # --- the end ----------------------------------------------------------------------------------------------------

    def release(self) -> Protocol_[None]:
        """Free the volume: no new changes, everything flushed to all reachable replicas, then Raft is told."""
        self.serving = False
        self.log.draining = True
        self.log.work.notify()
        yield Wait(self.log.progress, self.is_flushed, self.site.timing.call)
        self.log.stop()
        yield from free(self.site, self.credentials, self.digest)

    def give_back(self) -> Protocol_[None]:
        """Free the grant of a holder that stopped already."""
        yield from free(self.site, self.credentials, self.digest)

    def is_flushed(self) -> bool:
        """Whether all replicas that answer, and take records, have everything."""
        members = {*self.state().replica_set.members, self.site.node}
        return self.log.stopped or all(
            f.failing or (f.match >= self.log.last.seq and f.told >= self.log.committed)
            for f in self.log.followers.by_node.values()
            if f.node in members
        )


def free(site: Site, credentials: Credentials, digest: str) -> Protocol_[None]:
    """Tell Raft that the volume is free again."""
    yield Submit(
        (site.request_id(), "free", credentials.volume, list(credentials.epoch), digest), site.timing.call
    )
