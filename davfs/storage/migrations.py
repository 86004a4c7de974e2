"""Steps from each format of a replica's database to the next. May import only core.

``STEPS[n]`` is the SQL script from format n to n + 1. A new database is made in format 1 and takes the same steps, so it
cannot differ from one that was migrated. All the steps that an open needs run in one transaction with the new number:
one that fails or is killed leaves the old database, which the davfs that wrote it opens as before.

A script may call ``nfc(text)``: the text in Unicode's form NFC if that differs from it, else NULL.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from davfs.core.canonical import canonical

STEPS: Mapping[int, str] = {
    1: """
-- The entries of a directory lie together, whenever they were made: listing it is one walk, a path one look a name.
-- Names that are not in NFC are found by their NFC form too (core/names.py).
CREATE TABLE placed_entry (
    inode TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, version TEXT NOT NULL,
    created_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, canonical TEXT,
    PRIMARY KEY (parent, name, version, inode)) STRICT, WITHOUT ROWID;
INSERT INTO placed_entry (inode, parent, name, kind, version, created_ns, mtime_ns, size, etag, canonical)
    SELECT inode, parent, name, kind, version, created_ns, mtime_ns, size, etag, nfc(name) FROM entry
    ORDER BY parent, name, version;
DROP TABLE entry;
ALTER TABLE placed_entry RENAME TO entry;
CREATE UNIQUE INDEX entry_by_inode ON entry (inode);
CREATE INDEX entry_by_canonical ON entry (parent, canonical, version) WHERE canonical IS NOT NULL;
-- Small chunks have an age, and may be set aside (core/ports.py). What is short stands before what is long.
CREATE TABLE aged_chunk (
    digest TEXT PRIMARY KEY, touched_ns INTEGER NOT NULL, removed_ns INTEGER, size INTEGER NOT NULL, data BLOB NOT NULL)
    STRICT;
INSERT INTO aged_chunk (digest, touched_ns, size, data) SELECT digest, 0, length(data), data FROM chunk;
DROP TABLE chunk;
ALTER TABLE aged_chunk RENAME TO chunk;
CREATE INDEX chunk_removed ON chunk (removed_ns) WHERE removed_ns IS NOT NULL;
-- Which epoch each part of the history belongs to, whether the log still has its records or not.
CREATE TABLE epoch (seq INTEGER PRIMARY KEY, incarnation INTEGER NOT NULL, counter INTEGER NOT NULL) STRICT;
INSERT INTO epoch SELECT min(seq), incarnation, counter FROM log GROUP BY incarnation, counter;
-- What changed when, for etags of collections and for clients that sync (storage/change_marks.py).
ALTER TABLE entry ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN moved INTEGER NOT NULL DEFAULT 0;
UPDATE entry SET etag = inode || '.0' WHERE kind = 'd';
CREATE INDEX entry_by_change ON entry (changed, inode);
CREATE TABLE gone (
    seq INTEGER NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL, directory TEXT NOT NULL,
    PRIMARY KEY (seq, parent, name)) STRICT, WITHOUT ROWID;
CREATE INDEX gone_by_parent ON gone (parent, seq);
ALTER TABLE state ADD COLUMN root_changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN gone_floor INTEGER NOT NULL DEFAULT 0;
-- When what stands in the trash came there. Of what is there already the last change of the root's members is known.
ALTER TABLE entry ADD COLUMN trashed_ns INTEGER;
UPDATE entry SET trashed_ns = (SELECT root_mtime_ns FROM state) WHERE parent = 'trash';
CREATE INDEX entry_by_trashed ON entry (trashed_ns) WHERE trashed_ns IS NOT NULL;
-- Where it was, who put it there, and of which file it is an earlier content. Of what format 1 deleted that is not known.
ALTER TABLE entry ADD COLUMN trashed_path TEXT;
ALTER TABLE entry ADD COLUMN trashed_by TEXT;
ALTER TABLE entry ADD COLUMN earlier_of TEXT;
CREATE INDEX entry_by_earlier ON entry (earlier_of, trashed_ns) WHERE earlier_of IS NOT NULL;
-- What merging keeps beside the index (storage/merge_tables.py).
CREATE TABLE name_more (
    inode TEXT PRIMARY KEY, json TEXT NOT NULL, raw_parent TEXT, claim_parent TEXT, claim_name TEXT, origin TEXT)
    STRICT, WITHOUT ROWID;
CREATE INDEX name_more_by_claim ON name_more (claim_parent, claim_name) WHERE claim_parent IS NOT NULL;
CREATE INDEX name_more_by_raw ON name_more (raw_parent) WHERE raw_parent IS NOT NULL;
CREATE INDEX name_more_by_origin ON name_more (origin) WHERE origin IS NOT NULL;
CREATE TABLE shadow (key TEXT PRIMARY KEY, inode TEXT NOT NULL, json TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX shadow_by_inode ON shadow (inode);
CREATE TABLE settled (
    incarnation INTEGER NOT NULL, counter INTEGER NOT NULL, seq INTEGER NOT NULL, version TEXT NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (incarnation, counter, seq)) STRICT, WITHOUT ROWID;
-- How to take back what not a majority has (storage/undo.py).
CREATE TABLE undo (n INTEGER PRIMARY KEY, seq INTEGER NOT NULL, statement TEXT NOT NULL) STRICT;
CREATE INDEX undo_by_seq ON undo (seq);
""",
}

FORMAT = 1 + len(STEPS)


def migrate(db: sqlite3.Connection, version: int, steps: Mapping[int, str] = STEPS) -> None:
    """Bring a database of format ``version`` to the newest, inside the caller's transaction. sqlite3.Error as it comes."""
    db.create_function("nfc", 1, _nfc, deterministic=True)
    for number in range(version, 1 + len(steps)):
        for statement in _statements(steps[number]):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {1 + len(steps)}")


def _nfc(text: str) -> str | None:
    plain = canonical(text)
    return None if plain == text else plain


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, one after the other: ``executescript`` would commit what came before it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError(f"a migration ends within a statement: {statement!r}")
