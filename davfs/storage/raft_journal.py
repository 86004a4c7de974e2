"""Raft's log, term, vote and snapshot in one SQLite database: what ``core.ports.JournalStore`` promises.

Log and snapshot live in the same database so that a compaction (new snapshot, trimmed log) is one transaction: there is
no instant at which a kill or a power loss leaves one without the other. WAL with ``synchronous=FULL``: a commit returns
after its fsync. May import nothing of davfs but core.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from davfs.core.errors import CorruptData, NoSpace, StorePoisoned, Unavailable, UnknownFormat
from davfs.core.raft_log import HardState, LogChange, LogEntry, LogImage, LogSnapshot

APPLICATION_ID = 0x64615266  # "daRf", so that file(1) and a wrong path are told apart
FORMAT = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE log (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL, command BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE hard (one INTEGER PRIMARY KEY CHECK (one = 1), boot INTEGER NOT NULL, term INTEGER NOT NULL,
                   voted_for TEXT, commit_index INTEGER NOT NULL);
CREATE TABLE snapshot (one INTEGER PRIMARY KEY CHECK (one = 1), idx INTEGER NOT NULL, data BLOB NOT NULL,
                       digest BLOB NOT NULL);
INSERT INTO hard VALUES (1, 0, 0, NULL, 1);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


class RaftJournal:
    """A :class:`~davfs.core.ports.JournalStore`. One process at a time has it open; the operating system sees to that.

    Errors of the constructor: :class:`UnknownFormat` (a newer davfs wrote it, or it is something else),
    :class:`Unavailable` (another process has it open), :class:`CorruptData`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._poisoned: str | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        # Used by one thread at a time, but not always by the one that made it.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._db.close()
            if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Unavailable(f"{path} is in use by another process; stop that node first") from error
            raise
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise CorruptData(f"{path} is not a readable Raft journal: {error}") from error
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        # Exclusive before WAL: no shared-memory file, and a second process is refused for as long as this one runs.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        empty = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty:
            self._db.executescript(_SCHEMA)
        application, version = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != APPLICATION_ID or version != FORMAT:
            raise UnknownFormat(f"{self._path} has journal format {version}; this davfs knows format {FORMAT}")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("COMMIT")
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    # --- the port ---------------------------------------------------------------------------------------------------

    def load(self) -> LogImage:
        """Everything, verified; counts one boot more, durably. :class:`CorruptData` names what does not fit."""
        try:
            self._check_pages()
            self._db.execute("UPDATE hard SET boot = boot + 1")
            head = self._db.execute("SELECT boot, term, voted_for, commit_index FROM hard").fetchone()
            rows = self._db.execute("SELECT command, idx, term, crc FROM log ORDER BY idx").fetchall()
            saved = self._db.execute("SELECT idx, data, digest FROM snapshot").fetchone()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT:
                raise self._damaged(str(error)) from error
            raise self._failed(error) from error
        try:
            return self._image(head, rows, saved)
        except (TypeError, ValueError) as error:  # a value of another kind than any that was written
            raise self._damaged(str(error)) from error

    def _check_pages(self) -> None:
        """SQLite's own look at all pages: a row that is not found has no checksum to be wrong."""
        found = [text for (text,) in self._db.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise self._damaged("; ".join(map(str, found)))

    def _damaged(self, what: str) -> CorruptData:
        return CorruptData(
            f"{self._path} is damaged: {what}. What this node voted may be lost with it: let it come back like one whose disk"
            " was replaced (davfs node readmit)"
        )

    def _image(self, head: Any, rows: list[Any], saved: Any) -> LogImage:
        boot, *hard = head
        entries = tuple(LogEntry(bytes(command), index, term) for command, index, term, _ in rows)
        for entry, row in zip(entries, rows, strict=True):
            if _checksum(entry) != row[3]:
                raise CorruptData(f"entry {entry.index} of {self._path} does not have its checksum")
        snapshot = None
        if saved is not None:
            snapshot = LogSnapshot(saved[0], bytes(saved[1]))
            if _digest(snapshot) != saved[2]:
                raise CorruptData(f"the snapshot in {self._path} does not have its digest")
        self._check_whole(entries, snapshot)
        return LogImage(boot, HardState(*hard), entries, snapshot)

    def save(self, change: LogChange) -> None:
        """One synced transaction. After :class:`NoSpace` nothing has changed and a later try may succeed."""
        if self._poisoned is not None:
            raise StorePoisoned(self._poisoned)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._write(change)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            raise self._failed(error) from error

    def close(self) -> None:
        self._db.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _write(self, change: LogChange) -> None:
        if change.cut_from is not None:
            self._db.execute("DELETE FROM log WHERE idx >= ?", (change.cut_from,))
        self._db.executemany(
            "INSERT INTO log (idx, term, command, crc) VALUES (?, ?, ?, ?)",
            [(entry.index, entry.term, entry.command, _checksum(entry)) for entry in change.append],
        )
        if change.snapshot is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO snapshot VALUES (1, ?, ?, ?)",
                (change.snapshot.index, change.snapshot.data, _digest(change.snapshot)),
            )
        if change.trim_before is not None:
            self._db.execute("DELETE FROM log WHERE idx < ?", (change.trim_before,))
        self._db.execute("UPDATE hard SET term = ?, voted_for = ?, commit_index = ?", change.hard)

    def _failed(self, error: sqlite3.Error) -> NoSpace | StorePoisoned:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            return NoSpace(f"the disk of {self._path} is full: Raft cannot go on here until there is room")
        # A failed sync may have lost what it was to write, and a second one would not say so: never try again.
        self._poisoned = (
            f"Raft's journal {self._path} could not be made durable ({error}); check the disk, then restart"
        )
        return StorePoisoned(self._poisoned)

    def _check_whole(self, entries: tuple[LogEntry, ...], snapshot: LogSnapshot | None) -> None:
        first = 1 if snapshot is None else snapshot.index - 1
        indexes = [entry.index for entry in entries]
        if indexes != list(range(first, first + len(entries))) or (snapshot is not None and len(entries) < 2):
            raise CorruptData(f"the log in {self._path} has gaps or does not continue its snapshot")


def _checksum(entry: LogEntry) -> int:
    return zlib.crc32(entry.command, zlib.crc32(b"%d %d" % (entry.index, entry.term)))


def _digest(snapshot: LogSnapshot) -> bytes:
    return hashlib.sha256(b"%d " % snapshot.index + snapshot.data).digest()
