"""Paths of a volume, looked up in one committed state of it, and the locks that a change of them must have submitted."""

from __future__ import annotations

from collections.abc import Collection

from davfs.cluster.api import Caller
from davfs.core import locks
from davfs.core.canonical import place
from davfs.core.errors import Forbidden, NotACollection, NotFound, ParentMissing
from davfs.core.model import HIDDEN, MAX_PATH, ROOT, TRASH, UPLOADS, DavLock, Entry, Path
from davfs.core.names import TRASH_NAME
from davfs.core.ports import IndexView


def resolve(view: IndexView, path: Path) -> Entry | None:
    """The entry at a path, or None."""
    entry = view.entry(ROOT)
    if path[:1] == (HIDDEN,):
        entry, path = view.entry(UPLOADS), path[1:]
    for name in path:
        if entry is None or not entry.is_directory:
            return None
        entry = view.child(entry.inode, name)
    return entry


def path_of(view: IndexView, inode: str) -> Path:
    """Where an inode stands now; :class:`NotFound` once it is deleted."""
    names: list[str] = []
    while inode != ROOT:
        entry = view.entry(inode)
        if entry is None or inode == TRASH or len(names) > MAX_PATH:
            raise NotFound("the file was deleted")
        names.append(entry.name)
        inode = entry.parent
    return tuple(reversed(names))


def require(view: IndexView, path: Path) -> Entry:
    """The entry at a path; :class:`NotFound`."""
    entry = resolve(view, path)
    if entry is None:
        raise NotFound(f"there is nothing at /{'/'.join(path)}")
    return entry


def require_directory(view: IndexView, path: Path) -> Entry:
    """The collection at a path; :class:`NotFound`, :class:`NotACollection`."""
    entry = require(view, path)
    if not entry.is_directory:
        raise NotACollection(f"/{'/'.join(path)} is a file")
    return entry


def require_parent(view: IndexView, path: Path) -> Entry:
    """The collection that is to hold the path; :class:`ParentMissing` (409) if there is none (RFC 4918, 9.3.1)."""
    refuse_trash(path)
    parent = resolve(view, path[:-1])
    if parent is None or not parent.is_directory:
        raise ParentMissing(f"/{'/'.join(path[:-1])} is no collection; create it first")
    return parent


def refuse_trash(path: Path) -> None:
    """:class:`Forbidden` for places where a volume shows its trash."""
    if path[:1] == (TRASH_NAME,):
        raise Forbidden(
            f"/{TRASH_NAME} is where the trash is shown: nothing is put there; COPY, MOVE and `davfs trash restore` take out"
        )


def content_version(view: IndexView, entry: Entry | None) -> str:
    """The version of a file's content, for ``Edits.trash``; "" if there is none."""
    held = None if entry is None or entry.is_directory else view.manifest(entry.inode)
    return "" if held is None else held[0]


def require_unlocked(
    all_locks: Collection[DavLock], caller: Caller, path: Path, *, membership: bool, members: bool
) -> None:
    """Raise ``Locked`` unless every lock in the way of a change was submitted (RFC 4918, 7.4 and 7.5).

    ``membership``: the path appears or goes, so a lock of its collection counts, depth 0 too. ``members``: everything
    below goes as well.
    """
    in_the_way: list[DavLock] = locks.covering(all_locks, path)
    if membership and path:
        parent = place(path[:-1])
        in_the_way += [lock for lock in all_locks if place(lock.path) == parent and lock not in in_the_way]
    if members:
        in_the_way += locks.below(all_locks, path)
    locks.require_tokens(in_the_way, caller.lock_tokens, caller.principal)
