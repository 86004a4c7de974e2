"""Reads of a volume's index: one committed state, through one connection that is in a transaction. May import only core.

Errors of SQLite pass through as they come: whoever made the view translates them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack

from davfs.core import keys, values
from davfs.core.canonical import canonical
from davfs.core.digests import Digests
from davfs.core.errors import CorruptData
from davfs.core.model import DIRECTORY, ROOT, UPLOADS, ChunkRef, Entry, Epoch, Manifest, Position
from davfs.core.ports import Change, Gone, Trashed
from davfs.storage import listing, merge_tables
from davfs.storage.merge_tables import SqliteMergeView

_COLUMNS = "inode, parent, name, kind, version, created_ns, mtime_ns, size, etag"  # the order of Entry's fields
_ENTRY = f"SELECT {_COLUMNS} FROM entry WHERE inode = ?"
# Names are unique in a strict volume; until two histories are merged, the later of two of one name has it.
_CHILD = f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND name = ? ORDER BY version DESC LIMIT 1"
# A name that is not there as it was asked for is looked for by its NFC form: as it is, and as that of another form.
_EQUIVALENT = f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND canonical = ? ORDER BY version DESC LIMIT 1"
_CHILDREN = f"SELECT {_COLUMNS} FROM entry WHERE parent = ? ORDER BY name, version"
_PAGE = (
    f"SELECT {_COLUMNS} FROM entry WHERE parent = ? AND (name, version) > (?, ?) ORDER BY name, version LIMIT ?"
)

_MEMBERS = (
    "SELECT e.inode, parent, e.name, kind, e.version, created_ns, mtime_ns, size, etag, p.name, p.xml"
    " FROM entry e LEFT JOIN property p ON p.inode = e.inode WHERE parent = ? ORDER BY e.name, e.version"
)
_CHANGES = (
    f"SELECT {_COLUMNS}, changed, moved FROM entry WHERE (changed, inode) > (?, ?) ORDER BY changed, inode LIMIT ?"
)
_GONE = "SELECT seq, parent, name, directory FROM gone WHERE seq > :after ORDER BY seq LIMIT :limit"
_GONE_FROM = _GONE.replace("WHERE", "WHERE parent = :parent AND")
_MEMBERS_DIGESTS = (
    "SELECT m.inode, m.json -> '$.d' AS digests FROM entry e CROSS JOIN manifest m ON m.inode = e.inode"
    " WHERE e.parent = ? AND digests IS NOT NULL"
)
_TRASHED = f"SELECT {_COLUMNS}, trashed_ns, trashed_path, trashed_by, earlier_of FROM entry"
_TRASH = (
    f"{_TRASHED} WHERE trashed_ns >= ? AND (trashed_ns, inode) > (?, ?) AND trashed_path IS NOT NULL"
    " ORDER BY trashed_ns, inode LIMIT ?"
)


def _trashed(row: tuple[Any, ...]) -> Trashed:
    since, path, who, file = row[9:]
    return Trashed(Entry(*row[:9]), since, path, who, file or "")


def _digests(inode: str, text: str) -> Digests:
    try:
        return values.decode_digests(json.loads(text))
    except ValueError as error:
        raise CorruptData(f"the checksums of {inode} are malformed: {error}") from error


KEPT_NAMES = 256
"""What a view remembers of the names that were looked up: the paths of a change have most of their directories in common, and
are looked up several times each."""


class SqliteIndexView:
    """Port: :class:`davfs.core.ports.IndexView`. For one thread, while its transaction lasts."""

    def __init__(self, db: sqlite3.Connection, directory: Path | None) -> None:
        self._db = db
        self._root: Entry | None = None
        self._children: dict[tuple[str, str], Entry | None] = {}
        self._directory = directory  # for the members of large directories

    @property
    def committed(self) -> Position:
        incarnation, counter, seq = self._one(
            "SELECT committed_incarnation, committed_counter, committed_seq FROM state"
        )
        return Position(Epoch(incarnation, counter), seq)

    def entry(self, inode: str) -> Entry | None:
        """The entry of an inode. Those of the root and of the uploads are made up."""
        if inode == ROOT:
            if self._root is None:
                mtime_ns, changed = self._one("SELECT root_mtime_ns, root_changed FROM state")
                self._root = Entry(ROOT, "", "", DIRECTORY, "", 0, mtime_ns, 0, f"{ROOT}.{changed:x}")
            return self._root
        if inode == UPLOADS:
            return Entry(UPLOADS, "", "", DIRECTORY, "", 0, 0)
        row = self._db.execute(_ENTRY, (inode,)).fetchone()
        return None if row is None else Entry(*row)

    def child(self, parent: str, name: str) -> Entry | None:
        """The entry of that name in a directory, or else of one that is canonically equivalent (``core/canonical.py``)."""
        if (parent, name) in self._children:
            return self._children[parent, name]
        found = self._child(parent, name)
        if len(self._children) < KEPT_NAMES:
            self._children[parent, name] = found
        return found

    def _child(self, parent: str, name: str) -> Entry | None:
        row = self._db.execute(_CHILD, (parent, name)).fetchone()
        if row is None:
            plain = canonical(name)
            row = None if plain == name else self._db.execute(_CHILD, (parent, plain)).fetchone()
            row = row or self._db.execute(_EQUIVALENT, (parent, plain)).fetchone()
        return None if row is None else Entry(*row)

    def children(self, parent: str) -> list[Entry]:
        """The entries of a directory, sorted by name."""
        return [Entry(*row) for row in self._db.execute(_CHILDREN, (parent,)).fetchall()]

    def members(self, parent: str) -> Iterator[tuple[Entry, Mapping[str, str]]]:
        """The entries of a directory with their dead properties (Clark name -> XML), sorted by name.

        All are read before it returns, so the iterator outlives the view; its memory does not grow with the directory.
        """
        return listing.members(self._db.execute(_MEMBERS, (parent,)), self._directory)

    def page(self, parent: str, after: tuple[str, str], limit: int) -> list[Entry]:
        """Up to ``limit`` entries of a directory that follow (name, version), sorted by both."""
        return [Entry(*row) for row in self._db.execute(_PAGE, (parent, *after, limit)).fetchall()]

    def trashed(self, before_ns: int, limit: int) -> list[Entry]:
        """Up to ``limit`` tops of the trash that came there before ``before_ns``, the oldest first."""
        statement = f"SELECT {_COLUMNS} FROM entry WHERE trashed_ns < ? ORDER BY trashed_ns, inode LIMIT ?"
        return [Entry(*row) for row in self._db.execute(statement, (before_ns, limit)).fetchall()]

    def trash(self, after: tuple[int, str], limit: int) -> list[Trashed]:
        """Up to ``limit`` tops of the trash whose path is known, that follow (time, inode), the oldest first."""
        return [_trashed(row) for row in self._db.execute(_TRASH, (after[0], *after, limit)).fetchall()]

    def trashed_entry(self, inode: str) -> Trashed | None:
        """One of them by its inode."""
        row = self._db.execute(f"{_TRASHED} WHERE inode = ? AND trashed_path IS NOT NULL", (inode,)).fetchone()
        return None if row is None else _trashed(row)

    def earlier(self, inode: str) -> list[tuple[str, int]]:
        """(inode, time) of a file's earlier contents in the trash, the oldest first."""
        statement = "SELECT inode, trashed_ns FROM entry WHERE earlier_of = ? ORDER BY trashed_ns, inode"
        return self._db.execute(statement, (inode,)).fetchall()

    def earlier_most(self, more_than: int, limit: int) -> list[str]:
        """Inodes of up to ``limit`` files that have more earlier contents than that."""
        statement = (
            "SELECT earlier_of FROM entry WHERE earlier_of IS NOT NULL GROUP BY earlier_of HAVING count(*) > ? LIMIT ?"
        )
        return [inode for (inode,) in self._db.execute(statement, (more_than, limit)).fetchall()]

    def manifest(self, inode: str) -> tuple[str, Manifest] | None:
        """(version, manifest) of a file, without the chunks of its segments."""
        row = self._db.execute("SELECT version, json FROM manifest WHERE inode = ?", (inode,)).fetchone()
        if row is None:
            return None
        try:
            return row[0], values.decode_manifest(row[1])
        except ValueError as error:
            raise CorruptData(f"the manifest of {inode} is malformed: {error}") from error

    def digests(self, inode: str) -> Digests:
        """The checksums that a file's manifest names."""
        row = self._db.execute("SELECT json -> '$.d' FROM manifest WHERE inode = ?", (inode,)).fetchone()
        return () if row is None or row[0] is None else _digests(inode, row[0])

    def members_digests(self, parent: str) -> dict[str, Digests]:
        """inode -> checksums, of the members of a directory whose manifests name any."""
        rows = self._db.execute(_MEMBERS_DIGESTS, (parent,))
        return {inode: _digests(inode, text) for inode, text in rows}

    def manifests(self, after: str, limit: int) -> list[tuple[str, Manifest]]:
        """(inode, manifest) of up to ``limit`` files whose inode follows ``after``, by inode."""
        rows = self._db.execute(
            "SELECT inode, json FROM manifest WHERE inode > ? ORDER BY inode LIMIT ?", (after, limit)
        )
        try:
            return [(inode, values.decode_manifest(text)) for inode, text in rows]
        except ValueError as error:
            raise CorruptData(f"a manifest after {after!r} is malformed: {error}") from error

    def segment(self, inode: str, number: int) -> tuple[str, str] | None:
        """(version, JSON text) of one segment."""
        row = self._db.execute(
            "SELECT version, json FROM segment WHERE inode = ? AND number = ?", (inode, number)
        ).fetchone()
        return None if row is None else (row[0], row[1])

    def segments(self, after: tuple[str, int], limit: int) -> list[tuple[str, int, str, str]]:
        """(content id, number, version, JSON text) of up to ``limit`` segments that follow ``after``, in order."""
        statement = (
            "SELECT inode, number, version, json FROM segment WHERE (inode, number) > (?, ?) ORDER BY inode, number LIMIT ?"
        )
        return self._db.execute(statement, (*after, limit)).fetchall()

    def chunks(self) -> Iterator[ChunkRef]:
        """Every chunk of every file, one after the other: read to the end before anything else."""
        try:
            for (text,) in self._db.execute("SELECT json FROM manifest"):
                yield from values.decode_manifest(text).chunks
            for manifest in self.hidden_manifests():
                yield from manifest.chunks
            for (text,) in self._db.execute("SELECT json FROM segment"):
                yield from values.decode_segment(text)
        except ValueError as error:
            raise CorruptData(f"a list of chunks is malformed: {error}") from error

    def properties(self, inode: str) -> dict[str, tuple[str, str]]:
        """Clark name -> (version, XML) of the dead properties."""
        rows = self._db.execute("SELECT name, version, xml FROM property WHERE inode = ?", (inode,))
        return {name: (version, xml) for name, version, xml in rows}

    def changes(self, seq: int, inode: str, limit: int) -> list[Change]:
        """Up to ``limit`` entries whose (last change, inode) follows (``seq``, ``inode``), in that order."""
        rows = self._db.execute(_CHANGES, (seq, inode, limit))
        return [Change(Entry(*row[:9]), row[9], row[10]) for row in rows]

    def gone(self, after: int, limit: int, parent: str = "") -> list[Gone]:
        """Up to ``limit`` names that were taken away (from one directory) after the record ``after``, the oldest first."""
        rows = self._db.execute(_GONE_FROM if parent else _GONE, {"after": after, "limit": limit, "parent": parent})
        return [Gone(*row) for row in rows]

    def gone_floor(self) -> int:
        """Names that went at this seq or before are forgotten."""
        (floor,) = self._one("SELECT gone_floor FROM state")
        return int(floor)

    def hidden_manifests(self) -> list[Manifest]:
        """Contents that a merge keeps without showing them."""
        try:
            rows = self._db.execute("SELECT key, json FROM shadow")
            return [values.decode_manifest(text) for key, text in rows if keys.parse(key).part == keys.MANIFEST]
        except ValueError as error:
            raise CorruptData(f"a manifest that does not show is malformed: {error}") from error

    def merging(self) -> SqliteMergeView:
        """The same state as merging sees it."""
        return SqliteMergeView(self._db)

    def settled(self) -> list[tuple[Position, str, str]]:
        """(position, version of the record that settled it, what became of it) of late records, by position."""
        return merge_tables.settled(self._db)

    def is_settled(self, at: Position) -> bool:
        """Whether a late record was settled, or is in the committed history after all."""
        return merge_tables.handled(self._db, at, self.committed)

    def reply(self, request_id: str) -> tuple[Any] | None:
        """What a committed record with that request id answered, in a 1-tuple; only the last 10,000 are kept."""
        row = self._db.execute("SELECT reply FROM reply WHERE request_id = ?", (request_id,)).fetchone()
        return None if row is None else (msgpack.unpackb(row[0], raw=False, strict_map_key=False),)

    def usage(self) -> tuple[int, int]:
        """(number of files, sum of their sizes in bytes), what is in the trash included."""
        files, size = self._one("SELECT files, bytes FROM state")
        return files, size

    def _one(self, statement: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._db.execute(statement).fetchone()
        if row is None:
            raise CorruptData("the database of a volume replica has lost its state")
        return row
