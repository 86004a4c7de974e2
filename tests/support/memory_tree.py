"""A tree of files in memory: what is in it, how it is read, what has changed since a token. For ``memory_drive``."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from davfs.cluster.api import ChangePage
from davfs.core.digests import Digests
from davfs.core.errors import Forbidden, NotACollection, NotFound, ParentMissing, SyncTokenInvalid
from davfs.core.model import DIRECTORY, HIDDEN, ROOT, UPLOADS, Entry, Path


@dataclass
class Node:
    """A file or directory of the tree."""

    entry: Entry
    data: list[bytes] = field(default_factory=list)
    members: dict[str, Node] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    digests: Digests = ()


class MemoryContent:
    """An open file."""

    def __init__(self, node: Node) -> None:
        self._entry = node.entry
        self._data = node.data
        self._digests = node.digests

    @property
    def entry(self) -> Entry:
        return self._entry

    @property
    def digests(self) -> Digests:
        return self._digests

    def read(self, start: int, stop: int) -> Iterator[memoryview]:
        at = 0
        for block in self._data:
            first, last = max(start - at, 0), min(stop - at, len(block))
            if first < last:
                yield memoryview(block)[first:last]
            at += len(block)
            if at >= stop:
                return


class MemoryVisit:
    """A request that is under way."""

    def __init__(self, volume: MemoryTree) -> None:
        self._volume = volume
        volume.under_way += 1
        self._ended = False

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._volume.under_way -= 1


class MemoryTree:
    """A tree in memory, read under one lock; beside it another for uploads. What changes it is in ``memory_drive``."""

    def __init__(self) -> None:
        self.under_way = 0
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._pictures: dict[str, dict[Path, Entry]] = {}
        now = time.time_ns()
        self._root = Node(Entry(ROOT, "", "", DIRECTORY, "", now, now))
        self._uploads = Node(Entry(UPLOADS, "", "", DIRECTORY, "", now, now))

    # --- reads --------------------------------------------------------------------------------------------------------

    def lookup(self, path: Path) -> Entry | None:
        with self._lock:
            node = self._find(path)
            return self._shown(node) if node else None

    def children(self, path: Path) -> list[Entry]:
        with self._lock:
            return [self._shown(node) for _, node in sorted(self._collection(path).members.items())]

    def properties(self, entry: Entry) -> Mapping[str, str]:
        with self._lock:
            return dict(next((n.properties for n in self._walk(self._root) if n.entry.inode == entry.inode), {}))

    def members(self, path: Path) -> Iterator[tuple[Entry, Mapping[str, str]]]:
        with self._lock:
            members = sorted(self._collection(path).members.items())
            return iter([(self._shown(node), dict(node.properties)) for _, node in members])

    def digests(self, entry: Entry) -> Digests:
        with self._lock:
            return next((n.digests for n in self._walk(self._root) if n.entry.inode == entry.inode), ())

    def members_digests(self, path: Path) -> Mapping[str, Digests]:
        with self._lock:
            members = self._collection(path).members.values()
            return {node.entry.inode: node.digests for node in members if node.digests}

    def open(self, path: Path) -> MemoryContent:
        with self._lock:
            node = self._find(path)
            if node is None:
                raise NotFound
            if node.entry.is_directory:
                raise Forbidden("a collection has no content")
            return MemoryContent(node)

    # Nothing clever: each token stands for a picture of the whole collection, and two pictures are compared.

    def sync_token(self) -> str:
        with self._lock:
            return self._keep(self._picture(self._root, deep=True))

    def changes(self, path: Path, token: str, *, deep: bool, limit: int) -> ChangePage:
        with self._lock:
            if token and token not in self._pictures:
                raise SyncTokenInvalid("no such token")
            now = self._picture(self._collection(path), deep=deep)
            old = self._pictures[token] if token else {}
            then = {p[len(path) :]: e for p, e in old.items() if p[: len(path)] == path and p != path}
            then = {p: e for p, e in then.items() if deep or len(p) == 1}
            names = [p for p in sorted({*then, *now}) if then.get(p) != now.get(p)]
            page = {p: now.get(p) for p in names[:limit]}
            known = {(*path, *p): e for p, e in {**then, **page}.items() if e is not None}
            return ChangePage(page, self._keep(known), truncated=len(names) > limit)

    def _picture(self, top: Node, *, deep: bool, path: Path = ()) -> dict[Path, Entry]:
        found: dict[Path, Entry] = {}
        for name, node in top.members.items():
            found[*path, name] = self._shown(node)
            if deep:
                found.update(self._picture(node, deep=True, path=(*path, name)))
        return found

    def _keep(self, picture: dict[Path, Entry]) -> str:
        token = f"urn:memory:{next(self._ids):x}"
        self._pictures[token] = picture
        return token

    def _shown(self, node: Node) -> Entry:
        """The entry; a collection's etag is that of everything in it."""
        if not node.entry.is_directory:
            return node.entry
        inside = [(name, self._shown(member), member.properties) for name, member in sorted(node.members.items())]
        return replace(node.entry, etag=etag_of([repr((node.entry, node.properties, inside)).encode()]))

    def quota(self) -> tuple[int, int]:
        with self._lock:
            used = sum(node.entry.size for node in self._walk(self._root))
        return used, (1 << 40) - used

    # --- inside -------------------------------------------------------------------------------------------------------

    def _find(self, path: Path) -> Node | None:
        node = self._root
        if path[:1] == (HIDDEN,):
            node, path = self._uploads, path[1:]
        for name in path:
            found = node.members.get(name)
            if found is None:
                return None
            node = found
        return node

    def _collection(self, path: Path) -> Node:
        node = self._find(path)
        if node is None:
            raise NotFound
        if not node.entry.is_directory:
            raise NotACollection
        return node

    def _parent(self, path: Path) -> Node:
        node = self._find(path[:-1])
        if node is None:
            raise ParentMissing
        if not node.entry.is_directory:
            raise NotACollection
        return node

    def _walk(self, node: Node) -> Iterator[Node]:
        yield node
        for member in node.members.values():
            yield from self._walk(member)

    def _add(self, path: Path, kind: str) -> Node:
        parent = self._parent(path)
        now = time.time_ns()
        node = Node(Entry(f"{next(self._ids):x}", parent.entry.inode, path[-1], kind, "", now, now))
        parent.members[path[-1]] = node
        parent.entry = replace(parent.entry, mtime_ns=now)
        return node

    def _attach(self, node: Node, target: Path, mtime_ns: int | None) -> None:
        parent = self._parent(target)
        entry = replace(node.entry, parent=parent.entry.inode, name=target[-1])
        node.entry = entry if mtime_ns is None else replace(entry, mtime_ns=mtime_ns)
        parent.members[target[-1]] = node

    def _clone(self, node: Node, shallow: bool) -> Node:
        members = {} if shallow else {name: self._clone(member, False) for name, member in node.members.items()}
        entry = replace(node.entry, inode=f"{next(self._ids):x}", created_ns=time.time_ns())
        return Node(entry, node.data, members, dict(node.properties), node.digests)


def etag_of(data: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(data)).hexdigest()[:32]
