"""What an administrator asks about a volume's replicas: change them one at a time, see how far that is, think better of it.

The holder carries a change out (``cluster/replacing.py``); these methods only want it, and tell what they see. Every one is
``(peer, args, blob) -> (value, b"")``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from davfs.cluster.site import Site
from davfs.core import replica_set
from davfs.core.cluster_state import VolumeState, value_of
from davfs.core.errors import DavfsError, InvalidInput
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft
from davfs.rpc.client import RpcClient

ASK_TIMEOUT = 2.0

Progress = Callable[[str], Sequence[Mapping[str, Any]] | None]
"""volume id -> how far each of its replicas is, if this node holds it (``Gateway.followers``)."""


class ReplicaAdmin:
    """The methods over one node's parts."""

    def __init__(self, site: Site, raft: Raft, client: RpcClient, progress: Progress) -> None:
        self._site = site
        self._state = site.state
        self._raft = raft
        self._client = client
        self._progress = progress

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        methods: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "admin.replicas_change": self.change,
            "admin.replicas_cancel": self.cancel,
            "admin.replicas_show": self.show,
            "admin.node_keeps": self.keeps,
            "node.followers": lambda args: self._followers_here(_text(args, "volume")),
        }

        def of(method: Callable[[Mapping[str, Any]], Any]) -> Handler:
            return lambda _peer, args, _blob: (method(args), b"")

        return {name: of(method) for name, method in methods.items()}

    def change(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Want a node to come (``add``), to go (``remove``), or to take the place of another; see ``replica_set.want``."""
        volume = self._named(args)
        add, remove = (str(args.get(key) or "") for key in ("add", "remove"))
        version = self._command(args, "replicas_want", volume.id, add, remove)
        return {"name": volume.name, "version": version}

    def cancel(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a change that is not done; the replicas stay as they were."""
        volume = self._named(args)
        if volume.replica_set.change is None:
            raise InvalidInput(f"no change of the replicas of {volume.name!r} is under way")
        self._command(args, "replicas_cancel", volume.id, volume.replica_set.version)
        return {"name": volume.name, "change": str(volume.replica_set.change)}

    def show(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The set, its version, the change that is under way, and how far the holder says that each replica is.

        ``followers``: node, records (that it holds), failing; None when no node holds the volume or it does not answer.
        ``records``: how many there are to hold.
        """
        volume = self._named(args)
        grant = volume.tenure.grant
        holder = None if grant is None else grant.address
        followers = self._followers_of(holder, volume.id) if holder and holder in self._state.nodes else None
        return {
            "name": volume.name,
            **replica_set.dump(volume.replica_set),
            "holder": holder,
            "followers": followers,
            "records": max((one["records"] for one in followers or ()), default=0),
        }

    def keeps(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The volumes whose records a node keeps, each with the ``other`` that could take its place ("" if there is none:
        every node that is up keeps them already)."""
        name = _text(args, "name")
        self._raft.barrier(COMMAND_TIMEOUT)
        kept = [volume for volume in self._state.volumes.values() if name in volume.replica_set.followed]
        return [
            {"name": volume.name, "other": self._other(volume, name)} for volume in sorted(kept, key=lambda v: v.name)
        ]

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _other(self, volume: VolumeState, name: str) -> str:
        """The node for a replica: one of another zone than the rest if there is one, then one that keeps little."""
        table = volume.replica_set
        if table.change is not None and table.change.remove == name:
            return table.change.add
        nodes = self._state.storing()
        zones = {nodes[node].zone for node in table.nodes if node in nodes and node != name}
        kept = [node for other in self._state.volumes.values() for node in other.replica_set.followed]
        free = [node for node in nodes if node not in table.followed and self._site.up(node)]
        return min(free, key=lambda node: (nodes[node].zone in zones, kept.count(node), node), default="")

    def _followers_here(self, volume_id: str) -> list[dict[str, Any]] | None:
        found = self._progress(volume_id)
        return None if found is None else [dict(one) for one in found]

    def _followers_of(self, holder: str, volume_id: str) -> list[dict[str, Any]] | None:
        if holder == self._site.node:
            return self._followers_here(volume_id)
        try:
            answer: list[dict[str, Any]] | None = self._client.call(
                holder, "node.followers", {"volume": volume_id}, timeout=ASK_TIMEOUT
            )[0]
        except DavfsError:
            return None
        return answer

    def _named(self, args: Mapping[str, Any]) -> VolumeState:
        self._raft.barrier(COMMAND_TIMEOUT)
        return self._state.volume_named(_text(args, "name"))

    def _command(self, args: Mapping[str, Any], verb: str, *arguments: Any) -> Any:
        """Under the asker's request id, so that asking another node again does it once."""
        request_id = str(args.get("request_id") or self._site.request_id())
        return value_of(self._raft.submit((request_id, verb, *arguments), COMMAND_TIMEOUT))


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{key} must be a text that is not empty")
    return value
