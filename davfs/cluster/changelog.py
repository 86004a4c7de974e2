"""What changed below a collection since a client last asked (RFC 6578), page by page, out of the index's change marks.

Entries come in the order of their last change, so that a page ends anywhere and an entry that changes meanwhile comes
again later: nothing is kept for a client, and a million unchanged files cost nothing. A collection that was renamed or
came out of the trash comes with all that is below it; of one that went only its own name is told. Reads one view.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from itertools import islice
from typing import NamedTuple

from davfs.cluster.api import ChangePage
from davfs.core.errors import LimitTooSmall, SyncTokenInvalid
from davfs.core.model import MAX_PATH, TRASH, UPLOADS, Entry, Path
from davfs.core.ports import Change, Gone, IndexView

SCANNED = 50_000
"""Changes that are looked at for one page, wherever in the volume they are: a bound of its time."""

_BATCH = 500
_NO_ENTRY = "!"  # stands before every inode
_SCHEME = "urn:davfs:sync:"


class Point(NamedTuple):
    """Where a client stands: it knows all changes up to ``seq``; at ``seq`` itself, unless ``inode`` is "", only what went
    and the entries up to ``inode``. ``base``: it knew everything of that seq when it began; while it reads everything for
    the first time, ``base`` is ahead.
    """

    base: int
    seq: int
    inode: str = ""


def encode(volume: str, point: Point) -> str:
    """The token of a point, a URI."""
    return f"{_SCHEME}{volume}:{point.base:x}:{point.seq:x}:{point.inode}"


def decode(volume: str, token: str) -> Point:
    """The point of a token; :class:`SyncTokenInvalid` if it is not one of this volume."""
    try:
        if not token.startswith(_SCHEME):
            raise ValueError(token)
        owner, base, seq, inode = token.removeprefix(_SCHEME).split(":")
        if owner != volume:
            raise ValueError(token)
        return Point(int(base, 16), int(seq, 16), inode)
    except ValueError:
        raise SyncTokenInvalid("this sync-token is not one of this volume") from None


def token_now(view: IndexView, volume: str) -> str:
    """The token of a client that knows everything."""
    now = view.committed.seq
    return encode(volume, Point(now, now))


def page(view: IndexView, volume: str, top: str, token: str, deep: bool, limit: int) -> ChangePage:
    """See ``api.Volume.changes``. ``top``: the inode of the collection."""
    now = view.committed.seq
    if token:
        since = decode(volume, token)
        if max(since.base, since.seq) > now:
            raise SyncTokenInvalid("this sync-token is from a future that this volume has not had")
        if max(since.base, since.seq) < view.gone_floor():
            raise SyncTokenInvalid("too much was deleted since this sync-token")
    else:
        first = list(islice(_below(view, top, deep), limit + 1))
        if len(first) <= limit:
            return ChangePage(dict(first), encode(volume, Point(now, now)), truncated=False)
        since = Point(now, -1)
    reader = _Reader(view, top, deep, since, limit)
    reached = reader.read(now)
    if reached is None:
        return ChangePage(reader.found, encode(volume, Point(now, now)), truncated=False)
    return ChangePage(reader.found, encode(volume, reached), truncated=True)


def _below(view: IndexView, top: str, deep: bool, path: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """The members of a collection, with Depth infinity theirs too, each collection before what is in it."""
    waiting: list[tuple[str, Path]] = [(top, path)]
    while waiting:
        inode, at = waiting.pop()
        for entry, _ in view.members(inode):
            here = (*at, entry.name)
            yield here, entry
            if deep and entry.is_directory:
                waiting.append((entry.inode, here))


class _Reader:
    """Gathers one page."""

    def __init__(self, view: IndexView, top: str, deep: bool, since: Point, limit: int) -> None:
        self.found: dict[Path, Entry | None] = {}
        self._view = view
        self._deep = deep
        self._since = since
        self._limit = limit
        self._top = top
        self._places: dict[str, Path | None] = {top: (), TRASH: None, UPLOADS: None, "": None}
        self._collections: dict[Path, Entry] = {}

    def read(self, now: int) -> Point | None:
        """Fill the page; where it ended, None if it holds everything up to ``now``."""
        base, since = self._since.base, self._since
        gone = self._view.gone(max(base, since.seq), self._limit + 1)
        known_to = now
        if len(gone) > self._limit:
            known_to = gone[-1].seq - 1  # of that record not all are read
        if known_to < min(now, max(base, since.seq) + 1):
            raise LimitTooSmall(f"one change took away more than {self._limit} names")
        at, names = since, deque(name for name in gone if name.seq <= known_to)
        for scanned, change in enumerate(self._changes(known_to)):
            while names and names[0].seq <= change.seq:
                if not self._went(names[0]):
                    return self._ended(at)
                seq = names.popleft().seq
                if not names or names[0].seq > seq:
                    at = Point(base, seq, _NO_ENTRY)
            if scanned >= SCANNED or not self._changed(change):
                return self._ended(at)
            at = Point(base, change.seq, change.entry.inode)
        while names:
            if not self._went(names[0]):
                return self._ended(at)
            seq = names.popleft().seq
            if not names or names[0].seq > seq:
                at = Point(base, seq)
        return None if known_to == now else Point(base, known_to)

    def _ended(self, at: Point) -> Point:
        if at == self._since:
            raise LimitTooSmall(f"the next change alone has more than {self._limit} members")
        return at

    def _changes(self, known_to: int) -> Iterator[Change]:
        since = self._since
        seq, inode = (since.seq, since.inode) if since.inode else (since.seq + 1, "")
        while batch := self._view.changes(seq, inode, _BATCH):
            for change in batch:
                if change.seq > known_to:
                    return
                yield change
            seq, inode = batch[-1].seq, batch[-1].entry.inode

    def _went(self, gone: Gone) -> bool:
        parent = self._place(gone.parent)
        if parent is None:
            return True
        path = (*parent, gone.name)
        if not self._deep and parent:
            return self._add(self._above(path))
        now = self._named(gone.parent, gone.name)
        if now is None:
            return self._add({**self._above(path), path: None})
        if gone.directory and now.is_directory and now.inode != gone.directory and self._deep:
            return self._add(self._replaced(path, {gone.directory}, now.inode))
        return True  # what has the name now is told as changed

    def _replaced(self, path: Path, old: Set[str], new: str) -> dict[Path, Entry | None]:
        """What a client may know below a path from collections that were there, and is not in the one that is there now."""
        lost: dict[Path, Entry | None] = {}
        work = [(path, old, new)]
        while work:
            path, old, new = work.pop()
            names: dict[str, set[str]] = {}
            for inode in old:
                if self._view.entry(inode) is None:
                    raise SyncTokenInvalid("a collection that was deleted for good has a follower of its name")
                for entry, _ in self._view.members(inode):
                    names.setdefault(entry.name, set()).update([entry.inode] if entry.is_directory else [])
                for gone in self._view.gone(self._since.base, self._limit, inode):
                    names.setdefault(gone.name, set()).update([gone.directory] if gone.directory else [])
            for name, directories in names.items():
                now = self._named(new, name)
                if now is None:
                    lost[*path, name] = None
                elif now.is_directory and directories - {now.inode}:
                    work.append(((*path, name), directories - {now.inode}, now.inode))
            if len(lost) >= self._limit:
                raise SyncTokenInvalid("a collection was replaced that is too large to be told of; read everything anew")
        return lost

    def _named(self, parent: str, name: str) -> Entry | None:
        entry = self._view.child(parent, name)
        return entry if entry is not None and entry.name == name else None

    def _changed(self, change: Change) -> bool:
        entry = change.entry
        if entry.inode == self._top:
            return True
        path = self._place(entry.inode)
        if path is None:
            return True
        if not self._deep:
            return self._add({path: entry} if len(path) == 1 else self._above(path))
        if entry.is_directory and change.moved > self._since.base:
            return self._moved(path, entry)
        return self._add({**(self._above(path) if change.seq > self._since.base else {}), path: entry})

    def _moved(self, path: Path, entry: Entry) -> bool:
        """Everything below a renamed collection has a new path, though it did not change itself."""
        below = dict(islice(_below(self._view, entry.inode, True, path), self._limit))
        if len(below) >= self._limit:
            raise SyncTokenInvalid("a collection was renamed that is too large to be told of; read everything anew")
        return self._add({**self._above(path), path: entry, **below})

    def _add(self, group: Mapping[Path, Entry | None]) -> bool:
        fresh = sum(path not in self.found for path in group)
        if len(self.found) + fresh > self._limit:
            return False
        self.found.update(group)
        return True

    def _above(self, path: Path) -> dict[Path, Entry | None]:
        """The collections between the top and a path: something below them changed, and so did their etags."""
        depths = range(1, len(path)) if self._deep else range(1, min(2, len(path)))
        return {path[:depth]: self._collections[path[:depth]] for depth in depths if path[:depth] in self._collections}

    def _place(self, inode: str) -> Path | None:
        """An inode's path from the top, None if it is not below it."""
        chain: list[tuple[str, Entry]] = []
        while inode not in self._places:
            entry = self._view.entry(inode)
            if entry is None or len(chain) > MAX_PATH:
                self._places[inode] = None
                break
            chain.append((inode, entry))
            inode = entry.parent
        path = self._places[inode]
        for below, entry in reversed(chain):
            path = None if path is None else (*path, entry.name)
            if entry.is_directory:
                self._places[below] = path
                if path is not None:
                    self._collections[path] = entry
        return path
