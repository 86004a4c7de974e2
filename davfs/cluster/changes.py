"""Changes of the tree: MKCOL, DELETE, MOVE, PROPPATCH. Each is one record, prepared and committed under its gate.

A ``prepare`` function looks at one committed state, checks everything, and gives the function that makes the edits; the
gate keeps every overlapping change away until that record is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Any, TypeAlias

from davfs.cluster import trash_view, tree
from davfs.cluster.api import Caller, Condition
from davfs.cluster.holder import Holder
from davfs.cluster.space import RESERVE_BYTES
from davfs.cluster.tail import Attachment
from davfs.core.canonical import place
from davfs.core.cluster_state import value_of
from davfs.core.effects import Protocol_, Submit
from davfs.core.errors import AlreadyExists, DavfsError, Forbidden, NoSpace, PreconditionFailed
from davfs.core.model import DIRECTORY, Entry, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView

log = logging.getLogger(__name__)

Build: TypeAlias = Callable[[Edits], Any]
Prepare: TypeAlias = Callable[[IndexView], Build]


def change(holder: Holder, caller: Caller, paths: Sequence[Path], prepare: Prepare) -> Protocol_[Any]:
    """Prepare and commit under the gate of ``paths``; the reply. A re-sent request gets the reply of the first."""
    ticket = yield from holder.gates.enter(paths, holder.site.timing.gate)
    try:
        return (yield from change_gated(holder, caller, prepare))
    finally:
        holder.gates.leave(ticket)


def change_gated(
    holder: Holder, caller: Caller, prepare: Prepare, attachments: Sequence[Attachment] = ()
) -> Protocol_[Any]:
    """The same for whoever is inside the gate already. ``attachments``: small chunks that travel with the record."""
    holder.check_lease()
    with holder.replica.store.view() as view:
        done = view.reply(caller.request_id) if caller.request_id else None
        if done is not None:
            return done[0]
        build = prepare(view)

    def signed(edits: Edits) -> Any:
        edits.who = caller.principal
        return build(edits)

    return (yield from holder.commit(signed, caller.request_id, attachments))


def require_space(holder: Holder, size: int = 0) -> None:
    """:class:`NoSpace` while this node's disk is about to be full, or would be with this node's share of ``size`` bytes."""
    nodes = max(1, len(holder.site.state.nodes))
    share = size * min(1.0, holder.state().policy.copies / nodes)
    if holder.site.chunks.free_bytes() < RESERVE_BYTES + share:
        raise NoSpace("the disk is full; delete something or add space")


def mkcol(
    holder: Holder, path: Path, condition: Condition, caller: Caller, mtime_ns: int | None = None
) -> Protocol_[Entry]:
    """Create a collection (RFC 4918, 9.3); its entry as it was made, whatever became of it since."""
    require_space(holder)

    def prepare(view: IndexView) -> Build:
        existing = tree.resolve(view, path)
        condition(existing)
        if existing is not None:
            raise AlreadyExists(f"/{'/'.join(path)} exists already")
        parent = tree.require_parent(view, path)
        tree.require_unlocked(holder.locks(), caller, path, membership=True, members=False)
        now = holder.site.clock.wall_ns()

        def build(edits: Edits) -> list[Any]:
            inode = edits.create(parent.inode, path[-1], DIRECTORY, now, mtime_ns)
            changed = now if mtime_ns is None else mtime_ns
            return list(astuple(Entry(inode, parent.inode, path[-1], DIRECTORY, edits.version, now, changed)))

        return build

    return Entry(*(yield from change(holder, caller, [path], prepare)))


def delete(holder: Holder, path: Path, condition: Condition, caller: Caller) -> Protocol_[None]:
    """Delete a resource with all that is below it (RFC 4918, 9.6): its top moves under the trash inode."""
    if not path:
        raise Forbidden("a volume's root cannot be deleted; an administrator deletes volumes")

    def prepare(view: IndexView) -> Build:
        condition(tree.resolve(view, path))
        entry = tree.require(view, path)
        tree.require_unlocked(holder.locks(), caller, path, membership=True, members=True)
        content = tree.content_version(view, entry)
        return lambda edits: edits.trash(entry, content, path)

    ticket = yield from holder.gates.enter([path], holder.site.timing.gate)
    try:
        yield from change_gated(holder, caller, prepare)
        yield from drop_locks(holder, path)
    finally:
        holder.gates.leave(ticket)


def move(
    holder: Holder, source: Path, target: Path, overwrite: bool, condition: Condition, caller: Caller, mtime_ns: int | None
) -> Protocol_[bool]:
    """Move a resource (RFC 4918, 9.9), out of the trash too; True when nothing was at the target."""
    respelled = place(source) == place(target) and source != target
    if not respelled:
        require_apart(source, target)

    def prepare(view: IndexView) -> Build:
        condition(trash_view.find(view, source))
        entry = trash_view.require_source(view, source, moved=True)
        there = tree.resolve(view, target)
        if respelled and there is not None and there.inode == entry.inode:
            replaced = None  # the resource itself, asked for in another form: it takes the name as it is given now
        else:
            replaced = target_of(holder, view, target, overwrite, caller)
        gone = tree.content_version(view, replaced)
        parent = tree.require_parent(view, target)
        tree.require_unlocked(holder.locks(), caller, source, membership=True, members=True)
        held = view.manifest(entry.inode) if mtime_ns is not None and not entry.is_directory else None

        def build(edits: Edits) -> bool:
            if replaced is not None:
                edits.trash(replaced, gone, target)
            if trash_view.in_trash(source):
                edits.restore(entry, parent.inode, target[-1])
            else:
                edits.rename(entry, parent.inode, target[-1], mtime_ns if entry.is_directory else None)
            if held is not None and mtime_ns is not None:
                edits.write(entry.inode, replace(held[1], mtime_ns=mtime_ns), held[0])
            return replaced is None

        return build

    ticket = yield from holder.gates.enter([source, target], holder.site.timing.gate)
    try:
        created = yield from change_gated(holder, caller, prepare)
        yield from drop_locks(holder, source)
        yield from drop_locks(holder, target, members=True)
        return bool(created)
    finally:
        holder.gates.leave(ticket)


def proppatch(
    holder: Holder,
    path: Path,
    sets: Mapping[str, str],
    removes: Collection[str],
    condition: Condition,
    caller: Caller,
    mtime_ns: int | None,
) -> Protocol_[None]:
    """Set and remove dead properties, all or none (RFC 4918, 9.2); ``mtime_ns`` sets the modification time (but not that of
    the root, which has no entry of its own)."""

    def prepare(view: IndexView) -> Build:
        condition(tree.resolve(view, path))
        entry = tree.require(view, path)
        tree.require_unlocked(holder.locks(), caller, path, membership=False, members=False)
        old = view.properties(entry.inode)
        held = view.manifest(entry.inode) if mtime_ns is not None and not entry.is_directory else None

        def build(edits: Edits) -> None:
            edits.set_properties(entry.inode, sets, removes, old)
            if held is not None and mtime_ns is not None:
                edits.write(entry.inode, replace(held[1], mtime_ns=mtime_ns), held[0])
            elif entry.is_directory and mtime_ns is not None and path:
                edits.rename(entry, entry.parent, entry.name, mtime_ns)

        return build

    yield from change(holder, caller, [path], prepare)


# --- shared by MOVE and COPY ----------------------------------------------------------------------------------------


def require_apart(source: Path, target: Path) -> None:
    """:class:`Forbidden` unless source and target are two places, neither inside the other (RFC 4918, 9.8.5, 9.9.4)."""
    shorter = min(len(source), len(target))
    if place(source[:shorter]) == place(target[:shorter]):
        raise Forbidden("the destination is the source itself, inside it or above it")


def target_of(holder: Holder, view: IndexView, target: Path, overwrite: bool, caller: Caller) -> Entry | None:
    """What a MOVE or COPY would replace; checks Overwrite (RFC 4918, 10.6) and the locks at the target."""
    tree.require_parent(view, target)
    replaced = tree.resolve(view, target)
    if replaced is not None and not overwrite:
        raise PreconditionFailed(f"/{'/'.join(target)} exists and Overwrite is F")
    tree.require_unlocked(
        holder.locks(), caller, target, membership=True, members=replaced is not None and replaced.is_directory
    )
    return replaced


def drop_locks(holder: Holder, path: Path, *, members: bool = False) -> Protocol_[None]:
    """End the locks of a path that is gone. ``members``: only those below it, where it was replaced: the lock on its own
    name stays (RFC 4918, 7.5). The change is committed: if Raft does not answer they end by their time."""
    top = place(path)
    found = [(lock, place(lock.path)) for lock in holder.locks()]
    gone = [lock for lock, at in found if at[: len(top)] == top and not (members and at == top)]
    tokens = [lock.token for lock in gone]
    if not tokens:
        return
    site, credentials = holder.site, holder.credentials
    try:
        command = (site.request_id(), "unlock", credentials.volume, list(credentials.epoch), tokens)
        value_of((yield Submit(command, site.timing.call)))
    except DavfsError as error:
        log.warning("volume %s: locks of /%s remain until they expire: %s", credentials.volume, "/".join(path), error)
