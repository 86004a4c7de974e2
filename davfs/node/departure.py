"""``davfs node remove`` at the node that is asked: carries a removal out (``cluster/departure.py``) and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from davfs.cluster.departure import Departure
from davfs.consensus.membership import Members
from davfs.core.effects import Protocol_
from davfs.core.errors import InvalidInput
from davfs.node.admin import Handler


class Removal:
    """The administrator's method. ``members()``: who takes part in Raft; ``run`` drives a protocol to its end."""

    def __init__(
        self, departure: Departure, members: Callable[[], Members], run: Callable[[Protocol_[int]], int]
    ) -> None:
        self._departure = departure
        self._members = members
        self._run = run

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "admin.node_remove": self._remove,
        }

    def _remove(self, _peer: str, args: dict[str, Any], _blob: bytes) -> tuple[Any, bytes]:
        name = args.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidInput("name must be a text that is not empty")
        return {"name": name, "chunks": self._run(self._departure.remove(name, self._members))}, b""
