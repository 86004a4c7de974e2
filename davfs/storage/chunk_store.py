"""Chunks on disk, one immutable file each (design, section 6).

``ROOT/<volume>/<first two hex digits>/<digest>``: a 16-byte header (magic ``DVCHUNK1``, the 1 being the format; length as
big-endian u64), then the bytes. A file gets its final name only after its data is synced, and its presence is answered
for only after the directory is synced too. Its mtime says when it was last promised to be there, on the clock that chunks
age by (``age_clock.py``). Damaged files move to ``ROOT/<volume>/quarantine/``, those that the collector found to be of no
use to ``ROOT/<volume>/removed/<first two>/``, where they are read until they are swept. May import only core.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blake3 import blake3

from davfs.core.chunk_port import ChunkPage
from davfs.core.errors import ChunkMissing, CorruptData, DavfsError, InvalidInput, StorePoisoned, Unavailable
from davfs.storage.files import TEMPORARY, is_no_room, make_directory, no_space, poisoned, sync_directory, write_all

_MAGIC = b"DVCHUNK1"
_HEADER = struct.Struct(">8sQ")
_QUARANTINE = "quarantine"
_REMOVED = "removed"
_DELETED = "deleted"
_SWEPT_AT_ONCE = 2000
_DIGEST_LENGTH = 64
_HEX = frozenset("0123456789abcdef")
# What a bad sector, a damaged file system or a checksumming one says: damage like any other, another node has a good copy.
_UNREADABLE = (errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA)

_log = logging.getLogger(__name__)


class DiskChunkStore:
    """Port: :class:`davfs.core.chunk_port.ChunkStore`. Thread-safe; writers of different chunks do not wait for each other.

    ``root`` must exist. Leftovers of a writer that died are the data directory's to remove, before this is made.
    ``age_ns``: the clock that chunks age by.
    """

    def __init__(self, root: Path, age_ns: Callable[[], int] = time.time_ns) -> None:
        self._root = root
        self._age_ns = age_ns
        self._poison = ""
        self._numbers = itertools.count()
        self._known: set[Path] = set()  # directories whose own names are durable
        self._making = threading.Lock()
        self._naming = threading.Lock()  # held for a rename or a touch only: none is set aside that was replaced or kept

    def put(self, volume: str, digest: str, data: bytes | memoryview) -> None:
        """Store durably, then return; see the port for errors. Empty chunks do not exist: ValueError."""
        self._check_poison()
        _check_names(volume, digest)
        if not len(data):
            raise ValueError("a chunk has at least one byte")
        if blake3(data).hexdigest() != digest:
            raise CorruptData(f"what came as chunk {digest} has another digest; nothing was stored")
        folder = self._root / volume / digest[:2]
        try:
            self._make_folder(folder)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._failure(error, "making a folder") from error
        try:
            try:
                good = _is_good(digest, digest, fd)
            except OSError as error:
                raise self._failure(error, "reading a chunk") from error
            if not good or not self._touch(fd, digest):
                self._write(fd, digest, data)
            # Also for a chunk that was there: whoever wrote it may have died, or still be, between rename and this.
            self._sync_folder(fd)
        finally:
            os.close(fd)

    def get(self, volume: str, digest: str) -> bytes:
        """The bytes, verified; see the port for errors."""
        _check_names(volume, digest)
        path = self._root / volume / digest[:2] / digest
        try:
            try:
                data = _read(path, None)
            except FileNotFoundError:  # somebody may read a version of long ago
                path = self._removed(volume, digest)
                data = _read(path, None)
        except FileNotFoundError as error:
            raise ChunkMissing(f"chunk {digest} is not here") from error
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise self._failure(error, "reading a chunk") from error
            _log.error("chunk %s of volume %s cannot be read: %s", digest, volume, error)
            self._set_aside(path, volume)
            raise CorruptData(f"chunk {digest} cannot be read from this disk: {error}") from error
        if data is None or blake3(data).hexdigest() != digest:
            _log.error("chunk %s of volume %s is damaged; it was set aside", digest, volume)
            self._set_aside(path, volume)
            raise CorruptData(f"the copy of chunk {digest} on this disk was damaged; it was set aside")
        return data

    def has(self, volume: str, digest: str) -> bool:
        """Whether a file of that name is there (not verified)."""
        _check_names(volume, digest)
        return (self._root / volume / digest[:2] / digest).exists()

    def keep(self, volume: str, digest: str) -> int:
        """The chunk's size; verified and its grace begun anew, durably. One that was removed comes back."""
        data = self.get(volume, digest)
        self.put(volume, digest, data)
        return len(data)

    def free_bytes(self) -> int:
        """What ordinary users may still write on this file system."""
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    # --- for the collector ------------------------------------------------------------------------------------------

    def age_ns(self) -> int:
        """Now, on the clock that chunks age by."""
        return self._age_ns()

    def page(self, volume: str, after: str, limit: int, before: int) -> ChunkPage:
        """The next chunks by digest, whole folders at a time, and which of them were last touched before ``before``."""
        old: list[tuple[str, int]] = []
        seen = size = 0
        first = int(after[:2] or "00", 16)
        for number in range(first, 256):
            for digest, length, touched in self._listed(volume, f"{number:02x}"):
                if digest > after:
                    seen += 1
                    size += length
                    if touched < before:
                        old.append((digest, length))
            if seen >= limit and number < 255:
                return ChunkPage(old, seen, size, f"{number + 1:02x}")
        return ChunkPage(old, seen, size, None)

    def remove(self, volume: str, digests: Sequence[str], before: int) -> tuple[int, int]:
        """Set aside those that were last touched before ``before``; (how many, their bytes)."""
        self._check_poison()
        count = size = 0
        for digest in digests:
            _check_names(volume, digest)
            path = self._root / volume / digest[:2] / digest
            try:
                if os.stat(path).st_mtime_ns >= before:
                    continue
                aside = self._removed(volume, digest)
                aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self._naming:
                    found = os.stat(path)
                    if found.st_mtime_ns >= before:
                        continue
                    self._date(path)
                    os.rename(path, aside)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failure(error, "setting a chunk aside") from error
            count += 1
            size += found.st_size - _HEADER.size
        return count, size

    def sweep(self, volume: str, before: int) -> tuple[int, int]:
        """Delete some of what was set aside before ``before``, damaged copies too; (how many, their bytes)."""
        count = size = 0
        for name in (_QUARANTINE, *(f"{_REMOVED}/{number:02x}" for number in range(256))):
            for digest, length, touched in self._listed(volume, name):
                if touched < before and count < _SWEPT_AT_ONCE:
                    try:
                        os.unlink(self._root / volume / name / digest)
                    except OSError as error:
                        raise self._failure(error, "deleting a chunk") from error
                    count += 1
                    size += length
        return count, size

    # --- the end of a volume ----------------------------------------------------------------------------------------

    def volumes(self) -> list[str]:
        """The ids of the volumes that have a folder here."""
        return sorted(entry.name for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False))

    def deleted_since(self, volume: str) -> int:
        """When the volume was marked as deleted: now, durably, if it was not yet."""
        _check_names(volume, "0" * _DIGEST_LENGTH)
        mark = self._root / volume / _DELETED
        try:
            return mark.stat().st_mtime_ns
        except FileNotFoundError:
            pass
        try:
            self._make_folder(mark.parent / "00")
            with mark.open("wb") as file:
                self._date(file.fileno())
                os.fsync(file.fileno())
            sync_directory(mark.parent)
            return mark.stat().st_mtime_ns
        except OSError as error:
            raise self._failure(error, "marking a deleted volume") from error

    def drop(self, volume: str) -> bool:
        """Remove some of what the volume has here; True when nothing is left. The mark of its deletion goes last."""
        _check_names(volume, "0" * _DIGEST_LENGTH)
        folder = self._root / volume
        with self._making:
            self._known = {path for path in self._known if path != folder and path.parent != folder}
        count = 0
        try:
            for path, folders, names in os.walk(folder, topdown=False):
                for name in names:
                    if name != _DELETED or Path(path) != folder:
                        os.unlink(os.path.join(path, name))
                        count += 1
                        if count >= _SWEPT_AT_ONCE:
                            return False
                for name in folders:
                    os.rmdir(os.path.join(path, name))
            (folder / _DELETED).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
        except OSError as error:
            raise self._failure(error, "removing a deleted volume") from error
        return True

    # --- inside -----------------------------------------------------------------------------------------------------

    def _removed(self, volume: str, digest: str) -> Path:
        return self._root / volume / _REMOVED / digest[:2] / digest

    def _listed(self, volume: str, folder: str) -> Iterator[tuple[str, int, int]]:
        """(digest, size, when it was touched) of a folder, by digest."""
        found = []
        try:
            with os.scandir(self._root / volume / folder) as entries:
                for entry in entries:
                    if len(entry.name) == _DIGEST_LENGTH:
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            found.append((entry.name, max(0, status.st_size - _HEADER.size), status.st_mtime_ns))
        except FileNotFoundError:
            return iter(())
        except OSError as error:
            raise self._failure(error, "listing chunks") from error
        return iter(sorted(found))

    def _check_poison(self) -> None:
        if self._poison:
            raise poisoned(self._poison)

    def _make_folder(self, folder: Path) -> None:
        if folder in self._known:
            return
        with self._making:
            for path in (folder.parent, folder):
                if path not in self._known:
                    make_directory(path)
                    self._known.add(path)

    def _write(self, folder: int, digest: str, data: bytes | memoryview) -> None:
        name = f"{TEMPORARY}{os.getpid()}-{next(self._numbers)}"
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                write_all(fd, _HEADER.pack(_MAGIC, len(data)), data)
                self._date(fd)
                try:
                    os.fdatasync(fd)
                except OSError as error:
                    if is_no_room(error):
                        raise  # blocks are given out late: this file alone is affected, and it goes
                    raise self._poisoned_by(error, "syncing a chunk failed") from error
            finally:
                os.close(fd)
            with self._naming:
                os.rename(name, digest, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            _remove(name, folder)
            raise self._failure(error, "writing a chunk") from error
        except BaseException:
            _remove(name, folder)
            raise

    def _touch(self, folder: int, digest: str) -> bool:
        """Begin a chunk's grace anew, durably; False if it was set aside meanwhile."""
        try:
            with self._naming:
                fd = os.open(digest, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
                try:
                    self._date(fd)
                except BaseException:
                    os.close(fd)
                    raise
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failure(error, "touching a chunk") from error
        try:
            os.fsync(fd)
        except OSError as error:
            raise self._poisoned_by(error, "syncing a chunk failed") from error
        finally:
            os.close(fd)
        return True

    def _date(self, file: int | Path) -> None:
        now = self._age_ns()
        os.utime(file, ns=(now, now))

    def _sync_folder(self, folder: int) -> None:
        try:
            os.fsync(folder)
        except OSError as error:
            raise self._poisoned_by(error, "syncing a folder of chunks failed") from error

    def _set_aside(self, path: Path, volume: str) -> None:
        """Move a damaged file to the quarantine, unless a writer has replaced it by a good one meanwhile."""
        aside = self._root / volume / _QUARANTINE
        try:
            aside.mkdir(exist_ok=True)
            with self._naming:
                if not _is_good(path, path.name, None):
                    self._date(path)
                    os.rename(path, aside / path.name)
        except OSError as error:
            _log.error("the damaged chunk %s cannot be set aside: %s", path, error)

    def _failure(self, error: OSError, doing: str) -> DavfsError:
        if is_no_room(error):
            return no_space(error, self._root)
        if error.errno == errno.EIO:
            return self._poisoned_by(error, f"{doing} failed")
        return Unavailable(f"{doing} failed in {self._root}: {error}")

    def _poisoned_by(self, error: OSError, what: str) -> StorePoisoned:
        self._poison = f"{what} in {self._root} ({error})"
        _log.critical("%s: this store takes no more writes", self._poison)
        return poisoned(self._poison)


def _is_good(path: str | Path, digest: str, folder: int | None) -> bool:
    """Whether the chunk is there and whole. OSError if that cannot be said (too many open files, say)."""
    try:
        data = _read(path, folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in _UNREADABLE:
            return False
        raise
    return data is not None and blake3(data).hexdigest() == digest


def _read(path: str | Path, folder: int | None) -> bytes | None:
    """The bytes behind the header of a file, None if they are not as long as it says. OSError as it comes."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        header = os.read(fd, _HEADER.size)
        if len(header) != _HEADER.size:
            return None
        magic, length = _HEADER.unpack(header)
        if magic != _MAGIC or os.fstat(fd).st_size != _HEADER.size + length:
            return None
        data = os.read(fd, length)
        if len(data) == length:
            return data
        parts = [data]  # a single read may stop short (after 2 GiB, or on a signal)
        while parts[-1]:
            parts.append(os.read(fd, length))
        data = b"".join(parts)
        return data if len(data) == length else None
    finally:
        os.close(fd)


def _remove(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _check_names(volume: str, digest: str) -> None:
    """Names come from other nodes: nothing but a digest and a plain volume id may become part of a path."""
    if len(digest) != _DIGEST_LENGTH or not _HEX.issuperset(digest):
        raise InvalidInput(f"not a chunk's digest: {digest[:80]!r}")
    if not volume or not volume.isascii() or not volume.replace("-", "").replace("_", "").isalnum():
        raise InvalidInput(f"not a volume id: {volume[:80]!r}")
