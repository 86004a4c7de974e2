"""A walk over all that a volume shows, from its root down, in one committed state: what an export is made of.

A directory comes before its members, members come by name; of a directory a page is kept in memory at a time, whatever its
size. A plain generator over a view. What it gives are plain values, for other nodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from davfs.core import values
from davfs.core.errors import CorruptData
from davfs.core.model import ROOT, ChunkRef, Entry
from davfs.core.ports import IndexView

PAGE = 500


def walk(view: IndexView) -> Iterator[dict[str, Any]]:
    """The root, with an empty path, then everything else: ``{"path": [names], "kind", "created_ns", "mtime_ns", "size",
    "properties": {Clark name: XML}, "digests": {algorithm: hex}, "chunks": [[digest, size, [node, ...]], ...]}``.

    The chunks of a large file follow it as ``{"more": chunks}``, a segment each."""
    yield _item(view, [], _root(view), _properties(view, ROOT))
    stack = [_Directory(ROOT, [])]
    while stack:
        entry = stack[-1].next(view)
        if entry is None:
            stack.pop()
            continue
        path = [*stack[-1].path, entry.name]
        yield from _entry(view, path, entry)
        if entry.is_directory:
            stack.append(_Directory(entry.inode, path))


class _Directory:
    """A directory that is being read, a page at a time."""

    def __init__(self, inode: str, path: list[str]) -> None:
        self.path = path
        self._inode = inode
        self._after = ("", "")
        self._page: deque[Entry] = deque()

    def next(self, view: IndexView) -> Entry | None:
        if not self._page:
            self._page.extend(view.page(self._inode, self._after, PAGE))
            if not self._page:
                return None
            self._after = (self._page[-1].name, self._page[-1].version)
        return self._page.popleft()


def chunks(view: IndexView, limit: int) -> Iterator[list[ChunkRef]]:
    """The chunks that any manifest names, in the trash too, about ``limit`` at a time; one of several files comes several
    times."""
    run: list[ChunkRef] = []
    for chunk in view.chunks():
        run.append(chunk)
        if len(run) >= limit:
            yield run
            run = []
    if run:
        yield run


def _entry(view: IndexView, path: list[str], entry: Entry) -> Iterator[dict[str, Any]]:
    item = _item(view, path, entry, _properties(view, entry.inode))
    held = None if entry.is_directory else view.manifest(entry.inode)
    if held is None:
        yield item
        return
    manifest = held[1]
    item["chunks"] = _wire(manifest.chunks)
    item["digests"] = dict(manifest.digests)
    yield item
    for number in range(manifest.segments):
        stored = view.segment(manifest.content_of(number), number)
        if stored is None:
            raise CorruptData(f"part {number} of the chunk list of /{'/'.join(path)} is missing; run `davfs volume fsck`")
        yield {"more": _wire(values.decode_segment(stored[1]))}


def _item(view: IndexView, path: list[str], entry: Entry, properties: dict[str, str]) -> dict[str, Any]:
    return {
        "path": path,
        "kind": entry.kind,
        "created_ns": entry.created_ns,
        "mtime_ns": entry.mtime_ns,
        "size": entry.size,
        "properties": properties,
        "digests": {},
        "chunks": [],
    }


def _root(view: IndexView) -> Entry:
    root = view.entry(ROOT)
    if root is None:
        raise CorruptData("the volume has no root")
    return root


def _properties(view: IndexView, inode: str) -> dict[str, str]:
    return {name: xml for name, (_, xml) in view.properties(inode).items()}


def _wire(chunks_: tuple[ChunkRef, ...]) -> list[Any]:
    return [[chunk.digest, chunk.size, list(chunk.nodes)] for chunk in chunks_]
