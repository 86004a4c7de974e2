"""Layout of a volume replica's database (docs/FORMAT.md), and how one is opened. May import only core.

Tables: ``state`` (one row: incarnation, seal, commit mark, usage), ``log`` and ``late`` (encoded records), ``chunk``
(small chunks that came with records), ``document`` and ``document_change`` (automerge bytes), and the index: ``entry``,
``manifest``, ``segment``, ``property``, ``reply``.
Size, mtime and etag of files stand in ``entry`` too, so that listing a directory is one walk (since format 2 its
entries lie together).
What stands here is format 1 and stays as it is: the later formats are steps in ``migrations.py``.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from contextlib import suppress
from pathlib import Path

from davfs.core.errors import CorruptData, DavfsError, NoSpace, Unavailable, UnknownFormat
from davfs.storage.files import poisoned, sync_directory
from davfs.storage.migrations import FORMAT, migrate

APPLICATION_ID = 0x64615663  # "daVc": a wrong file is told apart from a damaged one
MEMORY = ":memory:"

_CHECKPOINT_PAGES = 1000
_GROWN_BYTES = 4 << 20  # about as many pages
_WAL_BYTES = 64 << 20
_CACHE_KIB = 8 << 10
_READER_CACHE_KIB = 1 << 10  # there may be several; the system caches the file for all of them
_BUSY_S = 5.0
_INCREMENTAL = 2  # of auto_vacuum

_log = logging.getLogger(__name__)

_SCHEMA = f"""
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL,
    sealed_incarnation INTEGER NOT NULL, sealed_counter INTEGER NOT NULL,
    committed_incarnation INTEGER NOT NULL, committed_counter INTEGER NOT NULL, committed_seq INTEGER NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, root_mtime_ns INTEGER NOT NULL) STRICT;
CREATE TABLE log (
    seq INTEGER PRIMARY KEY, incarnation INTEGER NOT NULL, counter INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE TABLE late (
    incarnation INTEGER NOT NULL, counter INTEGER NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (incarnation, counter, seq)) STRICT;
CREATE TABLE chunk (digest TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE document (id TEXT PRIMARY KEY, snapshot BLOB NOT NULL) STRICT;
CREATE TABLE document_change (
    id TEXT NOT NULL, seq INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (id, seq)) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    inode TEXT PRIMARY KEY, parent TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, version TEXT NOT NULL,
    created_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE INDEX entry_by_name ON entry (parent, name, version);
CREATE TABLE manifest (
    inode TEXT PRIMARY KEY, version TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, etag TEXT NOT NULL,
    json TEXT NOT NULL) STRICT;
CREATE TABLE segment (
    inode TEXT NOT NULL, number INTEGER NOT NULL, version TEXT NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (inode, number)) STRICT;
CREATE TABLE property (
    inode TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, xml TEXT NOT NULL,
    PRIMARY KEY (inode, name)) STRICT;
CREATE TABLE reply (seq INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, reply BLOB NOT NULL) STRICT;
PRAGMA application_id = {APPLICATION_ID};
"""


def open_writer(path: str) -> sqlite3.Connection:
    """The one writing connection to a replica's database, made when it is absent. For any thread, one at a time.

    Errors: :class:`UnknownFormat`, :class:`CorruptData`, :class:`NoSpace`, :class:`Unavailable`.
    """
    try:
        db = _connect(path)
    except sqlite3.Error as error:
        raise translate(error, path, writing=False) from error
    try:
        _check_or_make(db, path)
        if path != MEMORY:
            _grow_log(db)
        if path != MEMORY:  # even if it was there: whoever made it may have died before this
            sync_directory(Path(path).parent)
    except (sqlite3.Error, OSError) as error:
        db.close()
        raise translate(error, path, writing=False) from error
    except BaseException:
        db.close()
        raise
    return db


def _grow_log(db: sqlite3.Connection) -> None:
    """Give the write-ahead log its usual size at once.

    A commit that overwrites blocks which are there already syncs data alone; one that makes the file longer has the file
    system commit its own journal too, which takes about twice as long (measured: 0.28 ms and 0.15 ms). A disk without
    room for it is no reason not to start.
    """
    try:
        db.execute("DROP TABLE IF EXISTS grown")
        db.execute("CREATE TABLE grown (filler BLOB)")
        db.execute("INSERT INTO grown VALUES (zeroblob(?))", (_GROWN_BYTES,))
        db.execute("DROP TABLE grown")
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
            raise
        with suppress(sqlite3.OperationalError):
            db.execute("DROP TABLE IF EXISTS grown")


def open_reader(path: str) -> sqlite3.Connection:
    """A further connection that cannot write. sqlite3.Error as it comes."""
    db = _connect(path)
    db.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
    db.execute("PRAGMA query_only = 1")
    return db


def translate(error: sqlite3.Error | OSError, path: str, *, writing: bool) -> DavfsError:
    """What an error of SQLite means: no room, a failed write or sync (poison), damage, or a busy file."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY):
        return NoSpace(f"the disk of {path} is full or read-only; nothing was changed")
    if code == sqlite3.SQLITE_IOERR and writing:
        return poisoned(f"writing {path} failed: {error}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
        return CorruptData(f"the database {path} is damaged: {error}; remove it to have it copied from another replica")
    return Unavailable(f"the database {path} cannot be used: {error}")


def _connect(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256)
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return db


def _check_or_make(db: sqlite3.Connection, path: str) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise CorruptData(f"{path} is a database, but not one of a volume replica")
    elif db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise CorruptData(f"{path} is a database, but not one of a volume replica")
    elif version > FORMAT:
        raise UnknownFormat(
            f"{path} has format {version}; this davfs knows format {FORMAT} and older ones: start the version that wrote it"
        )
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before anything is written
    if path != MEMORY:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise Unavailable(f"{path} cannot have a write-ahead log (its file system lacks shared memory: {mode})")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    if version == 0:
        _make(db)
    elif version < FORMAT:
        _log.info("%s has format %d: it is migrated to format %d", path, version, FORMAT)
        db.execute("BEGIN IMMEDIATE")
        migrate(db, version)
        db.execute("COMMIT")
        _log.info("%s has format %d now", path, FORMAT)
    if db.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
        _let_it_shrink(db, path)


def _let_it_shrink(db: sqlite3.Connection, path: str) -> None:
    """A database that was made without it gets the bookkeeping by which freed pages are given back: written once anew."""
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("VACUUM")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise
        _log.warning("%s keeps its size for now: giving space back takes as much room as it has, once", path)


def _make(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO state VALUES (1, ?, 0, 0, 0, 0, 0, 0, 0, 0)", (secrets.token_hex(16),))
    migrate(db, 1)
    db.execute("COMMIT")
