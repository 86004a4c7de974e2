"""A volume's quota: what its files, its trash and what is being written may take together, in bytes of their contents.

The holder alone writes, so it knows all that is on its way: each writer reserves what it is about to add, chunk by chunk,
and is refused before the chunk that would be too much. Contents that share chunks (copies, versions) count each on its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from davfs.core.errors import QuotaExceeded
from davfs.core.model import Entry
from davfs.core.ports import IndexView, ReplicaStore

PAGE = 500
REMEMBERED = 1000
"""Reservations that ended, kept for those who looked before."""


class Quota:
    """What the writers of one holder have reserved. Thread-safe; never waits."""

    def __init__(self, store: ReplicaStore) -> None:
        self.store = store
        self._lock = Lock()
        self._reserved: dict[Share, int] = {}
        self._ended: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)

    @contextmanager
    def share(self, limit: int) -> Iterator[Share]:
        """A writer's reservation, until its record is committed, and counts, or never will be. ``limit``: 0 for none."""
        share = Share(self, limit)
        try:
            yield share
        finally:
            if share in self._reserved:
                with self.store.view() as view:
                    seen = view.committed.seq
                with self._lock:
                    self._ended.append((seen, self._reserved.pop(share)))

    def reserved(self) -> int:
        """Bytes that are on their way into the volume."""
        with self._lock:
            return sum(self._reserved.values())

    def take(self, share: Share, count: int, view: IndexView) -> None:
        """Reserve ``count`` bytes more if they fit beside what a view has; :class:`QuotaExceeded`."""
        used, seen = view.usage()[1], view.committed.seq
        with self._lock:
            own = self._reserved.get(share, 0) + count
            others = sum(self._reserved.values()) - self._reserved.get(share, 0)
            # What was committed since the view was opened is not in it, and is reserved no more.
            others += sum(size for at, size in self._ended if at > seen)
            growth = own - share.credit  # what a change replaces gives its place to it, and to nobody else
            if growth > 0 and used + others + growth > share.limit:
                raise QuotaExceeded(
                    f"the volume may hold {share.limit} bytes and holds {used}, its trash included; delete something and "
                    "empty the trash, or have the quota raised",
                    quota=share.limit,
                    used=used,
                )
            self._reserved[share] = own


class Share:
    """One writer's reservation. ``credit``: bytes of what its change replaces."""

    def __init__(self, quota: Quota, limit: int) -> None:
        self.limit = limit
        self.credit = 0
        self._quota = quota

    def take(self, count: int, view: IndexView | None = None) -> None:
        """Reserve ``count`` bytes more, 0 to look again; :class:`QuotaExceeded`. ``view``: one that is open already."""
        if not self.limit:
            return
        if view is not None:
            self._quota.take(self, count, view)
            return
        with self._quota.store.view() as fresh:
            self._quota.take(self, count, fresh)

    def require(self, count: int) -> None:
        """:class:`QuotaExceeded` if so much would be too much; nothing is reserved."""
        self.take(count)
        if self.limit:
            self.take(-count)

    def may_keep(self, view: IndexView, count: int) -> bool:
        """Whether what is replaced may stay in the trash; ``count``: bytes beside what is reserved and used."""
        return not self.limit or view.usage()[1] + self._quota.reserved() + count <= self.limit

    def take_tree(self, view: IndexView, top: Entry, shallow: bool) -> None:
        """Reserve for a copy of a tree."""
        if self.limit:
            self.take(_size(view, top, shallow), view)


def _size(view: IndexView, top: Entry, shallow: bool) -> int:
    """The sum of the sizes of a tree's files."""
    total, todo = top.size, [top.inode] if top.is_directory and not shallow else []
    while todo:
        parent, after = todo.pop(), ("", "")
        while page := view.page(parent, after, PAGE):
            total += sum(entry.size for entry in page)
            todo.extend(entry.inode for entry in page if entry.is_directory)
            after = page[-1].name, page[-1].version
    return total
