"""Rules of DAV locks (RFC 4918, 6 and 7) over plain collections of locks: what covers, what conflicts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from davfs.core.errors import Locked
from davfs.core.model import DavLock, Path


def covering(locks: Iterable[DavLock], path: Path) -> list[DavLock]:
    """The locks that cover a path: its own and those inherited from depth-infinity locks above it."""
    return [lock for lock in locks if lock.covers(path)]


def below(locks: Iterable[DavLock], path: Path) -> list[DavLock]:
    """The locks on members of a path, at any depth."""
    return [lock for lock in locks if len(lock.path) > len(path) and lock.path[: len(path)] == path]


def conflicts(locks: Iterable[DavLock], wanted: DavLock) -> list[DavLock]:
    """The locks that forbid a new one: an exclusive lock shares its place with none (RFC 4918, 6.1 and 9.10.6)."""
    return [
        lock
        for lock in locks
        if (lock.covers(wanted.path) or wanted.covers(lock.path)) and (lock.exclusive or wanted.exclusive)
    ]


def require_tokens(locks: Sequence[DavLock], submitted: Collection[str], principal: str) -> None:
    """Raise :class:`Locked` unless, for each path that is locked, a token of one of its locks was submitted.

    Of several shared locks on one path one's token is enough (RFC 4918, 6.2). A token counts only for whoever took it.
    """
    by_root: dict[Path, list[DavLock]] = {}
    for lock in locks:
        by_root.setdefault(lock.path, []).append(lock)
    for path, here in by_root.items():
        if not any(lock.token in submitted and lock.principal == principal for lock in here):
            raise Locked(f"/{'/'.join(path)} is locked; submit the token of its lock", path=list(path))
