"""What Raft keeps on disk, as plain values: shared by the journal's store (storage) and its user (consensus).

May import nothing of davfs. The terms are those of "In Search of an Understandable Consensus Algorithm" (Ongaro and
Ousterhout, 2014), figure 2: a log of entries, the hard state (term, vote), and a snapshot that stands for a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class LogEntry(NamedTuple):
    """One entry of the log. The order of the fields is the one of PySyncObj, which takes and gives such triples."""

    command: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    term: int


class HardState(NamedTuple):
    """Term and vote, and how far the log is known to be committed (a hint that costs nothing; it may lag behind)."""

    term: int = 0
    voted_for: str | None = None
    commit_index: int = 1


class LogSnapshot(NamedTuple):
    """The state machine after the entry ``index``. The log keeps that entry and the one before it."""

    index: int  # type: ignore[assignment]
    data: bytes


@dataclass(frozen=True, slots=True)
class LogImage:
    """What a journal held when it was opened. ``boot`` counts the openings: it is larger each time."""

    boot: int
    hard: HardState
    entries: tuple[LogEntry, ...]
    snapshot: LogSnapshot | None


@dataclass(frozen=True, slots=True)
class LogChange:
    """A change that becomes durable whole or not at all. Order: cut, append, snapshot, trim.

    ``cut_from``: drop all entries with that index or a larger one; ``trim_before``: drop those with a smaller one.
    """

    hard: HardState
    cut_from: int | None = None
    append: tuple[LogEntry, ...] = field(default=())
    snapshot: LogSnapshot | None = None
    trim_before: int | None = None
