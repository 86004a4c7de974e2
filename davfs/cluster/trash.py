"""Emptying the trash: what was deleted longer ago than the volume's policy says goes, leaves first, in small records; while
the quota is nearly used up, the oldest before its time.

Whole trees hang under the trash inode, each by one entry. A record takes some files, or directories that are empty by
then, so that every record leaves a tree; the chunks are then the collector's. Deleting a day or a week is for people, and
goes by the wall clock of the records; it is a policy and no fence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from davfs.cluster import versions
from davfs.cluster.holder import Holder
from davfs.cluster.pace import Pace
from davfs.cluster.site import Site
from davfs.core import keys
from davfs.core.effects import Protocol_
from davfs.core.model import Entry, VolumePolicy
from davfs.core.names import TRASH_NAME
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView

AT_ONCE = 200
"""Entries that one record takes away."""

BATCH_BYTES = 128 * 1024
DAY_NS = 86_400 * 10**9
SHORT_BYTES = 1 << 30
"""With less room than this on the holder's disk nothing stays in the trash for longer than a day."""

SHORT_SHARE = 0.9
"""While more of the quota than this is used, the oldest in the trash goes, however young it is."""

_EVER = 1 << 62
"""Later than anything, in nanoseconds: other nodes' clocks may be ahead of this one's."""


def staged_name(inode: str) -> str:
    """The name, in ``in_use``, of a tree that is being made under the trash inode and is no trash."""
    return f"i/{inode}"


def due_before(site: Site, policy: VolumePolicy) -> int:
    """What came into the trash before this time (of the wall clock, ns) may go."""
    days = policy.trash_days
    if site.chunks.free_bytes() < SHORT_BYTES:
        days = min(days, 1)
    return site.clock.wall_ns() - days * DAY_NS


def presses(policy: VolumePolicy, view: IndexView) -> bool:
    """Whether so much of the quota is used that the trash has to make room."""
    return bool(policy.quota) and view.usage()[1] > policy.quota * SHORT_SHARE


def any_due(site: Site, policy: VolumePolicy, view: IndexView) -> bool:
    """Whether there is something that ``empty`` would take away."""
    return bool(view.trashed(_EVER if presses(policy, view) else due_before(site, policy), 1))


def empty(
    holder: Holder,
    removed: Callable[[int], None] = lambda count: None,
    *,
    before_ns: int | None = None,
    most: int | None = None,
) -> Protocol_[int]:
    """Take away all that is due, or all that came before a time; the number of entries. ``removed`` is told of each record's.
    ``most``: end once so many are gone."""
    pace, total = Pace(holder.site.clock), 0
    total += yield from _thin(holder, removed, pace)
    before = due_before(holder.site, holder.state().policy) if before_ns is None else before_ns
    while most is None or total < most:
        with holder.replica.store.view() as view:
            some = _due(holder, view, before)
        if not some:
            break
        taken = yield from _take(holder, lambda view: _leaves(view, _due(holder, view, before), AT_ONCE))
        if not taken:
            break
        total += taken
        removed(taken)
        yield from pace.rest()
    if before_ns is None:
        total += yield from _make_room(holder, removed, pace)
    return total


def _make_room(holder: Holder, removed: Callable[[int], None], pace: Pace) -> Protocol_[int]:
    """While the quota presses: the oldest thing in the trash goes, whole (half a directory is of no use to anybody), and the
    next one only if that was not enough."""
    total, going = 0, ""
    while True:
        with holder.replica.store.view() as view:
            tops = _due(holder, view, _EVER)
            if going not in {entry.inode for entry in tops}:
                going = tops[0].inode if tops and presses(holder.state().policy, view) else ""
        if not going:
            return total

        def some(view: IndexView, inode: str = going) -> Iterator[Entry]:
            yield from _leaves(view, [top for top in _due(holder, view, _EVER) if top.inode == inode], AT_ONCE)

        total += (taken := (yield from _take(holder, some)))
        removed(taken)
        yield from pace.rest()


def _take(holder: Holder, some: Callable[[IndexView], Iterable[Entry]]) -> Protocol_[int]:
    """Take entries away by one record, under the gate of the trash: nobody restores one of them meanwhile."""
    ticket = yield from holder.gates.enter([(TRASH_NAME,)], holder.site.timing.gate)
    taken: list[str] = []

    def build(edits: Edits) -> None:
        with holder.replica.store.view() as view:
            for entry in some(view):
                _take_away(view, edits, entry)
                taken.append(entry.inode)
                if edits.size > BATCH_BYTES:
                    return

    try:
        yield from holder.commit(build, "")
    finally:
        holder.gates.leave(ticket)
    return len(taken)


def _thin(holder: Holder, removed: Callable[[int], None], pace: Pace) -> Protocol_[int]:
    """Take away the earlier contents of which a file has too many (``versions.py``)."""
    total = 0
    while True:
        with holder.replica.store.view() as view:
            files = view.earlier_most(versions.MOST, AT_ONCE)
        if not files:
            return total

        def some(view: IndexView, files: Sequence[str] = files) -> Iterator[Entry]:
            gone = (inode for file in files for inode in versions.too_many(view.earlier(file)))
            yield from (entry for inode in islice(gone, AT_ONCE) if (entry := view.entry(inode)) is not None)

        taken = yield from _take(holder, some)
        if not taken:
            return total
        total += taken
        removed(taken)
        yield from pace.rest()


def _due(holder: Holder, view: IndexView, before: int) -> list[Entry]:
    tops = view.trashed(before, AT_ONCE)
    staged = holder.site.in_use.among(holder.credentials.volume, {staged_name(entry.inode) for entry in tops})
    return [entry for entry in tops if staged_name(entry.inode) not in staged]


def _leaves(view: IndexView, tops: list[Entry], limit: int) -> Iterator[Entry]:
    """Up to ``limit`` entries, each after all that are below it.

    A directory of more than ``limit`` members is not reached before these are all taken, so what stands above it is not.
    """
    count = 0
    todo = [(entry, False) for entry in reversed(tops)]
    while todo and count < limit:
        entry, opened = todo.pop()
        if entry.is_directory and not opened:
            todo.append((entry, True))
            todo.extend((member, False) for member in view.page(entry.inode, ("", ""), limit))
            continue
        count += 1
        yield entry


def _take_away(view: IndexView, edits: Edits, entry: Entry) -> None:
    edits.delete(keys.NAME, entry.inode, entry.version)
    held = view.manifest(entry.inode)
    if held is not None:
        edits.delete(keys.MANIFEST, entry.inode, held[0])
    for name, (version, _) in view.properties(entry.inode).items():
        edits.delete(keys.PROPERTY, entry.inode, version, name)
