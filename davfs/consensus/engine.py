"""PySyncObj with the parts replaced that lose data (design, section 4): the only class that knows its insides.

PySyncObj 0.3.17 offers no parameter for journal, serializer or message rules. Its private attributes and methods are
class-mangled (``_SyncObj__name``), so a subclass that defines those names takes their place; each override below says
why. A test fails if a name disappears in another version. Everything here runs on the tick thread, unless it says otherwise.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import Node

from davfs.consensus import membership, receiver
from davfs.consensus.journal import DurableJournal
from davfs.consensus.membership import Change, Members
from davfs.consensus.prevote import Canvass, approves
from davfs.consensus.receiver import Message
from davfs.consensus.snapshots import Assembly, Parcel, Snapshots
from davfs.consensus.timing import RaftTiming
from davfs.consensus.transport import FrameTransport
from davfs.core.errors import CorruptData

REGULAR = b"\0"
NO_OP = b"\1"
"""The first byte of an entry; ``membership.CONFIG`` is another. PySyncObj's other kinds are pickles and never applied here."""

_LEADER = 2
Done = Callable[[Any, int], None]
"""Called with (result, PySyncObj's fail reason) when a command is applied here, or is known not to be tracked."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the engine drives, always from the tick thread (``load`` also from the thread that makes the engine)."""

    apply: Callable[[bytes], Any]
    dump: Callable[[], bytes]
    load: Callable[[bytes], None]
    applied: Callable[[], None]
    """After one or more entries, or a snapshot, were applied."""
    leadership: Callable[[int, bool], None]
    """(term, whether this node leads from now on)"""


