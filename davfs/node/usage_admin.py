"""Who uses volumes, for an administrator: sessions (``node.sessions``) and DAV locks (``admin.lock_list``, ``lock_break``);
how far this node's replicas are (``node.replicas``).

Sessions are known to the node that holds the volume, locks to all (Raft). Reached by nodes of the cluster only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from davfs.core.cluster_state import ClusterState, VolumeState, value_of
from davfs.core.errors import InvalidInput, NotFound
from davfs.core.model import DavLock
from davfs.node.admin import COMMAND_TIMEOUT, Handler, Raft

log = logging.getLogger(__name__)


class UsageAdmin:
    """The methods over one node's parts. ``sessions``: those of the volumes that this node holds; ``replicas``: how its
    replicas stand."""

    def __init__(
        self,
        state: ClusterState,
        raft: Raft,
        sessions: Callable[[], list[dict[str, Any]]],
        new_id: Callable[[], str],
        replicas: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self._state = state
        self._raft = raft
        self._sessions = sessions
        self._new_id = new_id
        self._replicas = replicas

    def handlers(self) -> Mapping[str, Handler]:
        """Method name -> handler."""
        return {
            "node.sessions": lambda _peer, _args, _blob: (self._sessions(), b""),
            "node.replicas": lambda _peer, _args, _blob: (self._replicas(), b""),
            "admin.lock_list": lambda _peer, args, _blob: (self.lock_list(args), b""),
            "admin.lock_break": lambda peer, args, _blob: (self.lock_break(peer, args), b""),
        }

    def lock_list(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The locks of one volume (``name``), or of all, sorted by volume and path."""
        self._raft.barrier(COMMAND_TIMEOUT)
        name = args.get("name")
        volumes = [self._state.volume_named(str(name))] if name else self._state.volumes.values()
        rows = [_row(volume, lock) for volume in volumes for lock in volume.locks.values()]
        return sorted(rows, key=lambda row: (row["volume"], row["path"], row["token"]))

    def lock_break(self, peer: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """End a lock, whoever took it. ``by`` (a name for the log) is what the asker says; its certificate is ``peer``'s."""
        token = args.get("token")
        if not isinstance(token, str) or not token:
            raise InvalidInput("token must be a lock's token, as `davfs lock list` shows it")
        self._raft.barrier(COMMAND_TIMEOUT)
        for volume in self._state.volumes.values():
            lock = volume.locks.get(token)
            if lock is not None:
                said = "".join(filter(str.isprintable, str(args.get("by") or "")))[:100]  # one line of the log
                by = f"{said or 'an administrator'} through {peer}"
                request_id = str(args.get("request_id") or self._new_id())
                value_of(self._raft.submit((request_id, "lock_break", volume.id, token, by), COMMAND_TIMEOUT))
                row = _row(volume, lock)
                log.warning(
                    "lock broken by %s: %s of %s on %s in volume %s",
                    by, token, lock.principal or "somebody", row["path"], volume.name,
                )  # fmt: skip
                return row
        raise NotFound(f"there is no lock {token}; it may have ended (`davfs lock list` shows all)")


def _row(volume: VolumeState, lock: DavLock) -> dict[str, Any]:
    return {"volume": volume.name, **asdict(lock), "path": "/" + "/".join(lock.path)}
