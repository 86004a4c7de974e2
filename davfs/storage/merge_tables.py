"""What merging keeps beside the index, in a replica's database: names that show elsewhere than they were written, values
that lost, and what became of late records. Inside transactions of the caller's. May import only core.

Table ``name_more``: names with more than the ordinary; ``shadow``: values that do not show; ``settled``: late records.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from davfs.core import keys, values
from davfs.core.canonical import canonical
from davfs.core.keys import Key
from davfs.core.model import Epoch, Position
from davfs.core.values import NameEntry
from davfs.storage import record_log

_PUT_NAME = (
    "INSERT OR REPLACE INTO name_more (inode, json, raw_parent, claim_parent, claim_name, origin) VALUES (?, ?, ?, ?, ?, ?)"
)
_PUT_SETTLED = "INSERT OR REPLACE INTO settled (incarnation, counter, seq, version, json) VALUES (?, ?, ?, ?, ?)"
_AT = (
    "SELECT inode FROM entry WHERE parent = ?1 AND name = ?2"
    " UNION SELECT inode FROM entry WHERE parent = ?1 AND canonical = ?2"
    " UNION SELECT inode FROM name_more WHERE claim_parent = ?1 AND claim_name = ?2"
)
_IN = (
    "SELECT inode FROM entry WHERE parent = ?1 UNION SELECT inode FROM name_more WHERE claim_parent = ?1"
    " UNION SELECT inode FROM name_more WHERE raw_parent = ?1"
)


def put_name(db: sqlite3.Connection, inode: str, text: str, entry: NameEntry) -> None:
    """Note what is known of a name beyond the ordinary."""
    if entry.plain:
        db.execute("DELETE FROM name_more WHERE inode = ?", (inode,))
    else:
        parent, name = entry.claim or (None, "")
        raw = None if entry.raw is None else entry.raw[0]
        db.execute(_PUT_NAME, (inode, text, raw, parent, parent and canonical(name), entry.origin or None))


def delete_name(db: sqlite3.Connection, inode: str) -> None:
    """The entry is gone."""
    db.execute("DELETE FROM name_more WHERE inode = ?", (inode,))


def put_or_delete(db: sqlite3.Connection, key: Key, value: str | None) -> None:
    """Enter a shadow, or what became of a late record."""
    if key.kind == keys.SETTLED:
        at = keys.parse_version(key.inode)
        if value is None:
            db.execute("DELETE FROM settled WHERE incarnation = ? AND counter = ? AND seq = ?", (*at.epoch, at.seq))
        else:
            db.execute(_PUT_SETTLED, (*at.epoch, at.seq, key.version, value))
    else:
        text = keys.make(key.kind, key.inode, key.version, key.part)
        if value is None:
            db.execute("DELETE FROM shadow WHERE key = ?", (text,))
        else:
            db.execute("INSERT OR REPLACE INTO shadow (key, inode, json) VALUES (?, ?, ?)", (text, key.inode, value))


class SqliteMergeView:
    """Port: :class:`davfs.core.facts.MergeView`. For one thread, while its transaction lasts."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        incarnation, counter, seq = db.execute(
            "SELECT committed_incarnation, committed_counter, committed_seq FROM state"
        ).fetchone()
        self._end = Position(Epoch(incarnation, counter), seq)

    def stored_name(self, inode: str) -> tuple[str, NameEntry] | None:
        row = self._db.execute(
            "SELECT e.version, e.parent, e.name, e.kind, e.created_ns, m.json FROM entry e"
            " LEFT JOIN name_more m ON m.inode = e.inode WHERE e.inode = ?",
            (inode,),
        ).fetchone()
        if row is None:
            return None
        return row[0], NameEntry(*row[1:5]) if row[5] is None else values.decode_name(row[5])

    def stored_content(self, inode: str) -> tuple[str, str] | None:
        row = self._db.execute("SELECT version, json FROM manifest WHERE inode = ?", (inode,)).fetchone()
        return None if row is None else (row[0], row[1])

    def properties(self, inode: str) -> Mapping[str, tuple[str, str]]:
        rows = self._db.execute("SELECT name, version, xml FROM property WHERE inode = ?", (inode,))
        return {name: (version, xml) for name, version, xml in rows}

    def shadows(self, inode: str) -> Sequence[tuple[str, str]]:
        return self._db.execute("SELECT key, json FROM shadow WHERE inode = ? ORDER BY key", (inode,)).fetchall()

    def copies(self, inode: str) -> Sequence[str]:
        return self._inodes("SELECT inode FROM name_more WHERE origin = ? ORDER BY inode", inode)

    def claimants(self, parent: str, name: str) -> Iterable[str]:
        return self._inodes(_AT, parent, canonical(name))

    def members(self, parent: str) -> Iterable[str]:
        return self._inodes(_IN, parent)

    def displaced(self) -> Iterable[str]:
        return self._inodes(
            "SELECT inode FROM name_more WHERE claim_parent IS NOT NULL OR raw_parent IS NOT NULL ORDER BY inode"
        )

    def seen(self, version: str, by: str) -> bool:
        """Whether whoever wrote ``by`` had ``version`` before him: it, or the merge that brought it, stands before."""
        earlier, later = keys.parse_version(version), keys.parse_version(by)
        if self._is_common(later):
            known = later.seq - 1
        elif earlier.epoch == later.epoch and not self._is_common(earlier):
            return earlier.seq < later.seq
        else:
            known = self._fork(later.epoch)
        if self._is_common(earlier):
            return earlier.seq <= known
        settled = self._db.execute(
            "SELECT version FROM settled WHERE incarnation = ? AND counter = ? AND seq = ?", (*earlier.epoch, earlier.seq)
        ).fetchone()
        return settled is not None and keys.parse_version(settled[0]).seq <= known

    def _is_common(self, at: Position) -> bool:
        return at.seq <= self._end.seq and record_log.position(self._db, at.seq) == at

    def _fork(self, epoch: Epoch) -> int:
        """Where a history of that epoch left this one: before the first record of a later epoch."""
        (after,) = self._db.execute(
            "SELECT min(seq) FROM epoch WHERE (incarnation, counter) > (?, ?)", epoch
        ).fetchone()
        return self._end.seq if after is None else after - 1

    def _inodes(self, statement: str, *arguments: str) -> list[str]:
        return [inode for (inode,) in self._db.execute(statement, arguments)]


