"""Records and index changes as a holder would make them, for the tests of replica stores."""

from __future__ import annotations

from davfs.core import keys, values
from davfs.core.model import ChunkRef, Epoch, Manifest, Position
from davfs.core.ports import AppliedRecord, IndexUpdate
from davfs.core.record import OPERATION, Record, encode

E1, E2, E3 = Epoch(1, 1), Epoch(1, 2), Epoch(2, 1)


def at(seq, epoch=E1):
    return Position(epoch, seq)


def record(seq, epoch=E1, **more):
    return Record("v1", at(seq, epoch), OPERATION, more.pop("request_id", f"request-{seq}"), at_ns=seq * 100, **more)


def logged(store, *records, cut_from=None):
    store.append([(r.position, encode(r)) for r in records], cut_from)


class History:
    """Commits one operation after the other, as a holder would."""

    def __init__(self, store):
        self.store = store
        self.seq = store.last.seq

    def do(self, *updates, documents=(), reply=None, request_id=None):
        self.seq += 1
        made = record(self.seq, reply=reply, request_id=request_id or f"request-{self.seq}")
        logged(self.store, made)
        self.store.commit([AppliedRecord(made, documents, [IndexUpdate(k, v) for k, v in updates])])
        return keys.version_of(made.position)

    @property
    def next_version(self):
        return keys.version_of(at(self.seq + 1))


def name(inode, version, parent, text, kind="f", created_ns=5):
    return keys.make(keys.NAME, inode, version), values.encode_name(parent, text, kind, created_ns)


def manifest(size, etag="e1", mtime_ns=7):
    chunks = (ChunkRef("0" * 64, size, ("node-1", "node-2")),) if size else ()
    return Manifest(size, mtime_ns, etag, 4096, chunks)


def content(inode, version, of):
    return keys.make(keys.MANIFEST, inode, version), values.encode_manifest(of)


def gone(kind, inode, version, part=""):
    return keys.make(kind, inode, version, part), None
