"""One small history of a volume, the same whenever it is made: what the golden vectors hold.

A directory, files (one with a name in NFD, one small with its chunk beside its record, one of two segments), a property,
an overwrite, a rename, a delete, a record of a deposed holder that came out late, a record that is not committed yet.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from blake3 import blake3

from davfs.core.model import DIRECTORY, FILE, ORIGIN, ROOT, ChunkRef, Entry, Epoch, Manifest, Position
from davfs.core.namespace import Edits
from davfs.core.ports import AppliedRecord, Document, DocumentUpdate, IndexUpdate
from davfs.core.record import OPERATION, START, DocumentChange, Record, encode
from davfs.crdt.documents import AutomergeDocuments
from davfs.storage.replica_db import ReplicaDb

VOLUME = "5a" * 16
E1, E2 = Epoch(1, 1), Epoch(1, 2)
NODES = ("node-1", "node-2", "node-3")
NFD = unicodedata.normalize("NFD", "Zoë’s café.txt")
SMALL = b"a small file's content"
MTIME_NS = 1_700_000_000_123_456_789
PROPERTY = "{http://example.com/ns}colour"
XML = '<colour xmlns="http://example.com/ns">green</colour>'


def content(number: int, size: int) -> bytes:
    """The bytes of a chunk; there are four of each size."""
    return b"abcd"[number % 4 : number % 4 + 1] * size


def chunks_of(first: int, count: int, size: int) -> tuple[ChunkRef, ...]:
    numbers = range(first, first + count)
    return tuple(ChunkRef(blake3(content(number, size)).hexdigest(), size, NODES) for number in numbers)


class Writer:
    """Makes records as a holder does, and commits them into a store. Actors and times are fixed."""

    def __init__(self, store: ReplicaDb) -> None:
        self.store = store
        self.records: list[bytes] = []
        self._documents: dict[str, Document] = {}
        self._automerge = AutomergeDocuments()

    def edits(self, epoch: Epoch) -> Edits:
        return Edits(Position(epoch, self.store.last.seq + 1))

    def record(self, edits: Edits, kind: str = OPERATION, base: Position | None = None, reply=None) -> Record:
        changes = []
        for name, edit in edits.documents.items():
            actor = blake3(f"{name} {edits.at}".encode()).digest(16)
            stored = self.store.load_document(name)
            document = self._automerge.load(stored.snapshot, stored.changes, actor)
            change = document.change(edit.puts, edit.deletes)
            changes.append(DocumentChange(name, change, document.heads(), tuple(edit.puts), tuple(edit.deletes)))
            self._documents[name] = document
        at_ns = MTIME_NS + edits.at.seq * 1_000_000_000
        return Record(VOLUME, edits.at, kind, f"request-{edits.at.seq}", tuple(changes), base, reply, at_ns)

    def log(self, record: Record, cut_from: int | None = None, chunks=()) -> None:
        self.records.append(encode(record))
        self.store.append([(record.position, self.records[-1])], cut_from, chunks)

    def commit(self, record: Record) -> None:
        documents: list[DocumentUpdate] = []
        updates: list[IndexUpdate] = []
        for change in record.changes:
            document = self._documents[change.document]
            stored = self.store.load_document(change.document)
            snapshot = document.save() if len(stored.changes) == 3 else None  # so that both forms are there
            documents.append(DocumentUpdate(change.document, change.change, snapshot))
            updates.extend(IndexUpdate(key, document.get(key)) for key in change.keys)
        self.store.commit([AppliedRecord(record, documents, updates)])

    def do(self, edits: Edits, chunks=(), **more) -> str:
        record = self.record(edits, **more)
        self.log(record, None, chunks)
        self.commit(record)
        return edits.version


def build(path: Path) -> list[bytes]:
    """Make the replica's database at ``path``; the records that went into its log, in that order."""
    store = ReplicaDb(path)
    writer = Writer(store)
    store.seal(E1)
    writer.do(writer.edits(E1), kind=START, base=ORIGIN)

    edits = writer.edits(E1)
    folder = edits.create(ROOT, "Papers", DIRECTORY, MTIME_NS)
    writer.do(edits, reply={"status": 201})

    edits = writer.edits(E1)
    small = edits.create(folder, NFD, FILE, MTIME_NS)
    piece = ChunkRef(blake3(SMALL).hexdigest(), len(SMALL), NODES)
    edits.write(small, Manifest(len(SMALL), MTIME_NS, "etag-1", 4096, (piece,)), None)
    first = writer.do(edits, chunks=[(piece.digest, SMALL)], reply=["etag-1", True])

    edits = writer.edits(E1)
    edits.set_properties(small, {PROPERTY: XML}, (), {})
    writer.do(edits)

    edits = writer.edits(E1)
    edits.write(small, Manifest(200, MTIME_NS + 1, "etag-2", 100, chunks_of(0, 2, 100)), first)
    writer.do(edits)

    edits = writer.edits(E1)
    edits.write_segments("content-1", [(0, chunks_of(0, 256, 1)), (1, chunks_of(256, 44, 1))])
    writer.do(edits)
    edits = writer.edits(E1)
    large = edits.create(ROOT, "large.bin", FILE, MTIME_NS)
    edits.write(large, Manifest(300, MTIME_NS, "etag-3", 1, (), 2, "content-1"), None)
    made = writer.do(edits)

    edits = writer.edits(E1)
    edits.rename(Entry(large, ROOT, "large.bin", FILE, made, MTIME_NS, MTIME_NS), folder, "larger.bin")
    writer.do(edits)

    edits = writer.edits(E1)
    doomed = edits.create(ROOT, "doomed", DIRECTORY, MTIME_NS)
    made = writer.do(edits)
    edits = writer.edits(E1)
    edits.trash(Entry(doomed, ROOT, "doomed", DIRECTORY, made, MTIME_NS, MTIME_NS), "")
    writer.do(edits)

    # The old holder logs a record that nobody else has; the next one does not adopt it.
    edits = writer.edits(E1)
    edits.create(ROOT, "late", DIRECTORY, MTIME_NS)
    writer.log(writer.record(edits))
    base = store.committed
    store.seal(E2)
    start = writer.record(Edits(Position(E2, base.seq + 1)), START, base)
    writer.log(start, base.seq + 1)
    writer.commit(start)

    edits = writer.edits(E2)
    edits.create(ROOT, "uncommitted", DIRECTORY, MTIME_NS)
    writer.log(writer.record(edits))
    store.close()
    return writer.records
