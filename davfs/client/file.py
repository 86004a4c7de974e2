"""An open file: reads and writes at positions. It follows the file through renames, not through its deletion."""

from __future__ import annotations

import secrets

from davfs.client.session import Session
from davfs.cluster import files, positions, tree
from davfs.cluster.api import Caller
from davfs.cluster.reading import HeldContent
from davfs.core.errors import NotFound
from davfs.core.model import Entry


class File:
    """Made by ``Volume.open``. Thread-safe: each write is one operation, durable on a quorum when it returns."""

    def __init__(self, session: Session, inode: str) -> None:
        self._session = session
        self._inode = inode

    @property
    def entry(self) -> Entry:
        """The file as it is now: name, size, etag, times; ``NotFound`` once it is deleted."""
        return self._content().entry

    @property
    def path(self) -> str:
        """Where the file stands now."""
        with self._session.reading().replica.store.view() as view:
            return "/" + "/".join(tree.path_of(view, self._inode))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.entry.size

    def read_at(self, position: int, size: int) -> bytes:
        """Up to ``size`` bytes from a position on; fewer only at the end of the file."""
        content = self._content()
        return b"".join(content.read(max(0, position), max(0, position) + max(0, size)))

    def write_at(self, position: int, data: bytes | bytearray | memoryview) -> None:
        """Write at a position; what lies between the old end and it becomes zeros."""
        self._write(position, data)

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Write at the end, wherever that is when its turn comes; the position."""
        return self._write(None, data)

    def resize(self, size: int) -> None:
        """Cut the file off, or lengthen it with zeros."""
        self._session.runtime.run(positions.resize(self._session.holder, self._inode, size, _caller()))

    def _write(self, position: int | None, data: bytes | bytearray | memoryview) -> int:
        kept = memoryview(bytes(data))  # a slow copy may be sent after this returns: the caller's buffer may change then
        write = positions.write_at(self._session.holder, self._inode, position, kept, _caller())
        return self._session.runtime.run(write)

    def _content(self) -> HeldContent:
        holder = self._session.reading()
        with holder.replica.store.view() as view:
            tree.path_of(view, self._inode)
            entry = view.entry(self._inode)
            held = view.manifest(self._inode)
        if entry is None:
            raise NotFound("the file was deleted")
        file = files.OpenFile(holder, entry, held[1] if held is not None else None)
        return HeldContent(self._session.runtime, file)


def _caller() -> Caller:
    return Caller(request_id=secrets.token_hex(12))
