"""The holder's end of a volume's log: numbers records, sends them to every replica, moves the commit mark.

Whoever commits a record sends it to the replicas that are idle, by itself: then no other thread has to be woken on the
way. One background task a replica sends what that replica lacks otherwise, many clients' records in one request and one
fsync (group commit); a slow or dead replica delays nobody. The commit mark follows the majority of the configured set,
and never overtakes the holder's own copy, whose index answers the reads. On a node that copy is one of the configured replicas;
a program's is a working copy, which is followed like a replica and counts in no majority (``followers.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from davfs.cluster import lagging
from davfs.cluster.followers import Follower, Followers
from davfs.cluster.lagging import Credentials
from davfs.cluster.replica import Replica
from davfs.cluster.site import Site
from davfs.cluster.tail import BATCH_BYTES, Pending, Tail
from davfs.cluster.trimming import TrimMark
from davfs.core.effects import Call, Gather, Outcome, Outcomes, Protocol_, Reply, Sleep, Wait
from davfs.core.errors import ChunkMissing, DavfsError, LogMismatch, NotSealed, StaleEpoch, TokenRefused
from davfs.core.model import AVAILABLE, Epoch, Position, position
from davfs.core.replica_set import ReplicaSet

log = logging.getLogger(__name__)

@dataclass(frozen=True, slots=True)
class Request:
    """An append on its way: what its success means. ``match``: the seq up to which the replica then holds the log."""

    call: Call
    match: int
    committed: int

    def to(self, node: str) -> Request:
        """The same for another replica, which lacks the same."""
        return replace(self, call=replace(self.call, node=node))


class HolderLog:
    """The log of one grant. ``deposed(reason)`` is called once when the log can go on no longer."""

    def __init__(
        self, site: Site, replica: Replica, credentials: Credentials, nodes: Sequence[str], deposed: Callable[[str], None]
    ) -> None:
        self.work = site.make_signal()  # for the tasks that send
        self.progress = site.make_signal()  # for those who wait for a commit
        self.base = replica.store.last
        self.last = self.base
        self.committed = replica.store.committed.seq
        self.firm = replica.store.firm.seq  # up to there a majority has what is committed
        self.available = site.state.volume(credentials.volume).policy.consistency == AVAILABLE
        self.followers = Followers(nodes, self.base.seq, site.node)
        self.stopped = False
        self.draining = False
        self.trims = False  # not before what was adopted is safe: it is looked at once more until then
        self._site = site
        self._replica = replica
        self._credentials = credentials
        self._deposed = deposed
        self._lock = Lock()
        self._advance_lock = Lock()
        self._tail = Tail()
        self._trim = TrimMark(site.bounds, replica.store)

    # --- records in -------------------------------------------------------------------------------------------------

    def next_position(self) -> Position:
        return Position(self._credentials.epoch, self.last.seq + 1)

    def push(self, pending: Pending) -> list[Follower]:
        """Take the record for ``next_position()``; the replicas that lack nothing else and are idle, now made busy.

        The caller holds the holder's lock, and goes on with ``replicate_now``.
        """
        with self._lock:
            self._tail.add(pending)
            self.last = pending.position
            idle = [f for f in self.followers.by_node.values() if self._is_idle(f, pending.position.seq)]
            if not any(f.node == self._site.node for f in idle):
                return []  # others commit: this record travels in their wake, with all that comes meanwhile
            for follower in idle:
                follower.busy = True
            return idle

    def _is_idle(self, follower: Follower, next_seq: int) -> bool:
        return follower.sealed and not follower.busy and not follower.failing and follower.next_seq == next_seq

    def replicate_now(self, seq: int, idle: Sequence[Follower]) -> Protocol_[bool]:
        """Send the record to those replicas, and wait until it is committed and applied here; False if that is not known
        in time."""
        ends = self._site.clock.now() + self._site.timing.commit
        if len(idle) < len(self.followers.by_node):
            self.work.notify()
        if idle:
            busy = {follower.node: follower for follower in idle}
            sent: dict[str, Request] = {}
            made: Request | None = None  # they all lack the same
            for follower in idle:
                try:
                    made = made.to(follower.node) if made is not None else self._request(follower)
                    sent[follower.node] = made
                except DavfsError as error:
                    self._settle(follower, None, error)

            def enough(outcomes: Outcomes) -> bool:
                acknowledged = [node for node, outcome in outcomes.items() if isinstance(outcome, Reply)]
                if self._site.node not in acknowledged:
                    return False
                table = self._table()
                # A majority may also come to be by replicas that others send to: then it is not waited for here.
                elsewhere = len(acknowledged) < len(outcomes) or any(f.node not in busy for f in self.followers.voters(table))
                return elsewhere or self.followers.is_reached(seq, acknowledged, table)

            def settle(node: str, outcome: Outcome) -> None:
                self._settle(busy[node], sent[node], outcome)

            def late(node: str, outcome: Outcome) -> None:
                settle(node, outcome)
                self._advance()

            calls = [request.call for request in sent.values()]
            outcomes: Outcomes = (yield Gather(calls, enough, late)) if calls else {}
            for node, outcome in outcomes.items():
                settle(node, outcome)
            self._advance()
        return (yield from self.wait_committed(seq, ends - self._site.clock.now()))

    def wait_committed(self, seq: int, limit: float) -> Protocol_[bool]:
        """Wait until a record is committed and applied here; False if that is not known in time."""
        yield Wait(self.progress, lambda: self.committed >= seq or self.stopped, max(limit, 0.0))
        return self.committed >= seq

    def stop(self) -> None:
        self.stopped = True
        self.work.notify()
        self.progress.notify()

    # --- records out ------------------------------------------------------------------------------------------------

    def replicate(self, node: str) -> Protocol_[None]:
        """The task that keeps one replica up to date for as long as the grant lasts."""
        follower = self.followers.by_node[node]
        while not self.stopped and self.followers.by_node.get(node) is follower:
            yield Wait(self.work, lambda: self._has_work(follower), self._site.timing.heartbeat)
            with self._lock:
                if follower.busy or self.stopped:
                    continue
                follower.busy = True
            if (yield from self._send(follower)):
                yield from self._admit(follower)
            elif follower.failing:
                yield Sleep(0.1)

    def _has_work(self, follower: Follower) -> bool:
        return self.stopped or (
            not follower.busy
            and (
                follower.next_seq <= self.last.seq
                or not follower.sealed
                or (self.draining and follower.told < self.committed)
            )
        )

    def _send(self, follower: Follower) -> Protocol_[bool]:
        """Seal a replica if it is not, and append what it lacks; whether it took that. It is busy before, idle after."""
        request: Request | None = None
        outcome: Outcome
        try:
            if not follower.sealed:
                yield from lagging.seal(self._site, self._credentials, follower)
            floor = self._replica.store.floor.seq
            if follower.next_seq <= floor and follower.next_seq - 1 not in self._tail:
                source = lagging.source_for(follower.node, self._site.node, floor, self._table(), self.followers)
                outcome = yield from lagging.catch_up(
                    self._site, self._credentials, follower, source, floor, self.last.seq
                )
            else:
                request = self._request(follower)
                outcome = yield request.call
        except DavfsError as error:
            outcome = error
        taken = self._settle(follower, request, outcome)
        self._advance()
        return taken

    def _request(self, follower: Follower) -> Request:
        """The append of what a replica lacks, which may be nothing but the commit mark."""
        previous, batch = self._batch(follower)
        committed = self.committed
        attachments = [a for pending in batch for a in pending.attachments]
        args = {
            **self._credentials.wire(),
            "previous": [list(previous.epoch), previous.seq],
            "committed": committed,
            **({"firm": self.firm} if self.available else {}),
            "trim": self._trim.now(committed, self.followers.by_node.values()) if self.trims else 0,
            "records": [len(pending.data) for pending in batch],
            "chunks": [[a.digest, len(a.data)] for a in attachments],
        }
        blob = b"".join([*(pending.data for pending in batch), *(a.data for a in attachments)])
        # An available volume's clients are answered although nobody else does, well before they would be told 503.
        limit = self._site.timing.call / 2 if self.available else self._site.timing.call
        call = Call(follower.node, "replica.append", args, blob, limit)
        return Request(call, previous.seq + len(batch), committed)

    def _settle(self, follower: Follower, request: Request | None, outcome: Outcome) -> bool:
        """Note what became of an append, and let the replica go; whether it took it."""
        failing = False
        match outcome:
            case Reply() if request is not None:
                follower.incarnation = outcome.value["incarnation"]
                follower.match = request.match
                follower.next_seq = request.match + 1
                follower.told = request.committed
                follower.applied = position(outcome.value["committed"]).seq
                follower.late = outcome.value.get("late", 0)
            case Reply():
                failing = follower.catching is not None  # it takes no records yet
            case LogMismatch():
                follower.match = 0
                floor = self._replica.store.floor.seq
                follower.next_seq = lagging.resume_at(follower.next_seq, floor, self.last.seq, outcome)
            case NotSealed():
                follower.sealed = False
            case StaleEpoch() | TokenRefused() if self._outdated(outcome):
                self._deposed(f"{follower.node}: {outcome.message}")
            case _:
                level = logging.DEBUG if follower.failing else logging.INFO  # once, not ten times a second
                log.log(level, "volume %s: replica on %s: %s", self._credentials.volume, follower.node, outcome)
                failing = True
        with self._lock:
            follower.failing = failing
            follower.busy = False
        if failing or self.draining:
            self.progress.notify()
        if self._has_work(follower):
            self.work.notify()
        return isinstance(outcome, Reply)

    def _outdated(self, error: DavfsError) -> bool:
        """Whether the refusal proves a later epoch; a replica whose Raft state lags proves nothing."""
        if isinstance(error, TokenRefused):
            return True
        seen = error.data.get("sealed") or error.data.get("last") or [0, 0]
        return Epoch(*seen) > self._credentials.epoch

    def _batch(self, follower: Follower) -> tuple[Position, list[Pending]]:
        """(the position before, the records to send): from memory, or from this node's own log for one far behind."""
        first = follower.next_seq
        before, batch = self._tail.run(first)
        if not batch and first <= self.last.seq:
            encoded = self._replica.store.read_log(first, BATCH_BYTES)
            stored = [self._replica.store.position_at(first + n) for n in range(len(encoded))]
            batch = [Pending(at, data) for at, data in zip(stored, encoded, strict=True) if at is not None]
            # Records that are not committed carry their chunks, and those are in memory: stop before them. The log may have
            # records of the next holder by now, before this one has heard of it: they are not its to send.
            epoch = self._credentials.epoch
            batch = [p for p in batch if p.position.seq not in self._tail and p.position.epoch <= epoch]
        at = before or self._replica.store.position_at(first - 1)
        if at is None:
            raise ChunkMissing(f"record {first - 1} is no longer in the log of this node")
        return at, batch

    def _admit(self, follower: Follower) -> Protocol_[None]:
        """Ask Raft to let a new store vote, once it holds everything that is committed (section 3: wiped replicas)."""
        table = self._table()
        if follower.node not in table.members or table.incarnations.get(follower.node) == follower.incarnation:
            return  # a working copy never votes, and a newcomer only when it becomes a member
        if self.committed <= self.base.seq or follower.match < self.committed:
            return  # before the start record is committed the mark may be older than what others know to be committed
        yield from lagging.admit(self._site, self._credentials, follower)

    def _table(self) -> ReplicaSet:
        """The set of replicas as Raft shows it here: it may be behind, and what that allows is safe (``replacing.py``)."""
        return self._site.state.volume(self._credentials.volume).replica_set

    # --- the commit mark --------------------------------------------------------------------------------------------

    def majority_answers(self) -> bool:
        return self.followers.majority_answers(self._table())

    def goes_alone(self) -> bool:
        """Whether records are committed with fewer replicas than a majority: an available volume's, once it was opened by a
        majority, while no majority answers."""
        alone = self.available and self.firm > self.base.seq and not self.majority_answers()
        return alone and self._site.node in self._table().members

    def majority_holds_all(self, version: int) -> bool:
        """Whether the sets that decide at that version hold, each by a majority, all that was ever committed; those of
        any later moment then do too, for no record is committed without them."""
        with self._advance_lock:
            table = self._table()
            reached = self.followers.majority_seq(table)
            return table.version == version and self.committed > self.base.seq and reached >= self.committed

    def _advance(self) -> None:
        with self._advance_lock:
            own = self.followers.by_node[self._site.node].match
            reached = min(self.followers.majority_seq(self._table()), own)
            # Records of older epochs are committed by the start record behind them (Raft, 5.4.2).
            if reached > self.base.seq:
                self.firm = max(self.firm, reached)
            if self.goes_alone():
                reached = max(reached, own)
            if reached <= self.base.seq or reached <= self.committed:
                return
            try:
                self._replica.advance(reached)
            except DavfsError as error:
                self._deposed(f"this node's own replica failed: {error.message}")
                return
            self.committed = reached
            self._tail.forget(min(reached, self.firm), min(f.match for f in self.followers.by_node.values()))
        self.progress.notify()
