"""Restoring: something of the trash becomes a file or directory again, by one record. Nothing is ever overwritten."""

from __future__ import annotations

from davfs.cluster import tree
from davfs.cluster.api import Caller
from davfs.cluster.changes import Build, change_gated
from davfs.cluster.holder import Holder
from davfs.core.effects import Protocol_
from davfs.core.errors import AlreadyExists, Forbidden, NotFound
from davfs.core.model import DIRECTORY, TRASH, Path
from davfs.core.names import TRASH_NAME, check_path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView, Trashed


def restore(holder: Holder, inode: str, to: Path | None, caller: Caller) -> Protocol_[Path]:
    """Put a top of the trash back where it was, or at ``to``; its path. Directories above that are gone are made anew.

    :class:`NotFound`, :class:`AlreadyExists`; :class:`Locked` where a DAV lock is in the way.
    """
    holder.check_lease()
    with holder.replica.store.view() as view:
        target = to or check_path(_require(view, inode).path.split("/"))
    tree.refuse_trash(target)

    def prepare(view: IndexView) -> Build:
        entry = _require(view, inode).entry
        if tree.resolve(view, target) is not None:
            raise AlreadyExists(f"/{'/'.join(target)} exists; say --to with a path that is free")
        depth = len(target) - 1
        while (parent := tree.resolve(view, target[:depth])) is None:
            depth -= 1
        if not parent.is_directory:
            raise Forbidden(f"/{'/'.join(target[:depth])} is a file; say --to with another path")
        tree.require_unlocked(holder.locks(), caller, target[: depth + 1], membership=True, members=False)
        above = parent.inode

        def build(edits: Edits) -> list[str]:
            directory, now = above, holder.site.clock.wall_ns()
            for name in target[depth:-1]:
                directory = edits.create(directory, name, DIRECTORY, now)
            edits.restore(entry, directory, target[-1])
            return list(target)

        return build

    # All below the first name: directories may have to be made. The trash's own keeps the emptying away.
    ticket = yield from holder.gates.enter([target[:1], (TRASH_NAME, inode)], holder.site.timing.gate)
    try:
        return tuple((yield from change_gated(holder, caller, prepare)))
    finally:
        holder.gates.leave(ticket)


def _require(view: IndexView, inode: str) -> Trashed:
    found = view.trashed_entry(inode)
    if found is None or found.entry.parent != TRASH:
        raise NotFound(f"there is no {inode} in the trash (`davfs trash list` shows what there is)")
    return found