class Engine(SyncObj):
    """One Raft member. Commands are opaque bytes. ``founders``: the voters until the log names others (membership.py)."""

    def __init__(
        self,
        name: str,
        founders: Iterable[str],
        journal: DurableJournal,
        transport: FrameTransport,
        callbacks: Callbacks,
        timing: RaftTiming,
    ) -> None:
        self.name = name
        self._founders = membership.members(set(founders))
        self._active: Members | None = None
        self._journal = journal
        self._transport = transport
        self._callbacks = callbacks
        self._timing = timing
        self._snapshots = Snapshots(journal, callbacks.dump)
        self._is_voter = False
        self._assembly = Assembly()
        self._votes: set[tuple[str, int]] = set()
        self._canvass = Canvass(len(transport.nodes) + 1)
        self._leader_heard_at = float("-inf")
        self._queue_lock = threading.Lock()
        self._closed = False
        self._gathering = False
        self._send_due = False
        self._ticked_at = time.monotonic()
        self._hands_over_until = float("-inf")
        self.broken: CorruptData | None = None
        """Set when this member's log contradicts the cluster's committed one; it then takes no more part."""
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            raftMinTimeout=timing.election_min,
            raftMaxTimeout=timing.election_max,
            appendEntriesPeriod=timing.heartbeat,
            leaderFallbackTimeout=timing.step_down,
            connectionTimeout=max(timing.silence, timing.election_max),
            appendEntriesBatchSizeBytes=timing.max_append,
            logCompactionMinEntries=timing.compact_entries,
            logCompactionMinTime=timing.compact_seconds,
            commandsWaitLeader=False,
            commandsQueueSize=10_000,
            useFork=False,
            dynamicMembershipChange=True,  # with the methods below in place of its own
            onStateChanged=self._on_state_changed,
        )
        super().__init__(Node(name), transport.nodes, conf=conf, nodeClass=Node, transport=transport)
        if journal.snapshot is not None:
            callbacks.load(membership.state_in(journal.snapshot.data))
            self._SyncObj__raftLastApplied = journal.snapshot.index
        transport.on_loss = self._on_loss
        transport.attach(self._poller)
        self._follow_membership()
        self.addOnTickCallback(transport.on_tick)
        # Right before the wait for answers: the leader's own fsync overlaps the followers'.
        self.addOnTickCallback(journal.flush)

    # --- parts of PySyncObj that are replaced -----------------------------------------------------------------------
    # Properties, because SyncObj.__init__ assigns and uses both before a subclass could set its own.

    @property
    def _SyncObj__raftLog(self) -> DurableJournal:
        return self._journal

    @_SyncObj__raftLog.setter
    def _SyncObj__raftLog(self, value: object) -> None:
        """PySyncObj's own journal is never synced."""

    @property
    def _SyncObj__serializer(self) -> Snapshots:
        return self._snapshots

    @_SyncObj__serializer.setter
    def _SyncObj__serializer(self, value: object) -> None:
        """PySyncObj's own snapshot is not one transaction with the journal."""

    # --- membership -------------------------------------------------------------------------------------------------

    @property
    def members(self) -> Members:
        """Voters and learners as this member's log has them: in force, committed or not."""
        return self._active or self._founders

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> Change | None:
        """Instead of unpickling. What PySyncObj then does with it is below."""
        return membership.decode(command)

    def _SyncObj__changeCluster(self, change: Change) -> bool:
        """Whether this leader appends a change. Only when all before it is committed, and something of its own term:
        or the change of a deposed leader could meet that of another one (Ongaro's correction of 2015)."""
        committed = self._SyncObj__raftCommitIndex
        if committed < max(self._journal.last_change, self._SyncObj__noopIDx):
            return False
        matches = self._SyncObj__raftMatchIndex
        behind = {node.id: committed - matches.get(node, 0) for node in self._SyncObj__readonlyNodes}
        now = self._journal.members() or self._founders
        return membership.objection(change, now, self.name, behind) == ""

    def _SyncObj__doChangeCluster(self, change: Change, reverse: bool = False) -> bool:
        """The log itself says who is a member, when it has grown and when it was cut."""
        return True

    def _follow_membership(self) -> None:
        """Take on the membership that the log has now."""
        members = self._journal.members() or self._founders
        if members == self._active:
            return
        self._active = members
        self._is_voter = self.name in members.voters
        others = [name for name in members.everyone if name != self.name]
        if others != self._transport.peers:
            self._transport.set_peers(others)
        known = {node.id: node for node in self._transport.nodes}
        self._SyncObj__otherNodes = {known[name] for name in members.voters if name != self.name}
        self._SyncObj__readonlyNodes = {known[name] for name in members.learners if name != self.name}
        for node in known.values():
            self._SyncObj__raftNextIndex.setdefault(node, self._journal.last.index + 1)
            self._SyncObj__raftMatchIndex.setdefault(node, 0)
            self._SyncObj__lastResponseTime.setdefault(node, time.monotonic())
        for table in (self._SyncObj__raftNextIndex, self._SyncObj__raftMatchIndex, self._SyncObj__lastResponseTime):
            for node in [node for node in table if node.id not in known]:
                del table[node]
        self._canvass = Canvass(len(members.voters))

    # --- for RaftNode -----------------------------------------------------------------------------------------------

    def propose(self, kind: bytes, command: bytes, done: Done) -> None:
        """Queue an entry (any thread). ``done`` is called at most once, on the tick thread, and maybe never."""
        with self._queue_lock:  # or PySyncObj's pipe could be closed, and its number be another file's
            if not self._closed:
                self._applyCommand(kind + command, done)

    def tick(self) -> None:
        """One turn of the loop, including a wait of at most ``timing.tick`` for something to do."""
        now = time.monotonic()
        if not self._is_voter:  # a learner, or removed: it asks for nobody's vote
            self._SyncObj__raftElectionDeadline = now + self._election_delay()
        elif now - self._ticked_at > self._timing.election_min / 2:
            # This process was paused or starved: others may have been heard of but not yet handled. Look first.
            self._SyncObj__raftElectionDeadline = now + self._election_delay()
        elif self._election_is_due(now):
            self._ask_for_election(now)
        if self.broken is not None:
            raise self.broken
        if self._hands_over():
            self.transferLeadership()  # refused while no follower has everything
        self._onTick(self._timing.tick)
        self._ticked_at = time.monotonic()

    def hand_over(self) -> None:
        """Let the follower that is furthest take over from this leader (Ongaro 2014, 3.10): from now on no command is taken
        in, so that one soon has everything. Given up after the shortest election time, and asked again as long after that at
        the soonest: commands go on meanwhile."""
        now, span = time.monotonic(), self._timing.election_min
        if now >= self._hands_over_until + span:
            self._hands_over_until = now + span

    def close(self) -> None:
        """Close journal and pipes; the tick thread has ended."""
        with self._queue_lock:
            self._closed = True
        self._doDestroy()
        notifier = self._SyncObj__pipeNotifier  # PySyncObj never closes its pipe
        os.close(notifier._PipeNotifier__pipeR)
        os.close(notifier._PipeNotifier__pipeW)

    # --- commands ---------------------------------------------------------------------------------------------------

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:
        """Instead of unpickling: hand the bytes to the state machine."""
        return self._callbacks.apply(command[1:]) if command[:1] == REGULAR else None

    def _SyncObj__applyLogEntries(self) -> Any:
        before = self._SyncObj__raftLastApplied
        more = SyncObj._SyncObj__applyLogEntries(self)
        if self._SyncObj__raftLastApplied != before:
            self._callbacks.applied()
        return more

    def _hands_over(self) -> bool:
        return self._isLeader() and time.monotonic() < self._hands_over_until

    def _SyncObj__onLeaderChanged(self) -> None:
        """Also who waits for a commit at an index that the former leader named is told: another entry may come to stand
        there, or none for a long time."""
        SyncObj._SyncObj__onLeaderChanged(self)
        waiting = self._SyncObj__commandsWaitingCommit
        for index in sorted(waiting):
            for _, done in waiting.pop(index):
                done(None, FAIL_REASON.UNKNOWN_OUTCOME)

    def _checkCommandsToApply(self) -> None:
        """All queued commands go out in one message, not in one each."""
        if self._hands_over():
            return
        self._gathering, self._send_due = True, False
        try:
            super()._checkCommandsToApply()
        finally:
            self._gathering = False
        self._follow_membership()
        if self._send_due:
            self._SyncObj__sendAppendEntries()

    def _SyncObj__sendAppendEntries(self) -> None:
        if self._gathering:
            self._send_due = True
        else:
            SyncObj._SyncObj__sendAppendEntries(self)

    def _on_loss(self, node: Node) -> None:
        """Messages from or to a node were lost: a snapshot starts again, and forwarded commands get no answer."""
        self._snapshots.cancelTransmisstion(node)
        if node == self._getLeader():
            self._SyncObj__onLeaderChanged()

    def _on_state_changed(self, old: int, new: int) -> None:
        if _LEADER in (old, new):
            self._callbacks.leadership(self._SyncObj__raftCurrentTerm, new == _LEADER)

    def _election_delay(self) -> float:
        return random.uniform(self._timing.election_min, self._timing.election_max)  # noqa: S311  not a secret

    # --- elections ----------------------------------------------------------------------------------------------------

    def _election_is_due(self, now: float) -> bool:
        """Whether PySyncObj would start an election now that nobody has agreed to yet."""
        deadline = self._SyncObj__raftElectionDeadline
        # 0: a majority agreed, or the leader hands over.
        return 0 < deadline < now and not self._isLeader() and bool(self._SyncObj__otherNodes)

    def _ask_for_election(self, now: float) -> None:
        self._SyncObj__raftElectionDeadline = now + self._election_delay()
        last = self._journal.last
        question = {
            "type": "pre_vote",
            "round": self._canvass.begin(),
            "last_log_index": last.index,
            "last_log_term": last.term,
        }
        for node in self._SyncObj__otherNodes:
            self._transport.send(node, question)

    def _on_pre_vote(self, node: Node, message: Message) -> None:
        last = self._journal.last
        if approves(
            (last.term, last.index),
            (message["last_log_term"], message["last_log_index"]),
            leads=self._isLeader(),
            silent_for=time.monotonic() - self._leader_heard_at,
            patience=self._timing.election_min * 0.7,
        ):
            self._transport.send(node, {"type": "pre_vote_response", "round": message["round"]})

    def _on_pre_vote_response(self, node: Node, message: Message) -> None:
        if node not in self._SyncObj__otherNodes:
            return
        if self._canvass.approve(node.id, message["round"]) and not self._isLeader():
            self._SyncObj__raftElectionDeadline = 0

    # --- messages ---------------------------------------------------------------------------------------------------

    def _SyncObj__onMessageReceived(self, node: Node, message: Message) -> None:
        """Rules of Raft that PySyncObj leaves out, before its own handling."""
        admit = {
            "append_entries": self._admit_append,
            "pre_vote": self._on_pre_vote,
            "pre_vote_response": self._on_pre_vote_response,
            "response_vote": self._admit_vote,
            "next_node_idx": self._admit_next_index,
            "apply_command": self._admit_command,
        }.get(message["type"])
        admitted = message if admit is None else admit(node, message)
        if admitted is None:
            return
        next_before = self._SyncObj__raftNextIndex.get(node, 0)
        try:
            SyncObj._SyncObj__onMessageReceived(self, node, admitted)
        finally:
            self._journal.keep_tail = False
            self._follow_membership()
        if message["type"] == "next_node_idx" and message["success"] and self._isLeader():
            # PySyncObj lets an acknowledgement take the next index back, and sends what is on its way already again.
            self._SyncObj__raftNextIndex[node] = max(next_before, self._SyncObj__raftNextIndex[node])

    def _SyncObj__sendNextNodeIdx(
        self, node: Node, reset: bool = False, nextNodeIdx: int | None = None, success: bool = False
    ) -> None:
        """With the term that it belongs to: a late one must not count for a later leadership of the same node."""
        self._transport.send(
            node,
            {
                "type": "next_node_idx",
                "term": self._SyncObj__raftCurrentTerm,
                "next_node_idx": self._journal.last.index + 1 if nextNodeIdx is None else nextNodeIdx,
                "reset": reset,
                "success": success,
            },
        )

    def _admit_vote(self, node: Node, message: Message) -> Message | None:
        """A vote counts once for each node and term, and only a voter's."""
        if node not in self._SyncObj__otherNodes:
            return None
        term = self._SyncObj__raftCurrentTerm
        vote = (node.id, message["term"])
        if message["term"] != term or vote in self._votes:
            return None
        self._votes = {known for known in self._votes if known[1] == term} | {vote}
        return message

    def _admit_next_index(self, node: Node, message: Message) -> Message | None:
        """Only of this term, and never beyond the own log (PySyncObj would wait until the log has grown that far)."""
        if message["term"] != self._SyncObj__raftCurrentTerm or node not in self._SyncObj__raftNextIndex:
            return None
        return message | {"next_node_idx": max(1, min(message["next_node_idx"], self._journal.last.index + 1))}

    def _admit_command(self, node: Node, message: Message) -> Message | None:
        """Only what this class makes itself."""
        return message if message["command"][:1] in (REGULAR, NO_OP) else None

    def _admit_append(self, node: Node, message: Message) -> Message | None:
        """Entries by Raft's rules; a snapshot's parts are put together here, out of PySyncObj's sight."""
        if message["term"] < self._SyncObj__raftCurrentTerm:
            return None
        self._leader_heard_at = time.monotonic()
        if "serialized" in message:
            return self._admit_snapshot_part(node, message)
        try:
            return receiver.admit_entries(message, self._journal, self._SyncObj__raftCommitIndex)
        except receiver.Contradiction as error:
            self.broken = CorruptData(
                f"{node.id} leads, but {error}: the journal of one of the two was restored from a backup or is damaged;"
                " this node stops taking part"
            )
            raise self.broken from error

    def _admit_snapshot_part(self, node: Node, message: Message) -> Message:
        # PySyncObj would meanwhile commit its own unverified tail up to the leader's commit index.
        idle = message | {"serialized": None, "commit_index": 0}
        if message["serialized"] is None:
            return idle
        parcel = self._assembly.add(node, message["serialized"])
        if parcel is None:
            return idle
        if parcel.last.index > self._SyncObj__raftCommitIndex:
            self._install(parcel)
        return receiver.heartbeat(message, self._journal, parcel.last.index, self._SyncObj__raftCommitIndex)

    def _install(self, parcel: Parcel) -> None:
        self._callbacks.load(membership.state_in(parcel.snapshot.data))
        self._journal.install(*parcel)
        index = parcel.last.index
        self._SyncObj__raftLastApplied = self._SyncObj__raftCommitIndex = index
        self._journal.setRaftCommitIndex(index)
        waiting = self._SyncObj__commandsWaitingCommit
        for passed in [at for at in waiting if at <= index]:
            for _, done in waiting.pop(passed):
                done(None, FAIL_REASON.UNKNOWN_OUTCOME)
        self._callbacks.applied()
