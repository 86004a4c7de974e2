"""A drive in memory: a real small tree with properties and locks behind the protocols of ``davfs.cluster.api``.

For tests of the DAV side alone. One lock guards each volume; bodies are read outside of it, and published at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from davfs.cluster.api import Caller, Condition, Forward, LockRequest, PartPlace, Reader
from davfs.core.digests import Digests, Hashing
from davfs.core.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    Locked,
    LockTokenMismatch,
    NotFound,
    PreconditionFailed,
    VolumeNotFound,
)
from davfs.core.model import DIRECTORY, FILE, DavLock, Entry, Path, VolumeInfo, VolumePolicy
from davfs.core.sessions import SessionKey
from tests.support.memory_tree import MemoryTree, MemoryVisit, Node, etag_of

BLOCK = 1 << 20
LARGEST = 1 << 30  # position that a part may have


class MemoryVolume(MemoryTree):
    """A volume in memory: its tree, and what changes and locks it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._info = VolumeInfo(id=f"id-{name}", name=name, policy=VolumePolicy(), replicas=("node-1",))
        self.visits: deque[tuple[SessionKey, str]] = deque(maxlen=1000)  # (session, node) of each request
        self._locks: dict[str, tuple[DavLock, float]] = {}

    @property
    def info(self) -> VolumeInfo:
        return self._info

    @property
    def alone(self) -> bool:
        return False

    def enter(self, session: SessionKey, through: str) -> MemoryVisit:
        self.visits.append((session, through))
        return MemoryVisit(self)

    # --- changes ------------------------------------------------------------------------------------------------------

    def put(
        self,
        path: Path,
        read: Reader,
        length: int | None,
        *,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
        before_body=lambda: None,
        digests: Digests = (),
    ) -> tuple[Entry, bool]:
        with self._lock:
            self._check_put(path, condition, caller)
        before_body()
        data = list(iter(lambda: read(BLOCK), b""))
        hashing = Hashing(name for name, _ in digests)
        for block in data:
            hashing.update(block)
        hashing.require(digests)
        digests = hashing.digests()
        with self._lock:
            self._check_put(path, condition, caller)
            node = self._find(path)
            created = node is None
            if node is None:
                node = self._add(path, FILE)
            now = time.time_ns()
            node.data = data
            node.digests = digests
            node.entry = replace(
                node.entry,
                size=sum(map(len, data)),
                mtime_ns=now if mtime_ns is None else mtime_ns,
                etag=etag_of(data),
            )
            return node.entry, created

    def put_upload(
        self,
        path: Path,
        read: Reader,
        length: int | None,
        *,
        digests: Digests,
        condition: Condition,
        caller: Caller,
        expected: int | None = None,
    ) -> tuple[Entry, bool]:
        return self.put(path, read, length, mtime_ns=None, condition=condition, caller=caller, digests=digests)

    def assemble(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        total: int | None,
        digests: Digests,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
    ) -> tuple[Entry, bool]:
        with self._lock:
            parts = {name: node for name, node in self._collection(source).members.items() if name[0] != "."}
            data = [block for name in sorted(parts, key=_number) for block in parts[name].data]
            size = sum(map(len, data))
            if total not in (None, size):
                raise InvalidInput("that many bytes did not come")
            if self._find(target) and not overwrite:
                raise PreconditionFailed
            blocks = iter([*data, b""])
            result = self.put(
                target,
                lambda _: next((block for block in blocks if block), b""),
                None,
                mtime_ns=mtime_ns,
                condition=condition,
                caller=caller,
                digests=digests,
            )
            self._remove(source)
            return result

    def give_up(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        self.delete(path, condition=condition, caller=caller)

    def keep_digests(
        self, path: Path, algorithms: Sequence[str], *, condition: Condition, caller: Caller
    ) -> Digests:
        with self._lock:
            node = self._check_part(path, condition, caller)
            hashing = Hashing({*algorithms, *(name for name, _ in node.digests)})
            hashing.update(b"".join(node.data))
            node.digests = hashing.digests()
            return node.digests

    def write_part(
        self,
        path: Path,
        place: PartPlace,
        read: Reader,
        length: int,
        *,
        mtime_ns: int | None,
        condition: Condition,
        caller: Caller,
        before_body=lambda: None,
    ) -> Entry:
        with self._lock:
            self._check_part(path, condition, caller)
        before_body()
        data = b"".join(iter(lambda: read(BLOCK), b""))
        with self._lock:
            node = self._check_part(path, condition, caller)
            old = b"".join(node.data)
            start = place.start(len(old))
            if start > LARGEST:
                raise InvalidInput("no file has that position")
            old = old.ljust(start, b"\0")
            node.data = [old[:start] + data + old[start + len(data) :]]
            node.digests = ()
            now = time.time_ns() if mtime_ns is None else mtime_ns
            node.entry = replace(node.entry, size=len(node.data[0]), mtime_ns=now, etag=etag_of(node.data))
            return node.entry

    def _check_part(self, path: Path, condition: Condition, caller: Caller) -> Node:
        self._check(path, condition)
        node = self._find(path)
        if node is None:
            raise NotFound
        if node.entry.is_directory:
            raise Forbidden("a collection has no content")
        self._unlocked(path, caller)
        return node

    def mkcol(self, path: Path, *, condition: Condition, caller: Caller, mtime_ns: int | None = None) -> Entry:
        with self._lock:
            self._check(path, condition)
            if self._find(path):
                raise AlreadyExists
            self._parent(path)
            self._unlocked(path, caller, members=True)
            node = self._add(path, DIRECTORY)
            if mtime_ns is not None:
                node.entry = replace(node.entry, mtime_ns=mtime_ns)
            return node.entry

    def delete(self, path: Path, *, condition: Condition, caller: Caller) -> None:
        with self._lock:
            self._check(path, condition)
            if not self._find(path):
                raise NotFound
            self._unlocked(path, caller, members=True, below=True)
            self._remove(path)

    def move(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> bool:
        with self._lock:
            self._check(source, condition)
            node = self._find(source)
            if node is None:
                raise NotFound
            self._unlocked(source, caller, members=True, below=True)
            created = self._make_way(target, overwrite, caller)
            self._remove(source)
            self._attach(node, target, mtime_ns)
            return created

    def copy(
        self,
        source: Path,
        target: Path,
        *,
        overwrite: bool,
        shallow: bool,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> bool:
        with self._lock:
            self._check(source, condition)
            node = self._find(source)
            if node is None:
                raise NotFound
            created = self._make_way(target, overwrite, caller)
            self._attach(self._clone(node, shallow), target, mtime_ns)
            return created

    def proppatch(
        self,
        path: Path,
        sets: Mapping[str, str],
        removes: Collection[str],
        *,
        condition: Condition,
        caller: Caller,
        mtime_ns: int | None = None,
    ) -> None:
        with self._lock:
            self._check(path, condition)
            node = self._find(path)
            if node is None:
                raise NotFound
            self._unlocked(path, caller)
            for name in removes:
                node.properties.pop(name, None)
            node.properties.update(sets)
            if mtime_ns is not None:
                node.entry = replace(node.entry, mtime_ns=mtime_ns)

    # --- locks --------------------------------------------------------------------------------------------------------

    def locks(self, path: Path) -> Sequence[DavLock]:
        with self._lock:
            return [lock for lock in self._live() if lock.covers(path)]

    def locks_below(self, path: Path) -> Sequence[DavLock]:
        with self._lock:
            return [lock for lock in self._live() if len(lock.path) > len(path) and lock.path[: len(path)] == path]

    def lock(self, path: Path, request: LockRequest, *, condition: Condition, caller: Caller) -> tuple[DavLock, bool]:
        with self._lock:
            self._check(path, condition)
            others = list(self.locks(path)) + (list(self.locks_below(path)) if request.infinite else [])
            for other in others:
                if other.exclusive or request.exclusive:
                    raise Locked("a lock is in the way", path=other.path)
            node = self._find(path)
            if node is None:
                self._parent(path)
                self._unlocked(path, caller, members=True)
                node = self._add(path, FILE)
                node.entry = replace(node.entry, etag=etag_of([]))
                created = True
            else:
                created = False
            lock = DavLock(
                request.token,
                path,
                request.infinite,
                request.exclusive,
                request.owner,
                request.principal,
                request.timeout_s,
            )
            self._locks[lock.token] = (lock, time.monotonic() + lock.timeout_s)
            return lock, created

    def refresh_lock(self, path: Path, token: str, timeout_s: int, *, caller: Caller) -> DavLock:
        with self._lock:
            if not any(lock.token == token for lock in self.locks(path)):
                raise PreconditionFailed
            if self._locks[token][0].principal != caller.principal:
                raise Forbidden("the lock is somebody else's")
            lock = replace(self._locks[token][0], timeout_s=timeout_s)
            self._locks[token] = (lock, time.monotonic() + timeout_s)
            return lock

    def unlock(self, path: Path, token: str, *, caller: Caller) -> None:
        with self._lock:
            lock = next((lock for lock in self.locks(path) if lock.token == token), None)
            if lock is None:
                raise LockTokenMismatch
            if lock.principal != caller.principal and not caller.admin:
                raise Forbidden("the lock is somebody else's")
            del self._locks[token]

    # --- what is in the way ---------------------------------------------------------------------------------------

    def _check(self, path: Path, condition: Condition) -> None:
        condition(self.lookup(path))

    def _check_put(self, path: Path, condition: Condition, caller: Caller) -> None:
        self._check(path, condition)
        self._parent(path)
        self._unlocked(path, caller, members=self._find(path) is None)

    def _unlocked(self, path: Path, caller: Caller, *, members: bool = False, below: bool = False) -> None:
        """Raise Locked unless a token was submitted for every locked resource that changes."""
        places = [self.locks(path)]
        if members:  # a member of the parent appears or goes
            places.append(self.locks(path[:-1]))
        if below:
            places.extend([lock] for lock in self.locks_below(path))
        for locks in places:
            if locks and not any(lock.token in caller.lock_tokens for lock in locks):
                raise Locked("a lock is in the way", path=locks[0].path)

    def _live(self) -> list[DavLock]:
        now = time.monotonic()
        self._locks = {token: (lock, ends) for token, (lock, ends) in self._locks.items() if ends > now}
        return [lock for lock, _ in self._locks.values()]

    def _remove(self, path: Path) -> None:
        parent = self._parent(path)
        del parent.members[path[-1]]
        parent.entry = replace(parent.entry, mtime_ns=time.time_ns())
        for lock in [*self.locks_below(path), *(lock for lock in self._live() if lock.path == path)]:
            self._locks.pop(lock.token, None)

    def _make_way(self, target: Path, overwrite: bool, caller: Caller) -> bool:
        self._parent(target)
        there = self._find(target) is not None
        if there and not overwrite:
            raise PreconditionFailed("something is at the destination")
        self._unlocked(target, caller, members=not there, below=there)
        if there:
            # What is overwritten goes, but a lock on its name stays (RFC 4918, 7.5): it is the name that is locked.
            del self._parent(target).members[target[-1]]
        return not there


def _number(name: str) -> tuple[int, str]:
    digits = name[: len(name) - len(name.lstrip("0123456789"))]
    return int(digits or -1), name


class MemoryDrive:
    """A drive of volumes in memory, all held by this one node."""

    def __init__(self, *names: str) -> None:
        self._volumes = {name: MemoryVolume(name) for name in names}

    @property
    def node(self) -> str:
        return "node-1"

    def volumes(self) -> list[VolumeInfo]:
        return [volume.info for volume in self._volumes.values()]

    def create_volume(self, name: str, policy: VolumePolicy) -> VolumeInfo:
        self._volumes[name] = MemoryVolume(name)
        return self._volumes[name].info

    def route(self, volume: str, *, forwarded: bool, avoid: Forward | None = None) -> MemoryVolume | Forward:
        if volume not in self._volumes:
            raise VolumeNotFound(f"there is no volume {volume!r}")
        return self._volumes[volume]
