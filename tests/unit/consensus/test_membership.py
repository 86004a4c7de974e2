"""Memberships as bytes and as rules, and how a journal keeps them through cuts, compaction and restarts."""

import pytest

from davfs.consensus import membership
from davfs.consensus.journal import DurableJournal
from davfs.consensus.membership import CAUGHT_UP, CONFIG, Change, members, objection
from davfs.core.raft_log import LogEntry, LogSnapshot
from tests.unit.consensus.stores import MemoryStore

THREE, FOUR, FIVE = members(["a", "b", "c"]), members(["a", "b", "c", "d"]), members(["a", "b", "c", "d", "e"])


def entry(before: membership.Members, after: membership.Members) -> bytes:
    return CONFIG + membership.encode(Change(before, after))


def test_an_entry_round_trips_and_others_are_none() -> None:
    change = Change(THREE, members(["a", "b", "c"], ["d"]))
    assert membership.decode(entry(*change)) == change
    assert membership.decode(b"\0anything") is None
    for damaged in (CONFIG, CONFIG + b"\xc1", entry(THREE, FOUR)[:-1]):
        with pytest.raises(ValueError, match="membership"):
            membership.decode(damaged)


def test_names_stand_once() -> None:
    pairs: list[tuple[object, object]] = [(["a", "a"], []), (["a"], ["a"]), ("abc", []), ([1], [])]
    for wrong in pairs:
        with pytest.raises((ValueError, TypeError)):
            members(*wrong)


def test_what_a_leader_refuses() -> None:
    assert objection(Change(THREE, FOUR), THREE, "a", {"d": CAUGHT_UP}) == ""
    assert "caught up" in objection(Change(THREE, FOUR), THREE, "a", {"d": CAUGHT_UP + 1})
    assert "caught up" in objection(Change(THREE, FOUR), THREE, "a", {})
    assert "since" in objection(Change(THREE, FOUR), FOUR, "a", {"d": 0})
    assert "more than one" in objection(Change(THREE, FIVE), THREE, "a", {"d": 0, "e": 0})
    assert "more than one" in objection(Change(THREE, members(["a", "b", "d"])), THREE, "a", {"d": 0})
    assert "hands over" in objection(Change(THREE, members(["b", "c"])), THREE, "a", {})


def test_a_cut_takes_a_change_back_and_a_restart_keeps_it() -> None:
    store = MemoryStore()
    journal = DurableJournal(store)
    journal.add(b"\1", 1, 0)
    journal.add(entry(THREE, FOUR), 2, 1)
    journal.add(b"\0x", 3, 1)
    journal.add(entry(FOUR, FIVE), 4, 1)
    journal.flush()
    assert journal.members() == FIVE
    assert journal.members(3) == FOUR
    assert journal.members(1) is None
    assert DurableJournal(store).members() == FIVE
    journal.deleteEntriesFrom(3)
    assert journal.members() == FOUR
    assert journal.last_change == 2


def test_a_snapshot_carries_what_the_log_no_longer_says() -> None:
    store = MemoryStore()
    journal = DurableJournal(store)
    for index, command in ((1, b"\1"), (2, entry(THREE, FOUR)), (3, b"\0x"), (4, b"\0y"), (5, entry(FOUR, FIVE))):
        journal.add(command, index, 1)
    journal.stage(LogSnapshot(4, membership.wrap(journal.members(4), b"state")))
    journal.deleteEntriesTo(2)
    assert journal.first.index == 3
    for known in (journal, DurableJournal(store)):
        assert known.members(4) == FOUR
        assert known.members() == FIVE
    journal.install(
        LogSnapshot(9, membership.wrap(FOUR, b"later")), LogEntry(b"\0", 8, 2), LogEntry(b"\0", 9, 2)
    )
    assert journal.members() == FOUR
    assert membership.state_in(b"of a founder") == b"of a founder"
    assert membership.state_in(membership.wrap(FOUR, b"later")) == b"later"
