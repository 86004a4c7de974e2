"""Rules of DAV locks (RFC 4918, 6 and 7) over plain collections of locks: what covers, what conflicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from davfs.core.canonical import place
from davfs.core.errors import Locked, NoSpace
from davfs.core.model import DavLock, Path

MAX_LOCKS = 10_000
"""Locks of one volume at once: they are kept in the memory of every node."""


def covering(locks: Iterable[DavLock], path: Path) -> list[DavLock]:
    """The locks that cover a path: its own and those inherited from depth-infinity locks above it."""
    return [lock for lock in locks if lock.covers(path)]


def below(locks: Iterable[DavLock], path: Path) -> list[DavLock]:
    """The locks on members of a path, at any depth."""
    top = place(path)
    return [lock for lock in locks if len(lock.path) > len(path) and place(lock.path)[: len(path)] == top]


def conflicts(locks: Iterable[DavLock], wanted: DavLock) -> list[DavLock]:
    """The locks that forbid a new one: an exclusive lock shares its place with none (RFC 4918, 6.1 and 9.10.6).

    A lock is no rival of itself: its request may come again through another node.
    """
    return [
        lock
        for lock in locks
        if (lock.covers(wanted.path) or wanted.covers(lock.path))
        and (lock.exclusive or wanted.exclusive)
        and lock.token != wanted.token
    ]


def granted(locks: Mapping[str, DavLock], wanted: DavLock) -> dict[str, DavLock]:
    """The locks with one more; :class:`Locked` on a conflict, :class:`NoSpace` when there are too many already."""
    if rivals := conflicts(locks.values(), wanted):
        raise Locked(f"/{'/'.join(rivals[0].path)} is locked", path=list(rivals[0].path), conflict=True)
    if len(locks) >= MAX_LOCKS and wanted.token not in locks:
        raise NoSpace(f"the volume has {MAX_LOCKS} locks already; an administrator can list and break them")
    return {**locks, wanted.token: wanted}


def require_tokens(locks: Sequence[DavLock], submitted: Collection[str], principal: str) -> None:
    """Raise :class:`Locked` unless, for each path that is locked, a token of one of its locks was submitted.

    Of several shared locks on one path one's token is enough (RFC 4918, 6.2). A token counts only for whoever took it.
    """
    by_root: dict[Path, list[DavLock]] = {}
    for lock in locks:
        by_root.setdefault(place(lock.path), []).append(lock)
    for path, here in by_root.items():
        if not any(lock.token in submitted and lock.principal == principal for lock in here):
            raise Locked(f"/{'/'.join(path)} is locked; submit the token of its lock", path=list(path))
