"""A volume that this program holds: its tree and its files. Everything is durable on a quorum when a call returns.

Paths are texts like ``/reports/2026.csv``. Errors are those of ``core.errors``: a definite one has changed nothing,
``OutcomeUnknown`` may have, ``LeaseLost`` says that the volume is no longer held and has to be assigned anew.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from davfs.client.file import File
from davfs.client.session import Session
from davfs.cluster import tree
from davfs.cluster.api import Caller
from davfs.cluster.volume import HeldVolume
from davfs.core.errors import Forbidden, NotFound
from davfs.core.model import Entry, Epoch, Path
from davfs.core.names import check_path


class Volume:
    """Made by ``Cluster.assign``; a context manager that frees it. Thread-safe."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._held = HeldVolume(session.runtime, session.holder)

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.free()

    @property
    def name(self) -> str:
        return self._session.volume.name

    @property
    def epoch(self) -> Epoch:
        """The epoch of this grant, larger with each."""
        return self._session.epoch

    @property
    def held(self) -> bool:
        """Whether the volume may be used right now. Once lost for good it has to be assigned anew."""
        return self._session.held

    def free(self) -> None:
        """Flush and give the volume back. The second time it does nothing."""
        self._session.free()

    @property
    def _reading(self) -> HeldVolume:
        self._session.reading()
        return self._held

    # --- the tree ---------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        """What stands at a path; ``NotFound``."""
        entry = self._reading.lookup(_names(path))
        if entry is None:
            raise NotFound(f"there is nothing at {path}")
        return entry

    def exists(self, path: str) -> bool:
        """Whether anything stands at a path."""
        return self._reading.lookup(_names(path)) is not None

    def list(self, path: str = "/") -> list[Entry]:
        """The members of a directory, sorted by name; ``NotFound``, ``NotACollection``."""
        return self._reading.children(_names(path))

    def mkdir(self, path: str) -> Entry:
        """Make a directory; ``AlreadyExists``, ``ParentMissing``."""
        return self._held.mkcol(_names(path), condition=_any, caller=_caller())

    def delete(self, path: str) -> None:
        """Delete a file, or a directory with all that is in it; ``NotFound``."""
        self._held.delete(_names(path), condition=_any, caller=_caller())

    def rename(self, source: str, target: str, *, overwrite: bool = False) -> None:
        """Move a file or directory; ``PreconditionFailed`` if something is at the target, unless ``overwrite``."""
        self._held.move(_names(source), _names(target), overwrite=overwrite, condition=_any, caller=_caller())

    # --- files ------------------------------------------------------------------------------------------------------

    def write(self, path: str, data: bytes | bytearray | memoryview | BinaryIO) -> Entry:
        """Create or replace a whole file, from bytes or from what is read of an open one. Nobody sees it half-way."""
        source = io.BytesIO(data) if isinstance(data, bytes | bytearray | memoryview) else data
        return self._held.put(
            _names(path), source.read, None, mtime_ns=None, condition=_any, caller=_caller()
        )[0]

    def read(self, path: str) -> bytes:
        """A whole file. For large ones: :meth:`blocks`, or :meth:`open`."""
        return b"".join(self.blocks(path))

    def blocks(self, path: str) -> Iterator[memoryview]:
        """A whole file, in blocks of at most one chunk; one version, whatever happens to it meanwhile."""
        content = self._reading.open(_names(path))
        return content.read(0, content.entry.size)

    def open(self, path: str, *, create: bool = False) -> File:
        """A file to be read and written at positions; ``NotFound`` unless ``create`` makes an empty one."""
        names = _names(path)
        if create and not self.exists(path):
            self.write(path, b"")
        with self._session.reading().replica.store.view() as view:
            entry = tree.require(view, names)
        if entry.is_directory:
            raise Forbidden(f"{path} is a directory")
        return File(self._session, entry.inode)


def _names(path: str) -> Path:
    return check_path(name for name in path.split("/") if name)


def _caller() -> Caller:
    return Caller(request_id=secrets.token_hex(12))


def _any(entry: Entry | None) -> None:
    """No condition."""
