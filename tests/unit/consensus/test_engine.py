"""Raft's rules that PySyncObj leaves out, message by message, and that its insides still have the names that we replace."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from pysyncobj import SyncObj
from pysyncobj.node import Node

from davfs.consensus import engine as engine_module
from davfs.consensus import wire
from davfs.consensus.engine import NO_OP, REGULAR, Callbacks, Engine
from davfs.consensus.journal import DurableJournal
from davfs.consensus.snapshots import PART_SIZE, Parcel, pack
from davfs.consensus.timing import RaftTiming
from davfs.consensus.transport import FrameTransport
from davfs.core.errors import CorruptData, StorePoisoned
from davfs.core.raft_log import LogEntry, LogSnapshot
from tests.unit.consensus.stores import MemoryStore

TIMING = RaftTiming(election_min=1000.0, election_max=1001.0, silence=1001.0, step_down=1000.0)
"""Nothing happens by itself."""


class Recorder:
    """A network that notes what is sent, and how much was durable by then."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.durable: list[tuple[int, int, str | None]] = []  # last index, term, vote at each send

    def start(self, receive: Callable[[str, bytes], None]) -> None: ...

    def set_peers(self, peers: Iterable[str]) -> None: ...

    def close(self) -> None: ...

    def send(self, peer: str, data: bytes) -> bool:
        frame = wire.decode_frame(data)
        if frame.kind == wire.DATA and frame.body:
            self.sent.append((peer, wire.decode_message(frame.body)))
            self.durable.append((max(self.store.log, default=0), self.store.hard.term, self.store.hard.voted_for))
        return True


class Member:
    """An engine whose messages are given and taken by hand. Its peers are b, c, d and e; all are connected."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.applied: list[bytes] = []
        self.network = Recorder(self.store)
        self.journal = DurableJournal(self.store)
        transport = FrameTransport("bcde", self.journal.boot, self.network, TIMING, self.journal.flush)
        callbacks = Callbacks(self._apply, self.dump, self.load, lambda: None, lambda term, leads: None)
        self.engine = Engine("a", "abcde", self.journal, transport, callbacks, TIMING)
        self.transport = transport
        for peer in "bcde":
            self.frame(peer, wire.Frame(wire.HELLO, 1, 1, 0, 0))
            self.frame(peer, wire.Frame(wire.WELCOME, 1, 1, self.journal.boot, 0))
        self.numbers = dict.fromkeys("bcde", 0)

    def _apply(self, command: bytes) -> None:
        self.applied.append(command)

    def dump(self) -> bytes:
        return b"|".join(self.applied)

    def load(self, data: bytes) -> None:
        self.applied = data.split(b"|")

    def frame(self, peer: str, frame: wire.Frame) -> None:
        self.transport.deliver(peer, wire.encode_frame(frame))
        self.transport._on_readable(self.transport._read_end, 1)

    def receive(self, peer: str, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Deliver a message; the answers."""
        self.network.sent.clear()
        self.network.durable.clear()
        self.numbers[peer] += 1
        body = wire.encode_message({"type": kind, **fields})
        self.frame(peer, wire.Frame(wire.DATA, 1, 1, self.journal.boot, self.numbers[peer], body))
        return [message for _, message in self.network.sent]

    def append(self, term: int, previous: tuple[int, int], entries: list[tuple[int, int]], commit: int = 1) -> Any:
        """AppendEntries from b; entries as (index, term)."""
        return self.receive(
            "b",
            "append_entries",
            term=term,
            commit_index=commit,
            prevLogIdx=previous[0],
            prevLogTerm=previous[1],
            entries=[[REGULAR + b"%d.%d" % entry, *entry] for entry in entries],
        )

    def snapshot(self, term: int, parcel: Parcel, commit: int) -> Any:
        return self.receive(
            "b", "append_entries", term=term, commit_index=commit, serialized=[pack(parcel), True, True, 0]
        )

    def log(self) -> list[tuple[int, int]]:
        return [(entry.index, entry.term) for entry in self.journal]

    def durable_log(self) -> list[tuple[int, int]]:
        return [(entry.index, entry.term) for _, entry in sorted(self.store.log.items())]

    def elect(self) -> None:
        """Make it the leader of the next term."""
        self.engine._SyncObj__raftElectionDeadline = 0
        self.engine._onTick(0)
        term = self.engine.raftCurrentTerm
        self.receive("b", "response_vote", term=term)
        self.receive("c", "response_vote", term=term)
        assert self.engine._isLeader()

    def close(self) -> None:
        self.engine.close()


@pytest.fixture
def member() -> Iterator[Member]:
    made = Member()
    yield made
    made.close()


def test_the_names_that_are_replaced_exist_in_pysyncobj() -> None:
    source = inspect.getsource(SyncObj)
    names = set(re.findall(r"_SyncObj(__\w+)", inspect.getsource(engine_module))) - {"__name"}
    assert len(names) > 10
    for name in names:
        assert f"self.{name}" in source, f"PySyncObj no longer has {name}"