def settled(db: sqlite3.Connection) -> list[tuple[Position, str, str]]:
    """(position, version, what became of it) of all late records that were handled, by position."""
    rows = db.execute("SELECT incarnation, counter, seq, version, json FROM settled ORDER BY 1, 2, 3").fetchall()
    return [(Position(Epoch(i, c), seq), version, text) for i, c, seq, version, text in rows]


def handled(db: sqlite3.Connection, at: Position, committed: Position) -> bool:
    """Whether a record is late no more: it was settled, or is in the committed history after all."""
    if at.seq <= committed.seq and record_log.position(db, at.seq) == at:
        return True
    statement = "SELECT 1 FROM settled WHERE incarnation = ? AND counter = ? AND seq = ?"
    return db.execute(statement, (*at.epoch, at.seq)).fetchone() is not None


def late_page(db: sqlite3.Connection, after: Position, limit_bytes: int) -> list[tuple[Position, bytes]]:
    """Late records behind a position, by position."""
    found: list[tuple[Position, bytes]] = []
    size = 0
    rows = db.execute(
        "SELECT incarnation, counter, seq, record FROM late WHERE (incarnation, counter, seq) > (?, ?, ?) ORDER BY 1, 2, 3",
        (*after.epoch, after.seq),
    )
    for incarnation, counter, seq, record in rows:
        size += len(record)
        if found and size > limit_bytes:
            break
        found.append((Position(Epoch(incarnation, counter), seq), record))
    rows.close()
    return found


def add_late(db: sqlite3.Connection, records: Sequence[tuple[Position, bytes]]) -> None:
    """Keep records as late ones; those that are late already stay as they are."""
    db.executemany(
        "INSERT OR IGNORE INTO late (incarnation, counter, seq, record) VALUES (?, ?, ?, ?)",
        [(*at.epoch, at.seq, record) for at, record in records],
    )


def drop_handled(db: sqlite3.Connection, committed: Position) -> int:
    """Forget late records that need no handling any more; how many."""
    rows = db.execute("SELECT incarnation, counter, seq FROM late").fetchall()
    gone = [row for row in rows if handled(db, Position(Epoch(*row[:2]), row[2]), committed)]
    db.executemany("DELETE FROM late WHERE incarnation = ? AND counter = ? AND seq = ?", gone)
    return len(gone)
