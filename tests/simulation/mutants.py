"""Wrong versions of the flows, each with one safeguard of the design taken out. The checkers must find each of them.

``mutant_table.py`` says by which schedules, and prints what caught each.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from davfs.cluster import assign, chunk_read, files
from davfs.cluster.followers import Followers
from davfs.cluster.holder import Holder
from davfs.cluster.in_use import InUse
from davfs.cluster.log import HolderLog
from davfs.cluster.replica import Replica
from davfs.cluster.tail import Tail
from davfs.cluster.workspace import Workspace
from davfs.core import keys
from davfs.core.effects import Call, Gather, Reply, Sleep, Spawn, Wait
from davfs.core.errors import ChunkLost, ChunkMissing, NotSealed
from davfs.core.ports import AppliedRecord
from davfs.core.replica_set import ReplicaSet
from davfs.sim import cluster as sim_cluster
from davfs.sim.memory_chunks import MemoryChunkStore
from davfs.sim.replica_store import WatchedStore
from davfs.storage.index_view import SqliteIndexView
from davfs.storage.replica_db import ReplicaDb

Mutant = Callable[[pytest.MonkeyPatch], None]


def answer_before_a_majority_has_the_record(patch: pytest.MonkeyPatch) -> None:
    """A change is answered when any one replica has its record."""
    patch.setattr(Followers, "majority_seq", lambda self, table: max(f.match for f in self.by_node.values()))


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """A replica takes records of epochs below the one that it is sealed to."""

    def check_sealed(self, epoch, digest):
        if epoch > self.store.sealed or not self._digest:
            raise NotSealed()

    patch.setattr(Replica, "check_sealed", check_sealed)


def read_before_seal(patch: pytest.MonkeyPatch) -> None:
    """A replica says what it holds, and is sealed a moment later."""
    original = Replica.seal

    def seal(self, epoch, digest):
        status = self.status()
        yield Sleep(0.7)
        yield from original(self, epoch, digest)
        return status

    patch.setattr(Replica, "seal", seal)


def start_record_skipped(patch: pytest.MonkeyPatch) -> None:
    """No write-back after a seal: what was adopted is served before a majority has it and the start record."""

    def open_unstarted(self, base, request_id):
        for node in self.log.followers.by_node:
            yield Spawn(self.log.replicate(node), f"replicate-{node}")
        self.replica.advance(base.seq)
        self.log.committed = base.seq
        self.serving = True

    patch.setattr(Holder, "open", open_unstarted)


def lease_ignored(patch: pytest.MonkeyPatch) -> None:
    """A holder answers until somebody tells it that it is none any more."""
    patch.setattr(Holder, "leased", property(lambda self: self.serving and not self.log.stopped))


def own_log_adopted(patch: pytest.MonkeyPatch) -> None:
    """The new holder goes on from its own log, whatever the sealed replicas have."""

    def seal_and_adopt(site, volume_id, replica, credentials):
        yield from assign._seal(site, volume_id, credentials)
        return replica.store.last, replica.store.committed.seq

    patch.setattr(assign, "_seal_and_adopt", seal_and_adopt)


def minority_sealed(patch: pytest.MonkeyPatch) -> None:
    """One sealed replica is enough to go on."""
    patch.setattr(assign, "is_joint_majority", lambda members, sets: bool(set(members)))


def no_answer_remembered(patch: pytest.MonkeyPatch) -> None:
    """A request that is sent again is carried out again."""
    patch.setattr(SqliteIndexView, "reply", lambda self, request_id: None)


def unknown_told_as_done(patch: pytest.MonkeyPatch) -> None:
    """A record that was not committed in time is answered as if it were."""

    def wait_committed(self, seq, limit):
        yield Wait(self.progress, lambda: self.committed >= seq or self.stopped, max(limit, 0.0))
        return True

    patch.setattr(HolderLog, "wait_committed", wait_committed)


def two_step_change_of_replicas(patch: pytest.MonkeyPatch) -> None:
    """Two-step replica set change: the new set takes over from the old one at once, both never decide together."""
    patch.setattr(ReplicaSet, "deciding", property(lambda self: (self.nodes,)))


def newcomer_not_awaited(patch: pytest.MonkeyPatch) -> None:
    """The old replicas are given up before the newcomer has what they have."""
    patch.setattr(Followers, "has_caught_up", lambda self, node, seq: bool(self.by_node[node].incarnation))
    patch.setattr(HolderLog, "majority_holds_all", lambda self, version: True)


def reads_of_uncommitted_state(patch: pytest.MonkeyPatch) -> None:
    """The holder applies a record when it has logged it itself: readers see what no majority has."""
    original = HolderLog._advance

    def advance(self):
        own = self.followers.by_node[self._site.node].match
        if own > self._replica.store.committed.seq:
            self._replica.advance(own)
        original(self)

    patch.setattr(HolderLog, "_advance", advance)


def lease_counted_from_the_callback(patch: pytest.MonkeyPatch) -> None:
    """The lease begins anew when the answer to a refresh comes, not when the refresh was sent."""
    original = Holder.refreshed
    patch.setattr(Holder, "refreshed", lambda self, first_sent: original(self, self.site.clock.now()))


def record_torn_over_two_documents(patch: pytest.MonkeyPatch) -> None:
    """What a record changes in a second document enters the database with the next record."""
    patch.setattr(keys, "BUCKET_BITS", 0)
    original = ReplicaDb.commit

    def commit(self, applied: Sequence[AppliedRecord], firm: int | None = None) -> None:
        for record, documents, updates in applied:
            held_documents, held_updates = getattr(self, "held", ((), ()))
            first = [document for document in documents if document.document == documents[0].document]
            at_once = [update for update in updates if _document_of(update.key) in {one.document for one in first}]
            self.held = (
                [document for document in documents if document not in first],
                [update for update in updates if update not in at_once],
            )
            entered = AppliedRecord(record, [*held_documents, *first], [*held_updates, *at_once])
            original(self, [entered], firm)

    patch.setattr(ReplicaDb, "commit", commit)


def _document_of(key: str) -> str:
    parsed = keys.parse(key)
    return keys.document_of(parsed.inode, parsed.kind, parsed.part)


def wiped_replica_counted(patch: pytest.MonkeyPatch) -> None:
    """An empty store votes under the id of the one that its node has lost."""
    patch.setattr(WatchedStore, "incarnation", property(lambda self: f"the store of {self._node}"), raising=False)


def majority_votes_on_content(patch: pytest.MonkeyPatch) -> None:
    """The content that most copies of a chunk have is taken for right, and no digest looked at."""

    def get(self, volume, digest):
        if (volume, digest) not in self._chunks:
            raise ChunkMissing("not here")
        return self._chunks[volume, digest]

    def read_chunk(site, volume, chunk, read_quorum=1):
        args = {"volume": volume, "digest": chunk.digest}
        calls = [Call(node, "chunk.get", args, timeout=site.timing.call) for node in chunk.nodes]
        outcomes = yield Gather(calls)
        votes = Counter(reply.blob for reply in outcomes.values() if isinstance(reply, Reply))
        if not votes:
            raise ChunkLost("nobody answers")
        return votes.most_common(1)[0][0]

    patch.setattr(MemoryChunkStore, "get", get)
    patch.setattr(chunk_read, "read_chunk", read_chunk)
    patch.setattr(files, "read_chunk", read_chunk)


def records_never_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The holder keeps every record in memory that it ever sent."""
    patch.setattr(Tail, "forget", lambda self, reached, slowest: None)


def uses_never_end(patch: pytest.MonkeyPatch) -> None:
    """What uploads and open files used is remembered for ever."""
    original = InUse.__init__

    def init(self):
        original(self)
        self._uses = set()

    patch.setattr(InUse, "__init__", init)


def documents_never_dropped(patch: pytest.MonkeyPatch) -> None:
    """The holder keeps every document in memory that it ever changed."""
    patch.setattr(keys, "BUCKET_BITS", 0)
    patch.setattr(sim_cluster, "BOUNDS", replace(sim_cluster.BOUNDS, documents=4))
    patch.setattr(Workspace, "_evict", lambda self: None)
