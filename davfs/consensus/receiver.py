"""The rules by which a follower takes AppendEntries (Raft, figure 2), as rewritings of PySyncObj's message.

PySyncObj cuts everything behind ``prevLogIdx`` and commits up to the end of its log. A shorter message that comes later would
thereby take away entries that were acknowledged, and a tail that no leader has confirmed could be committed. Here a message
is brought into a form for which PySyncObj does the right thing: cut only at a conflict, commit only what is verified.
Reads the journal and sets its ``keep_tail``; no other effect. May import core.
"""

from __future__ import annotations

from typing import Any

from davfs.consensus.journal import DurableJournal
from davfs.core.raft_log import LogEntry

Message = dict[str, Any]


class Contradiction(Exception):
    """The leader has another entry at an index that is committed here: never, unless a journal is not what it was."""

    def __init__(self, index: int) -> None:
        super().__init__(f"another entry {index} is committed here")
        self.index = index


def admit_entries(message: Message, journal: DurableJournal, committed: int) -> Message:
    """An AppendEntries of the current leader, without the entries that are here already.

    ``committed``: the index up to which this node knows that entries are committed. :class:`Contradiction`.
    """
    previous: int | None = message["prevLogIdx"]
    known = None if previous is None else journal.term_at(previous)
    if previous is None or known is None:
        return message  # PySyncObj answers where this log ends
    if known != message["prevLogTerm"]:
        if previous <= committed:
            raise Contradiction(previous)
        return message  # PySyncObj asks for an earlier one
    entries: list[list[Any]] = message["entries"]
    matching = 0
    while matching < len(entries) and journal.term_at(entries[matching][1]) == entries[matching][2]:
        matching += 1
    if matching == len(entries):
        return heartbeat(message, journal, previous + matching, committed)
    conflict = previous + matching + 1
    if conflict <= committed:
        raise Contradiction(conflict)
    return message | {
        "prevLogIdx": conflict - 1,
        "prevLogTerm": journal.term_at(conflict - 1),
        "entries": [LogEntry(*entry) for entry in entries[matching:]],
    }


def heartbeat(message: Message, journal: DurableJournal, verified: int, committed: int) -> Message:
    """In place of a message whose entries are all here up to ``verified``: acknowledges them, and cuts nothing.

    What is committed here is the leader's as well (leader completeness), so it counts as verified.
    """
    verified = max(verified, committed)
    journal.keep_tail = True
    return {
        "type": "append_entries",
        "term": message["term"],
        "prevLogIdx": verified,
        "prevLogTerm": journal.term_at(verified),
        "entries": [],
        "commit_index": min(message["commit_index"], verified),
    }