def test_an_acknowledgement_leaves_after_its_entries_are_durable(member: Member) -> None:
    (answer,) = member.append(1, (1, 0), [(2, 1), (3, 1)])
    assert answer == {"type": "next_node_idx", "term": 1, "next_node_idx": 4, "reset": False, "success": True}
    assert member.network.durable == [(3, 1, None)]


def test_a_vote_leaves_after_it_is_durable_and_survives_a_restart(member: Member) -> None:
    vote = {"term": 5, "last_log_index": 1, "last_log_term": 0}
    assert member.receive("c", "request_vote", **vote) == [{"type": "response_vote", "term": 5}]
    assert member.network.durable == [(1, 5, "c")]
    again = Member(member.store)
    assert again.receive("d", "request_vote", **vote) == []
    again.close()


def test_nothing_is_acknowledged_that_could_not_be_made_durable(member: Member) -> None:
    member.store.error = StorePoisoned("broken")
    with pytest.raises(StorePoisoned):
        member.append(1, (1, 0), [(2, 1)])
    assert member.network.sent == []


def test_a_late_shorter_message_takes_nothing_away(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1), (4, 1)])
    saves = len(member.store.saves)
    (answer,) = member.append(1, (1, 0), [(2, 1)])
    assert answer["next_node_idx"] == 3
    assert member.log() == member.durable_log() == [(1, 0), (2, 1), (3, 1), (4, 1)]
    assert len(member.store.saves) == saves, "identical entries were written again"


def test_a_conflict_cuts_from_there_in_the_transaction_that_appends(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1), (4, 1)])
    (answer,) = member.append(2, (1, 0), [(2, 1), (3, 2)])
    assert answer["next_node_idx"] == 4
    assert member.durable_log() == [(1, 0), (2, 1), (3, 2)]
    change = member.store.saves[-1]
    assert (change.cut_from, [entry.index for entry in change.append]) == (3, [3])


def test_only_what_was_verified_is_committed(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1), (4, 1)])
    # The leader of term 2 has other entries 3 and 4, committed, and so far verified only entry 2 here.
    member.append(2, (2, 1), [], commit=4)
    member.engine._onTick(0)
    assert member.applied == [b"2.1"]
    member.append(2, (2, 1), [(3, 2), (4, 2)], commit=4)
    member.engine._onTick(0)
    assert member.applied == [b"2.1", b"3.2", b"4.2"]


def test_parts_of_a_snapshot_commit_nothing(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1)])
    parts = [pack(Parcel(LogSnapshot(9, b"x"), LogEntry(b"\0", 8, 2), LogEntry(b"\0", 9, 2)))[:10], True, False, 0]
    assert member.receive("b", "append_entries", term=2, commit_index=9, serialized=parts) == []
    member.engine._onTick(0)
    assert member.applied == []


PARCEL = Parcel(LogSnapshot(4, b"2.1|3.1|4.1"), LogEntry(REGULAR + b"3.1", 3, 1), LogEntry(REGULAR + b"4.1", 4, 1))


def test_a_snapshot_keeps_what_was_acknowledged_beyond_it(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1), (4, 1), (5, 1)])
    (answer,) = member.snapshot(1, PARCEL, commit=4)
    assert answer["next_node_idx"] == 5, "more was acknowledged than the snapshot verified"
    assert member.log() == member.durable_log() == [(3, 1), (4, 1), (5, 1)]
    assert member.applied == [b"2.1", b"3.1", b"4.1"]
    assert member.store.snapshot == PARCEL.snapshot


def test_a_snapshot_replaces_a_log_that_conflicts_in_one_transaction(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1)])
    saves = len(member.store.saves)
    member.snapshot(2, PARCEL, commit=4)
    assert member.log() == member.durable_log() == [(3, 1), (4, 1)]
    first, *rest = member.store.saves[saves:]
    assert (first.snapshot, first.cut_from, len(first.append)) == (PARCEL.snapshot, 0, 2)
    assert all(change.snapshot is None and not change.append for change in rest)
    again = Member(member.store)
    assert again.applied == [b"2.1", b"3.1", b"4.1"]
    assert again.engine.raftLastApplied == 4
    again.close()


def test_an_older_snapshot_takes_nothing_back(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1), (4, 1), (5, 1), (6, 1)], commit=5)
    member.engine._onTick(0)
    (answer,) = member.snapshot(1, PARCEL, commit=5)
    assert answer["next_node_idx"] == 6
    assert member.log()[-1] == (6, 1)
    assert member.applied == [b"2.1", b"3.1", b"4.1", b"5.1"]


def test_a_leader_that_contradicts_what_is_committed_stops_this_member(member: Member) -> None:
    member.append(1, (1, 0), [(2, 1), (3, 1)], commit=3)
    with pytest.raises(CorruptData, match="restored from a backup"):
        member.append(2, (1, 0), [(2, 2)])
    with pytest.raises(CorruptData):
        member.engine.tick()


def test_votes_count_once_for_each_node_and_only_in_their_term(member: Member) -> None:
    member.engine._SyncObj__raftElectionDeadline = 0
    member.engine._onTick(0)
    term = member.engine.raftCurrentTerm
    member.receive("b", "response_vote", term=term - 1)
    member.receive("b", "response_vote", term=term)
    member.receive("b", "response_vote", term=term)
    assert not member.engine._isLeader(), "two votes of five made a leader"
    member.receive("c", "response_vote", term=term)
    assert member.engine._isLeader()


