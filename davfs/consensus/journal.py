"""PySyncObj's journal over a :class:`~davfs.core.ports.JournalStore`: changes gather in memory, ``flush`` makes them durable.

PySyncObj asks for single changes (cut, add, set term) and would make each durable by itself, or rather not at all. Here
they gather, and whoever is about to promise something (an acknowledgement, a vote, a commit) flushes first: cut and append
become one transaction, and a burst of commands costs one fsync. May import pysyncobj and core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pysyncobj.journal import Journal

from davfs.consensus import membership
from davfs.consensus.membership import Change, Members
from davfs.core.ports import JournalStore
from davfs.core.raft_log import LogChange, LogEntry, LogSnapshot


class DurableJournal(Journal):
    """The log, positions from 0 as PySyncObj counts them (entry indexes are one thing, positions another)."""

    def __init__(self, store: JournalStore) -> None:
        image = store.load()
        self._store = store
        self.boot = image.boot
        self.snapshot: LogSnapshot | None = image.snapshot
        self.keep_tail = False
        """While true, a cut does nothing: the engine has checked that what follows does not conflict (Raft, 5.3)."""
        self._entries = list(image.entries)
        self._changes = _changes(self._entries)
        self._hard = image.hard
        if self._entries:
            floor = image.snapshot.index if image.snapshot else 1
            self._hard = image.hard._replace(commit_index=max(floor, min(image.hard.commit_index, self.last.index)))
        self._saved_last = self._entries[-1].index if self._entries else 0
        self._dirty_from: int | None = None  # index from which disk and memory differ
        self._dirty_hard = False
        self._staged: LogSnapshot | None = None
        self._compacted = False

    # --- what PySyncObj calls ---------------------------------------------------------------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._entries.append(LogEntry(command, idx, term))
        if (change := membership.decode(command)) is not None:
            self._changes.append((idx, change))
        self._touch(idx)

    def clear(self) -> None:
        raise NotImplementedError("a snapshot is installed by install()")

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        if self.keep_tail or entryFrom >= len(self._entries):
            return
        cut = self._entries[entryFrom].index
        self._touch(cut)
        self._changes = [(index, change) for index, change in self._changes if index < cut]
        del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:
        """PySyncObj's half of a compaction: with the staged snapshot, one transaction."""
        if self._staged is None:
            return
        del self._entries[:entryTo]
        self._changes = [(index, change) for index, change in self._changes if index > self._staged.index]
        self.snapshot, self._staged, self._compacted = self._staged, None, True
        self.flush()

    def __getitem__(self, item: Any) -> Any:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        self._store.close()

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        # A leader counts itself for what it commits, so that must be durable. The mark itself may wait.
        self._hard = self._hard._replace(commit_index=raftCommitIndex)
        if self._dirty_from is not None and self._dirty_from <= raftCommitIndex:
            self.flush()

    def getRaftCommitIndex(self) -> int:
        return self._hard.commit_index

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        self._hard = self._hard._replace(term=term, voted_for=votedForNodeId)
        self._dirty_hard = True

    def getCurrentTerm(self) -> int:
        return self._hard.term

    def getVotedForNodeId(self) -> str | None:
        return self._hard.voted_for

    # --- what the engine calls --------------------------------------------------------------------------------------

    @property
    def first(self) -> LogEntry:
        return self._entries[0]

    @property
    def last(self) -> LogEntry:
        return self._entries[-1]

    def term_at(self, index: int) -> int | None:
        """The term of the entry with that index; None where the log has none (any more, or yet)."""
        position = index - self._entries[0].index
        return self._entries[position].term if 0 <= position < len(self._entries) else None

    @property
    def last_change(self) -> int:
        """The index of the last change of the membership that is in the log; 0 without one."""
        return self._changes[-1][0] if self._changes else 0

    def members(self, index: int | None = None) -> Members | None:
        """The membership as the log has it at its end, or after the entry ``index``; None if it never named one."""
        for at, change in reversed(self._changes):
            if index is None or at <= index:
                return change.after
        return membership.known_in(self.snapshot.data) if self.snapshot is not None else None

    def stage(self, snapshot: LogSnapshot) -> None:
        """A snapshot of the state machine that replaces the current one with the next ``deleteEntriesTo``."""
        self._staged = snapshot

    def install(self, snapshot: LogSnapshot, before: LogEntry, last: LogEntry) -> None:
        """Take a leader's snapshot; ``before`` and ``last`` are its last two entries.

        What the log has beyond stays if the snapshot's last entry is in the log, as Raft demands (section 7): it may
        have been acknowledged already. Otherwise the log conflicts with the snapshot and goes.
        """
        tail: list[LogEntry] = []
        if self.term_at(last.index) == last.term:
            tail = self._entries[last.index - self._entries[0].index + 1 :]
        self._entries = [before, last, *tail]
        self._changes = [(index, change) for index, change in _changes(tail) if index > snapshot.index]
        self.snapshot, self._staged, self._compacted = snapshot, None, True
        self._dirty_from = 0

    def flush(self) -> None:
        """Make everything durable that is not yet, in one transaction. On an error nothing of it counts as done."""
        if self._dirty_from is None and not self._dirty_hard and not self._compacted:
            return
        dirty = self._dirty_from
        append: tuple[LogEntry, ...] = ()
        if dirty is not None:
            append = tuple(self._entries[max(0, dirty - self._entries[0].index) :])
        self._store.save(
            LogChange(
                hard=self._hard,
                cut_from=dirty if dirty is not None and dirty <= self._saved_last else None,
                append=append,
                snapshot=self.snapshot if self._compacted else None,
                trim_before=self._entries[0].index if self._compacted else None,
            )
        )
        self._saved_last = self._entries[-1].index if self._entries else 0
        self._dirty_from, self._dirty_hard, self._compacted = None, False, False

    def _touch(self, index: int) -> None:
        self._dirty_from = index if self._dirty_from is None else min(self._dirty_from, index)


def _changes(entries: Sequence[LogEntry]) -> list[tuple[int, Change]]:
    decoded = ((entry.index, membership.decode(entry.command)) for entry in entries)
    return [(index, change) for index, change in decoded if change is not None]
