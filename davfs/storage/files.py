"""Durable files: temporary names, syncs, and what the operating system's errors mean to a store.

A file system has three ways of failing a write: no room (507, nothing changed), a sync that failed (what was written
before may be lost too, and a second sync would lie about it: the store is poisoned), and anything else. May import only
core.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from davfs.core.errors import DavfsError, NoSpace, StorePoisoned

TEMPORARY = ".tmp-"
"""Files whose name starts so are leftovers of a writer that died; they are removed when a data directory is opened."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_no_room(error: OSError) -> bool:
    """Whether an error says that the disk is full, the quota used up or the file system read-only."""
    return error.errno in _NO_ROOM


def no_space(error: OSError, what: Path) -> NoSpace:
    """The domain error for one where :func:`is_no_room` holds."""
    if error.errno == errno.EROFS:
        return NoSpace(f"the file system of {what} is read-only; nothing was changed")
    return NoSpace(f"the disk of {what} is full; nothing was changed")


def poisoned(reason: str) -> StorePoisoned:
    """The error of a store that failed to make data durable."""
    return StorePoisoned(f"{reason}; the store takes no more writes: check the disk, then restart the node")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make a directory and its name durable; its parent must exist.

    No error if it is there; its name is synced then too, since whoever made it may have died before that.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    sync_directory(path.parent)


def write_all(fd: int, *parts: bytes | memoryview) -> None:
    """Write everything, however often the kernel takes only a part (one ``writev`` moves at most 2 GiB)."""
    written = os.writev(fd, parts)
    for part in parts:
        view = memoryview(part)[written:]
        written = max(0, written - len(part))
        while view:
            view = view[os.write(fd, view) :]


def write_durably(path: Path, data: bytes) -> None:
    """Replace a small file at once and durably: after a crash it has the old content or the new one."""
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise as_domain_error(error, path) from error


def as_domain_error(error: OSError, what: Path) -> DavfsError:
    """No room is :class:`NoSpace`; anything else while writing is :class:`StorePoisoned`."""
    return no_space(error, what) if is_no_room(error) else poisoned(f"writing {what} failed: {error}")


def remove_leftovers(root: Path) -> int:
    """Remove temporary files below ``root``; call it while nobody writes there. Gives their number."""
    removed = 0
    for folder, _, names in os.walk(root):
        for name in names:
            if name.startswith(TEMPORARY):
                os.unlink(os.path.join(folder, name))
                removed += 1
    return removed
