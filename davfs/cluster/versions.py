"""Earlier contents of files: what a PUT or PATCH replaces goes into the trash, by the record that replaces it.

A file that is saved every few seconds must not fill the volume: one content a minute is kept, and none of a file's first
minute. The emptying of the trash leaves the newest, the oldest and those best spread between them, ``MOST`` of each file.
Writes at a position by programs (``positions.py``) keep nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from davfs.cluster.holder import Holder
from davfs.cluster.quota import Share
from davfs.core.model import HIDDEN, Entry, Manifest, Path
from davfs.core.ports import IndexView

APART_NS = 60 * 10**9
MOST = 16


def to_keep(
    holder: Holder,
    view: IndexView,
    share: Share,
    path: Path,
    entry: Entry | None,
    held: tuple[str, Manifest] | None,
    etag: str,
    beside: int = 0,
) -> Manifest | None:
    """The manifest of what the file at a path holds, if that is to be kept when it is replaced by the content ``etag``.

    Not if that would be over the quota. ``beside``: bytes that keeping it adds to what ``share`` has reserved.
    """
    if entry is None or held is None or not held[1].size or held[1].etag == etag or path[:1] == (HIDDEN,):
        return None
    if not share.may_keep(view, beside):
        return None
    if not holder.state().policy.trash_days:
        return None
    earlier = view.earlier(entry.inode)
    last = earlier[-1][1] if earlier else entry.created_ns
    apart = abs(holder.site.clock.wall_ns() - last)  # a clock that was ahead must not stop this for long
    return held[1] if apart >= APART_NS else None


def too_many(earlier: Sequence[tuple[str, int]], most: int = MOST) -> list[str]:
    """The inodes of those that go, of a file's earlier contents (inode, time) from the oldest on: again and again the one
    whose neighbours are nearest to each other in time."""
    left, gone = list(earlier), []
    while len(left) > most:
        nearest = min(range(1, len(left) - 1), key=lambda at: left[at + 1][1] - left[at - 1][1])
        gone.append(left.pop(nearest)[0])
    return gone
