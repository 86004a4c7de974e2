"""COPY: new entries that share the chunks of the old; no bytes are copied (RFC 4918, 9.8).

A tree that fits one record appears by that record. A larger one is written ahead, record by record, under the trash
inode where nobody sees it, and shown by the last record: a crash half-way leaves nothing visible.
"""

from __future__ import annotations

from dataclasses import replace

from davfs.cluster import attempts, changes, trash_view, tree
from davfs.cluster.api import Caller, Condition
from davfs.cluster.holder import Holder
from davfs.cluster.quota import Share
from davfs.cluster.trash import staged_name
from davfs.core import keys, values
from davfs.core.effects import Protocol_
from davfs.core.model import TRASH, Entry, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView

BATCH_BYTES = 256 * 1024


class TreeCopy:
    """The copy of one tree: what is still to be copied, and how."""

    def __init__(self, source: Entry, shallow: bool, now_ns: int, mtime_ns: int | None) -> None:
        self.source = source
        self.inode = ""
        self._now_ns = now_ns
        self._mtime_ns = mtime_ns
        self._shallow = shallow
        self._work: list[tuple[Entry, str]] = []  # (what to copy, the inode of the new parent)

    @property
    def finished(self) -> bool:
        return bool(self.inode) and not self._work

    def copy_some(self, view: IndexView, edits: Edits) -> None:
        """Add edits until a record's worth is reached. The top's own name entry is the caller's to write."""
        if not self.inode:
            self.inode = edits.new_inode()
            self._content(view, edits, self.source, self.inode, self._mtime_ns)
            if self.source.is_directory and not self._shallow:
                self._work = [(child, self.inode) for child in view.children(self.source.inode)]
        while self._work and edits.size < BATCH_BYTES:
            entry, parent = self._work.pop()
            inode = edits.create(parent, entry.name, entry.kind, self._now_ns)
            self._content(view, edits, entry, inode, None)
            if entry.is_directory:
                self._work.extend((child, inode) for child in view.children(entry.inode))

    def name(self, edits: Edits, parent: str, name: str, old_version: str | None = None) -> None:
        """Give the top of the copy its place."""
        mtime_ns = self._mtime_ns if self.source.is_directory else None
        value = values.encode_name(parent, name, self.source.kind, self._now_ns, mtime_ns)
        edits.put(keys.NAME, self.inode, value, old_version=old_version)

    @staticmethod
    def _content(view: IndexView, edits: Edits, entry: Entry, inode: str, mtime_ns: int | None) -> None:
        held = view.manifest(entry.inode)
        if held is not None:
            manifest = held[1] if mtime_ns is None else replace(held[1], mtime_ns=mtime_ns)
            edits.write(inode, manifest, None)
        properties = view.properties(entry.inode)
        edits.set_properties(inode, {name: xml for name, (_, xml) in properties.items()}, (), {})


def copy(
    holder: Holder,
    source: Path,
    target: Path,
    overwrite: bool,
    shallow: bool,
    condition: Condition,
    caller: Caller,
    mtime_ns: int | None,
) -> Protocol_[bool]:
    """Copy a resource; True when nothing was at the target."""
    changes.require_apart(source, target)
    changes.require_space(holder)
    ticket = yield from attempts.enter(holder, [source, target], caller)
    try:
        with holder.quota.share(holder.state().policy.quota) as share:
            return (
                yield from _copy_gated(holder, share, source, target, overwrite, shallow, condition, caller, mtime_ns)
            )
    finally:
        holder.gates.leave(ticket)


def _copy_gated(
    holder: Holder,
    share: Share,
    source: Path,
    target: Path,
    overwrite: bool,
    shallow: bool,
    condition: Condition,
    caller: Caller,
    mtime_ns: int | None,
) -> Protocol_[bool]:
    holder.check_lease()
    store = holder.replica.store
    with store.view() as view:
        done = view.reply(caller.request_id) if caller.request_id else None
        if done is not None:
            return bool(done[0])
        condition(trash_view.find(view, source))
        entry = trash_view.require_source(view, source, moved=False)
        replaced = changes.target_of(holder, view, target, overwrite, caller)
        gone = tree.content_version(view, replaced)
        parent = tree.require_parent(view, target)
        share.take_tree(view, entry, shallow)
        late = None if entry.is_directory else attempts.copy_to_remove(holder, view, caller, None)
    work = TreeCopy(entry, shallow, holder.site.clock.wall_ns(), mtime_ns)
    use = holder.site.in_use.begin(holder.credentials.volume)  # what is staged is no trash
    staged: list[str] = []  # the version under which the top stands in the trash, once it does

    def build(edits: Edits) -> bool:
        edits.who = caller.principal
        with store.view() as view:  # the gate keeps the source as it is, whatever else changes
            work.copy_some(view, edits)
        if work.finished:
            if replaced is not None:
                edits.trash(replaced, gone, target)
            work.name(edits, parent.inode, target[-1], staged[0] if staged else None)
            if late is not None:
                attempts.remove(edits, late)
        elif not staged:
            use.add([staged_name(work.inode)])
            work.name(edits, TRASH, work.inode)
            staged.append(edits.version)
        edits.answers = work.finished
        return replaced is None

    while not work.finished:
        yield from holder.commit(build, caller.request_id)
    if replaced is not None:
        yield from changes.drop_locks(holder, target, members=True)
    return replaced is None
