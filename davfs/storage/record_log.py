"""The log of a replica's database, inside transactions of the caller's: where its records stand, and the oldest go.

The log is contiguous and ends with the newest record; what is before the oldest kept one was trimmed. Table ``epoch``
says with which seq each epoch begins, so a position is known for every seq of the history, kept or not (decision 0003:
seqs count on across epochs). May import only core.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from davfs.core.errors import CorruptData, LogTrimmed
from davfs.core.model import ORIGIN, Epoch, Position


def newest(db: sqlite3.Connection) -> Position:
    """The position of the last record, ORIGIN for an empty log."""
    row = db.execute("SELECT incarnation, counter, seq FROM log ORDER BY seq DESC LIMIT 1").fetchone()
    return ORIGIN if row is None else Position(Epoch(*row[:2]), row[2])


def floor(db: sqlite3.Connection) -> Position:
    """The position before the oldest record that is kept."""
    (oldest,) = db.execute("SELECT min(seq) FROM log").fetchone()
    return ORIGIN if oldest is None else position(db, oldest - 1)


def position(db: sqlite3.Connection, seq: int) -> Position:
    """The position of any seq up to the newest; :class:`CorruptData` if the table of epochs has a hole."""
    if seq == 0:
        return ORIGIN
    row = db.execute("SELECT incarnation, counter FROM epoch WHERE seq <= ? ORDER BY seq DESC LIMIT 1", (seq,)).fetchone()
    if row is None:
        raise CorruptData(f"nothing is known of the epoch of record {seq}")
    return Position(Epoch(*row), seq)


def read(db: sqlite3.Connection, first_seq: int, limit_bytes: int) -> list[bytes]:
    """Encoded records from ``first_seq`` on; :class:`LogTrimmed` if that one is kept no longer."""
    found: list[bytes] = []
    size = 0
    rows = db.execute("SELECT seq, record FROM log WHERE seq >= ? ORDER BY seq", (first_seq,))
    for seq, record in rows:
        if not found and seq != first_seq:
            rows.close()
            raise LogTrimmed(f"record {first_seq} is in the log no longer; the oldest is {seq}")
        size += len(record)
        if found and size > limit_bytes:
            break
        found.append(record)
    rows.close()
    return found


def add(db: sqlite3.Connection, last: Position, records: Sequence[tuple[Position, bytes]]) -> Position:
    """Append behind ``last``; the new end. ValueError for a gap or a falling epoch."""
    for at, _ in records:
        if at.seq != last.seq + 1 or at.epoch < last.epoch:
            raise ValueError(f"record {at} cannot follow {last}")
        if at.epoch != last.epoch:
            db.execute("INSERT INTO epoch (seq, incarnation, counter) VALUES (?, ?, ?)", (at.seq, *at.epoch))
        last = at
    db.executemany(
        "INSERT INTO log (seq, incarnation, counter, record) VALUES (?, ?, ?, ?)",
        [(at.seq, *at.epoch, data) for at, data in records],
    )
    return last


def cut(db: sqlite3.Connection, cut_from: int) -> Position:
    """Move all records with seq >= ``cut_from`` to the late ones; the new end."""
    db.execute(
        "INSERT OR REPLACE INTO late (incarnation, counter, seq, record)"
        " SELECT incarnation, counter, seq, record FROM log WHERE seq >= ?",
        (cut_from,),
    )
    db.execute("DELETE FROM log WHERE seq >= ?", (cut_from,))
    db.execute("DELETE FROM epoch WHERE seq >= ?", (cut_from,))
    return position(db, cut_from - 1)


def trim(db: sqlite3.Connection, below: int, limit: int) -> int:
    """Forget up to ``limit`` of the oldest records, none from ``below`` on; how many went."""
    return db.execute(
        "DELETE FROM log WHERE seq IN (SELECT seq FROM log WHERE seq < ? ORDER BY seq LIMIT ?)", (below, limit)
    ).rowcount


def within(db: sqlite3.Connection, size: int, first: int) -> int:
    """The lowest seq, but none before ``first``, from which on the records are ``size`` bytes together or less."""
    total = 0
    low = 1 << 62
    rows = db.execute("SELECT seq, length(record) FROM log WHERE seq >= ? ORDER BY seq DESC", (first,))
    for seq, length in rows:
        total += length
        if total > size:
            break
        low = seq
    rows.close()
    return low
