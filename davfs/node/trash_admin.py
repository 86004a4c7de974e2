"""What ``davfs trash`` asks of a volume's holder: list, restore, empty (``node.trash_*``).

Reached by nodes of the cluster only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davfs.cluster import trash, undelete
from davfs.cluster.api import Caller
from davfs.cluster.gateway import Gateway
from davfs.cluster.holder import Holder
from davfs.cluster.threads import ThreadRuntime
from davfs.cluster.trash_view import PAGE, shown_name
from davfs.core.errors import InvalidInput
from davfs.core.names import check_path
from davfs.core.ports import Trashed
from davfs.node.admin import Handler

EMPTIED_AT_ONCE = 1000
"""Entries after which an answer is given: the asker sees that it goes on, and asks again."""


class TrashAdmin:
    """The methods over one node's gateway."""

    def __init__(self, gateway: Gateway, runtime: ThreadRuntime) -> None:
        self._gateway = gateway
        self._runtime = runtime

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.trash_list": lambda _peer, args, _blob: (self.list(args), b""),
            "node.trash_restore": lambda _peer, args, _blob: (self.restore(args), b""),
            "node.trash_empty": lambda _peer, args, _blob: (self.empty(args), b""),
        }

    def list(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """A page of what is in the trash, the oldest first, after ``after`` (time, id)."""
        after = args.get("after") or [0, ""]
        if not isinstance(after, list) or [type(part) for part in after] != [int, str]:
            raise InvalidInput("after must be the time and the id of the last entry that is known")
        holder = self._holder(args)
        holder.check_lease()
        with holder.replica.store.view() as view:
            page = view.trash((after[0], after[1]), PAGE)
        return {"entries": [_row(top) for top in page], "more": len(page) == PAGE}

    def restore(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Restore ``id`` where it was, or at the path ``to``."""
        inode, to = args.get("id"), args.get("to")
        if not isinstance(inode, str) or not (to is None or isinstance(to, str)):
            raise InvalidInput("id must be that of an entry of the trash, to a path")
        path = None if to is None else check_path(name for name in to.split("/") if name)
        if path == ():
            raise InvalidInput("the root is no place to restore to; give a path with a name")
        caller = Caller(request_id=str(args.get("request_id") or ""), admin=True)
        return {"path": "/".join(self._runtime.run(undelete.restore(self._holder(args), inode, path, caller)))}

    def empty(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Take away what came before ``before_ns``; ``done`` once there is nothing left of it."""
        before = args.get("before_ns")
        if type(before) is not int:
            raise InvalidInput("before_ns must be a time")
        removed = self._runtime.run(trash.empty(self._holder(args), before_ns=before, most=EMPTIED_AT_ONCE))
        return {"removed": removed, "done": removed < EMPTIED_AT_ONCE}

    def _holder(self, args: Mapping[str, Any]) -> Holder:
        name = args.get("volume")
        if not isinstance(name, str):
            raise InvalidInput("volume must be a volume's name")
        return self._gateway.holder(name)


def _row(top: Trashed) -> dict[str, Any]:
    return {
        "id": top.entry.inode, "path": top.path, "kind": top.entry.kind, "size": top.entry.size,
        "since_ns": top.since_ns, "by": top.who, "what": "replaced" if top.earlier_of else "deleted",
        "name": shown_name(top),
    }  # fmt: skip
