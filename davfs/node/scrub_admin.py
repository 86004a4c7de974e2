"""The scrub, for an administrator: let this node look at its copies of a volume now, and see what it found.

Every node looks at its own copies, so ``davfs scrub run`` asks them all. Reached by nodes of the cluster only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from davfs.cluster.replicas import Replicas
from davfs.cluster.scrub import Scrub
from davfs.core.cluster_state import ClusterState
from davfs.core.effects import Protocol_
from davfs.core.errors import InvalidInput, Unavailable
from davfs.node.admin import Handler


class ScrubAdmin:
    """The methods over one node's parts. ``start`` drives a protocol in a thread of its own."""

    def __init__(
        self, state: ClusterState, scrub: Scrub, replicas: Replicas, start: Callable[[Protocol_[Any], str], None]
    ) -> None:
        self._state = state
        self._scrub = scrub
        self._replicas = replicas
        self._start = start

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.scrub": lambda _peer, _args, _blob: (self.status(), b""),
            "node.scrub_run": lambda _peer, args, _blob: (self.run(args), b""),
        }

    def status(self) -> dict[str, Any]:
        """The last or present pass over each volume that this node keeps records of."""
        known = self._state.volumes
        passes = {volume: made for volume, made in list(self._scrub.passes.items()) if volume in known}
        return {"passes": [{**made.wire(), "name": known[volume].name} for volume, made in passes.items()]}

    def run(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a pass; ``began_ns`` names it in the status."""
        name = args.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidInput("name must be that of a volume")
        replica = self._replicas.get(self._state.volume_named(name).id)
        if self._scrub.is_at_work(replica.volume):
            raise Unavailable("the scrub is at work on this volume already; `davfs scrub status` shows how far it is")
        made = self._scrub.begin(replica.volume, bool(args.get("verify", True)))
        self._start(self._scrub.go(made, replica.store), "scrub")
        return {"name": name, "began_ns": made.began_ns}
