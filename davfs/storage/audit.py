"""A close look at one committed state of a replica's database: does it hold together? May import only core.

What is said here of the database alone; whether the documents say the same as the index is for whoever can read documents
(``cluster/fsck.py``). Nothing is changed. Errors of SQLite pass through as they come: whoever opened the state translates
them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import msgpack

from davfs.core import keys, values
from davfs.core.errors import CorruptData
from davfs.core.keys import Key
from davfs.core.model import DIRECTORY, FILE, ROOTS, Epoch, Position
from davfs.core.ports import Problem, StoredDocument
from davfs.core.record import decode
from davfs.storage.index_view import SqliteIndexView
from davfs.storage.record_log import position

LISTED = 20
"""So many examples of one kind of damage are told; it is counted all the same."""

ROWS = 500
"""Rows that are read at once."""

_INDEX = {
    "entry": "inode",
    "manifest": "inode",
    "segment": "inode, number",
    "property": "inode, name",
    "name_more": "inode",
    "shadow": "key",
    "settled": "incarnation, counter, seq",
}
_COUNTED = {keys.NAME: "entry", keys.MANIFEST: "manifest", keys.SEGMENT: "segment", keys.PROPERTY: "property"}
_AT_TOP = ", ".join(f"'{root}'" for root in ROOTS)

_DOUBLE = (
    f"SELECT parent, name, count(*) FROM entry WHERE parent NOT IN ({_AT_TOP}) OR parent = 'root'"
    " GROUP BY parent, name HAVING count(*) > 1"
)
_ORPHAN = (
    "SELECT e.inode, e.name, e.parent FROM entry e LEFT JOIN entry p ON p.inode = e.parent"
    f" WHERE e.parent NOT IN ({_AT_TOP}) AND (p.inode IS NULL OR p.kind <> '{DIRECTORY}')"
)
_CYCLE = (
    f"WITH RECURSIVE below(inode) AS (SELECT inode FROM entry WHERE parent IN ({_AT_TOP})"
    " UNION SELECT e.inode FROM below b JOIN entry e ON e.parent = b.inode)"
    " SELECT e.inode, e.name, e.parent FROM entry e JOIN entry p ON p.inode = e.parent"
    f" WHERE p.kind = '{DIRECTORY}' AND e.inode NOT IN (SELECT inode FROM below)"
)
_CONTENT = (
    "SELECT m.inode, CASE WHEN e.inode IS NULL THEN 'no file has it' WHEN e.kind <> 'f' THEN 'a directory has it'"
    " ELSE 'its file shows another size, time or etag' END"
    " FROM manifest m LEFT JOIN entry e ON e.inode = m.inode"
    f" WHERE e.inode IS NULL OR e.kind <> '{FILE}' OR e.size <> m.size OR e.mtime_ns <> m.mtime_ns OR e.etag <> m.etag"
)
_ALONE = (
    "SELECT p.inode, p.name FROM property p LEFT JOIN entry e ON e.inode = p.inode"
    f" WHERE e.inode IS NULL AND p.inode NOT IN ({_AT_TOP})"
)
_TREE = (
    ("double-name", _DOUBLE, "{2} entries of directory {0} are called {1!r}"),
    ("orphan", _ORPHAN, "{0} ({1!r}) is in {2}, which is no directory"),
    ("cycle", _CYCLE, "{0} ({1!r}) is inside itself, by way of {2}"),
    ("content", _CONTENT, "the content of {0}: {1}"),
    ("property", _ALONE, "property {1} of {0}, which is not there"),
)


class SqliteAudit:
    """Port: :class:`davfs.core.ports.Audit`. For one thread at a time, while its transaction lasts."""

    def __init__(self, db: sqlite3.Connection, translated: Callable[[], AbstractContextManager[None]]) -> None:
        self._db = db
        self.translated = translated
        self.index = SqliteIndexView(db, None)

    def database(self) -> list[Problem]:
        """SQLite's own check of the file, which may be too damaged even for that."""
        try:
            found = [text for (text,) in self._db.execute(f"PRAGMA integrity_check({LISTED})")]
        except sqlite3.DatabaseError as error:
            found = [str(error)]
        return [] if found == ["ok"] else [Problem("database", text) for text in found]

    def tree(self) -> Iterator[list[Problem]]:
        """One parent for each entry, no cycle, no double name; contents and properties belong to something."""
        for kind, statement, text in _TREE:
            yield [Problem(kind, text.format(*row)) for row in self._db.execute(f"{statement} LIMIT {LISTED}")]

    def usage(self) -> list[Problem]:
        """The counters against what there is."""
        counted = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM manifest").fetchone()
        told = self.index.usage()
        if counted == told:
            return []
        text = "counted are {} files of {} bytes, the counters say {} and {}"
        return [Problem("usage", text.format(*counted, *told))]

    def manifests(self) -> Iterator[tuple[int, list[Problem]]]:
        """(how many so far, problems): each decodes, is not newer than the state, and has the segments that it names."""
        done = 0
        after = ""
        while rows := self._db.execute(
            "SELECT inode, version, json FROM manifest WHERE inode > ? ORDER BY inode LIMIT ?", (after, ROWS)
        ).fetchall():
            problems = []
            for inode, version, json in rows:
                if (trouble := self._manifest(version, json)) is not None:
                    problems.append(Problem("content", f"the content of {inode}: {trouble}"))
            done += len(rows)
            after = rows[-1][0]
            yield done, problems

    def log(self, volume: str) -> Iterator[tuple[int, list[Problem]]]:
        """(how many so far, problems): records without gaps, whole, at their own positions, up to the commit mark at least."""
        oldest, newest = self._db.execute("SELECT min(seq), max(seq) FROM log").fetchone()
        done, expected = 0, oldest
        before = None if not oldest or oldest == 1 else position(self._db, oldest - 1)
        if (newest or 0) < self.index.committed.seq:
            yield 0, [Problem("log", f"it ends at {newest}, before the commit mark {self.index.committed}")]
        while oldest is not None:
            rows = self._db.execute(
                "SELECT seq, incarnation, counter, record FROM log WHERE seq >= ? ORDER BY seq LIMIT ?", (expected, ROWS // 10)
            ).fetchall()
            if not rows:
                return
            problems = []
            for seq, incarnation, counter, data in rows:
                at = Position(Epoch(incarnation, counter), seq)
                if seq != expected:
                    problems.append(Problem("log", f"records {expected} to {seq - 1} are missing"))
                if before is not None and at.epoch < before.epoch:
                    problems.append(Problem("log", f"record {at} follows {before}"))
                if position(self._db, seq) != at:
                    problems.append(Problem("log", f"record {at} is not of the epoch that the table of epochs says"))
                try:
                    if decode(data, volume).position != at:
                        problems.append(Problem("log", f"record {at} says that it is another"))
                except CorruptData as error:
                    problems.append(Problem("log", f"record {at}: {error.message}"))
                before, expected = at, seq + 1
            done += len(rows)
            yield done, problems

    def documents(self, after: str, limit: int) -> list[tuple[str, StoredDocument]]:
        """Up to ``limit`` documents whose ids follow ``after``, by id."""
        names = self._db.execute(
            "SELECT id FROM document WHERE id > ?1 UNION SELECT id FROM document_change WHERE id > ?1 ORDER BY 1 LIMIT ?2",
            (after, limit),
        ).fetchall()
        found = []
        for (name,) in names:
            snapshot = self._db.execute("SELECT snapshot FROM document WHERE id = ?", (name,)).fetchone()
            tail = self._db.execute("SELECT bytes FROM document_change WHERE id = ? ORDER BY seq", (name,)).fetchall()
            found.append((name, StoredDocument(None if snapshot is None else snapshot[0], [bytes(c) for (c,) in tail])))
        return found

    def value(self, key: Key) -> tuple[str, str] | None:
        """(version, value) of the index row that a key stands for; of a name the value has the fields that are shown."""
        if key.kind == keys.NAME:
            row = self._db.execute(
                "SELECT version, parent, name, kind, created_ns FROM entry WHERE inode = ?", (key.inode,)
            ).fetchone()
            return None if row is None else (row[0], values.encode_name(*row[1:]))
        if key.kind == keys.MANIFEST:
            return self._pair("SELECT version, json FROM manifest WHERE inode = ?", key.inode)
        if key.kind == keys.SEGMENT:
            return self._pair("SELECT version, json FROM segment WHERE inode = ? AND number = ?", key.inode, int(key.part))
        if key.kind == keys.SHADOW:
            text = keys.make(key.kind, key.inode, key.version, key.part)
            return self._pair("SELECT ?, json FROM shadow WHERE key = ?", key.version, text)
        if key.kind == keys.SETTLED:
            at = keys.parse_version(key.inode)
            statement = "SELECT version, json FROM settled WHERE incarnation = ? AND counter = ? AND seq = ?"
            return self._pair(statement, *at.epoch, at.seq)
        return self._pair("SELECT version, xml FROM property WHERE inode = ? AND name = ?", key.inode, key.part)

    def counts(self) -> dict[str, int]:
        """How many rows of the index there are for each kind of key."""
        return {kind: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for kind, table in _COUNTED.items()}

    def rows(self) -> Iterator[bytes]:
        """The index in its one order, as bytes: the same on every replica of the volume at the same position."""
        for table, order in _INDEX.items():
            cursor = self._db.execute(f"SELECT * FROM {table} ORDER BY {order}")
            while rows := cursor.fetchmany(ROWS):
                yield bytes(msgpack.packb([table, rows], use_bin_type=True))
        files, size = self.index.usage()
        yield bytes(msgpack.packb([*self.index.committed.epoch, self.index.committed.seq, files, size]))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _pair(self, statement: str, *arguments: str | int) -> tuple[str, str] | None:
        row = self._db.execute(statement, arguments).fetchone()
        return None if row is None else (row[0], row[1])

    def _manifest(self, version: str, json: str) -> str | None:
        """What is wrong with a manifest, None if nothing is."""
        try:
            if self.index.committed.seq < (at := keys.parse_version(version)).seq and not self.index.is_settled(at):
                return f"version {version} is newer than the state"
            manifest = values.decode_manifest(json)
            if not manifest.segments:
                return None
            size = 0
            for number in range(manifest.segments):
                stored = self.index.segment(manifest.content_of(number), number)
                if stored is None:
                    return f"segment {number} of {manifest.segments} is missing"
                size += sum(chunk.size for chunk in values.decode_segment(stored[1]))
        except ValueError as error:
            return str(error)
        return None if size == manifest.size else f"its segments have {size} bytes, it says {manifest.size}"
