"""One volume's replica on this node: records, documents and index in one SQLite database. May import only core.

What a holder is answered for (a seal, appended records) is synced before the method returns. Entering committed records
into documents and index is one transaction too, but not synced on its own: the log has the records already, and a
write-ahead log that loses its end after a power loss loses whole transactions, newest first, so the commit mark then
simply stands further back. The next append syncs what came before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from davfs.core.chunk_port import ChunkPage
from davfs.core.errors import CorruptData, NoSpace, Unavailable
from davfs.core.model import ORIGIN, Epoch, Position
from davfs.core.ports import AppliedRecord, StoredDocument
from davfs.core.snapshot_port import Snapshot
from davfs.storage import merge_tables, record_log, small_chunks, undo
from davfs.storage.index_reads import IndexReads
from davfs.storage.index_writer import IndexWriter, enter_record
from davfs.storage.lately import Lately
from davfs.storage.schema import open_writer, translate
from davfs.storage.snapshots import SnapshotFiles, SnapshotMemory, carry_chunks, carry_over, check, shape

REPLIES_KEPT = 10_000
_PRUNE_EVERY = 256
_SPARE_PAGES = 1280  # a little more than is made free when the database is opened (schema.py)
_SIZES = (
    "SELECT id, ifnull((SELECT length(snapshot) FROM document AS d WHERE d.id = one.id), 0)"
    " + (SELECT ifnull(sum(length(bytes)), 0) FROM document_change AS c WHERE c.id = one.id)"
    " FROM (SELECT id FROM document WHERE id > :after UNION SELECT id FROM document_change WHERE id > :after"
    " ORDER BY 1 LIMIT :limit) AS one ORDER BY 1"
)
_STATE = (
    "incarnation, sealed_incarnation, sealed_counter, committed_incarnation, committed_counter, committed_seq,"
    " files, bytes, root_mtime_ns, root_changed"
)


class ReplicaDb(IndexReads):
    """Port: :class:`davfs.core.ports.ReplicaStore`. Thread-safe; readers do not wait for the writer.

    ``path`` may be ``":memory:"`` (the simulator): then there is one connection, a view excludes everyone else, and a
    thread that writes while it has a view open is a RuntimeError. Errors of the constructor: see ``open_writer``.
    """

    def __init__(self, path: Path | str, age_ns: Callable[[], int] = lambda: 0) -> None:
        self._age_ns = age_ns  # the clock that small chunks age by (storage/age_clock.py)
        self._lately = Lately()
        super().__init__(path)
        self._snapshots = SnapshotMemory() if self._memory else SnapshotFiles(self._path)

    def _read_state(self) -> None:
        self._lately.forget()
        self._remembered.forget()
        row = self._db.execute(f"SELECT {_STATE} FROM state").fetchone()
        if row is None:
            raise CorruptData(f"{self._path} has lost its state; remove it to have it copied from another replica")
        self._incarnation, si, sc, ci, cc, cs, self._files, self._bytes, self._root_mtime_ns, self._root_changed = row
        self._sealed = Epoch(si, sc)
        self._committed = Position(Epoch(ci, cc), cs)
        self._undoable = undo.first(self._db)
        self._last = record_log.newest(self._db)
        self._floor = record_log.floor(self._db)
        if self._last.seq < self._committed.seq:
            raise CorruptData(f"{self._path} lacks committed records; remove it to have it copied from another replica")
        (self._late,) = self._db.execute("SELECT count(*) FROM late").fetchone()

    @property
    def incarnation(self) -> str:
        """Random per empty store."""
        return str(self._incarnation)

    @property
    def sealed(self) -> Epoch:
        return self._sealed

    @property
    def last(self) -> Position:
        return self._last

    @property
    def committed(self) -> Position:
        return self._committed

    @property
    def firm(self) -> Position:
        """Up to here a majority has what is committed; what is behind it can be taken back (``append``)."""
        undoable = self._undoable
        if undoable is None or undoable > self._committed.seq:
            return self._committed
        return self.position_at(undoable - 1) or ORIGIN

    @property
    def late(self) -> int:
        """How many late records there are."""
        return int(self._late)

    @property
    def floor(self) -> Position:
        """The position before the oldest record that the log still has."""
        return self._floor

    # --- the log ----------------------------------------------------------------------------------------------------

    def seal(self, epoch: Epoch) -> None:
        """Durably remember the highest epoch; lower ones are a ValueError."""
        with self._writing(durable=True) as db:
            if epoch < self._sealed:
                raise ValueError(f"sealed at {self._sealed} already, which is above {epoch}")
            db.execute("UPDATE state SET sealed_incarnation = ?, sealed_counter = ?", epoch)
            db.execute("COMMIT")
            self._sealed = epoch

    def position_at(self, seq: int) -> Position | None:
        """The position of the record with that seq (ORIGIN for 0), None where the log has none."""
        last = self._last
        if seq == last.seq:
            return last
        if seq <= 0 or seq > last.seq:
            return ORIGIN if seq == 0 else None
        with self._reading() as db:
            return record_log.position(db, seq)

    def read_log(self, first_seq: int, limit_bytes: int) -> list[bytes]:
        """Encoded records from ``first_seq`` on, at least one if there is one, at most ``limit_bytes`` otherwise.

        :class:`LogTrimmed` if the first of them is kept no longer.
        """
        with self._reading() as db:
            return record_log.read(db, first_seq, limit_bytes)

    def log_within(self, size: int, first: int) -> int:
        """The lowest seq, but none before ``first``, from which on the log has at most ``size`` bytes."""
        with self._reading() as db:
            return record_log.within(db, size, first)

    def trim(self, below: int, limit: int) -> int:
        """Forget up to ``limit`` of the oldest records, none from ``below`` on and never the newest committed one.

        How many went. Not synced on its own: after a power loss some may be back.
        """
        below = min(below, self.firm.seq)
        if below <= self._floor.seq + 1:
            return 0
        with self._writing(durable=False) as db:
            gone = record_log.trim(db, below, limit)
            floor = record_log.floor(db)
            db.execute("COMMIT")
            self._floor = floor
        return gone

    def give_back(self, pages: int) -> bool:
        """Give up to ``pages`` pages of freed space back to the file system, if much is free; whether more could be."""
        with self._writing(durable=False) as db:
            db.execute("COMMIT")
            (spare,) = db.execute("PRAGMA freelist_count").fetchone()
            (size,) = db.execute("PRAGMA page_count").fetchone()
            spare -= max(_SPARE_PAGES, size // 8)  # what is free is used again: a little may stay
            if spare <= 0:
                return False
            # Not execute(): that would give back a single page.
            db.executescript(f"PRAGMA incremental_vacuum({min(spare, pages)})")
            return bool(spare > pages)

    def append(
        self,
        records: Sequence[tuple[Position, bytes]],
        cut_from: int | None,
        chunks: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Durably append to the log, after moving all records with seq >= ``cut_from`` to the late ones, at once.

        ``chunks``: (digest, data) of small chunks that came with the records, in the same transaction and sync.
        ValueError for a gap, a falling epoch, or a cut of what is firm. What was committed and is not firm is taken back
        with the cut: documents, index and commit mark are then as they were before it.
        """
        with self._writing(durable=True) as db:
            last, late = self._last, self._late
            if cut_from is not None and cut_from <= last.seq:
                last = self._cut(db, cut_from)
            last = record_log.add(db, last, records)
            small_chunks.put(db, chunks, self._age_ns())
            if late or cut_from is not None:  # what the log has (again) is not late
                db.executemany(
                    "DELETE FROM late WHERE incarnation = ? AND counter = ? AND seq = ?",
                    [(*at.epoch, at.seq) for at, _ in records],
                )
                (late,) = db.execute("SELECT count(*) FROM late").fetchone()
            with nullcontext() if cut_from is None else self._remembered.changing():
                db.execute("COMMIT")
            self._last, self._late = last, late
            if cut_from is not None:
                self._read_state()

    def _cut(self, db: sqlite3.Connection, cut_from: int) -> Position:
        if cut_from <= self.firm.seq:
            raise ValueError(f"record {cut_from} is committed for good (up to {self.firm}) and stays")
        if cut_from <= self._committed.seq:
            undo.roll_back(db, cut_from - 1)
        return record_log.cut(db, cut_from)

    def late_page(self, after: Position, limit_bytes: int) -> list[tuple[Position, bytes]]:
        """Late records that follow a position, by position; at least one if there is one, about ``limit_bytes`` at most."""
        with self._reading() as db:
            return merge_tables.late_page(db, after, limit_bytes)

    def add_late(self, records: Sequence[tuple[Position, bytes]]) -> None:
        """Durably keep records of a replica that goes away as late ones, but for those that the log here has, or that were
        settled."""
        with self._writing(durable=True) as db:
            merge_tables.add_late(db, [one for one in records if not self._has(db, one[0])])
            (late,) = db.execute("SELECT count(*) FROM late").fetchone()
            db.execute("COMMIT")
            self._late = late

    def _has(self, db: sqlite3.Connection, at: Position) -> bool:
        logged = at.seq <= self._last.seq and record_log.position(db, at.seq) == at
        return logged or merge_tables.handled(db, at, self._committed)

    def drop_late(self) -> int:
        """Forget late records that were settled, or are in the committed history after all; how many."""
        if not self._late:
            return 0
        with self._writing(durable=False) as db:
            gone = merge_tables.drop_handled(db, self._committed)
            db.execute("COMMIT")
            self._late -= gone
        return gone

    def late_records(self) -> list[tuple[Position, bytes]]:
        """Records that were cut from the log, by position: they never enter the documents as they are."""
        with self._reading() as db:
            rows = db.execute("SELECT incarnation, counter, seq, record FROM late ORDER BY 1, 2, 3").fetchall()
        return [(Position(Epoch(i, c), seq), record) for i, c, seq, record in rows]

    # --- small chunks -----------------------------------------------------------------------------------------------

    def chunk(self, digest: str) -> bytes | None:
        """A small chunk, verified. A bad one is :class:`CorruptData`: what repairs it is stored as a file."""
        with self._reading() as db:
            return small_chunks.get(db, digest, self._path)

    def has_chunk(self, digest: str) -> bool:
        """Whether a small chunk of that name is there (not verified)."""
        with self._reading() as db:
            return small_chunks.has(db, digest)

    def keep_chunk(self, digest: str) -> int | None:
        """The size of a small chunk, verified, and its grace begun anew, durably; None if there is none."""
        if self.chunk(digest) is None:
            return None
        with self._writing(durable=True) as db:
            size = small_chunks.keep(db, digest, self._age_ns(), self._path)
            db.execute("COMMIT")
        return size

    def chunk_page(self, after: str, limit: int, before: int) -> ChunkPage:
        """The next small chunks by digest, and which of them were last touched before ``before``."""
        with self._reading() as db:
            return small_chunks.page(db, after, limit, before)

    def remove_chunks(self, digests: Sequence[str], before: int) -> tuple[int, int]:
        """Set aside those that were last touched before ``before``."""
        with self._writing(durable=False) as db:
            removed = small_chunks.remove(db, digests, before, self._age_ns())
            db.execute("COMMIT")
        return removed

    def sweep_chunks(self, before: int) -> tuple[int, int]:
        """Delete what was set aside before ``before``, a bounded number at once."""
        with self._writing(durable=False) as db:
            gone = small_chunks.sweep(db, before)
            db.execute("COMMIT")
        return gone

    # --- documents and index ----------------------------------------------------------------------------------------

    def load_document(self, document: str) -> StoredDocument:
        """A document at rest; without snapshot and changes if no record has touched it yet."""
        found, state = self._lately.take(document)
        if found is not None:
            return found
        with self._reading() as db:
            snapshot = db.execute("SELECT snapshot FROM document WHERE id = ?", (document,)).fetchone()
            changes = db.execute("SELECT bytes FROM document_change WHERE id = ? ORDER BY seq", (document,)).fetchall()
        found = StoredDocument(None if snapshot is None else snapshot[0], [change for (change,) in changes])
        self._lately.keep(document, found, state)
        return found

    def commit(self, applied: Sequence[AppliedRecord], firm: int | None = None) -> None:
        """Enter records into documents and index and move the commit mark behind them, at once.

        Those behind ``firm``, which not a majority has yet, are entered one by one and can be taken back. ValueError unless
        they are the next ones of the log; :class:`CorruptData` for a malformed entry.
        """
        sure = [one for one in applied if firm is None or one.record.position.seq <= firm]
        self.make_firm(self._committed.seq if firm is None else firm)
        if sure:
            self._commit(sure, None)
        for one in applied[len(sure) :]:
            self._commit([one], one.record.position.seq)

    def make_firm(self, seq: int) -> None:
        """Forget how to undo records up to ``seq``: a majority has them."""
        if self._undoable is not None and self._undoable <= seq:
            with self._writing(durable=False) as db:
                undo.forget(db, seq)
                undoable = undo.first(db)
                db.execute("COMMIT")
                self._undoable = undoable

    def _commit(self, applied: Sequence[AppliedRecord], undoable: int | None) -> None:
        with self._writing(durable=False) as db:
            if undoable is None:
                undo.end(db)
            else:
                undo.begin(db, undoable)
            index = self._index_writer(db)
            committed = self._committed
            for one in applied:
                at = one.record.position
                row = db.execute("SELECT incarnation, counter FROM log WHERE seq = ?", (at.seq,)).fetchone()
                if at.seq != committed.seq + 1 or row != tuple(at.epoch):
                    raise ValueError(f"record {at} is not the one that follows {committed} in the log")
                enter_record(db, index, one)
                if at.seq % _PRUNE_EVERY == 0:
                    db.execute("DELETE FROM reply WHERE seq <= ?", (at.seq - REPLIES_KEPT,))
                committed = at
            index.marks.finish()
            db.execute(
                "UPDATE state SET committed_incarnation = ?, committed_counter = ?, committed_seq = ?,"
                " files = ?, bytes = ?, root_mtime_ns = ?, root_changed = ?",
                (*committed.epoch, committed.seq, index.files, index.size, index.root_mtime_ns, index.marks.root),
            )
            documents = {update.document for one in applied for update in one.documents}
            with self._remembered.changing(), self._lately.changing(documents):
                db.execute("COMMIT")
            self._committed = committed
            self._files, self._bytes, self._root_mtime_ns = index.files, index.size, index.root_mtime_ns
            self._root_changed = index.marks.root
            if self._undoable is None:
                self._undoable = undoable

    def rehearse(self, applied: Sequence[AppliedRecord]) -> None:
        """Whether :meth:`commit` could enter these records: :class:`CorruptData` if not. Nothing changes."""
        with self._writing(durable=False) as db:
            index = self._index_writer(db)
            for one in applied:
                enter_record(db, index, one)

    def _index_writer(self, db: sqlite3.Connection) -> IndexWriter:
        return IndexWriter(db, self._files, self._bytes, self._root_mtime_ns, self._root_changed)

    def document_sizes(self, after: str, limit: int) -> list[tuple[str, int]]:
        """(id, bytes at rest) of up to ``limit`` documents whose id follows ``after``, by id."""
        with self._reading() as db:
            return db.execute(_SIZES, {"after": after, "limit": limit}).fetchall()

    # --- snapshots --------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> Snapshot | None:
        """The snapshot that is kept for others."""
        return self._snapshots.frozen

    def freeze(self, rate: int) -> Snapshot:
        """Make a snapshot of what is committed now, in place of an older one, at most ``rate`` bytes a second."""
        with self._reading() as db:
            return self._snapshots.freeze(db, rate)

    def read_frozen(self, name: str, offset: int, size: int) -> bytes:
        """A piece of the frozen snapshot; :class:`NotFound` if there is none of that id any more."""
        return self._snapshots.read(name, offset, size)

    def thaw(self) -> None:
        """Forget the frozen snapshot."""
        self._snapshots.thaw()

    def arrived(self) -> tuple[Snapshot, int] | None:
        """The snapshot that is being received, and how many bytes of it are here (a restart keeps them)."""
        return self._snapshots.arrived()

    def receive(self, snapshot: Snapshot, offset: int, data: bytes) -> None:
        """Store a piece of a snapshot of another store; one at 0 begins anew."""
        self._snapshots.receive(snapshot, offset, data)

    def install(self, volume: str = "") -> None:
        """Replace everything here by the snapshot that has arrived, at once, once it is verified and can be one of ``volume``.

        Incarnation and seal stay; what this log has and the snapshot's history has not becomes late.
        """
        arrived = self._snapshots.arrived()
        if arrived is None:
            raise ValueError("no snapshot has arrived")
        with self._reading() as db:
            wanted = shape(db)
        ready: sqlite3.Connection | None = None
        try:
            self._snapshots.verify(arrived[0])
            ready = self._snapshots.open_ready(arrived[0])
            if volume:
                check(ready, wanted, volume)
        except (CorruptData, TypeError, ValueError, sqlite3.DatabaseError) as error:
            if ready is not None:
                ready.close()
            failure = translate(error, self._path, writing=False) if isinstance(error, sqlite3.Error) else error
            if isinstance(failure, NoSpace):
                raise failure from error
            self._snapshots.discard()  # else it would be looked at again and again
            raise CorruptData(f"the snapshot that arrived is of no use: {error}") from error
        with self._reading() as db:
            carry_chunks(db, ready, self._age_ns())
        with self._lock:
            if arrived[0].position < self._last:  # the same: it may have to be installed again, when what follows was lost
                ready.close()
                self._snapshots.discard()
                raise Unavailable(f"a snapshot at {arrived[0].position} brings nothing to a log that ends at {self._last}")
            self._check_open()
            carry_over(self._db, ready, self.incarnation, self._sealed)
            with self._remembered.changing(), self._nobody_reading():
                self._swap(ready)

    def _swap(self, ready: sqlite3.Connection) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.close()
        if isinstance(self._snapshots, SnapshotMemory):
            self._db = ready
            self._snapshots.discard()
        else:
            ready.close()
            try:
                self._snapshots.replace()
            finally:
                self._db = open_writer(self._path)  # the new one, or the old one as it was
                self._full_sync = True
        self._damage = ""  # of what was here before
        self._read_state()

    def iter_documents(self) -> Iterator[str]:
        """The ids of all documents, sorted."""
        with self._reading() as db:
            rows = db.execute("SELECT id FROM document UNION SELECT id FROM document_change ORDER BY 1").fetchall()
        return iter([name for (name,) in rows])