def test_a_leader_counts_itself_only_when_durable(member: Member) -> None:
    member.elect()
    member.engine.propose(REGULAR, b"x", lambda value, reason: None)
    member.engine._onTick(0)
    member.store.error = StorePoisoned("broken")
    member.engine.propose(REGULAR, b"y", lambda value, reason: None)
    with pytest.raises(StorePoisoned):
        member.engine._onTick(0)
    last = member.journal.last.index
    for peer in "bc":
        member.receive(peer, "next_node_idx", term=1, next_node_idx=last + 1, reset=False, success=True)
    with pytest.raises(StorePoisoned):
        member.engine._onTick(0)
    assert b"y" not in member.applied


def test_an_acknowledgement_of_another_term_counts_for_nothing(member: Member) -> None:
    member.elect()
    last = member.journal.last.index
    for peer in "bc":
        member.receive(peer, "next_node_idx", term=0, next_node_idx=last + 1, reset=False, success=True)
    member.engine._onTick(0)
    assert member.engine.raftCommitIndex == 1
    for peer in "bc":
        member.receive(peer, "next_node_idx", term=1, next_node_idx=last + 1, reset=False, success=True)
    member.engine._onTick(0)
    assert member.engine.raftCommitIndex == last


def test_a_follower_with_a_longer_log_does_not_make_the_leader_wait(member: Member) -> None:
    member.elect()
    member.receive("b", "next_node_idx", term=1, next_node_idx=50, reset=True, success=False)
    node = Node("b")
    assert member.engine._SyncObj__raftNextIndex[node] == member.journal.last.index + 1
    assert member.engine._SyncObj__raftMatchIndex[node] == 0


def test_acknowledgements_do_not_make_the_leader_send_again(member: Member) -> None:
    member.elect()
    for number in range(5):
        member.engine.propose(REGULAR, b"%d" % number, lambda value, reason: None)
        member.engine._onTick(0)
    member.receive("b", "next_node_idx", term=1, next_node_idx=4, reset=False, success=True)
    assert member.engine._SyncObj__raftNextIndex[Node("b")] == member.journal.last.index + 1


def test_queued_commands_go_out_in_one_message(member: Member) -> None:
    member.elect()
    member.engine._onTick(0)
    member.network.sent.clear()
    for number in range(50):
        member.engine.propose(REGULAR, b"%d" % number, lambda value, reason: None)
    member.engine._onTick(0)
    carrying = [message for _, message in member.network.sent if message.get("entries")]
    assert len(carrying) == 4  # one for each peer
    assert all(len(message["entries"]) >= 50 for message in carrying)


def test_compaction_is_one_transaction(member: Member) -> None:
    member.append(1, (1, 0), [(index, 1) for index in range(2, 12)], commit=11)
    member.engine._onTick(0)
    member.engine.forceLogCompaction()
    member.engine._onTick(0)
    saves = len(member.store.saves)
    member.engine._onTick(0)
    (change,) = member.store.saves[saves:]
    assert change.snapshot == LogSnapshot(11, member.dump())
    assert change.trim_before == 10
    assert member.durable_log() == [(10, 1), (11, 1)]


def test_only_regular_entries_and_no_ops_are_forwarded_and_applied(member: Member) -> None:
    member.elect()
    before = member.journal.last.index
    for first in (b"\2", b"\3", b"\x80"):
        member.receive("b", "apply_command", command=first + b"cos\nsystem\n", request_id=1)
    member.receive("b", "apply_command", command=NO_OP, request_id=2)
    member.receive("b", "apply_command", command=REGULAR + b"fine", request_id=3)
    member.engine._onTick(0)
    assert [entry.command for entry in member.journal[-2:]] == [NO_OP, REGULAR + b"fine"]
    assert member.journal.last.index == before + 2


def test_a_large_snapshot_goes_in_parts_and_a_lost_part_starts_anew(member: Member) -> None:
    large = LogSnapshot(9, b"x" * (PART_SIZE * 2 + 100))
    member.journal.install(large, LogEntry(b"\0", 8, 1), LogEntry(b"\0", 9, 1))
    snapshots, assembly = member.engine._snapshots, member.engine._assembly
    parts = [snapshots.getTransmissionData("b") for _ in range(3)]
    assert [part[1:3] for part in parts if part] == [(True, False), (False, False), (False, True)]
    assert assembly.add("l", parts[0]) is assembly.add("l", parts[2]) is assembly.add("l", parts[1]) is None
    results = [assembly.add("l", part) for part in parts]
    assert results[:2] == [None, None]
    assert results[2] is not None
    assert results[2].snapshot == large
    snapshots.getTransmissionData("b")
    snapshots.cancelTransmisstion("b")
    again = snapshots.getTransmissionData("b")
    assert again is not None
    assert again[1] is True
    for rubbish in (None, 5, [b"", True, True], [b"rubbish", True, True, 0], ["text", True, True, 0]):
        assert assembly.add("l", rubbish) is None
