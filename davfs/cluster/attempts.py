"""What became of an earlier attempt of a request: a conflict copy, which the attempt that succeeds takes away again.

A gateway sends a request again, under the same request id, when a holder's answer is lost. Where a later holder settled
the record of the first attempt meanwhile (``late.py``), a conflict copy stands beside the file although nothing
conflicted. The settlement keeps the copy's inode and etag as the reply to a request id of its own; the record of the
attempt that succeeds removes the copy, if it shows exactly what that attempt writes and nobody touched it since. A COPY names
no content of its own: what its source was at the time of an earlier attempt is no conflict with what it is now, and the source
had it until somebody overwrote it there, so the copy goes whatever it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from davfs.cluster import tree
from davfs.cluster.api import Caller
from davfs.cluster.gates import Ticket
from davfs.cluster.holder import Holder
from davfs.core import keys
from davfs.core.effects import Protocol_
from davfs.core.errors import Locked, NotFound, Unavailable
from davfs.core.model import Entry, Path
from davfs.core.namespace import Edits
from davfs.core.ports import IndexView

_RENAMES = 8


def settled_id(request_id: str) -> str:
    """The request id of the record that made a conflict copy of an attempt of ``request_id``; "" for no id."""
    return f"{request_id}/late" if request_id else ""


def settled_etag(view: IndexView, request_id: str) -> str | None:
    """The etag of the conflict copy that an attempt of this request became; None if none did."""
    reply = view.reply(settled_id(request_id)) if request_id else None
    return None if reply is None else str(reply[0][1])


def enter(holder: Holder, paths: Sequence[Path], caller: Caller) -> Protocol_[Ticket]:
    """The gate of ``paths``, and of the conflict copy of an earlier attempt, which may appear and move until one is inside."""
    copy: Path | None = None
    for _ in range(_RENAMES):
        ticket = yield from holder.gates.enter([*paths, *([copy] if copy else [])], holder.site.timing.gate)
        try:
            with holder.replica.store.view() as view:
                found = _find(view, caller)
        except BaseException:
            holder.gates.leave(ticket)
            raise
        if found is None or found[0] == copy:
            return ticket
        holder.gates.leave(ticket)
        copy = found[0]
    raise Unavailable("a conflict copy is renamed again and again; try later")


def copy_to_remove(holder: Holder, view: IndexView, caller: Caller, etag: str | None) -> Entry | None:
    """The conflict copy that a record which writes content of that etag (None: any) takes away; for whoever came in by
    ``enter``.

    None if it holds anything else, was written, moved or given a property since it was made, or is locked: it stays.
    """
    found = _find(view, caller)
    if found is None or etag not in (None, found[1].etag):
        return None
    path, entry = found
    try:
        tree.require_unlocked(holder.locks(), caller, path, membership=True, members=True)
    except Locked:
        return None
    return entry


def remove(edits: Edits, entry: Entry) -> None:
    """Take it away: it never was anything but what the same record shows."""
    edits.delete(keys.NAME, entry.inode, entry.version)
    edits.delete(keys.MANIFEST, entry.inode, entry.version)


def _find(view: IndexView, caller: Caller) -> tuple[Path, Entry] | None:
    """Where the copy of an earlier attempt stands, if it is as the settlement made it, by one record."""
    reply = view.reply(settled_id(caller.request_id)) if caller.request_id else None
    entry = None if reply is None else view.entry(reply[0][0])
    if entry is None or tree.content_version(view, entry) != entry.version or view.properties(entry.inode):
        return None
    try:
        return tree.path_of(view, entry.inode), entry
    except NotFound:
        return None
