"""PySyncObj's journal over a store: what is durable when, and in which transactions."""

from __future__ import annotations

import random

import pytest

from davfs.consensus.journal import DurableJournal
from davfs.core.errors import NoSpace
from davfs.core.raft_log import HardState, LogEntry, LogSnapshot
from tests.unit.consensus.stores import MemoryStore


def filled(store: MemoryStore, count: int = 5) -> DurableJournal:
    journal = DurableJournal(store)
    for index in range(1, count + 1):
        journal.add(b"%d" % index, index, 1)
    journal.flush()
    return journal


def test_changes_gather_until_a_flush_and_become_one_transaction() -> None:
    store = MemoryStore()
    journal = filled(store)
    assert len(store.saves) == 1
    journal.deleteEntriesFrom(3)
    journal.add(b"other", 4, 2)
    journal.setCurrentTerm(2, "x")
    assert len(store.saves) == 1
    journal.flush()
    journal.flush()
    assert len(store.saves) == 2
    assert store.log[4] == LogEntry(b"other", 4, 2)
    assert sorted(store.log) == [1, 2, 3, 4]
    assert store.hard == HardState(2, "x", 1)


def test_the_commit_mark_costs_no_transaction_but_brings_what_it_covers() -> None:
    store = MemoryStore()
    journal = filled(store)
    journal.setRaftCommitIndex(5)
    assert len(store.saves) == 1
    journal.add(b"6", 6, 1)
    journal.setRaftCommitIndex(5)
    assert len(store.saves) == 1
    journal.setRaftCommitIndex(6)
    assert len(store.saves) == 2
    assert DurableJournal(store).getRaftCommitIndex() == 6


def test_a_failed_flush_is_made_up_for_by_the_next() -> None:
    store = MemoryStore()
    journal = filled(store)
    journal.deleteEntriesFrom(2)
    journal.add(b"other", 3, 2)
    store.error = NoSpace("full")
    with pytest.raises(NoSpace):
        journal.flush()
    store.error = None
    journal.add(b"more", 4, 2)
    journal.flush()
    assert [store.log[index] for index in (3, 4)] == [LogEntry(b"other", 3, 2), LogEntry(b"more", 4, 2)]
    assert sorted(store.log) == [1, 2, 3, 4]


def test_while_the_tail_is_kept_a_cut_does_nothing() -> None:
    store = MemoryStore()
    journal = filled(store)
    journal.keep_tail = True
    journal.deleteEntriesFrom(2)
    journal.keep_tail = False
    journal.flush()
    assert len(journal) == 5
    assert len(store.saves) == 1


def test_without_a_staged_snapshot_nothing_is_trimmed() -> None:
    journal = filled(MemoryStore())
    journal.deleteEntriesTo(3)
    assert len(journal) == 5


@pytest.mark.parametrize("seed", range(40))
def test_disk_follows_memory_through_any_changes_and_failures(seed: int) -> None:
    choice = random.Random(seed)
    store = MemoryStore()
    journal = filled(store)
    term = 1
    for _ in range(200):
        action = choice.randrange(7)
        if action < 3:
            journal.add(choice.randbytes(2), journal.last.index + 1, term)
        elif action == 3 and len(journal) > 3:
            term += 1
            journal.deleteEntriesFrom(choice.randrange(2, len(journal)))
        elif action == 4 and len(journal) > 4:
            kept = choice.randrange(0, len(journal) - 2)
            journal.stage(LogSnapshot(journal[kept + 1].index, b"%d" % term))
            store.error = None
            journal.deleteEntriesTo(kept)
        elif action == 5 and choice.random() < 0.3:
            index = choice.randrange(journal.first.index + 2, journal.last.index + 9)
            last = LogEntry(b"l", index, journal.term_at(index) or term)
            journal.install(LogSnapshot(index, b"installed"), LogEntry(b"b", index - 1, 1), last)
        else:
            store.error = NoSpace("full") if choice.random() < 0.3 else None
            try:
                journal.flush()
            except NoSpace:
                continue
            assert [tuple(entry) for entry in journal] == [tuple(store.log[index]) for index in sorted(store.log)]
            assert journal.snapshot == store.snapshot
    store.error = None
    journal.flush()
    again = DurableJournal(store)
    assert list(again) == list(journal)
    assert again.snapshot == journal.snapshot
    assert again.boot == journal.boot + 1
