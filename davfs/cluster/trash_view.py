"""The trash as a volume shows it: a collection ``.davfs-trash`` that is listed nowhere, and that nothing is put into.

Its members are the tops of the trash under names of their own, which say when they came there; below a deleted directory
all is as it was. Reads one view, a page of tops at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

from davfs.cluster import tree
from davfs.core.conflict_names import marked_name
from davfs.core.errors import Forbidden, NotFound
from davfs.core.model import DIRECTORY, ROOT, TRASH, Entry, Path
from davfs.core.names import TRASH_NAME
from davfs.core.ports import IndexView, Trashed

PAGE = 500

_MARK = re.compile(r" \((?:deleted|replaced) \d{4}-\d\d-\d\d ([0-9a-f.-]+)\)")


def in_trash(path: Path) -> bool:
    """Whether a path leads into the trash."""
    return path[:1] == (TRASH_NAME,)


def shown_name(top: Trashed) -> str:
    """What a top of the trash is called there: ``name (deleted DATE ID).ext``, or ``replaced`` for an earlier content."""
    date = datetime.fromtimestamp(top.since_ns / 1e9, UTC).strftime("%Y-%m-%d")
    what = "replaced" if top.earlier_of else "deleted"
    return marked_name(top.path.rpartition("/")[2], f" ({what} {date} {top.entry.inode})")


def resolve(view: IndexView, path: Path) -> Entry | None:
    """The entry at a path of the trash, under the name that it has there."""
    if len(path) == 1:
        root = view.entry(ROOT)
        mtime_ns = root.mtime_ns if root is not None else 0
        return Entry(TRASH, ROOT, TRASH_NAME, DIRECTORY, "", 0, mtime_ns, 0, f"{TRASH}.{view.committed.seq:x}")
    mark = next(reversed(list(_MARK.finditer(path[1]))), None)
    top = None if mark is None else view.trashed_entry(mark[1])
    if top is None or shown_name(top) != path[1]:
        return None
    entry: Entry | None = replace(top.entry, name=path[1])
    for name in path[2:]:
        if entry is None or not entry.is_directory:
            return None
        entry = view.child(entry.inode, name)
    return entry


def find(view: IndexView, path: Path) -> Entry | None:
    """The entry at a path, of the trash too."""
    return resolve(view, path) if in_trash(path) else tree.resolve(view, path)


def require_source(view: IndexView, path: Path, *, moved: bool) -> Entry:
    """What is to be copied, or moved, out of a path that may lead into the trash.

    :class:`NotFound`; :class:`Forbidden` for the trash itself, and for a MOVE of what is not at its top.
    """
    if not in_trash(path):
        return tree.require(view, path)
    if len(path) == 1:
        raise Forbidden("the trash itself stays where it is; copy or move what is in it")
    if moved and len(path) > 2:
        raise Forbidden("only what lies at the top of the trash is moved out of it; copy what is inside")
    entry = resolve(view, path)
    if entry is None:
        raise NotFound(f"there is nothing at /{'/'.join(path)}")
    return entry


def tops(look: Callable[[], AbstractContextManager[IndexView]]) -> Iterator[Trashed]:
    """All tops that people may find, the oldest first; each page is of a state of its own."""
    after = (0, "")
    while True:
        with look() as view:
            page = view.trash(after, PAGE)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].since_ns, page[-1].entry.inode


def members(look: Callable[[], AbstractContextManager[IndexView]]) -> Iterator[tuple[Entry, Mapping[str, str]]]:
    """The members of the trash with their dead properties."""
    for top in tops(look):
        with look() as view:
            dead = {name: xml for name, (_, xml) in view.properties(top.entry.inode).items()}
        yield replace(top.entry, name=shown_name(top)), dead
