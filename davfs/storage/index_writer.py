"""Enters what records did into the index, inside a transaction of the caller's. May import only core.

Keys are versioned: a put counts unless the row is newer, a delete only if the row is of that very version. So the rows
come out the same in whatever order the keys of one record are entered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgpack

from davfs.core import keys, values
from davfs.core.canonical import canonical
from davfs.core.errors import CorruptData
from davfs.core.keys import Key
from davfs.core.model import DIRECTORY, ROOT, TRASH
from davfs.core.ports import AppliedRecord, IndexUpdate
from davfs.storage import merge_tables
from davfs.storage.change_marks import ChangeMarks

_PUT_SEGMENT = (
    "INSERT INTO segment (inode, number, version, json) VALUES (?, ?, ?, ?) ON CONFLICT (inode, number)"
    " DO UPDATE SET version = excluded.version, json = excluded.json WHERE excluded.version >= segment.version"
)
_DELETE_SEGMENT = "DELETE FROM segment WHERE inode = ? AND number = ? AND version = ?"
_PUT_PROPERTY = (
    "INSERT INTO property (inode, name, version, xml) VALUES (?, ?, ?, ?) ON CONFLICT (inode, name)"
    " DO UPDATE SET version = excluded.version, xml = excluded.xml WHERE excluded.version >= property.version"
)
_DELETE_PROPERTY = "DELETE FROM property WHERE inode = ? AND name = ? AND version = ?"


class IndexWriter:
    """Used for one transaction. ``files``, ``size``, ``root_mtime_ns`` and ``marks.root`` are the totals so far, the caller's
    to store after ``marks.finish()``."""

    def __init__(self, db: sqlite3.Connection, files: int, size: int, root_mtime_ns: int, root_changed: int) -> None:
        self._db = db
        self.marks = ChangeMarks(db, root_changed)
        self.files = files
        self.size = size
        self.root_mtime_ns = root_mtime_ns
        self._dropped: set[Key] = set()  # keys that the record deletes: what a merge puts may be older
        self._given_times: list[tuple[int, str]] = []  # (mtime, directory) that the record sets, whatever it changes inside

    def enter(self, updates: Sequence[IndexUpdate], at_ns: int, seq: int) -> None:
        """Enter the updates of the record ``seq`` that was made at ``at_ns``; :class:`CorruptData` if one is malformed."""
        self.marks.seq = seq
        try:
            parsed = [(keys.parse(update.key), update.value) for update in updates]
        except ValueError as error:
            raise CorruptData(f"an entry is malformed: {error}") from error
        self._dropped = {key for key, value in parsed if value is None and key.kind in (keys.NAME, keys.MANIFEST)}
        # Properties: what a merge puts may be older than what it deletes. Else puts first: a directory that is renamed
        # keeps its row, and with it its mtime.
        parsed.sort(key=lambda one: 0 if one[0].kind == keys.PROPERTY and one[1] is None else 1 if one[1] is not None else 2)
        for key, value in parsed:
            try:
                self._enter(key, value, at_ns)
            except (ValueError, OverflowError) as error:
                raise CorruptData(f"the entry {key} is malformed: {error}") from error
        if self._given_times:
            self._db.executemany("UPDATE entry SET mtime_ns = ? WHERE inode = ?", self._given_times)
            self._given_times.clear()
        self.marks.prune()

    def _enter(self, key: Key, value: str | None, at_ns: int) -> None:
        if key.kind == keys.NAME:
            self._delete_name(key, at_ns) if value is None else self._put_name(key, value, at_ns)
        elif key.kind == keys.MANIFEST:
            self._delete_manifest(key) if value is None else self._put_manifest(key, value)
        elif key.kind in (keys.SHADOW, keys.SETTLED):
            merge_tables.put_or_delete(self._db, key, value)
        elif key.kind == keys.SEGMENT:
            self._put_or_delete(_PUT_SEGMENT, _DELETE_SEGMENT, int(key.part), key, value)
        else:
            self._put_or_delete(_PUT_PROPERTY, _DELETE_PROPERTY, key.part, key, value)
            self.marks.entry(key.inode)

    def _put_name(self, key: Key, value: str, at_ns: int) -> None:
        name = values.decode_name(value)
        old = self._find("SELECT version, parent, name FROM entry WHERE inode = ?", key.inode)
        if old is not None and self._is_newer(old[0], key):
            return
        merge_tables.put_name(self._db, key.inode, value, name)
        plain = canonical(name.name)
        alias = None if plain == name.name else plain
        if name.mtime_ns is not None:
            self._given_times.append((name.mtime_ns, key.inode))
        if old is None:
            content = self._find("SELECT mtime_ns, size, etag FROM manifest WHERE inode = ?", key.inode)
            self._db.execute(
                "INSERT INTO entry"
                " (inode, parent, name, canonical, kind, version, created_ns, changed, mtime_ns, size, etag)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key.inode, name.parent, name.name, alias, name.kind, key.version, name.created_ns, self.marks.seq)
                + (content or (name.created_ns, 0, "")),
            )
        else:
            self._db.execute(
                "UPDATE entry SET parent = ?, name = ?, canonical = ?, kind = ?, version = ?, created_ns = ?, changed = ?"
                " WHERE inode = ?",
                (name.parent, name.name, alias, name.kind, key.version, name.created_ns, self.marks.seq, key.inode),
            )
        if (name.parent == TRASH) is not (old is not None and old[1] == TRASH):
            since = at_ns if name.parent == TRASH else None
            path, who, file = name.trashed or (None, None, None)
            self._db.execute(
                "UPDATE entry SET trashed_ns = ?, trashed_path = ?, trashed_by = ?, earlier_of = ? WHERE inode = ?",
                (since, path, who, file or None, key.inode),
            )
        self.marks.below(name.parent)
        if name.kind == DIRECTORY:
            self.marks.below(key.inode)
        if old is not None and old[1:] == (name.parent, name.name):
            return
        if old is not None:
            self.marks.gone(old[1], old[2], key.inode if name.kind == DIRECTORY else "")
            if name.kind == DIRECTORY:
                self._db.execute("UPDATE entry SET moved = ? WHERE inode = ?", (self.marks.seq, key.inode))
            if old[1] != name.parent:
                self._touch(old[1], at_ns)
        self._touch(name.parent, at_ns)

    def _delete_name(self, key: Key, at_ns: int) -> None:
        gone = self._find(
            "DELETE FROM entry WHERE inode = ? AND version = ? RETURNING parent, name, kind", key.inode, key.version
        )
        if gone is not None:
            merge_tables.delete_name(self._db, key.inode)
            self.marks.gone(gone[0], gone[1], key.inode if gone[2] == DIRECTORY else "")
            self._touch(gone[0], at_ns)

    def _touch(self, directory: str, at_ns: int) -> None:
        """A member of a directory came, went or changed its name."""
        if directory == ROOT:
            self.root_mtime_ns = max(self.root_mtime_ns, at_ns)
        else:
            self._db.execute(
                "UPDATE entry SET mtime_ns = max(mtime_ns, ?) WHERE inode = ? AND kind = ?",
                (at_ns, directory, DIRECTORY),
            )

    def _put_manifest(self, key: Key, value: str) -> None:
        manifest = values.decode_manifest(value)
        old = self._find("SELECT version, size FROM manifest WHERE inode = ?", key.inode)
        if old is not None and self._is_newer(old[0], key):
            return
        content = (manifest.size, manifest.mtime_ns, manifest.etag)
        self._db.execute(
            "INSERT INTO manifest (inode, version, size, mtime_ns, etag, json) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (inode) DO UPDATE SET version = excluded.version, size = excluded.size,"
            " mtime_ns = excluded.mtime_ns, etag = excluded.etag, json = excluded.json",
            (key.inode, key.version, *content, value),
        )
        shown = self._db.execute(
            "UPDATE entry SET size = ?, mtime_ns = ?, etag = ?, changed = ? WHERE inode = ? RETURNING parent",
            (*content, self.marks.seq, key.inode),
        )
        for (parent,) in shown.fetchall():
            self.marks.below(parent)
        self.files += old is None
        self.size += manifest.size - (0 if old is None else old[1])

    def _delete_manifest(self, key: Key) -> None:
        gone = self._find("DELETE FROM manifest WHERE inode = ? AND version = ? RETURNING size", key.inode, key.version)
        if gone is not None:
            self._db.execute(
                "UPDATE entry SET size = 0, mtime_ns = created_ns, etag = '' WHERE inode = ?", (key.inode,)
            )
            self.marks.entry(key.inode)
            self.files -= 1
            self.size -= gone[0]

    def _is_newer(self, version: str, key: Key) -> bool:
        """Whether a row is newer than what is put, and stays."""
        return version > key.version and key._replace(version=version) not in self._dropped

    def _put_or_delete(self, put: str, delete: str, part: str | int, key: Key, value: str | None) -> None:
        if value is None:
            self._db.execute(delete, (key.inode, part, key.version))
        else:
            self._db.execute(put, (key.inode, part, key.version, value))

    def _find(self, statement: str, *values_: str) -> tuple[Any, ...] | None:
        # Read to the end: a statement with RETURNING changes nothing for good before that.
        rows: list[tuple[Any, ...]] = self._db.execute(statement, values_).fetchall()
        return rows[0] if rows else None


def enter_record(db: sqlite3.Connection, index: IndexWriter, one: AppliedRecord) -> None:
    """Enter a record into documents, index and replies; :class:`CorruptData` if it is none that could be entered anywhere."""
    record, documents, updates = one
    seq = record.position.seq
    try:
        for document, change, snapshot in documents:
            if snapshot is None:
                db.execute("INSERT INTO document_change VALUES (?, ?, ?)", (document, seq, change))
            elif not snapshot:
                db.execute("DELETE FROM document WHERE id = ?", (document,))
                db.execute("DELETE FROM document_change WHERE id = ?", (document,))
            else:
                db.execute("INSERT OR REPLACE INTO document VALUES (?, ?)", (document, snapshot))
                db.execute("DELETE FROM document_change WHERE id = ?", (document,))
        index.enter(updates, record.at_ns, seq)
        if record.request_id:
            reply = msgpack.packb(record.reply, use_bin_type=True)
            db.execute("INSERT OR IGNORE INTO reply VALUES (?, ?, ?)", (seq, record.request_id, reply))
    except (ValueError, TypeError, OverflowError, sqlite3.IntegrityError) as error:
        raise CorruptData(f"record {record.position} cannot be entered: {error}") from error
