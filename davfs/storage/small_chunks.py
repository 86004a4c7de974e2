"""The table of small chunks in a replica's database, inside the caller's transactions. May import only core.

A chunk that is set aside (``removed_ns``) is still read, and is there again when it is kept or comes once more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from blake3 import blake3

from davfs.core.chunk_port import ChunkPage
from davfs.core.errors import CorruptData

SWEPT_AT_ONCE = 500


def put(db: sqlite3.Connection, chunks: Sequence[tuple[str, bytes]], now_ns: int) -> None:
    """Store (digest, data), in place of what is there."""
    db.executemany(
        "INSERT OR REPLACE INTO chunk (digest, touched_ns, size, data) VALUES (?, ?, ?, ?)",
        [(digest, now_ns, len(data), data) for digest, data in chunks],
    )


def get(db: sqlite3.Connection, digest: str, path: str) -> bytes | None:
    """The bytes, verified, also of one that was set aside; :class:`CorruptData`, None if there is none."""
    row = db.execute("SELECT data FROM chunk WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    if blake3(row[0]).hexdigest() != digest:
        raise CorruptData(f"the small chunk {digest} in {path} has other bytes than its name says")
    data: bytes = row[0]
    return data


def has(db: sqlite3.Connection, digest: str) -> bool:
    """Whether it is there and not set aside (not verified)."""
    row = db.execute("SELECT 1 FROM chunk WHERE digest = ? AND removed_ns IS NULL", (digest,)).fetchone()
    return row is not None


def keep(db: sqlite3.Connection, digest: str, now_ns: int, path: str) -> int | None:
    """Verify a chunk and begin its grace anew; its size, None if there is none."""
    data = get(db, digest, path)
    if data is None:
        return None
    db.execute("UPDATE chunk SET touched_ns = ?, removed_ns = NULL WHERE digest = ?", (now_ns, digest))
    return len(data)


def page(db: sqlite3.Connection, after: str, limit: int, before: int) -> ChunkPage:
    """The next chunks by digest that are not set aside."""
    rows = db.execute(
        "SELECT digest, size, touched_ns FROM chunk WHERE digest > ? AND removed_ns IS NULL ORDER BY digest LIMIT ?",
        (after, limit),
    ).fetchall()
    old = [(digest, size) for digest, size, touched in rows if touched < before]
    return ChunkPage(old, len(rows), sum(size for _, size, _ in rows), rows[-1][0] if len(rows) == limit else None)


def remove(db: sqlite3.Connection, digests: Sequence[str], before: int, now_ns: int) -> tuple[int, int]:
    """Set aside those that were last touched before ``before``; (how many, their bytes)."""
    count = size = 0
    for digest in digests:
        # Read to the end: a statement with RETURNING changes nothing for good before that.
        rows = db.execute(
            "UPDATE chunk SET removed_ns = ? WHERE digest = ? AND touched_ns < ? AND removed_ns IS NULL RETURNING size",
            (now_ns, digest, before),
        ).fetchall()
        count += len(rows)
        size += sum(row[0] for row in rows)
    return count, size


def sweep(db: sqlite3.Connection, before: int) -> tuple[int, int]:
    """Delete some of what was set aside before ``before``; (how many, their bytes)."""
    rows = db.execute(
        "DELETE FROM chunk WHERE digest IN (SELECT digest FROM chunk WHERE removed_ns < ? LIMIT ?) RETURNING size",
        (before, SWEPT_AT_ONCE),
    ).fetchall()
    return len(rows), sum(row[0] for row in rows)
