"""The holder's working documents: what is committed plus its own records that are on their way.

A record's changes are made here, in the order of the records, by one actor that is fresh for the grant; if one of them
is not committed the whole workspace goes with the grant.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Any

from davfs.cluster.site import Site
from davfs.core.model import Position
from davfs.core.namespace import Edits
from davfs.core.ports import Document, ReplicaStore
from davfs.core.record import COMPACT, OPERATION, DocumentChange, Record

CHANGE_BYTES = 256
"""What a change of a record takes beside the document's bytes, at most."""


class Workspace:
    """Not thread-safe: the holder calls it under its lock."""

    def __init__(self, site: Site, store: ReplicaStore, volume: str) -> None:
        self._site = site
        self._store = store
        self._volume = volume
        self._documents: OrderedDict[str, tuple[Document, int]] = OrderedDict()  # with the seq of its last change

    def record(self, edits: Edits, request_id: str, reply: Any, kind: str = OPERATION, base: Position | None = None) -> Record:
        """Make the changes of ``edits`` in the documents, and the record that carries them."""
        changes = []
        for name, edit in edits.documents.items():
            document = self._load(name)
            change = document.change(edit.puts, edit.deletes)
            changes.append(DocumentChange(name, change, document.heads(), tuple(edit.puts), tuple(edit.deletes)))
            self._documents[name] = (document, edits.at.seq)
        self._evict()
        return Record(
            self._volume, edits.at, kind, request_id, tuple(changes), base, reply, self._site.clock.wall_ns(), edits.who
        )

    def compacted(self, names: Sequence[str], at: Position, room: int) -> Record | None:
        """The record that replaces documents by such without history, those that fit ``room`` bytes; None if none does."""
        changes = []
        for name in names:
            data = self._site.documents.without_history(self._load(name))
            room -= len(data) + CHANGE_BYTES
            if room < 0:
                break
            fresh = self._site.documents.load(data or None, (), self._site.random.token(16))
            self._documents[name] = (fresh, at.seq)
            changes.append(DocumentChange(name, data, fresh.heads()))
        self._evict()
        if not changes:
            return None
        return Record(self._volume, at, COMPACT, "", tuple(changes), at_ns=self._site.clock.wall_ns())

    def _load(self, name: str) -> Document:
        if name in self._documents:
            self._documents.move_to_end(name)
            return self._documents[name][0]
        stored = self._store.load_document(name)
        # An actor of its own for each load: a document that was dropped and loaded again never repeats (actor, seq).
        return self._site.documents.load(stored.snapshot, stored.changes, self._site.random.token(16))

    def _evict(self) -> None:
        """Drop the coldest documents, but none whose last change is not yet in the store."""
        committed = self._store.committed.seq
        too_many = len(self._documents) - self._site.bounds.documents
        for name in list(islice(self._documents, max(0, too_many))):
            if self._documents[name][1] <= committed:
                del self._documents[name]
