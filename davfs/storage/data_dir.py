"""A node's data directory: its version marker, its sub-folders, and the lock that keeps a second process out.

::

    DIR/DAVFS        marker: JSON, format version, incarnation, node name
    DIR/chunks/      chunk_store.py
    DIR/volumes/     replica_db.py, one database for each volume
    DIR/raft/        raft_journal.py

Format 1 is the first; a newer one is refused by name, and an older one would be migrated here. May import only core.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

from davfs.core.errors import ConfigError, CorruptData, Unavailable, UnknownFormat
from davfs.storage.files import (
    TEMPORARY,
    as_domain_error,
    is_no_room,
    make_directory,
    no_space,
    remove_leftovers,
    sync_directory,
    write_durably,
)
from davfs.storage.snapshots import ARRIVING

FORMAT = 1
MARKER = "DAVFS"
_MEANINGLESS = frozenset({"lost+found"})  # what mkfs leaves in an empty file system
_DATABASE = ".sqlite"
_DROPPED = ".sqlite-dropped"  # a database that is being removed
_FOLDERS = ("chunks", "volumes", "raft")


class DataDirectory:
    """An opened data directory, made when it is absent or empty. ``close`` lets the next process in.

    ``node``: name of the node that it belongs to; a directory of another node is refused (two nodes that run on copies
    of one disk would each vote with the other's memory). Errors: :class:`UnknownFormat`, :class:`ConfigError` (not a data
    directory, or another node's), :class:`Unavailable` (another process has it), :class:`CorruptData`, :class:`NoSpace`.
    """

    def __init__(self, path: Path, node: str = "") -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"the data directory {path} is a file; name a folder") from error
        except OSError as error:
            raise _cannot(error, path) from error
        try:
            self._lock_it()
            marker = self._marker(node)
            self.incarnation: str = marker["incarnation"]
            for name in _FOLDERS:
                make_directory(path / name)
            for dropped in self.volumes.glob(f"*{_DROPPED}"):
                self._remove(dropped.name.removesuffix(_DROPPED))
            remove_leftovers(path)
        except OSError as error:
            self.close()
            raise _cannot(error, path) from error
        except BaseException:
            self.close()
            raise

    @property
    def chunks(self) -> Path:
        return self.path / "chunks"

    @property
    def volumes(self) -> Path:
        return self.path / "volumes"

    @property
    def raft(self) -> Path:
        return self.path / "raft"

    def volume_database(self, volume: str) -> Path:
        """Where the replica of a volume lives."""
        return self.volumes / f"{volume}{_DATABASE}"

    def stored_volumes(self) -> list[str]:
        """The volumes that have a database here."""
        return sorted(file.stem for file in self.volumes.glob(f"*{_DATABASE}"))

    def drop_volume(self, volume: str) -> None:
        """Remove the database of a volume, which is closed. A crash half-way leaves the whole of it or nothing: without
        its write-ahead log it would open as one that has forgotten what it promised."""
        file = self.volume_database(volume)
        try:
            file.rename(self.volumes / f"{volume}{_DROPPED}")
            sync_directory(self.volumes)
            self._remove(volume)
        except OSError as error:
            raise as_domain_error(error, file) from error

    def _remove(self, volume: str) -> None:
        for suffix in ("-wal", "-shm"):
            self.volume_database(volume).with_name(f"{volume}{_DATABASE}{suffix}").unlink(missing_ok=True)
        for suffix in ARRIVING:
            (self.volumes / f"{volume}{suffix}").unlink(missing_ok=True)
        sync_directory(self.volumes)  # a new database must not find the old one's write-ahead log
        (self.volumes / f"{volume}{_DROPPED}").unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock_it(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(f"the data directory {self.path} is in use by another process; stop that node") from error

    def _marker(self, node: str) -> dict[str, Any]:
        file = self.path / MARKER
        try:
            marker = _read_marker(file)
        except FileNotFoundError:
            found = [n for n in os.listdir(self.path) if n not in _MEANINGLESS and not n.startswith(TEMPORARY)]
            if found:
                raise ConfigError(
                    f"{self.path} is not empty and not a data directory of davfs (it has no {MARKER} file): "
                    "name another folder, or empty this one"
                ) from None
            marker = {"format": FORMAT, "incarnation": secrets.token_hex(16), "node": node}
            write_durably(file, (json.dumps(marker) + "\n").encode())
            with contextlib.suppress(OSError):  # a parent that cannot be synced (a mount point) has no new name either
                _sync_parent(self.path)
        if node and marker["node"] and marker["node"] != node:
            raise ConfigError(f"the data directory {self.path} belongs to {marker['node']}, not to {node}")
        return marker


def _sync_parent(path: Path) -> None:
    fd = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_marker(file: Path) -> dict[str, Any]:
    try:
        marker: dict[str, Any] = json.loads(file.read_bytes())
        version = marker["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptData(f"{file} is not readable: restore it from a backup of this disk") from error
    if version != FORMAT:
        raise UnknownFormat(
            f"{file} says format {version}; this davfs knows format {FORMAT}: start the version that wrote it"
        )
    if not isinstance(marker.get("incarnation"), str) or not isinstance(marker.get("node"), str):
        raise CorruptData(f"{file} lacks the directory's incarnation: restore it from a backup of this disk")
    return marker


def _cannot(error: OSError, path: Path) -> Exception:
    if is_no_room(error):
        return no_space(error, path)
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigError(f"no permission for the data directory {path}: {error}")
    return Unavailable(f"the data directory {path} cannot be used: {error}")
