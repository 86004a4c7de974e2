"""An open file: reads and writes at positions. It follows the file through renames, not through its deletion."""

from __future__ import annotations

import secrets

from davfs.cluster import files, positions
from davfs.cluster.api import Caller
from davfs.cluster.holder import Holder
from davfs.cluster.threads import ThreadRuntime
from davfs.cluster.volume import HeldContent
from davfs.core.errors import NotFound
from davfs.core.model import Entry


class File:
    """Made by ``Volume.open``. Thread-safe: each write is one operation, durable on a quorum when it returns."""

    def __init__(self, runtime: ThreadRuntime, holder: Holder, inode: str) -> None:
        self._runtime = runtime
        self._holder = holder
        self._inode = inode

    @property
    def entry(self) -> Entry:
        """The file as it is now: name, size, etag, times; ``NotFound`` once it is deleted."""
        return self._content().entry

    @property
    def path(self) -> str:
        """Where the file stands now."""
        self._holder.check_lease()
        with self._holder.replica.store.view() as view:
            return "/" + "/".join(positions.path_of(view, self._inode))

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
        self._runtime.run(positions.resize(self._holder, self._inode, size, _caller()))

    def _write(self, position: int | None, data: bytes | bytearray | memoryview) -> int:
        kept = memoryview(bytes(data))  # a slow copy may be sent after this returns: the caller's buffer may change then
        return self._runtime.run(positions.write_at(self._holder, self._inode, position, kept, _caller()))

    def _content(self) -> HeldContent:
        self._holder.check_lease()
        with self._holder.replica.store.view() as view:
            positions.path_of(view, self._inode)
            entry = view.entry(self._inode)
            held = view.manifest(self._inode)
        if entry is None:
            raise NotFound("the file was deleted")
        return HeldContent(self._runtime, files.OpenFile(self._holder, entry, held[1] if held is not None else None))


def _caller() -> Caller:
    return Caller(request_id=secrets.token_hex(12))
