"""Whole replicas as files: frozen for others at a position, received from another, made ready to replace this one's.

A snapshot is a copy of a replica's database with everything in it, named by its BLAKE3 digest. What is received stays
beside the database until its digest is verified; it is then given what only the old database has (``carry_over``) and
renamed over it. Killed at any instant, the old database or the new one is there, whole. May import only core.

    .tmp-<name>.snapshot     frozen for others; a leftover when the process ends
    <name>.incoming          what has come so far, with <name>.incoming.json: which snapshot it is
    <name>.ready             verified, being made ready
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from blake3 import blake3

from davfs.core.errors import CorruptData, NoSpace, NotFound, UnknownFormat
from davfs.core.model import MIB, Epoch, Position, position
from davfs.core.record import decode
from davfs.core.snapshot_port import Snapshot
from davfs.storage import record_log
from davfs.storage.files import TEMPORARY, as_domain_error, sync_directory, write_durably
from davfs.storage.migrations import FORMAT, migrate
from davfs.storage.schema import APPLICATION_ID

ARRIVING = (".incoming.json", ".incoming", ".ready", ".ready-journal")
"""How the files of a snapshot that is being received end."""

STEP_PAGES = 256
_ROOM = 16 * MIB
_MARK = "SELECT committed_incarnation, committed_counter, committed_seq FROM state"


class SnapshotFiles:
    """The snapshot files of the replica at ``path``. Not thread-safe, but for ``read``."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._frozen_file = self._path.with_name(f"{TEMPORARY}{self._path.stem}.snapshot")
        self._incoming = self._path.with_suffix(".incoming")
        self._about = self._path.with_suffix(".incoming.json")
        self._ready = self._path.with_suffix(".ready")
        self.frozen: Snapshot | None = None

    # --- for others -------------------------------------------------------------------------------------------------

    def freeze(self, reader: sqlite3.Connection, rate: int) -> Snapshot:
        """Copy what ``reader``'s transaction sees, at most ``rate`` bytes a second. :class:`NoSpace` without the room."""
        self.thaw()
        (pages,), (page_size,) = (reader.execute(f"PRAGMA {what}").fetchone() for what in ("page_count", "page_size"))
        room = os.statvfs(self._path.parent)
        if room.f_bavail * room.f_frsize < pages * page_size + _ROOM:
            raise NoSpace(f"the disk of {self._path} has no room for a snapshot of {pages * page_size >> 20} MiB")

        def pause(status: int, remaining: int, total: int) -> None:
            time.sleep(STEP_PAGES * page_size / rate)

        try:
            with closing(sqlite3.connect(self._frozen_file, isolation_level=None)) as copy:
                at = _position(reader)
                reader.backup(copy, pages=STEP_PAGES, progress=pause)
                copy.execute("PRAGMA journal_mode = DELETE")
            self.frozen = Snapshot(_digest(self._frozen_file), at, self._frozen_file.stat().st_size)
        except BaseException:
            self.thaw()
            raise
        return self.frozen

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A piece of the frozen snapshot; :class:`NotFound` if it is another one now, or none."""
        frozen = self.frozen
        if frozen is None or frozen.id != name:
            raise NotFound("this snapshot is kept no longer; ask for another")
        with self._frozen_file.open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    def thaw(self) -> None:
        """Remove the frozen snapshot, if there is one."""
        self.frozen = None
        self._frozen_file.unlink(missing_ok=True)

    # --- from another -----------------------------------------------------------------------------------------------

    def arrived(self) -> tuple[Snapshot, int] | None:
        """The snapshot that is being received, and how many bytes of it are here."""
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            about = json.loads(self._about.read_bytes())
            snapshot = Snapshot(about["id"], position(about["position"]), about["size"])
            file = self._ready if self._ready.exists() else self._incoming
            return snapshot, snapshot.size if file == self._ready else file.stat().st_size
        return None

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        """Store a piece; one at 0 begins anew. Not synced: the digest is verified at the end."""
        try:
            if offset == 0:
                self.discard()
                about = {"id": snapshot.id, "position": snapshot.position, "size": snapshot.size}
                write_durably(self._about, json.dumps(about).encode())
            with self._incoming.open("r+b" if offset else "wb") as file:
                file.truncate(offset)
                file.seek(offset)
                file.write(data)
        except OSError as error:
            raise as_domain_error(error, self._incoming) from error

    def discard(self) -> None:
        """Forget what has come so far."""
        for suffix in ARRIVING:
            self._path.with_suffix(suffix).unlink(missing_ok=True)

    def verify(self, snapshot: Snapshot) -> None:
        """See to it that the whole snapshot is here; :class:`CorruptData` otherwise, and it is forgotten."""
        if self._ready.exists():
            return
        if self._incoming.stat().st_size != snapshot.size or _digest(self._incoming) != snapshot.id:
            self.discard()
            raise CorruptData("a snapshot arrived with other bytes than it was announced with; it is fetched anew")
        try:
            with self._incoming.open("rb") as file:
                os.fsync(file.fileno())  # its new name says that it was verified: a power loss must not make that untrue
            os.rename(self._incoming, self._ready)
            sync_directory(self._path.parent)
        except OSError as error:
            raise as_domain_error(error, self._incoming) from error

    def open_ready(self, snapshot: Snapshot) -> sqlite3.Connection:
        """The verified snapshot, in the newest format; it has no write-ahead log."""
        db = sqlite3.connect(self._ready, isolation_level=None, check_same_thread=False)
        try:
            prepare(db, snapshot)
        except BaseException:
            db.close()
            raise
        return db

    def replace(self) -> None:
        """Rename the snapshot over the database, which nobody has open."""
        log = self._path.with_name(self._path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise CorruptData(f"{log} was not emptied: the database stays as it is")
        try:
            with self._ready.open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(self._path.parent)  # the old database's write-ahead log is gone for good: it fits no other
            os.rename(self._ready, self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise as_domain_error(error, self._path) from error
        self.discard()


class SnapshotMemory:
    """The same for a replica in memory (the simulator)."""

    def __init__(self) -> None:
        self.frozen: Snapshot | None = None
        self._frozen_bytes = b""
        self._snapshot: Snapshot | None = None
        self._bytes = bytearray()

    def freeze(self, reader: sqlite3.Connection, rate: int) -> Snapshot:
        self._frozen_bytes = reader.serialize()
        name = blake3(self._frozen_bytes).hexdigest()
        self.frozen = Snapshot(name, _position(reader), len(self._frozen_bytes))
        return self.frozen

    def read(self, name: str, offset: int, size: int) -> bytes:
        if self.frozen is None or self.frozen.id != name:
            raise NotFound("this snapshot is kept no longer; ask for another")
        return self._frozen_bytes[offset : offset + size]

    def thaw(self) -> None:
        self.frozen, self._frozen_bytes = None, b""

    def arrived(self) -> tuple[Snapshot, int] | None:
        return None if self._snapshot is None else (self._snapshot, len(self._bytes))

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        if offset == 0:
            self._snapshot = snapshot
        self._bytes[offset:] = data

    def discard(self) -> None:
        self._snapshot = None
        self._bytes.clear()

    def tear(self, kept: float, zeroed: bool) -> None:
        """A power loss: only that part of what has come was written; the rest is missing, or ``zeroed``."""
        size = len(self._bytes)
        del self._bytes[int(kept * size) :]
        if zeroed:
            self._bytes.extend(bytes(size - len(self._bytes)))

    def verify(self, snapshot: Snapshot) -> None:
        if not self._bytes or len(self._bytes) != snapshot.size or blake3(self._bytes).hexdigest() != snapshot.id:
            self.discard()
            raise CorruptData("a snapshot arrived with other bytes than it was announced with; it is fetched anew")

    def open_ready(self, snapshot: Snapshot) -> sqlite3.Connection:
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.deserialize(bytes(self._bytes))
        prepare(db, snapshot)
        return db


def prepare(db: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Look whether a database is a sound replica of a known format, and bring it to the newest one."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise CorruptData("what the other node sent is no replica")
    if version > FORMAT:
        raise UnknownFormat(f"the other node's replica has format {version}; this davfs knows {FORMAT}: update this node")
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise CorruptData(f"the other node's replica is damaged: {found}")
    if version < FORMAT:
        db.execute("BEGIN IMMEDIATE")
        migrate(db, version)
        db.execute("COMMIT")
    if _position(db) != snapshot.position:
        raise CorruptData(f"the other node's replica stands at {_position(db)}, and was announced to be at {snapshot.position}")


def shape(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table, and what else there is by name but indexes."""
    there = db.execute("SELECT type, name FROM sqlite_master WHERE type != 'index' AND name NOT LIKE 'sqlite_%'").fetchall()
    return {
        f"{kind} {name}": sorted(column for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", (name,)))
        for kind, name in there
    }


def check(new: sqlite3.Connection, wanted: dict[str, list[str]], volume: str) -> None:
    """Whether a verified snapshot, which is what the other node has, can be a replica of this volume: :class:`CorruptData`."""
    if shape(new) != wanted:
        raise CorruptData("what the other node sent has other tables than a replica")
    at = _position(new)
    newest = record_log.read(new, at.seq, 1)
    if not newest or decode(newest[0], volume).position != at:
        raise CorruptData(f"the other node's replica does not have the record {at} at which it stands")


def carry_chunks(old: sqlite3.Connection, new: sqlite3.Connection, now_ns: int) -> None:
    """Give the new database the small chunks that only the old one has; the grace of all begins anew (collector).

    Each is verified: a damaged one must not take the place of a good one here, or be taken for one that is here.
    """
    columns = ", ".join(name for _, name, *_ in old.execute("PRAGMA table_info(chunk)"))
    values = ", ".join("?" * (columns.count(",") + 1))
    new.execute("BEGIN IMMEDIATE")
    new.execute("UPDATE chunk SET touched_ns = ?, removed_ns = NULL", (now_ns,))
    damaged = [(digest,) for digest, data in new.execute("SELECT digest, data FROM chunk") if not _is_good(digest, data)]
    new.executemany("DELETE FROM chunk WHERE digest = ?", damaged)
    for digest, data in old.execute("SELECT digest, data FROM chunk"):
        if _is_good(digest, data) and new.execute("SELECT 1 FROM chunk WHERE digest = ?", (digest,)).fetchone() is None:
            rows = old.execute(f"SELECT {columns} FROM chunk WHERE digest = ?", (digest,))
            new.executemany(f"INSERT INTO chunk ({columns}) VALUES ({values})", rows)
    new.execute("COMMIT")


def _is_good(digest: str, data: bytes) -> bool:
    return blake3(data).hexdigest() == digest


def carry_over(old: sqlite3.Connection, new: sqlite3.Connection, incarnation: str, sealed: Epoch) -> None:
    """Make the new database this store's: its name, its seal, and its late records; in one transaction.

    Late is, besides what was late, what the old log has and the new history has not: it may come from a holder that went
    on alone, and nothing that was logged is thrown away unseen (section 3).
    """
    committed = _position(new)
    new.execute("BEGIN IMMEDIATE")
    new.execute("DELETE FROM log WHERE seq > ?", (committed.seq,))
    new.execute("DELETE FROM epoch WHERE seq > ?", (committed.seq,))
    new.execute("DELETE FROM late")
    late = "INSERT OR REPLACE INTO late (incarnation, counter, seq, record) VALUES (?, ?, ?, ?)"
    new.executemany(late, old.execute("SELECT incarnation, counter, seq, record FROM late"))
    parted = _parted(old, new, committed.seq)
    new.executemany(late, old.execute("SELECT incarnation, counter, seq, record FROM log WHERE seq >= ?", (parted,)))
    new.execute(
        "UPDATE state SET incarnation = ?, sealed_incarnation = ?, sealed_counter = ?", (incarnation, *sealed)
    )
    new.execute("COMMIT")


def _parted(old: sqlite3.Connection, new: sqlite3.Connection, end: int) -> int:
    """The first seq of the old log that is not in the new history: logs that agree somewhere agree before (Raft, 5.3)."""
    low = record_log.floor(old).seq  # trimmed, so committed, so the same
    high = record_log.newest(old).seq + 1
    same: Callable[[int], bool] = lambda seq: seq <= end and record_log.position(old, seq) == record_log.position(new, seq)  # noqa: E731
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if same(middle) else (low, middle)
    return high


def _position(db: sqlite3.Connection) -> Position:
    incarnation, counter, seq = db.execute(_MARK).fetchone()
    return Position(Epoch(incarnation, counter), seq)


def _digest(path: Path) -> str:
    digest = blake3()
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.hexdigest()
